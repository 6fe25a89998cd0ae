"""Tests of the whole server, from Redis to clients that others wrote."""

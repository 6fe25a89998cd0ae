"""Tests of the whole, from Redis to somebody else's client."""

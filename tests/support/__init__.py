"""Modules that several tests use: clients, servers, payloads, an independent oracle."""

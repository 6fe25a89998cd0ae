"""Tests of tornado_bridge.server."""

"""Tests of tornado_bridge.connections."""

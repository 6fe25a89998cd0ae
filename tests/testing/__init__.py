"""Tests of tornado_bridge.testing."""

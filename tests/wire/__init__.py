"""Tests of tornado_bridge.wire."""

"""Tests of tornado_bridge.stream."""

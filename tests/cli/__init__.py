"""Tests of tornado_bridge.cli."""

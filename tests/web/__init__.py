"""Tests of tornado_bridge.web."""

"""Tests of tornado_bridge.audit."""

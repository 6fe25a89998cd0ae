"""Tests of tornado_bridge.redaction."""

"""Tests of tornado_bridge.ingest."""

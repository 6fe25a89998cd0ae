"""Tests of tornado_bridge.demo."""

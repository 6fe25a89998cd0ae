"""Tests of benchmarks.servers."""

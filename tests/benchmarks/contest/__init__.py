"""Tests of benchmarks.contest."""

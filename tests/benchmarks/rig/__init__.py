"""Tests of benchmarks.rig."""

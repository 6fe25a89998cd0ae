"""Tests that compare the bridge with other implementations of the same standards, on input that nobody means well."""

"""Measurements of the server beside what people would write instead: `python -m benchmarks --help`."""

"""A server under load and faults for a long time: `python -m benchmarks.soak`."""

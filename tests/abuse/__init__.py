"""Attacks on a real `tornado-bridge serve` with bounds on its figures, and comparisons with other implementations."""

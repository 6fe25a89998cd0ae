"""Attacks on a real `tornado-bridge serve`, and what it must keep up during each."""

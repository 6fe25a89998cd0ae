"""Attacks on a real `tornado-bridge serve`, and the bounds that its figures must keep during each."""

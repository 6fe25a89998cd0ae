"""Fuzz targets for everything that arrives from outside, and what runs them."""

"""The apparatus that all measurements share."""

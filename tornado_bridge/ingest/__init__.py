"""From Redis to the log, once per event."""

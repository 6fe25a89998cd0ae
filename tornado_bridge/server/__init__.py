"""The server process: settings, signals, limits and files."""

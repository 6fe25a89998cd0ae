"""Runs the command line as `python -m tornado_bridge`."""

from tornado_bridge.cli import main

if __name__ == "__main__":
    main()

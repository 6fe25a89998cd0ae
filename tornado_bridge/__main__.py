"""`python -m tornado_bridge`."""

from tornado_bridge.cli import main

main()

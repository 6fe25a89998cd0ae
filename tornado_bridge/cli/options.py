"""The name and the version of the program, which every command shares."""

import click

PROGRAM = "tornado-bridge"

# Click looks up the version when --version is given. A lookup on import would add a third to the time of the help.
version_option = click.version_option(package_name="tornado_bridge", prog_name=PROGRAM)

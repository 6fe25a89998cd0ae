"""tornado_bridge.cli.options: the version option."""

import importlib.metadata

import click
from click.testing import CliRunner

from tornado_bridge.cli import options


@click.command()
@options.version_option
def command() -> None:
    raise AssertionError


def test_the_version_is_that_of_the_distribution() -> None:
    version = importlib.metadata.version("tornado_bridge")
    assert CliRunner().invoke(command, ["--version"]).output == f"tornado-bridge, version {version}\n"

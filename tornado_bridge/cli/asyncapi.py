"""The command `tornado-bridge asyncapi`."""

from collections.abc import Callable

import click

from tornado_bridge.cli import output
from tornado_bridge.cli.options import version_option
from tornado_bridge.cli.setting_options import chooses_plugins
from tornado_bridge.registry import Registry
from tornado_bridge.web import asyncapi


@click.command("asyncapi")
@click.option("--yaml", "as_yaml", is_flag=True, help="Print YAML instead of JSON.")
@chooses_plugins
@version_option
def command(as_yaml: bool, registry: Callable[[], Registry]) -> None:
    """Print the AsyncAPI document of the installed plugins.

    A running server serves the same document as /asyncapi.json and /asyncapi.yaml.
    """
    document = asyncapi.document(registry())
    output.write(asyncapi.as_yaml(document) if as_yaml else asyncapi.as_json(document), newline=False)

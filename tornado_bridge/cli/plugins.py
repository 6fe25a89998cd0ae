"""The command `tornado-bridge plugins` with its subcommands."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tornado_bridge.cli import output, skeleton, tables
from tornado_bridge.cli.options import version_option
from tornado_bridge.cli.setting_options import chooses_plugins
from tornado_bridge.registry import Plugin, Registry


@click.group("plugins", invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, including what each event type reads and emits.")
@chooses_plugins
@version_option
@click.pass_context
def command(context: click.Context, *, as_json: bool, registry: Callable[[], Registry]) -> None:
    """List the installed plugins, or create a new one."""
    if context.invoked_subcommand is not None:
        return
    listed = [_described(plugin) for plugin in registry().plugins]
    if as_json:
        output.write(json.dumps(listed, indent=2))
        return
    rows = [
        (
            p["name"],
            p["version"],
            p["distribution"],
            " ".join(t["name"] for t in p["event_types"]),
            " ".join(p["hooks"]),
        )
        for p in listed
    ]
    output.write(tables.text([("NAME", "VERSION", "DISTRIBUTION", "EVENT TYPES", "HOOKS"), *rows]))


def _described(plugin: Plugin) -> dict[str, Any]:
    return {
        "name": plugin.name,
        "version": plugin.version,
        "distribution": plugin.distribution,
        "event_types": [
            {
                "name": event_type.name,
                "source": event_type.source,
                "channel": event_type.channel,
                "reads": list(event_type.reads.__struct_encode_fields__),
                "emits": event_type.emits,
            }
            for event_type in plugin.event_types
        ],
        "hooks": list(plugin.hooks),
    }


@command.command()
@click.argument("name")
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    default=Path(),
    help="Directory in which tornado-bridge-NAME is created.  [default: the current directory]",
)
@version_option
def new(name: str, directory: Path) -> None:
    """Create the skeleton of a plugin and print its directory.

    The skeleton is a Python distribution with one event type and with tests that pass.
    """
    output.write(str(skeleton.write(name, directory)))

"""The commands about plugins: `tornado-bridge plugins` and what is below it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tornado_bridge.cli import skeleton, tables
from tornado_bridge.cli.options import chooses_plugins, version_option
from tornado_bridge.registry import Plugin, Registry


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with what each event type reads and emits.")
@chooses_plugins
@version_option
@click.pass_context
def plugins(context: click.Context, *, as_json: bool, registry: Callable[[], Registry]) -> None:
    """List the plugins that are installed, or make a new one."""
    if context.invoked_subcommand is not None:
        return
    listed = [_described(plugin) for plugin in registry().plugins]
    if as_json:
        click.echo(json.dumps(listed, indent=2))
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
    click.echo(tables.text([("NAME", "VERSION", "DISTRIBUTION", "EVENT TYPES", "HOOKS"), *rows]))


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


@plugins.command()
@click.argument("name")
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    default=Path(),
    help="Directory to make it in, as tornado-bridge-NAME; the current one unless given.",
)
@version_option
def new(name: str, directory: Path) -> None:
    """Write the skeleton of a plugin, a distribution of its own whose tests pass, and print where it is."""
    click.echo(skeleton.write(name, directory))

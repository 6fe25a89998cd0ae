"""The command `tornado-bridge keys` with its subcommands."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from tornado_bridge.cli import output, tables
from tornado_bridge.cli.options import version_option
from tornado_bridge.cli.setting_options import chooses_plugins
from tornado_bridge.errors import ConfigurationError
from tornado_bridge.key_file import KeyFile
from tornado_bridge.keys import Key
from tornado_bridge.registry import Registry


@click.group("keys", no_args_is_help=False)
@version_option
def command() -> None:
    """Create, list and revoke API keys."""


def _key_file(subcommand: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--api-keys",
        "path",
        type=click.Path(path_type=Path),
        envvar="TORNADO_BRIDGE_API_KEYS",
        required=True,
        help="TOML file with the API keys.",
    )(subcommand)


@command.command()
@click.argument("name")
@_key_file
@version_option
@click.option(
    "--max-connections",
    type=click.IntRange(1),
    metavar="N",
    help="Most live connections of this key, in place of the server's --max-connections-per-key.",
)
@click.option(
    "--channels",
    multiple=True,
    metavar="PATTERN",
    help="Channels that the key may subscribe to. Repeatable. Without it the key may subscribe to every channel.",
)
@chooses_plugins
def create(
    name: str, path: Path, max_connections: int | None, channels: Sequence[str], registry: Callable[[], Registry]
) -> None:
    """Create a key and print it.

    The key is printed only this once. The file stores its SHA-256.
    """
    grammar = registry().grammar
    for channel in channels:
        if not grammar.admits(channel):
            raise ConfigurationError(f"--channels: no installed plugin has a channel {channel!r}")
    output.require()
    file = KeyFile(path)
    key = file.create(name, max_connections=max_connections, channels=channels)
    with contextlib.ExitStack() as undo:
        # A key that cannot be printed is lost, so the file must not keep it as an active one.
        undo.callback(file.withdraw, name)
        output.write(key)
        undo.pop_all()


@command.command("list")
@_key_file
@version_option
def list_(path: Path) -> None:
    """List all keys, including the revoked ones."""
    rows = [("ID", "NAME", "CREATED", "STATE", "CONNECTIONS", "CHANNELS"), *map(_row, KeyFile(path).read())]
    output.write(tables.text(rows))


def _row(key: Key) -> tuple[str, ...]:
    return (
        str(key.id),
        key.name,
        f"{key.created:%Y-%m-%d}",
        "active" if key.revoked is None else f"revoked {key.revoked:%Y-%m-%d}",
        "default" if key.max_connections is None else str(key.max_connections),
        " ".join(key.channels) or "all",
    )


@command.command()
@click.argument("name")
@_key_file
@version_option
def revoke(name: str, path: Path) -> None:
    """Revoke a key.

    A running server closes the connections of the key within 2 s.
    """
    KeyFile(path).revoke(name)
    click.echo(f"revoked {name}", err=True)

"""The command `tornado-bridge keys` with its subcommands."""

import contextlib
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from tornado_bridge.cli import output, tables
from tornado_bridge.cli.options import version_option
from tornado_bridge.cli.setting_options import chooses_plugins
from tornado_bridge.errors import ConfigurationError
from tornado_bridge.excerpts import excerpt
from tornado_bridge.key_file import KeyFile
from tornado_bridge.keys import Key, utc_now
from tornado_bridge.registry import Registry


@click.group("keys", no_args_is_help=False)
@version_option
def command() -> None:
    """Create, rotate, list and revoke API keys."""


def _key_file(subcommand: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--api-keys",
        "path",
        type=click.Path(path_type=Path),
        envvar="TORNADO_BRIDGE_API_KEYS",
        required=True,
        help="TOML file with the API keys.",
    )(subcommand)


def _expires(subcommand: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--expires",
        metavar="WHEN",
        help="When the key stops working: a date or time, in UTC unless it names another zone, or a time from now such "
        "as 12h, 30d or 8w.",
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
@_expires
@chooses_plugins
def create(
    name: str,
    path: Path,
    max_connections: int | None,
    channels: Sequence[str],
    expires: str | None,
    registry: Callable[[], Registry],
) -> None:
    """Create a key and print it.

    The key is printed only this once. The file stores its SHA-256.
    """
    expiry = _time(expires)
    grammar = registry().grammar
    for channel in channels:
        if not grammar.admits(channel):
            raise ConfigurationError(f"--channels: no installed plugin has a channel {channel!r}")
    output.require()
    file = KeyFile(path)
    key = file.create(name, max_connections=max_connections, channels=channels, expires=expiry)
    _print(key, name, file)


@command.command()
@click.argument("name")
@_key_file
@version_option
@_expires
def rotate(name: str, path: Path, expires: str | None) -> None:
    """Replace a key by a new one and print it.

    The new key has the same name and limits, and expires when the old one would have, unless --expires is given. The
    old key stops working: a running server closes its connections within 2 s.
    """
    expiry = _time(expires)
    output.require()
    file = KeyFile(path)
    _print(file.rotate(name, expires=expiry), name, file)


def _print(key: str, name: str, file: KeyFile) -> None:
    with contextlib.ExitStack() as undo:
        # A key that cannot be printed is lost, so the file must not keep it as an active one.
        undo.callback(file.withdraw, name)
        output.write(key)
        undo.pop_all()


_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def _time(text: str | None) -> datetime | None:
    """Return the time that --expires names, in UTC."""
    if text is None:
        return None
    try:
        if span := re.fullmatch(r"([0-9]{1,9})([mhdw])", text):
            return utc_now() + timedelta(**{_UNITS[span[2]]: int(span[1])})
        time = datetime.fromisoformat(text)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ConfigurationError(
            "--expires: expected a date or time such as 2027-01-31 or 2027-01-31T12:00Z, or a time from now such as "
            f"12h, 30d or 8w, got {excerpt(repr(text))}"
        ) from None


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
        _state(key),
        "default" if key.max_connections is None else str(key.max_connections),
        " ".join(key.channels) or "all",
    )


def _state(key: Key) -> str:
    if key.revoked is not None:
        return f"revoked {key.revoked:%Y-%m-%d}"
    if key.expires is None:
        return "active"
    return f"{'expires' if key.active_at(utc_now()) else 'expired'} {key.expires:%Y-%m-%d}"


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

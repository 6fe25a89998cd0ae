"""The command line."""

import asyncio
import datetime
import os
import re
import sys
import traceback
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

import tornado_bridge
from tornado_bridge import demo as demonstration
from tornado_bridge import logs
from tornado_bridge.audit import auditor
from tornado_bridge.audit import report as audit_report
from tornado_bridge.audit.generation import EXCHANGE_ID
from tornado_bridge.cli import tables, tail
from tornado_bridge.cli.options import PROGRAM, SettingsCommand, chooses_plugins, given, setting_option, version_option
from tornado_bridge.cli.plugins import plugins
from tornado_bridge.errors import BridgeError, ConfigurationError
from tornado_bridge.key_file import KeyFile
from tornado_bridge.keys import Key
from tornado_bridge.registry import Registry
from tornado_bridge.server import process, settings
from tornado_bridge.server.settings import KEY_VARIABLE
from tornado_bridge.web import asyncapi

FAILED = 1
UNUSABLE = 2

_DID_YOU_MEAN = re.compile(r"\. \(?Did you mean (?:one of: )?(.*)\?\)?$")


@click.group(no_args_is_help=False)
@version_option
@click.option("--debug", is_flag=True, help="Print the traceback too where a command ends with an error.")
@click.pass_obj
def cli(told: types.SimpleNamespace, debug: bool) -> None:
    """Relays internal Redis events to WebSocket clients as redacted envelopes."""
    told.debug = debug


cli.add_command(plugins)


@cli.command(cls=SettingsCommand)
@version_option
@click.option(
    "--config", type=click.Path(path_type=Path), envvar="TORNADO_BRIDGE_CONFIG", help="TOML file of settings."
)
def serve(config: Path | None, **options: Any) -> None:
    """Run the server.

    Each setting is taken from, in this order: its option, TORNADO_BRIDGE_NAME in the environment, NAME in the --config
    file, its default. The Redis password is no option: TORNADO_BRIDGE_REDIS_PASSWORD, or --redis-password-file.
    """
    settled = settings.settle(given(options), config)
    logs.configure(settled.log_level, settled.log_format)
    process.run(settled, lambda url: click.echo(f"listening on {url}"))


@cli.command(params=[setting_option("port"), setting_option("host")])
@version_option
def demo(**options: Any) -> None:
    """Run a server on an embedded Redis, with a synthetic market and a demo key."""
    logs.configure("warning", "text")
    asyncio.run(demonstration.demo(given(options), click.echo))


@cli.group(no_args_is_help=False)
@version_option
def keys() -> None:
    """Make, list and revoke API keys."""


def _key_file(command: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--api-keys",
        "path",
        type=click.Path(path_type=Path),
        envvar="TORNADO_BRIDGE_API_KEYS",
        required=True,
        help="TOML file of API keys.",
    )(command)


@keys.command()
@click.argument("name")
@_key_file
@version_option
@click.option(
    "--max-connections", type=click.IntRange(1), help="Live connections of this key, instead of the server's setting."
)
@click.option("--channels", multiple=True, help="Channel pattern that the key may have; repeatable; all unless given.")
@chooses_plugins
def create(
    name: str, path: Path, max_connections: int | None, channels: Sequence[str], registry: Callable[[], Registry]
) -> None:
    """Make a key and print it, this once; the file holds its SHA-256 alone."""
    grammar = registry().grammar
    for channel in channels:
        if not grammar.admits(channel):
            raise ConfigurationError(f"--channels: {channel!r} is a channel of no installed plugin")
    click.echo(KeyFile(path).create(name, max_connections=max_connections, channels=channels))


@keys.command("list")
@_key_file
@version_option
def list_keys(path: Path) -> None:
    """List all keys, the revoked ones among them."""
    rows = [("ID", "NAME", "CREATED", "STATE", "CONNECTIONS", "CHANNELS"), *map(_row, KeyFile(path).read())]
    click.echo(tables.text(rows))


def _row(key: Key) -> tuple[str, ...]:
    return (
        str(key.id),
        key.name,
        f"{key.created:%Y-%m-%d}",
        "active" if key.revoked is None else f"revoked {key.revoked:%Y-%m-%d}",
        "default" if key.max_connections is None else str(key.max_connections),
        " ".join(key.channels) or "all",
    )


@keys.command()
@click.argument("name")
@_key_file
@version_option
def revoke(name: str, path: Path) -> None:
    """Revoke a key; a running server closes its connections within 2 s."""
    KeyFile(path).revoke(name)
    click.echo(f"revoked {name}", err=True)


@cli.command("tail")
@click.argument("channels", nargs=-1, required=True, metavar="CHANNEL...")
@click.option("--url", required=True, help="WebSocket URL, such as ws://127.0.0.1:8765/public/v1/stream.")
@click.option("--api-key-file", type=click.Path(path_type=Path), help="File that holds the API key.")
@click.option("--api-key", help=f"API key; visible to every user of the machine: rather set {KEY_VARIABLE}.")
@click.option("--json", "as_json", is_flag=True, help="Print each envelope as it came, one a line.")
@version_option
def tail_command(
    channels: tuple[str, ...], url: str, api_key_file: Path | None, api_key: str | None, as_json: bool
) -> None:
    """Follow channels; the API key comes from TORNADO_BRIDGE_API_KEY unless an option says else."""
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    sys.exit(tail.run(url, _api_key(api_key, api_key_file), channels, as_json=as_json, colour=colour))


def _api_key(given: str | None, file: Path | None) -> str:
    if given is not None:
        return given
    if file is not None:
        try:
            key = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            key = ""
        if not key:
            raise ConfigurationError(f"--api-key-file: expected a readable file that holds an API key, got {file}")
        return key
    if os.environ.get(KEY_VARIABLE):
        return os.environ[KEY_VARIABLE]
    raise ConfigurationError(f"an API key is required: expected in {KEY_VARIABLE} or by --api-key-file")


@cli.command("asyncapi")
@click.option("--yaml", "as_yaml", is_flag=True, help="Print YAML.")
@chooses_plugins
@version_option
def asyncapi_command(as_yaml: bool, registry: Callable[[], Registry]) -> None:
    """Print the AsyncAPI document of the installed plugins, as /asyncapi.json and .yaml serve it."""
    document = asyncapi.document(registry())
    click.echo(asyncapi.as_yaml(document) if as_yaml else asyncapi.as_json(document), nl=False)


@cli.command("audit")
@click.argument("names", nargs=-1, metavar="[PLUGIN]...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--markdown", metavar="FILE", help="Write the report to file; with -, print it instead of the table.")
@click.option("--cases", type=click.IntRange(1), default=auditor.CASES, show_default=True, help="Events an event type.")
@chooses_plugins
@version_option
def audit_command(
    names: tuple[str, ...], as_json: bool, markdown: str | None, cases: int, registry: Callable[[], Registry]
) -> None:
    """Find out what comes out of what goes in, for every event type; ends with 1 where more does than is declared."""
    routes = registry().routes(EXCHANGE_ID)
    unknown = sorted(set(names) - {route.plugin.name for route in routes})
    if unknown:
        raise ConfigurationError(f"there is no plugin {unknown[0]!r} among those that are loaded")
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    chosen = [route for route in routes if not names or route.plugin.name in names]
    report = auditor.audit(chosen, version=tornado_bridge.__version__, date=date, cases=cases)
    if markdown is not None:
        _write_report(markdown, audit_report.as_markdown(report))
    if markdown != "-":
        click.echo(audit_report.as_json(report) if as_json else audit_report.as_text(report))
    sys.exit(FAILED if report.findings else 0)


def _write_report(file: str, text: str) -> None:
    try:
        with click.open_file(file, "w", encoding="utf-8") as opened:
            opened.write(text)
    except OSError as error:
        raise ConfigurationError(f"--markdown: {file} cannot be written: {error.strerror}") from None


def main() -> NoReturn:
    """Run the command line; ends the process with 0, 1 (failed while running) or 2 (unusable arguments or settings)."""
    told = types.SimpleNamespace(debug=False)
    try:
        status = cli.main(prog_name=PROGRAM, standalone_mode=False, obj=told)
    except click.UsageError as error:
        # Click asks after a mistyped name, in a second sentence.
        sentence = _DID_YOU_MEAN.sub(r": perhaps \1", error.format_message()).rstrip(".")
        path = PROGRAM if error.ctx is None else error.ctx.command_path
        _fail(f"{sentence} (see {path} --help)", UNUSABLE)
    except BridgeError as error:
        if told.debug:
            traceback.print_exception(error)
        _fail(str(error), UNUSABLE if isinstance(error, ConfigurationError) else FAILED)
    except OSError as error:
        # What could not be written is in the buffer still, and the interpreter would try again at exit.
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        _fail(f"failed: {error.strerror}", FAILED)
    except click.Abort:
        sys.exit(130)
    sys.exit(status if isinstance(status, int) else 0)


def _fail(sentence: str, status: int) -> NoReturn:
    click.echo(f"{PROGRAM}: {sentence}", err=True)
    sys.exit(status)

"""The command line."""

import asyncio
import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

import tornado_bridge
from tornado_bridge import demo as demonstration
from tornado_bridge import asyncapi, logs, server, settings, tail
from tornado_bridge.errors import BridgeError, ConfigurationError
from tornado_bridge.keys import Key, KeyFile
from tornado_bridge.registry import Plugin, Registry
from tornado_bridge.settings import KEY_VARIABLE

PROGRAM = "tornado-bridge"

FAILED = 1
UNUSABLE = 2

_DID_YOU_MEAN = re.compile(r"\. \(?Did you mean (?:one of: )?(.*)\?\)?$")


class SettingsCommand(click.Command):
    """A command whose options are the settings, grouped in its help."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.params += [_option(name) for name in settings.Settings.model_fields if name not in settings.NOT_AN_OPTION]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for group in settings.GROUPS:
            records = [
                (settings.option(name), _help(name, field))
                for name, field in settings.Settings.model_fields.items()
                if field.json_schema_extra["group"] == group and name not in settings.NOT_AN_OPTION  # type: ignore[index]
            ]
            with formatter.section(group):
                formatter.write_dl(records)
        others = [p.get_help_record(ctx) for p in self.get_params(ctx) if p.name not in settings.Settings.model_fields]
        with formatter.section("Other"):
            formatter.write_dl([record for record in others if record is not None])


def _option(name: str) -> click.Option:
    field = settings.Settings.model_fields[name]
    repeatable = field.default == ()
    return click.Option([settings.option(name)], type=str, multiple=repeatable, help=_help(name, field))


def _help(name: str, field: Any) -> str:
    unit = field.json_schema_extra["unit"]
    if field.is_required() or field.default in (None, ()):
        return str(field.description)
    return f"{field.description}  [default: {field.default}{' ' + unit if unit else ''}]"


_version_option = click.version_option(tornado_bridge.__version__, prog_name=PROGRAM)


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value not in (None, ())}


@click.group(no_args_is_help=False)
@_version_option
def cli() -> None:
    """Relays internal Redis events to WebSocket clients as redacted envelopes."""


@cli.command(cls=SettingsCommand)
@_version_option
@click.option(
    "--config", type=click.Path(path_type=Path), envvar="TORNADO_BRIDGE_CONFIG", help="TOML file of settings."
)
def serve(config: Path | None, **options: Any) -> None:
    """Run the server.

    Each setting is taken from, in this order: its option, TORNADO_BRIDGE_NAME in the environment, NAME in the --config
    file, its default. The Redis password is no option: TORNADO_BRIDGE_REDIS_PASSWORD, or --redis-password-file.
    """
    settled = settings.settle(_given(options), config)
    logs.configure(settled.log_level, settled.log_format)
    asyncio.run(server.serve(settled, lambda url: click.echo(f"listening on {url}")))


@cli.command(params=[_option("port"), _option("host")])
@_version_option
def demo(**options: Any) -> None:
    """Run a server on an embedded Redis, with a synthetic market and a demo key."""
    logs.configure("warning", "text")
    asyncio.run(demonstration.demo(_given(options), click.echo))


@cli.group(no_args_is_help=False)
@_version_option
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
@_version_option
@click.option(
    "--max-connections", type=click.IntRange(1), help="Live connections of this key, instead of the server's setting."
)
@click.option("--channels", multiple=True, help="Channel pattern that the key may have; repeatable; all unless given.")
def create(name: str, path: Path, max_connections: int | None, channels: Sequence[str]) -> None:
    """Make a key and print it, this once; the file holds its SHA-256 alone."""
    grammar = Registry().grammar
    for channel in channels:
        if not grammar.admits(channel):
            raise ConfigurationError(f"--channels: {channel!r} is a channel of no installed plugin")
    click.echo(KeyFile(path).create(name, max_connections=max_connections, channels=channels))


@keys.command("list")
@_key_file
@_version_option
def list_keys(path: Path) -> None:
    """List all keys, the revoked ones among them."""
    rows = [("ID", "NAME", "CREATED", "STATE", "CONNECTIONS", "CHANNELS"), *map(_row, KeyFile(path).read())]
    _print_table(rows)


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
@_version_option
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
@_version_option
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


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_version_option
def plugins(as_json: bool) -> None:
    """List the installed plugins."""
    installed = [_described(plugin) for plugin in Registry().plugins]
    if as_json:
        click.echo(json.dumps(installed, indent=2))
        return
    rows = [
        (
            p["name"],
            p["version"],
            p["distribution"],
            " ".join(t["name"] for t in p["event_types"]),
            " ".join(p["hooks"]),
        )
        for p in installed
    ]
    _print_table([("NAME", "VERSION", "DISTRIBUTION", "EVENT TYPES", "HOOKS"), *rows])


@cli.command("asyncapi")
@click.option("--yaml", "as_yaml", is_flag=True, help="Print YAML.")
@_version_option
def asyncapi_command(as_yaml: bool) -> None:
    """Print the AsyncAPI document of the installed plugins, as /asyncapi.json and .yaml serve it."""
    document = asyncapi.document(Registry())
    click.echo(asyncapi.as_yaml(document) if as_yaml else asyncapi.as_json(document), nl=False)


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


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def main() -> NoReturn:
    """Run the command line; ends the process with 0, 1 (failed while running) or 2 (unusable arguments or settings)."""
    try:
        status = cli.main(prog_name=PROGRAM, standalone_mode=False)
    except click.UsageError as error:
        # Click asks after a mistyped name, in a second sentence.
        sentence = _DID_YOU_MEAN.sub(r": perhaps \1", error.format_message()).rstrip(".")
        path = PROGRAM if error.ctx is None else error.ctx.command_path
        _fail(f"{sentence} (see {path} --help)", UNUSABLE)
    except ConfigurationError as error:
        _fail(str(error), UNUSABLE)
    except BridgeError as error:
        _fail(str(error), FAILED)
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

"""The command `tornado-bridge tail`."""

import asyncio
import contextlib
import io
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from tornado_bridge.cli import output
from tornado_bridge.cli.following import follow
from tornado_bridge.cli.options import version_option
from tornado_bridge.cli.terminal import Terminal
from tornado_bridge.errors import ConfigurationError
from tornado_bridge.server.settings import KEY_VARIABLE


@click.command("tail")
@click.argument("channels", nargs=-1, required=True, metavar="CHANNEL...")
@click.option(
    "--url", required=True, metavar="URL", help="WebSocket URL, such as ws://127.0.0.1:8765/public/v1/stream."
)
@click.option("--api-key-file", type=click.Path(path_type=Path), help="File with the API key.")
@click.option(
    "--api-key", metavar="KEY", help=f"API key. Every user of this machine can see it: prefer {KEY_VARIABLE}."
)
@click.option("--json", "as_json", is_flag=True, help="Print each envelope as it was received, one per line.")
@version_option
def command(channels: tuple[str, ...], url: str, api_key_file: Path | None, api_key: str | None, as_json: bool) -> None:
    """Follow channels in a terminal.

    The API key is taken from --api-key, --api-key-file or the environment variable TORNADO_BRIDGE_API_KEY, whichever
    comes first in this list.
    """
    output.require()
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    sys.exit(run(url, _key(api_key, api_key_file), channels, as_json=as_json, colour=colour))


def _key(option: str | None, file: Path | None) -> str:
    if option is not None:
        return option
    if file is not None:
        try:
            key = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            key = ""
        if not key:
            raise ConfigurationError(f"--api-key-file: expected a readable file with an API key, got {file}")
        return key
    if os.environ.get(KEY_VARIABLE):
        return os.environ[KEY_VARIABLE]
    raise ConfigurationError(f"an API key is required: set {KEY_VARIABLE} or use --api-key-file")


def run(url: str, key: str, channels: Sequence[str], *, as_json: bool = False, colour: bool = False) -> int:
    """Follow channels on the standard streams until the server refuses, and return the exit status.

    SIGINT and SIGTERM end it with status 0. It must run in the main thread, which receives the signals. Raises
    ConfigurationError for arguments that can never work.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A character that the locale cannot encode must not end the process. JSON is UTF-8 in any locale.
        sys.stdout.reconfigure(encoding="utf-8" if as_json else None, errors="backslashreplace")
    # Tornado logs a traceback for some broken handshakes, for which `follow` prints a sentence.
    logging.getLogger("tornado").addHandler(logging.NullHandler())
    terminal = Terminal(sys.stdout, sys.stderr, as_json, colour)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    async def interruptible() -> int:
        following = asyncio.ensure_future(follow(url, key, channels, terminal))
        loop = asyncio.get_running_loop()

        def interrupt(*_: object) -> None:
            # While a write blocks because its reader does not read, the loop cannot deliver a cancellation.
            if terminal.writing:
                raise KeyboardInterrupt
            loop.call_soon_threadsafe(following.cancel)

        for number in handlers:
            signal.signal(number, interrupt)
        return await following

    try:
        with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
            return asyncio.run(interruptible())
        return 0
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)

"""Follows channels in a terminal."""

import asyncio
import datetime
import io
import logging
import os
import random
import signal
import sys
import urllib.parse
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Any, NamedTuple, NoReturn, TextIO

from tornado_bridge.errors import ConfigurationError

# Channels in one subscribe message (PROTOCOL.md section 2).
BATCH = 20

# Seconds. A server that answers no ping within the second time is given up.
PING_INTERVAL = 20.0
PING_TIMEOUT = 10.0
HANDSHAKE_TIMEOUT = 10.0
FIRST_DELAY = 0.5
LONGEST_DELAY = 10.0

# What no retry mends: the key is refused; the address is no stream. A proxy in front may say 401.
FINAL_CLOSE = 4001
FINAL_STATUS = (401, 403, 404, 426)

_GREEN, _RED, _DIM, _RESET = "\x1b[32m", "\x1b[31m", "\x1b[2m", "\x1b[0m"


class End(NamedTuple):
    """Why a connection, or the try at one, ended; a final end is not followed by another try."""

    reason: str
    final: bool = False


async def tail(
    url: str,
    key: str,
    channels: Sequence[str],
    *,
    as_json: bool = False,
    colour: bool = False,
    out: TextIO | None = None,
    err: TextIO | None = None,
) -> int:
    """Print what `channels` carry, a line an envelope, until the server refuses for good; return the exit status.

    That is 1 for a refusal and for an `out` that cannot be written, 0 for an `out` whose reader went away. Whatever
    else ends a connection is followed by another try. `out` and `err` are the standard streams unless given.
    Raises ConfigurationError for arguments that no try could mend; the key is in no text.
    """
    _check(url, key, channels)
    terminal = Terminal(out or sys.stdout, err or sys.stderr, as_json=as_json, colour=colour)
    try:
        return await _follow(url, key, channels, terminal)
    except OSError as error:  # of the terminal: one of the network is an End
        terminal.let_go()
        if isinstance(error, BrokenPipeError):
            return 0
        terminal.say(f"cannot write: {error.strerror}")
        return 1


def run(
    url: str,
    key: str,
    channels: Sequence[str],
    *,
    as_json: bool = False,
    colour: bool = False,
    out: TextIO | None = None,
    err: TextIO | None = None,
) -> int:
    """Run `tail` as the whole of a process: SIGINT and SIGTERM end it with status 0. For the main thread."""
    out = out or sys.stdout
    if isinstance(out, io.TextIOWrapper):
        # A locale that cannot write a character must not end the tail; JSON is UTF-8 whatever the locale.
        out.reconfigure(**({"encoding": "utf-8"} if as_json else {"errors": "backslashreplace"}))
    # Tornado logs a traceback for some handshakes that break; here every fault is a sentence of ours.
    tornado = logging.getLogger("tornado")
    level = tornado.level
    tornado.setLevel(logging.CRITICAL + 1)
    # asyncio's signal handlers would wait for a write that is blocked by a reader who does not read.
    handlers = {number: signal.signal(number, _interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return asyncio.run(tail(url, key, channels, as_json=as_json, colour=colour, out=out, err=err))
    except KeyboardInterrupt:
        return 0
    finally:
        tornado.setLevel(level)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


class Terminal:
    """Where the lines go: envelopes to `out`, what happens to the connection to `err`."""

    def __init__(self, out: TextIO, err: TextIO, *, as_json: bool, colour: bool) -> None:
        self._out = out
        self._err = err
        self._as_json = as_json
        self._colour = colour

    def show(self, envelope: Mapping[str, Any], text: str) -> None:
        """Print an envelope; `text` is what it was parsed from."""
        if self._as_json:
            # Between members a line break means nothing, and within a string JSON has none.
            line = text.translate({10: " ", 13: " "})
        else:
            line = envelope_line(envelope, datetime.datetime.now(datetime.UTC), colour=self._colour)
        try:
            print(line, file=self._out, flush=True)
        except KeyboardInterrupt:
            # Blocked by a reader who does not read, as the flush at exit would be.
            _silence(self._out)
            raise

    def say(self, sentence: str) -> None:
        """Print a sentence for the operator."""
        print(f"tail: {printable(sentence)}", file=self._err, flush=True)

    def let_go(self) -> None:
        """Drop what the streams cannot take, or the interpreter would complain about it at exit."""
        for stream in (self._out, self._err):
            try:
                stream.flush()
            except OSError:
                _silence(stream)


def _silence(stream: TextIO) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _check(url: str, key: str, channels: Sequence[str]) -> None:
    try:
        parts = urllib.parse.urlsplit(url)
        usable = parts.scheme in ("ws", "wss") and bool(parts.hostname) and parts.port != 0 and url.isascii()
    except ValueError:
        usable = False
    if not usable:
        raise ConfigurationError("the URL must be of the form ws://HOST:PORT/PATH or wss://HOST:PORT/PATH")
    if not (key.isascii() and key.isprintable()):
        raise ConfigurationError("the API key must be printable ASCII")
    if not channels:
        raise ConfigurationError("there is no channel to follow")


async def _follow(url: str, key: str, channels: Sequence[str], terminal: Terminal) -> int:
    # Not the query and not the user: a key may be in them.
    parts = urllib.parse.urlsplit(url)
    address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    tries = 0
    # Each reason is said once in an outage, though tries may fail in turns for two of them.
    said: set[str] = set()
    while True:
        connection = await _connect(url, key)
        if isinstance(connection, End):
            end = connection._replace(reason=f"cannot follow {address}: {connection.reason}")
        else:
            try:
                end, subscribed = await _listen(connection, address, channels, terminal)
            finally:
                connection.close()
            if subscribed:
                tries = 0
                said.clear()
        if end.final:
            terminal.say(end.reason)
            return 1
        if end.reason not in said:
            said.add(end.reason)
            terminal.say(f"{end.reason}; trying again")
        await asyncio.sleep(delay(tries, random.random()))
        tries += 1

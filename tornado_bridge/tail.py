"""Follows channels in a terminal."""

import asyncio
import contextlib
import datetime
import io
import json
import logging
import os
import random
import re
import signal
import sys
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, NamedTuple, NoReturn, TextIO

from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import WebSocketClientConnection, WebSocketClosedError, websocket_connect

from tornado_bridge.errors import ConfigurationError

# Channels in one subscribe message (PROTOCOL.md section 2).
BATCH = 20

# In seconds. TIMEOUT is for the handshake, and for the answer to a ping.
PING_INTERVAL = 20.0
TIMEOUT = 10.0
FIRST_DELAY, LONGEST_DELAY = 0.5, 10.0

# What no other try mends: the key is refused, or the address is no stream. 401 is what a proxy in front may say.
FINAL_CLOSE = 4001
FINAL_STATUS = (401, 403, 404, 426)

# Errors that come instead of a `subscribed`; only the first one passes with time.
_UNSERVED = ("RATE_LIMITED", "INVALID_MESSAGE", "PARSE_ERROR")

_FORMS = {
    "candle_close": "O {open} H {high} L {low} C {close} V {volume} {timestamp}",
    "trade_signal": "{direction} {strength} at {price}",
}
_GREEN, _RED, _DIM, _RESET = "\x1b[32m", "\x1b[31m", "\x1b[2m", "\x1b[0m"


def printable(text: str) -> str:
    """Return `text` with everything escaped that could move a cursor, change a colour or turn the line around."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def envelope_line(envelope: Mapping[str, Any], received: datetime.datetime, *, colour: bool = False) -> str:
    """Return the line that says an envelope, of whatever form; `received` is in UTC."""
    time = f"{received:%H:%M:%S}.{received.microsecond // 1000:03}Z"
    channel = printable(str(envelope.get("channel", "-")))
    data = envelope.get("data")
    if not isinstance(data, dict):
        data = {name: value for name, value in envelope.items() if name != "channel"}
    try:
        text = _FORMS[envelope["type"]].format_map(data)
    except (KeyError, TypeError):
        text = " ".join(
            f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in data.items()
        )
    dim, tone, reset = (_DIM, _tone(data), _RESET) if colour else ("", "", "")
    return f"{dim}{time}{reset} {channel} {tone}{printable(text)}{reset}"


def _tone(data: Mapping[str, Any]) -> str:
    if "direction" in data:
        return _RED if data["direction"] == "bearish" else _GREEN
    try:
        return _GREEN if float(data["close"]) >= float(data["open"]) else _RED
    except (KeyError, TypeError, ValueError):
        return ""


def delay(tries: int, chance: float) -> float:
    """Return the seconds to wait after `tries` vain tries; `chance`, below 1, takes off up to half of them."""
    return min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(tries, 16)) * (1 - chance / 2)


class End(NamedTuple):
    """Why a connection, or the try at one, ended; after a final end there is no other try."""

    reason: str
    final: bool = False


@dataclass(frozen=True, slots=True)
class Terminal:
    """Where the lines go: envelopes to `out`, what becomes of the connection to `err`."""

    out: TextIO
    err: TextIO
    as_json: bool
    colour: bool

    def show(self, envelope: Mapping[str, Any], text: str) -> None:
        """Print an envelope; `text` is what it was parsed from."""
        if self.as_json:
            # A line break stands between the tokens of JSON, where a space means the same.
            line = text.translate({10: " ", 13: " "})
        else:
            line = envelope_line(envelope, datetime.datetime.now(datetime.UTC), colour=self.colour)
        _print(line, self.out)

    def say(self, sentence: str) -> None:
        """Print a sentence for the operator."""
        _print(f"tail: {printable(sentence)}", self.err)

    def let_go(self) -> None:
        """Drop what the streams do not take; the interpreter would try again at exit, and complain."""
        for stream in (self.out, self.err):
            try:
                stream.flush()
            except OSError:
                _silence(stream)


def _print(line: str, stream: TextIO) -> None:
    try:
        print(line, file=stream, flush=True)
    except KeyboardInterrupt:
        # The reader may have stopped reading; then the flush at exit would block as this one did.
        _silence(stream)
        raise


def _silence(stream: TextIO) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


class _Dialogue:
    """What comes on one connection, and what becomes of its subscribe messages."""

    def __init__(self, address: str, channels: Sequence[str], terminal: Terminal) -> None:
        batches = [channels[start : start + BATCH] for start in range(0, len(channels), BATCH)]
        self.requests = [json.dumps({"action": "subscribe", "channels": batch}) for batch in batches]
        self.unanswered = len(batches)
        self._granted = 0
        self.address = address
        self._terminal = terminal

    def take(self, message: str | bytes) -> End | None:
        """Print what a message says; return an End where it makes no sense to go on with the connection."""
        text = message if isinstance(message, str) else message.decode(errors="replace")
        try:
            envelope = json.loads(text)
        except (ValueError, RecursionError):
            envelope = None
        match envelope:
            case {"type": "error", "code": code, "message": sentence}:
                fault = f"{self.address}: {sentence}"
                if self.unanswered and code in _UNSERVED:
                    return End(fault, final=code != "RATE_LIMITED")
                self._terminal.say(fault)
            case {"type": "subscribed", "channels": list(granted)} if self.unanswered:
                self.unanswered -= 1
                self._granted += len(granted)
                if not self.unanswered and not self._granted:
                    return End(f"{self.address} granted no channel", final=True)
                if not self.unanswered:
                    self._terminal.say(f"following {self.address}, channels: {self._granted}")
            case dict():
                self._terminal.show(envelope, text)
            case _:
                self._terminal.say(f"{self.address} sent a message that is no JSON object")
        return None


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

    The status is 1 for a refusal and for a stream that cannot be written, 0 for one whose reader has gone.
    Whatever else ends a connection is followed by another try. `out` and `err` are the standard streams unless
    given. Raises ConfigurationError for arguments that can never work; no text contains the key.
    """
    address = _checked(url, key, channels)
    terminal = Terminal(out or sys.stdout, err or sys.stderr, as_json, colour)
    tries = 0
    # Each reason is said once in an outage: tries may fail for two of them in turns.
    said: set[str] = set()
    try:
        while True:
            dialogue = _Dialogue(address, channels, terminal)
            end = await _attend(url, key, dialogue)
            if end.final:
                terminal.say(end.reason)
                return 1
            if not dialogue.unanswered:
                tries = 0
                said.clear()
            if end.reason not in said:
                said.add(end.reason)
                terminal.say(f"{end.reason}; trying again")
            await asyncio.sleep(delay(tries, random.random()))
            tries += 1
    except OSError as error:
        # Of the terminal: one of the network becomes an End.
        terminal.let_go()
        if isinstance(error, BrokenPipeError):
            return 0
        terminal.say(f"cannot write: {error.strerror}")
        return 1


def _checked(url: str, key: str, channels: Sequence[str]) -> str:
    """Return the address to print: without user and query, for a key may be in them."""
    try:
        parts = urllib.parse.urlsplit(url)
        usable = parts.scheme in ("ws", "wss") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not re.fullmatch("[!-~]+", url):
        raise ConfigurationError("the URL must have the form ws://HOST:PORT/PATH or wss://HOST:PORT/PATH")
    if not (key.isascii() and key.isprintable()):
        raise ConfigurationError("the API key must be printable ASCII")
    if not channels:
        raise ConfigurationError("there is no channel to follow")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


async def _attend(url: str, key: str, dialogue: _Dialogue) -> End:
    """Connect, subscribe and take what comes until the connection ends; return why it did."""
    headers = {"X-API-Key": key}
    request = HTTPRequest(url, headers=headers, connect_timeout=TIMEOUT, request_timeout=TIMEOUT)
    opening = websocket_connect(request, ping_interval=PING_INTERVAL, ping_timeout=TIMEOUT)
    # Not with `except`: a strange answer makes Tornado raise and pass on anything.
    await asyncio.wait([opened := asyncio.ensure_future(opening)])
    error = opened.exception()
    if error is not None:
        return _unreachable(dialogue.address, error)
    connection = opened.result()
    try:
        return await _listen(connection, dialogue)
    finally:
        connection.close(1000)


def _unreachable(address: str, error: BaseException) -> End:
    if isinstance(error, HTTPClientError) and error.code != 599:
        return End(f"{address} answers HTTP {error.code} {error.message}", final=error.code in FINAL_STATUS)
    # 599 is Tornado's for no answer.
    reason = error.message if isinstance(error, HTTPClientError) else str(error)
    return End(f"cannot reach {address}: {(isinstance(error, OSError) and error.strerror) or reason}")


async def _listen(connection: WebSocketClientConnection, dialogue: _Dialogue) -> End:
    # A connection that closes meanwhile says why below.
    with contextlib.suppress(WebSocketClosedError):
        for request in dialogue.requests:
            await connection.write_message(request)
    end: End | None = None
    while (message := await connection.read_message()) is not None:
        # After our close the rest is read unseen, or the server's answer to it would never be reached.
        if end is None and (end := dialogue.take(message)) is not None:
            connection.close(1000)
    if end is not None:
        return end
    code, reason = connection.close_code, connection.close_reason or ""
    if code is None:
        return End(f"the connection to {dialogue.address} was lost")
    return End(f"{dialogue.address} closed: {code} {reason}".rstrip(), final=code == FINAL_CLOSE)


def run(url: str, key: str, channels: Sequence[str], *, as_json: bool = False, colour: bool = False) -> int:
    """Run `tail` as the whole of a process: SIGINT and SIGTERM end it with status 0. For the main thread."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A character that the locale lacks must not end it; JSON is UTF-8 in any locale.
        sys.stdout.reconfigure(encoding="utf-8" if as_json else None, errors="backslashreplace")
    # Tornado logs a traceback for some broken handshakes; here a fault is a sentence of ours.
    logging.getLogger("tornado").addHandler(logging.NullHandler())
    # The signal handlers of asyncio would wait for a write to a reader who does not read.
    handlers = {number: signal.signal(number, _interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return asyncio.run(tail(url, key, channels, as_json=as_json, colour=colour))
    except KeyboardInterrupt:
        return 0
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    # A second signal would break off the closing that the first one began.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt

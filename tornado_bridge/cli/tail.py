"""Follows channels in a terminal."""

import asyncio
import contextlib
import datetime
import io
import json
import logging
import os
import random
import signal
import sys
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TextIO

from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import WebSocketClientConnection, WebSocketClosedError, websocket_connect

from tornado_bridge.errors import ConfigurationError
from tornado_bridge.excerpts import printable

# Channels in one subscribe message (PROTOCOL.md section 2).
BATCH = 20

# In seconds. TIMEOUT is for the handshake and for the answer to a ping, FAREWELL for the answer to a close.
PING_INTERVAL = 20.0
TIMEOUT = 10.0
FAREWELL = 1.0
FIRST_DELAY, LONGEST_DELAY = 0.5, 10.0

# What no other try mends: the key is refused, or the address is no stream. 401 is what a proxy in front may say.
FINAL_CLOSE, FINAL_STATUS = 4001, (401, 403, 404, 426)

_FORMS = {
    "candle_close": "O {open} H {high} L {low} C {close} V {volume} {timestamp}",
    "trade_signal": "{direction} {strength} at {price}",
}
_GREEN, _RED, _DIM, _RESET = "\x1b[32m", "\x1b[31m", "\x1b[2m", "\x1b[0m"


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
        text = " ".join(f"{name}={_plain(value)}" for name, value in data.items())
    dim, tone, reset = (_DIM, _tone(data), _RESET) if colour else ("", "", "")
    return f"{dim}{time}{reset} {channel} {tone}{printable(text)}{reset}"


def _plain(value: object) -> str:
    try:
        return value if isinstance(value, str) else json.dumps(value)
    except RecursionError:
        return "(nested too deep)"


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


@dataclass(slots=True)
class Terminal:
    """Where the lines go: envelopes to `out`, what becomes of the connection to `err`."""

    out: TextIO
    err: TextIO
    as_json: bool
    colour: bool
    writing: bool = False

    def show(self, envelope: Mapping[str, Any], text: str) -> None:
        """Print an envelope; `text` is what it was parsed from."""
        # A line break stands between the tokens of JSON, where a space means the same.
        line = text.translate({10: " ", 13: " "})
        if not self.as_json:
            line = envelope_line(envelope, datetime.datetime.now(datetime.UTC), colour=self.colour)
        self._print(line, self.out)

    def say(self, sentence: str) -> None:
        """Print a sentence for the operator."""
        self._print(f"tail: {printable(sentence)}", self.err)

    def _print(self, line: str, stream: TextIO) -> None:
        self.writing = True
        try:
            print(line, file=stream, flush=True)
        except (OSError, KeyboardInterrupt):
            # The interpreter would write at exit what the stream did not take: let that go nowhere.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
            raise
        finally:
            self.writing = False


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
                # These come instead of a `subscribed`; only the first one passes with time.
                if self.unanswered and code in ("RATE_LIMITED", "INVALID_MESSAGE", "PARSE_ERROR"):
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
    Whatever else ends a connection is followed by another try. `out` and `err` default to the standard streams.
    Raises ConfigurationError for arguments that can never work; no text contains the key.
    """
    return await _follow(url, key, channels, Terminal(out or sys.stdout, err or sys.stderr, as_json, colour))


async def _follow(url: str, key: str, channels: Sequence[str], terminal: Terminal) -> int:
    address = _checked(url, key, channels)
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
    except BrokenPipeError:
        return 0
    except OSError as error:
        # Of the terminal: one of the network becomes an End.
        terminal.say(f"cannot write: {error.strerror}")
        return 1


def _checked(url: str, key: str, channels: Sequence[str]) -> str:
    """Return the address to print: without user and query, for a key may be in them."""
    try:
        parts = urllib.parse.urlsplit(url)
        usable = url.startswith(("ws://", "wss://")) and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not (usable and url.isascii() and url.isprintable() and " " not in url):
        raise ConfigurationError("the URL must have the form ws://HOST:PORT/PATH or wss://HOST:PORT/PATH")
    if not (key.isascii() and key.isprintable()):
        raise ConfigurationError("the API key must be printable ASCII")
    if not channels:
        raise ConfigurationError("there is no channel to follow")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


async def _attend(url: str, key: str, dialogue: _Dialogue) -> End:
    """Connect, subscribe and take what comes until the connection ends; return why it did."""
    request = HTTPRequest(url, headers={"X-API-Key": key}, connect_timeout=TIMEOUT, request_timeout=TIMEOUT)
    opening = websocket_connect(request, ping_interval=PING_INTERVAL, ping_timeout=TIMEOUT)
    # Not with `except`: a strange answer makes Tornado raise and pass on anything.
    [opened] = await asyncio.gather(opening, return_exceptions=True)
    match opened:
        case WebSocketClientConnection():
            return await _listen(opened, dialogue)
        case HTTPClientError(code=599, message=reason) | OSError(strerror=str(reason)):
            # 599 is Tornado's for no answer.
            return End(f"cannot reach {dialogue.address}: {reason}")
        case HTTPClientError(code=code, message=reason):
            return End(f"{dialogue.address} answers HTTP {code} {reason}", final=code in FINAL_STATUS)
    return End(f"cannot reach {dialogue.address}: {opened}")


async def _listen(connection: WebSocketClientConnection, dialogue: _Dialogue) -> End:
    there = True
    try:
        # A connection that closes meanwhile says why below.
        with contextlib.suppress(WebSocketClosedError):
            for request in dialogue.requests:
                await connection.write_message(request)
        while (message := await connection.read_message()) is not None:
            if (end := dialogue.take(message)) is not None:
                return end
        there = False
    finally:
        connection.close(1000)
        # The server's answer to that comes after what is under way, and closes the socket.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL):
                while there and await connection.read_message() is not None:
                    pass
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
    terminal = Terminal(sys.stdout, sys.stderr, as_json, colour)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    async def follow() -> int:
        following = asyncio.ensure_future(_follow(url, key, channels, terminal))
        loop = asyncio.get_running_loop()

        def interrupt(*_: object) -> None:
            # Under a write that blocks, for its reader does not read, the loop would see no cancellation.
            if terminal.writing:
                raise KeyboardInterrupt
            loop.call_soon_threadsafe(following.cancel)

        for number in handlers:
            signal.signal(number, interrupt)
        return await following

    try:
        with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
            return asyncio.run(follow())
        return 0
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)

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
from types import FrameType
from typing import Any, NamedTuple, NoReturn, TextIO

from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.iostream import StreamClosedError
from tornado.websocket import WebSocketClientConnection, WebSocketClosedError, websocket_connect

from tornado_bridge.errors import ConfigurationError

# Channels in one subscribe message (PROTOCOL.md section 2).
BATCH = 20

# All in seconds. A server that answers no ping within PING_TIMEOUT is given up.
PING_INTERVAL = 20.0
PING_TIMEOUT = 10.0
HANDSHAKE_TIMEOUT = 10.0
FIRST_DELAY = 0.5
LONGEST_DELAY = 10.0

# What no other try mends: the key is refused, or the address is no stream. 401 is what a proxy in front may say.
FINAL_CLOSE = 4001
FINAL_STATUS = (401, 403, 404, 426)

# Errors that stand in the place of a `subscribed`; only the first one passes with time.
_UNSERVED = ("RATE_LIMITED", "INVALID_MESSAGE", "PARSE_ERROR")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_GREEN, _RED, _DIM, _RESET = "\x1b[32m", "\x1b[31m", "\x1b[2m", "\x1b[0m"


def printable(text: str) -> str:
    """Return `text` with everything escaped that could move a cursor, change a colour or turn the line around."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def envelope_line(envelope: Mapping[str, Any], received: datetime.datetime, *, colour: bool = False) -> str:
    """Return the line that says an envelope; `received` is in UTC."""
    text, tone = _content(envelope)
    time = f"{received:%H:%M:%S}.{received.microsecond // 1000:03}Z"
    channel, text = printable(str(envelope.get("channel", "-"))), printable(text)
    if colour:
        return f"{_DIM}{time}{_RESET} {channel} {tone}{text}{_RESET}"
    return f"{time} {channel} {text}"


def _content(envelope: Mapping[str, Any]) -> tuple[str, str]:
    """Return what an envelope says, and its colour."""
    match envelope:
        case {
            "type": "candle_close",
            "data": {
                "timestamp": str(time),
                "open": str(opened),
                "high": str(high),
                "low": str(low),
                "close": str(closed),
                "volume": str(volume),
            },
        }:
            return f"O {opened} H {high} L {low} C {closed} V {volume} {time}", _tone(opened, closed)
        case {
            "type": "trade_signal",
            "data": {"direction": str(direction), "strength": str(strength), "price": str(price)},
        }:
            return f"{direction} {strength} at {price}", _RED if direction == "bearish" else _GREEN
        case {"data": dict(members)}:
            return _members(members), ""
    return _members({name: value for name, value in envelope.items() if name != "channel"}), ""


def _tone(opened: str, closed: str) -> str:
    try:
        return _GREEN if float(closed) >= float(opened) else _RED
    except ValueError:
        return ""


def _members(members: Mapping[str, Any]) -> str:
    return " ".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value, separators=(',', ':'))}"
        for name, value in members.items()
    )


def delay(tries: int, chance: float) -> float:
    """Return the seconds to wait after `tries` vain tries; `chance`, below 1, takes off up to half of them."""
    return min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(tries, 16)) * (1 - chance / 2)


class End(NamedTuple):
    """Why a connection, or the try at one, ended; after a final end there is no other try."""

    reason: str
    final: bool = False


class Terminal:
    """Where the lines go: envelopes to `out`, what becomes of the connection to `err`."""

    def __init__(self, out: TextIO, err: TextIO, *, as_json: bool, colour: bool) -> None:
        self._out = out
        self._err = err
        self._as_json = as_json
        self._colour = colour

    def show(self, envelope: Mapping[str, Any], text: str) -> None:
        """Print an envelope; `text` is what it was parsed from."""
        if self._as_json:
            # A line break stands between the tokens of JSON, where a space means the same.
            self._print(text.translate({10: " ", 13: " "}), self._out)
        else:
            now = datetime.datetime.now(datetime.UTC)
            self._print(envelope_line(envelope, now, colour=self._colour), self._out)

    def say(self, sentence: str) -> None:
        """Print a sentence for the operator."""
        self._print(f"tail: {printable(sentence)}", self._err)

    def let_go(self) -> None:
        """Drop what the streams do not take; the interpreter would try again at exit, and complain."""
        for stream in (self._out, self._err):
            try:
                stream.flush()
            except OSError:
                _silence(stream)

    def _print(self, line: str, stream: TextIO) -> None:
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
    _check(url, key, channels)
    terminal = Terminal(out or sys.stdout, err or sys.stderr, as_json=as_json, colour=colour)
    try:
        return await _follow(url, key, channels, terminal)
    except OSError as error:
        # Of the terminal: one of the network becomes an End.
        terminal.let_go()
        if isinstance(error, BrokenPipeError):
            return 0
        terminal.say(f"cannot write: {error.strerror}")
        return 1


def _check(url: str, key: str, channels: Sequence[str]) -> None:
    try:
        parts = urllib.parse.urlsplit(url)
        usable = parts.scheme in ("ws", "wss") and parts.hostname and parts.port != 0 and re.fullmatch("[!-~]+", url)
    except ValueError:
        usable = False
    if not usable:
        raise ConfigurationError("the URL must have the form ws://HOST:PORT/PATH or wss://HOST:PORT/PATH")
    if not (key.isascii() and key.isprintable()):
        raise ConfigurationError("the API key must be printable ASCII")
    if not channels:
        raise ConfigurationError("there is no channel to follow")


async def _follow(url: str, key: str, channels: Sequence[str], terminal: Terminal) -> int:
    # Without user and query: a key may be in them.
    parts = urllib.parse.urlsplit(url)
    address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    tries = 0
    # Each reason is said once in an outage: tries may fail for two of them in turns.
    said: set[str] = set()
    while True:
        connection = await _connect(url, key, address)
        if isinstance(connection, End):
            end = connection
        else:
            try:
                end, subscribed = await _listen(connection, address, channels, terminal)
            finally:
                connection.close(1000)
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


async def _connect(url: str, key: str, address: str) -> WebSocketClientConnection | End:
    request = HTTPRequest(
        url,
        headers={"X-API-Key": key},
        connect_timeout=HANDSHAKE_TIMEOUT,
        request_timeout=HANDSHAKE_TIMEOUT,
    )
    connecting = asyncio.ensure_future(
        websocket_connect(request, ping_interval=PING_INTERVAL, ping_timeout=PING_TIMEOUT)
    )
    try:
        await asyncio.wait([connecting])
    finally:
        if not connecting.done():
            connecting.add_done_callback(_close_late)
    # Tornado passes on whatever a strange answer makes it raise.
    error = connecting.exception()
    if error is None:
        return connecting.result()
    if isinstance(error, HTTPClientError) and error.code != 599:
        status = f"HTTP {error.code} {error.message}"
        return End(f"{address} is no stream to follow: {status}", final=error.code in FINAL_STATUS)
    return End(f"cannot reach {address}: {_cause(error)}")


def _close_late(connecting: "asyncio.Future[WebSocketClientConnection]") -> None:
    if connecting.exception() is None:
        connecting.result().close()


def _cause(error: BaseException) -> str:
    if isinstance(error, HTTPClientError):
        return error.message or "no answer"
    if isinstance(error, StreamClosedError):
        return "the connection was closed in the handshake"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"the handshake failed ({type(error).__name__})"


class _Dialogue:
    """What comes on one connection, and what became of its subscribe messages."""

    def __init__(self, address: str, channels: Sequence[str], terminal: Terminal) -> None:
        batches = [channels[start : start + BATCH] for start in range(0, len(channels), BATCH)]
        self.requests = [json.dumps({"action": "subscribe", "channels": batch}) for batch in batches]
        self.unanswered = len(batches)
        self._granted = 0
        self._address = address
        self._terminal = terminal

    def take(self, text: str) -> End | None:
        """Print what a message says; return an End if there is no use in going on with this connection."""
        match _parsed(text):
            case None:
                self._terminal.say(f"{self._address} sent a message that is no JSON object")
            case {"type": "error", "code": code, "message": sentence}:
                if self.unanswered and code in _UNSERVED:
                    return End(f"{self._address}: {sentence}", final=code != "RATE_LIMITED")
                self._terminal.say(f"{self._address}: {sentence}")
            case {"type": "subscribed", "channels": list(channels)} if self.unanswered:
                return self._subscribed(len(channels))
            case envelope:
                self._terminal.show(envelope, text)
        return None

    def _subscribed(self, granted: int) -> End | None:
        self._granted += granted
        self.unanswered -= 1
        if self.unanswered:
            return None
        if not self._granted:
            return End(f"{self._address} granted no channel", final=True)
        noun = "channel" if self._granted == 1 else "channels"
        self._terminal.say(f"following {self._granted} {noun} of {self._address}")
        return None


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


async def _listen(
    connection: WebSocketClientConnection, address: str, channels: Sequence[str], terminal: Terminal
) -> tuple[End, bool]:
    """Subscribe and print until the connection ends; return why, and whether every subscribe was answered."""
    dialogue = _Dialogue(address, channels, terminal)
    # A connection that closes meanwhile says why below.
    with contextlib.suppress(WebSocketClosedError):
        for request in dialogue.requests:
            await connection.write_message(request)
    end: End | None = None
    while (message := await connection.read_message()) is not None:
        # After our close the rest is read unseen, or the server's answer to it would never be reached.
        if end is None:
            end = dialogue.take(message if isinstance(message, str) else message.decode(errors="replace"))
            if end is not None:
                connection.close(1000)
    return end or _closed(address, connection.close_code, connection.close_reason), not dialogue.unanswered


def _closed(address: str, code: int | None, reason: str | None) -> End:
    if code is None:
        return End(f"the connection to {address} was lost")
    return End(f"{address} closed the connection: {code} {reason or ''}".rstrip(), final=code == FINAL_CLOSE)


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
    # A character that the locale does not have must not end it; JSON is UTF-8 in any locale.
    if isinstance(out, io.TextIOWrapper) and as_json:
        out.reconfigure(encoding="utf-8")
    elif isinstance(out, io.TextIOWrapper):
        out.reconfigure(errors="backslashreplace")
    # Tornado logs a traceback for some broken handshakes; here a fault is a sentence of ours.
    tornado = logging.getLogger("tornado")
    level = tornado.level
    tornado.setLevel(logging.CRITICAL + 1)
    # The signal handlers of asyncio would wait for a write to a reader who does not read.
    handlers = {number: signal.signal(number, _interrupt) for number in _SIGNALS}
    try:
        return asyncio.run(tail(url, key, channels, as_json=as_json, colour=colour, out=out, err=err))
    except KeyboardInterrupt:
        return 0
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        tornado.setLevel(level)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    # A second signal would break off the closing that the first one began.
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt

"""Follows channels over one WebSocket connection after another."""

import asyncio
import contextlib
import json
import random
import urllib.parse
from collections.abc import Sequence
from typing import NamedTuple

from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import WebSocketClientConnection, WebSocketClosedError, websocket_connect

from tornado_bridge.cli.terminal import Terminal
from tornado_bridge.errors import ConfigurationError

# The number of channels in one subscribe message (docs/protocol.md section 2).
BATCH = 20

# In seconds. TIMEOUT bounds the handshake and the answer to a ping, FAREWELL the answer to a close frame.
PING_INTERVAL = 20.0
TIMEOUT = 10.0
FAREWELL = 1.0
FIRST_DELAY, LONGEST_DELAY = 0.5, 10.0

# Another try cannot help: the key is refused, or the address is not a stream. A proxy may answer 401.
FINAL_CLOSE, FINAL_STATUS = 4001, (401, 403, 404, 426)


def delay(failures: int, chance: float) -> float:
    """Return how many seconds to wait after `failures` failed tries in a row.

    `chance`, from 0 to below 1, takes off up to half of them, so that clients do not come back all at once.
    """
    return min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(failures, 16)) * (1 - chance / 2)


class End(NamedTuple):
    """Why a connection or a try to connect ended. After a final end there is no other try."""

    reason: str
    final: bool = False


class Dialogue:
    """The subscribe messages and the answers of one connection.

    `unanswered` counts the subscribe messages without an answer. At 0 the connection is subscribed.
    """

    def __init__(self, address: str, channels: Sequence[str], terminal: Terminal) -> None:
        batches = [channels[start : start + BATCH] for start in range(0, len(channels), BATCH)]
        self.requests = [json.dumps({"action": "subscribe", "channels": batch}) for batch in batches]
        self.unanswered = len(batches)
        self._granted = 0
        self.address = address
        self._terminal = terminal

    def take(self, message: str | bytes) -> End | None:
        """Print a message of the server. Return an End if the connection is of no further use."""
        text = message if isinstance(message, str) else message.decode(errors="replace")
        try:
            envelope = json.loads(text)
        except (ValueError, RecursionError):
            envelope = None
        match envelope:
            case {"type": "error", "code": code, "message": sentence}:
                fault = f"{self.address}: {sentence}"
                # The server sends these instead of `subscribed`. Only the rate limit passes with time.
                if self.unanswered and code in ("RATE_LIMITED", "INVALID_MESSAGE", "PARSE_ERROR"):
                    return End(fault, final=code != "RATE_LIMITED")
                self._terminal.say(fault)
            case {"type": "subscribed", "channels": list(granted)} if self.unanswered:
                self.unanswered -= 1
                self._granted += len(granted)
                if not self.unanswered and not self._granted:
                    return End(f"{self.address} granted none of the channels", final=True)
                if not self.unanswered:
                    self._terminal.say(f"following {self.address}, channels: {self._granted}")
            case dict():
                self._terminal.show(envelope, text)
            case _:
                self._terminal.say(f"{self.address} sent a message that is not a JSON object")
        return None


async def follow(url: str, key: str, channels: Sequence[str], terminal: Terminal) -> int:
    """Print the envelopes of `channels` until the server refuses for good, and return the exit status.

    The status is 1 after a refusal and after a failed write, 0 if the reader of the output has closed its pipe. After
    any other end of a connection there is another try. Raises ConfigurationError for arguments that can never work.
    The key appears in no output and no error.
    """
    address = _address(url, key, channels)
    failures = 0
    # Each reason is printed once per outage, even if tries fail for two reasons in turns.
    printed: set[str] = set()
    try:
        while True:
            dialogue = Dialogue(address, channels, terminal)
            end = await _converse(url, key, dialogue)
            if end.final:
                terminal.say(end.reason)
                return 1
            if not dialogue.unanswered:
                failures = 0
                printed.clear()
            if end.reason not in printed:
                printed.add(end.reason)
                terminal.say(f"{end.reason}; trying again")
            await asyncio.sleep(delay(failures, random.random()))
            failures += 1
    except BrokenPipeError:
        return 0
    except OSError as error:
        # The terminal raised it: an error of the network becomes an End.
        terminal.say(f"cannot write: {error.strerror}")
        return 1


def _address(url: str, key: str, channels: Sequence[str]) -> str:
    """Check the arguments, and return the URL without user and query, which may contain a key."""
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
        raise ConfigurationError("at least one channel is required")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


async def _converse(url: str, key: str, dialogue: Dialogue) -> End:
    """Connect, subscribe and print messages until the connection ends. Return why it ended."""
    request = HTTPRequest(url, headers={"X-API-Key": key}, connect_timeout=TIMEOUT, request_timeout=TIMEOUT)
    opening = websocket_connect(request, ping_interval=PING_INTERVAL, ping_timeout=TIMEOUT)
    # Not with `except`: for a strange answer Tornado lets exceptions of any type through.
    [opened] = await asyncio.gather(opening, return_exceptions=True)
    match opened:
        case WebSocketClientConnection():
            return await _listen(opened, dialogue)
        case HTTPClientError(code=599, message=reason) | OSError(strerror=str(reason)):
            # Tornado's code for a request without an answer is 599.
            return End(f"cannot reach {dialogue.address}: {reason}")
        case HTTPClientError(code=code, message=reason):
            return End(f"{dialogue.address} answers HTTP {code} {reason}", final=code in FINAL_STATUS)
    return End(f"cannot reach {dialogue.address}: {opened}")


async def _listen(connection: WebSocketClientConnection, dialogue: Dialogue) -> End:
    closed = False
    try:
        # If the connection closes during the writes, the reads below return the reason.
        with contextlib.suppress(WebSocketClosedError):
            for request in dialogue.requests:
                await connection.write_message(request)
        while (message := await connection.read_message()) is not None:
            if (end := dialogue.take(message)) is not None:
                return end
        closed = True
    finally:
        connection.close(1000)
        # The server's close frame comes after the messages under way. Reading them lets Tornado close the socket.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL):
                while not closed and await connection.read_message() is not None:
                    pass
    code, reason = connection.close_code, connection.close_reason or ""
    if code is None:
        return End(f"the connection to {dialogue.address} was lost")
    return End(f"{dialogue.address} closed: {code} {reason}".rstrip(), final=code == FINAL_CLOSE)

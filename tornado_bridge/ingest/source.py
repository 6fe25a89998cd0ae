"""The source: one dedicated subscriber connection to Redis, which comes back by itself.

redis-py connects, authenticates and speaks TLS; its hiredis parser is drained of everything that one read brought.
What it is asked to do with private parts of redis-py stands in BatchParser, and nowhere else.
"""

import asyncio
import time
import urllib.parse
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import structlog
from redis._parsers.hiredis import NOT_ENOUGH_DATA
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection, DefaultParser
from redis.asyncio.retry import Retry
from redis.backoff import EqualJitterBackoff, NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    InvalidResponse,
    NoPermissionError,
    RedisError,
)

from tornado_bridge.errors import ConfigurationError
from tornado_bridge.pace import CROWD, MAX_WAIT, Pace

log = structlog.get_logger(__name__)

# The first retry comes after 0.05 to 0.1 s, and no later one after more than 2 s.
RETRY_BASE = 0.1
RETRY_CAP = 2.0
_MAX_EXPONENT = 10

# A server that is asked this often, in seconds, and has said nothing for SILENCE is taken for hung, as is one that has
# not confirmed the subscriptions by then; the two together stay below 5 s.
PING_INTERVAL = 1.0
SILENCE = 3.5

# Connecting and authenticating together, in seconds.
CONNECT_TIMEOUT = 2.0

# One read takes all that asyncio holds.
READ_SIZE = 1 << 20

# What a URL may say beside where Redis is and who asks; anything else could take the parser's place.
_URL_OPTIONS = ("db", "client_name", "username", "password")
_TLS_OPTIONS = "ssl_"

Message = tuple[bytes, bytes]


class BatchParser(DefaultParser):  # type: ignore[valid-type, misc]
    """redis-py's asyncio hiredis parser, which also gives all replies of one read at once."""

    async def read_batch(self) -> list[Any]:
        """Wait for the next bytes and return every reply that they complete; errors are among them as exceptions."""
        await self.read_from_socket()
        gets = self._reader.gets
        replies: list[Any] = []
        while True:
            reply = gets()
            if reply is NOT_ENOUGH_DATA:
                return replies
            replies.append(reply)

    @property
    def waiting(self) -> bool:
        """Whether asyncio holds bytes that have not been read: `read_batch` does not wait for them."""
        return bool(self._stream._buffer)


class Source:
    """The subscriber of one bridge.

    `names` are source channels, `patterns` Redis patterns of them. `relay` is called with all messages of one read,
    `flush` when what it made of them is due.
    `run` keeps the connection; `subscribed` is set while Redis has confirmed every subscription, `tried` once the
    first attempt has ended either way.
    """

    def __init__(
        self,
        url: str,
        *,
        names: Sequence[str],
        patterns: Sequence[str],
        relay: Callable[[Iterable[Message]], None],
        flush: Callable[[], None],
        password: str | None = None,
    ) -> None:
        _check_url(url)
        credentials = {} if password is None else {"password": password}
        try:
            self._pool = ConnectionPool.from_url(
                url,
                protocol=2,
                parser_class=BatchParser,
                # The timeouts are ours: redis-py's go through asyncio.wait_for, which loses cancellations in 3.11.
                socket_connect_timeout=None,
                socket_timeout=None,
                socket_read_size=READ_SIZE,
                retry=Retry(NoBackoff(), 0),
                **credentials,
            )
            self._connection: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        except (ValueError, TypeError, RedisError) as error:
            # It is about an option; what may hold the password has been checked before.
            raise ConfigurationError(f"the Redis URL cannot be used: {error}") from None
        self._names = tuple(names)
        self._patterns = tuple(patterns)
        self._relay = relay
        self._flush = flush
        self._pace = Pace()
        # Subscriptions that Redis has not confirmed, and what ends a connection that says nothing.
        self._awaited: set[bytes] = set()
        self._silence = asyncio.Timeout(None)
        self.subscribed = asyncio.Event()
        self.tried = asyncio.Event()
        self.connects = 0
        self._backoff = EqualJitterBackoff(cap=RETRY_CAP, base=RETRY_BASE)
        self._down_since: float | None = None

    async def run(self) -> None:
        """Subscribe and relay until cancelled; whatever goes wrong is tried again."""
        failures = 0
        try:
            while True:
                try:
                    async with asyncio.timeout(CONNECT_TIMEOUT):
                        await self._connection.connect()  # type: ignore[no-untyped-call]
                    await self._subscribe_and_relay()
                except (RedisError, OSError) as error:
                    failures = 0 if self.subscribed.is_set() else failures
                    self._note_down(error)
                    await self._connection.disconnect(nowait=True)
                await asyncio.sleep(self._backoff.compute(min(failures, _MAX_EXPONENT)))
                failures += 1
        finally:
            self.subscribed.clear()
            await self._connection.disconnect(nowait=True)

    async def _subscribe_and_relay(self) -> None:
        if self._patterns:
            await self._connection.send_command("PSUBSCRIBE", *self._patterns)
        if self._names:
            await self._connection.send_command("SUBSCRIBE", *self._names)
        pings = asyncio.create_task(self._ping())
        try:
            await self._read()
        finally:
            pings.cancel()
            await asyncio.gather(pings, return_exceptions=True)

    async def _ping(self) -> None:
        """Make Redis say something: what is quiet and what is hung look alike otherwise."""
        while True:
            await asyncio.sleep(PING_INTERVAL)
            await self._connection.send_command("PING")

    async def _read(self) -> None:
        parser = self._connection._parser
        assert isinstance(parser, BatchParser)
        self._awaited = {name.encode() for name in (*self._patterns, *self._names)}
        async with asyncio.timeout(SILENCE) as self._silence:
            while True:
                messages = self._messages(await parser.read_batch())
                if messages:
                    await self._relay_and_flush(messages, parser)
                self._note_heard()

    def _note_heard(self) -> None:
        if not self._awaited:
            self._silence.reschedule(asyncio.get_running_loop().time() + SILENCE)

    async def _relay_and_flush(self, messages: list[Message], parser: BatchParser) -> None:
        """Relay the messages of a read with what comes right behind them, and flush once."""
        started = time.monotonic()
        until = started + MAX_WAIT
        wait = self._pace.wait(started, len(messages))
        self._relay(messages)
        try:
            # A burst comes in several reads; the rest of it has often arrived while its beginning was relayed.
            if wait or (len(messages) >= CROWD and time.monotonic() < until):
                # The relay may have taken its time, and is none of Redis' silence.
                self._note_heard()
                await asyncio.sleep(wait)
                gathered = await self._gather(parser, until)
                if wait:
                    self._pace.note_wait(gathered)
        finally:
            flushing = time.monotonic()
            self._flush()
            self._pace.note_flush(flushing, time.monotonic(), waited=wait > 0)

    async def _gather(self, parser: BatchParser, until: float) -> int:
        """Relay what has come by now, until there is no more or time is up; returns how many messages."""
        gathered = 0
        while True:
            # One turn of the loop finds the socket readable, and the next one reads it.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if not parser.waiting:
                return gathered
            messages = self._messages(await parser.read_batch())
            gathered += len(messages)
            self._relay(messages)
            self._note_heard()
            if time.monotonic() >= until:
                return gathered

    def _messages(self, replies: list[Any]) -> list[Message]:
        """Return the messages among the replies of Redis, and note which subscriptions are confirmed."""
        messages: list[Message] = []
        for reply in replies:
            if not isinstance(reply, list):
                # Once all is confirmed, an error answers a PING that this user may not send: Redis is there.
                if isinstance(reply, Exception) and self._awaited:
                    raise reply
            elif reply[0] == b"pmessage":
                messages.append((reply[2], reply[3]))
            elif reply[0] == b"message":
                messages.append((reply[1], reply[2]))
            elif reply[0] in (b"psubscribe", b"subscribe"):
                self._awaited.discard(reply[1])
                if not self._awaited:
                    self._note_up()
        return messages

    def _note_up(self) -> None:
        if self.subscribed.is_set():
            return
        self.connects += 1
        self.subscribed.set()
        self.tried.set()
        if self._down_since is None:
            log.info("source up")
        else:
            lost = round(time.monotonic() - self._down_since, 1)
            self._down_since = None
            log.warning("source up again: events published meanwhile are lost", seconds=lost)

    def _note_down(self, error: Exception) -> None:
        self.subscribed.clear()
        self.tried.set()
        if self._down_since is None:
            self._down_since = time.monotonic()
            log.warning("source down: trying again until it is back", cause=_explain(error))


def _check_url(url: str) -> None:
    """Refuse a URL that cannot be taken apart, without quoting it: what is misread may be a part of the password."""
    try:
        parts = urllib.parse.urlsplit(url)
        known = parts.scheme in ("redis", "rediss", "unix") and parts.port != 0
    except ValueError:
        known = False
    if not known or "@" in parts.path + parts.query + parts.fragment:
        raise ConfigurationError(
            "the Redis URL cannot be used: expected redis://USER:PASSWORD@HOST:PORT/DB, rediss:// or unix://PATH, "
            "with /, ?, #, @ and % of a password as %2F, %3F, %23, %40 and %25"
        )
    for option, _ in urllib.parse.parse_qsl(parts.query):
        if option not in _URL_OPTIONS and not option.startswith(_TLS_OPTIONS):
            raise ConfigurationError(
                f"the Redis URL cannot be used: it has the option {option!r}, expected db, client_name or ssl_…"
            )


def _explain(error: Exception) -> str:
    """Say in one clause what is wrong between here and Redis; no error's text holds a password."""
    if isinstance(error, AuthenticationError | AuthenticationWrongNumberOfArgsError):
        return "Redis asks for another user or password"
    if isinstance(error, NoPermissionError):
        return "the Redis user lacks the right to subscribe to these channels"
    if isinstance(error, InvalidResponse):
        return "what answers there does not speak Redis' protocol"
    if isinstance(error, TimeoutError):
        return "Redis does not answer"
    return str(error).splitlines()[0] if str(error) else type(error).__name__

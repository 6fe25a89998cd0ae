"""The source: one dedicated subscriber connection to Redis, which comes back by itself.

`redis_client` connects, authenticates, speaks TLS and gives all replies of one read at once.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import structlog
from redis.backoff import EqualJitterBackoff
from redis.exceptions import InvalidResponse, RedisError

from tornado_bridge.logs import ThrottledLog
from tornado_bridge.redis_client import CONNECTION_ERRORS, RedisConnection, explain

log = structlog.get_logger(__name__)

# Seconds. The first retry comes after 0.05 to 0.1 s, and no later one after more than 2 s.
RETRY_BASE = 0.1
RETRY_CAP = 2.0
_MAX_EXPONENT = 10

# Redis gets a PING this often, in seconds, and is taken for hung when so many PINGs in a row have no answer and nothing
# else has come either: after 4 s at the latest. Wall time is no measure: while this process stands still (a paused
# machine, no CPU time) it sends no PING, and what Redis has kept for it is read when it goes on.
PING_INTERVAL = 1.0
MAX_UNANSWERED = 3

# A read of so many messages is the beginning of a burst. For at most GATHER seconds the source also relays what has
# arrived meanwhile, before it flushes once: that takes 0.7 times the CPU of a flush per read.
BURST = 4
GATHER = 0.005

# Seconds to connect and authenticate.
CONNECT_TIMEOUT = 2.0

Message = tuple[bytes, bytes]


class SubscriptionLost(RedisError):
    """The connection lives, but Redis no longer has its subscriptions."""

    def __init__(self) -> None:
        super().__init__("Redis does not have the subscriptions")


class Source:
    """The subscriber of one bridge.

    `names` are source channels and `patterns` are Redis patterns of source channels. `relay` is called with the
    messages of one read, and `flush` when the frames that came of them are due. `run` keeps the connection.
    `subscribed` is set while Redis has confirmed every subscription; `tried` is set once the first attempt has ended,
    either way. `connects` counts how often Redis has confirmed all subscriptions.
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
        self._connection = RedisConnection(url, password)
        self._names = tuple(names)
        self._patterns = tuple(patterns)
        self._relay = relay
        self._flush = flush
        # Subscriptions that Redis has not confirmed yet.
        self._awaited: set[bytes] = set()
        # PINGs sent since Redis was last heard, and the time-out that ends a read from a Redis that hangs.
        self._unanswered = 0
        self._hung = asyncio.Timeout(None)
        self.subscribed = asyncio.Event()
        self.tried = asyncio.Event()
        self.connects = 0
        self._backoff = EqualJitterBackoff(cap=RETRY_CAP, base=RETRY_BASE)
        self._log = ThrottledLog(log)
        self._down_since: float | None = None
        self._cause = ""

    async def run(self) -> None:
        """Subscribe and relay until cancelled. After any failure it tries again."""
        failures = 0
        try:
            while True:
                try:
                    async with asyncio.timeout(CONNECT_TIMEOUT):
                        await self._connection.connect()
                    await self._subscribe_and_relay()
                except CONNECTION_ERRORS as error:
                    failures = 0 if self.subscribed.is_set() else failures
                    self._note_down(error)
                    await self._connection.disconnect()
                await asyncio.sleep(self._backoff.compute(min(failures, _MAX_EXPONENT)))
                failures += 1
        finally:
            self.subscribed.clear()
            await self._connection.disconnect()

    async def _subscribe_and_relay(self) -> None:
        if self._patterns:
            await self._connection.send("PSUBSCRIBE", *self._patterns)
        if self._names:
            await self._connection.send("SUBSCRIBE", *self._names)
        pings = asyncio.create_task(self._ping())
        try:
            await self._read()
        finally:
            pings.cancel()
            await asyncio.gather(pings, return_exceptions=True)

    async def _ping(self) -> None:
        """Make Redis say something: without events a quiet Redis and a hung one look the same."""
        while True:
            await asyncio.sleep(PING_INTERVAL)
            if self._unanswered >= MAX_UNANSWERED:
                self._hung.reschedule(asyncio.get_running_loop().time())
                return
            self._unanswered += 1
            await self._connection.send("PING")

    async def _read(self) -> None:
        self._awaited = {name.encode() for name in (*self._patterns, *self._names)}
        self._unanswered = 0
        async with asyncio.timeout(None) as self._hung:
            while True:
                messages = await self._read_messages()
                if messages:
                    await self._relay_and_flush(messages)

    async def _read_messages(self) -> list[Message]:
        replies = await self._connection.read_batch()
        try:
            messages = self._messages(replies)
        except (ValueError, TypeError, IndexError):
            raise InvalidResponse from None
        if not self._awaited:
            self._unanswered = 0
        return messages

    async def _relay_and_flush(self, messages: list[Message]) -> None:
        """Relay the messages of a read with those that come right behind them, and flush once."""
        until = time.monotonic() + GATHER
        self._relay(messages)
        try:
            if len(messages) >= BURST and time.monotonic() < until:
                await self._gather(until)
        finally:
            self._flush()

    async def _gather(self, until: float) -> None:
        """Relay what has arrived by now, until there is no more or the time is up."""
        while True:
            # One turn of the loop finds the socket readable, and the next one reads it.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if not self._connection.waiting:
                return
            self._relay(await self._read_messages())
            if time.monotonic() >= until:
                return

    def _messages(self, replies: list[Any]) -> list[Message]:
        """Return the messages among the replies of Redis, and note which subscriptions are confirmed.

        Raises ValueError, TypeError or IndexError for a reply of a wrong form, and SubscriptionLost for one that Redis
        gives only to a connection without subscriptions.
        """
        messages: list[Message] = []
        for reply in replies:
            if type(reply) is not list:
                self._take_alone(reply)
                continue
            kind = reply[0]
            if kind == b"pmessage":
                _, _, channel, payload = reply
            elif kind == b"message":
                _, channel, payload = reply
            else:
                self._take_confirmation(kind, reply)
                continue
            if type(channel) is not bytes or type(payload) is not bytes:
                raise TypeError
            messages.append((channel, payload))
        return messages

    def _take_alone(self, reply: Any) -> None:
        """Take a reply that is not an array. A subscriber gets one only for an error."""
        if not isinstance(reply, Exception):
            # To a subscriber Redis answers PING with an array.
            raise SubscriptionLost
        if self._awaited:
            raise reply
        # Now an error answers a PING that this user may not send, so Redis is there.

    def _take_confirmation(self, kind: Any, reply: list[Any]) -> None:
        """Take the answer to a subscription or to a PING."""
        if kind in (b"psubscribe", b"subscribe"):
            self._awaited.discard(reply[1])
            if not self._awaited:
                self._note_up()
        elif kind in (b"punsubscribe", b"unsubscribe") or (kind == b"pong" and self._awaited):
            # Redis answers in order, so a PING's answer comes behind the confirmations.
            raise SubscriptionLost
        elif kind != b"pong":
            raise ValueError

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
        cause, known = explain(error, lacks_tls=self._connection.lacks_tls), self._cause
        self._cause = cause
        if self._down_since is None:
            self._down_since = time.monotonic()
            log.warning("source down: trying again until it is back", cause=cause)
        elif cause != known:
            self._log.warning("source still down: trying again until it is back", cause=cause)

"""The source: one dedicated subscriber connection to Redis, which comes back by itself.

`redis_client` connects, authenticates, speaks TLS and gives all replies of one read at once.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import structlog
from redis.backoff import EqualJitterBackoff

from tornado_bridge.pace import CROWD, MAX_WAIT, Pace
from tornado_bridge.redis_client import CONNECTION_ERRORS, RedisConnection, explain

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

Message = tuple[bytes, bytes]


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
        self._connection = RedisConnection(url, password)
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
        """Make Redis say something: what is quiet and what is hung look alike otherwise."""
        while True:
            await asyncio.sleep(PING_INTERVAL)
            await self._connection.send("PING")

    async def _read(self) -> None:
        self._awaited = {name.encode() for name in (*self._patterns, *self._names)}
        async with asyncio.timeout(SILENCE) as self._silence:
            while True:
                messages = self._messages(await self._connection.read_batch())
                if messages:
                    await self._relay_and_flush(messages)
                self._note_heard()

    def _note_heard(self) -> None:
        if not self._awaited:
            self._silence.reschedule(asyncio.get_running_loop().time() + SILENCE)

    async def _relay_and_flush(self, messages: list[Message]) -> None:
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
                gathered = await self._gather(until)
                if wait:
                    self._pace.note_wait(gathered)
        finally:
            flushing = time.monotonic()
            self._flush()
            self._pace.note_flush(flushing, time.monotonic(), waited=wait > 0)

    async def _gather(self, until: float) -> int:
        """Relay what has come by now, until there is no more or time is up; returns how many messages."""
        gathered = 0
        while True:
            # One turn of the loop finds the socket readable, and the next one reads it.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if not self._connection.waiting:
                return gathered
            messages = self._messages(await self._connection.read_batch())
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
            log.warning("source down: trying again until it is back", cause=explain(error))

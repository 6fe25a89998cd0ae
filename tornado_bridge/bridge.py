"""The whole, for one exchange: source, plugins, hub and clients."""

import asyncio
import dataclasses
import re
import time
from collections import Counter
from collections.abc import Coroutine, Sequence
from typing import Any

import structlog
from tornado.iostream import IOStream

from tornado_bridge.connections.admission import Admission, Allowance
from tornado_bridge.connections.connection import MAX_MESSAGE, Connection
from tornado_bridge.connections.dialogue import Dialogue
from tornado_bridge.connections.heartbeat import Heartbeat
from tornado_bridge.connections.outlet import Outlet, SlowRule
from tornado_bridge.connections.websocket import WebSocket
from tornado_bridge.errors import ConfigurationError
from tornado_bridge.ingest.quarantine import Quarantine
from tornado_bridge.ingest.relay import Relay, Tally
from tornado_bridge.ingest.source import Source
from tornado_bridge.keys import Keys
from tornado_bridge.logs import ThrottledLog
from tornado_bridge.registry import Registry
from tornado_bridge.stream.hub import Hub
from tornado_bridge.wire.frames import CloseCode

log = structlog.get_logger(__name__)

# How often the key file and the slow clients are looked at, in seconds.
WATCH_INTERVAL = 1.0

KEY_REQUIRED = "API key required"
KEY_INVALID = "Invalid API key"
KEY_REVOKED = "API key revoked"
TOO_MANY_CONNECTIONS = "Connection limit exceeded"
SHUTTING_DOWN = "Server shutting down"

_EXCHANGE_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}").fullmatch
_EXCHANGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}").fullmatch


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What clients may use, and when they are disconnected. The settings of a server take their defaults from here.

    Times are in seconds, sizes in bytes. `rate_limit` is client messages per minute and key, `rate_burst` is how many
    of them may come at once.
    """

    ping_interval: float = 30.0
    max_connections: int = 10_000
    max_connections_per_key: int = 5
    max_subscriptions: int = 200
    skip_bytes: int = 65_536
    abort_bytes: int = 262_144
    slow_timeout: float = 30.0
    rate_limit: float = 300.0
    rate_burst: int = 50


DEFAULT_LIMITS = Limits()


class WebSocketBridge:
    """Relays one exchange's events from Redis to WebSocket clients.

    `plugins` are names of installed plugins, plugin objects, or None for all that are installed. With `compression`
    the bridge agrees to permessage-deflate. Raises ConfigurationError for a setting that cannot be used, PluginError
    for a plugin that cannot be used.
    """

    def __init__(
        self,
        *,
        redis_url: str,
        exchange_id: str | int,
        exchange_name: str,
        keys: Keys,
        plugins: Sequence[str | object] | None = None,
        redis_password: str | None = None,
        limits: Limits = DEFAULT_LIMITS,
        compression: bool = False,
    ) -> None:
        exchange_id = str(exchange_id)
        if not _EXCHANGE_ID(exchange_id):
            raise ConfigurationError("the exchange id must be 1 to 64 letters, digits, _ or -, and not begin with -")
        if not _EXCHANGE_NAME(exchange_name):
            raise ConfigurationError("the exchange name must be 1 to 64 letters, digits, spaces, '.', '_' or '-'")
        self.registry = Registry(plugins)
        self.compression = compression
        self._keys = keys
        self._seen_keys = (keys.ring, keys.ring.expired)
        self.limits = limits
        self._admission = Admission(
            places=limits.max_connections_per_key,
            rate=limits.rate_limit,
            burst=limits.rate_burst,
            clock=time.monotonic,
        )
        self._dialogue = Dialogue(
            self.registry.grammar, max_subscriptions=limits.max_subscriptions, clock=time.monotonic
        )
        self._slow_rule = SlowRule(limits.skip_bytes, limits.abort_bytes, limits.slow_timeout)
        self._slow: set[Outlet] = set()
        self._hub = Hub(self.registry.grammar)
        self._heartbeat = Heartbeat(limits.ping_interval)
        self._faults = ThrottledLog(log)
        routes = self.registry.routes(exchange_id)
        self._relay = Relay(routes, self._hub, exchange=exchange_name, log=self._faults)
        self._source = Source(
            redis_url,
            names=[route.source.redis_name for route in routes if not route.source.is_pattern],
            patterns=[route.source.redis_name for route in routes if route.source.is_pattern],
            relay=self._relay.relay,
            flush=self._hub.flush,
            password=redis_password,
        )
        self._connections: set[Connection] = set()
        self._clients: set[asyncio.Task[None]] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self.refusals: Counter[CloseCode] = Counter()

    async def start(self) -> None:
        """Start, and return once Redis has confirmed the subscriptions; waits for as long as Redis is away."""
        if not self._tasks:
            self._stopping = False
            work: list[Coroutine[Any, Any, None]] = [self._source.run(), self._beat(), self._watch()]
            self._tasks = [asyncio.create_task(coroutine) for coroutine in work]
        await self._source.subscribed.wait()

    async def stop(self) -> None:
        """Let go of Redis, close every client with 1001 and clear all state."""
        self._stopping = True
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        for connection in tuple(self._connections):
            connection.dismiss(CloseCode.GOING_AWAY, SHUTTING_DOWN)
        # Each client ends within the time that its close may linger.
        await asyncio.gather(*tasks, *self._clients, return_exceptions=True)

    @property
    def ready(self) -> bool:
        """Whether events can reach clients: the source is subscribed, and the bridge is not stopping."""
        return self._source.subscribed.is_set() and not self._stopping

    async def first_try(self) -> None:
        """Wait until the first attempt to reach Redis has ended, either way."""
        await self._source.tried.wait()

    @property
    def full(self) -> bool:
        """Whether no more client is taken, whatever its key: `max_connections` are here, the refused among them."""
        return len(self._clients) >= self.limits.max_connections

    @property
    def tallies(self) -> dict[str, Tally]:
        """What became of the events, by event type."""
        return self._relay.tallies

    @property
    def quarantines(self) -> dict[str, Quarantine]:
        """The record of each plugin."""
        return self._relay.quarantines

    @property
    def unrouted(self) -> int:
        """Events on a source channel of no declared form."""
        return self._relay.unrouted

    @property
    def frames_due(self) -> int:
        """Frames that were due to clients, those that slow ones lost among them."""
        return self._hub.due

    @property
    def frames_skipped(self) -> int:
        """Frames that slow clients lost."""
        return self._slow_rule.skipped

    @property
    def slow_aborted(self) -> int:
        """Clients cut off for being slow."""
        return self._slow_rule.aborted

    @property
    def subscribed(self) -> int:
        """How often Redis has confirmed all subscriptions."""
        return self._source.connects

    @property
    def connections(self) -> int:
        """Live client connections."""
        return len(self._connections)

    @property
    def cohorts(self) -> int:
        """Different sets of subscriptions."""
        return self._hub.cohorts

    async def failure(self) -> None:
        """Wait until a task of a started bridge ends by a fault of ours, and raise it; a stop is none."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if not task.cancelled():
                task.result()

    def connection_count(self, key_id: int) -> int:
        """Return how many live connections a key has."""
        return self._admission.live(key_id)

    def add_client(self, stream: IOStream, key: str | None, window: int | None = None) -> Connection | None:
        """Take over an upgraded stream, with its API key and its window of compression in bits, until it ends.

        Returns None where the client was refused: it gets its close code, and nothing that it sends is processed.
        """
        stream.set_nodelay(True)
        outlet = Outlet(stream, self._slow_rule, clock=time.monotonic, on_slow=self._slow.add, window=window)
        admitted = self._admit(key)
        if not isinstance(admitted, Allowance):
            websocket = WebSocket(
                stream, outlet, max_message=MAX_MESSAGE, on_text=_ignore, on_pong=_ignore, on_closing=_ignore
            )
            self.refusals[admitted[0]] += 1
            websocket.close(*admitted)
            self._serve(websocket.run())
            return None
        connection = Connection(
            stream,
            outlet,
            admitted,
            dialogue=self._dialogue,
            hub=self._hub,
            heartbeat=self._heartbeat,
            faults=self._faults,
            on_end=self._forget,
        )
        self._connections.add(connection)
        self._serve(connection.run())
        return connection

    def remove_client(self, connection: Connection, code: CloseCode, reason: str) -> None:
        """End a client's connection with a close code."""
        connection.dismiss(code, reason)

    def _admit(self, key: str | None) -> Allowance | tuple[CloseCode, str]:
        if self._stopping:
            return CloseCode.GOING_AWAY, SHUTTING_DOWN
        if not key:
            return CloseCode.UNAUTHORIZED, KEY_REQUIRED
        found = self._keys.ring.find(key)
        if found is None:
            return CloseCode.UNAUTHORIZED, KEY_INVALID
        allowance = self._admission.of(found)
        if not allowance.take_place():
            return CloseCode.TOO_MANY_CONNECTIONS, TOO_MANY_CONNECTIONS
        return allowance

    def _serve(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    def _forget(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._slow.discard(connection.outlet)
        outlet = connection.outlet
        if outlet.skipped or outlet.cut_off:
            log.warning(
                "slow client lost frames",
                key=connection.allowance.key.name,
                frames=outlet.skipped,
                cut_off=outlet.cut_off,
            )

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._heartbeat.tick)
            self._heartbeat.beat()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(min(WATCH_INTERVAL, self._slow_rule.timeout / 4))
            self._abort_overdue()
            await self.refresh_keys()

    def _abort_overdue(self) -> None:
        now = time.monotonic()
        for outlet in tuple(self._slow):
            if outlet.slow_since is None:
                self._slow.discard(outlet)
            elif outlet.overdue(now):
                outlet.abort_slow()

    async def refresh_keys(self) -> None:
        """Take over changed keys at once, and disconnect the clients whose key is not active any more."""
        await self._keys.refresh()
        ring = self._keys.ring
        # Not what this refresh has found: two bridges may share their keys. A key also expires without a new ring.
        if (ring, ring.expired) == self._seen_keys:
            return
        self._seen_keys = (ring, ring.expired)
        for connection in tuple(self._connections):
            key = ring.current(connection.allowance.key)
            if key is None:
                connection.dismiss(CloseCode.UNAUTHORIZED, KEY_REVOKED)
            else:
                connection.allowance.key = key


def _ignore(*_: str) -> None:
    """Take no notice of what a refused client sends."""

"""The whole, for one exchange: source, plugins, hub and clients."""

import asyncio
import dataclasses
import re
import time
from collections import Counter
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any

import structlog
from tornado.iostream import IOStream

from tornado_bridge.connections.addresses import LOCAL
from tornado_bridge.connections.admission import Admission, Allowance
from tornado_bridge.connections.connection import Connection
from tornado_bridge.connections.dialogue import Dialogue
from tornado_bridge.connections.disconnects import (
    KEY_INVALID,
    KEY_REQUIRED,
    KEY_REVOKED,
    SHUTTING_DOWN,
    TOO_MANY_CONNECTIONS,
    Disconnect,
)
from tornado_bridge.connections.heartbeat import Heartbeat, Pings
from tornado_bridge.connections.outlet import BUFFER_BUDGET, Outlet, SlowRule
from tornado_bridge.connections.refusals import MAX_LINGERING, Refusals
from tornado_bridge.connections.visits import Visits
from tornado_bridge.errors import ConfigurationError
from tornado_bridge.ingest.relay import Relay
from tornado_bridge.ingest.source import Source
from tornado_bridge.keys import Key, Keys
from tornado_bridge.logs import ThrottledLog
from tornado_bridge.registry import Registry
from tornado_bridge.stream.hub import Hub

log = structlog.get_logger(__name__)

# How often the key file and the slow clients are looked at, in seconds.
WATCH_INTERVAL = 1.0

_EXCHANGE_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}").fullmatch
_EXCHANGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}").fullmatch


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What clients may use, and when they are disconnected. The settings of a server take their defaults from here.

    Times are in seconds, sizes in bytes. `rate_limit` is client messages per minute and key, `rate_burst` is how many
    of them may come at once. `max_buffered_bytes` bounds what is buffered for all clients together.
    """

    ping_interval: float = 30.0
    max_connections: int = 10_000
    max_connections_per_key: int = 5
    max_subscriptions: int = 200
    skip_bytes: int = 65_536
    abort_bytes: int = 262_144
    slow_timeout: float = 30.0
    max_buffered_bytes: int = BUFFER_BUDGET
    rate_limit: float = 300.0
    rate_burst: int = 50


DEFAULT_LIMITS = Limits()


class WebSocketBridge:
    """Relays one exchange's events from Redis to WebSocket clients.

    `plugins` are names of installed plugins, plugin objects, or None for all that are installed. With `compression`
    the bridge agrees to permessage-deflate. With `log_addresses` log lines about clients show their IP addresses.
    Raises ConfigurationError for a setting that cannot be used, PluginError for a plugin that cannot be used.
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
        log_addresses: bool = False,
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
        self.admission = Admission(
            places=limits.max_connections_per_key,
            rate=limits.rate_limit,
            burst=limits.rate_burst,
            clock=time.monotonic,
        )
        self._dialogue = Dialogue(
            self.registry.grammar, max_subscriptions=limits.max_subscriptions, clock=time.monotonic
        )
        self.slow_rule = SlowRule(limits.skip_bytes, limits.abort_bytes, limits.slow_timeout, limits.max_buffered_bytes)
        self.slow: set[Outlet] = set()
        self.hub = Hub(self.registry.grammar)
        self.heartbeat = Heartbeat(limits.ping_interval)
        self._faults = ThrottledLog(log)
        routes = self.registry.routes(exchange_id)
        self.relay = Relay(routes, self.hub, exchange=exchange_name, log=self._faults)
        self.source = Source(
            redis_url,
            names=[route.source.redis_name for route in routes if not route.source.is_pattern],
            patterns=[route.source.redis_name for route in routes if route.source.is_pattern],
            relay=self.relay.relay,
            flush=self.hub.flush,
            password=redis_password,
        )
        # The admitted clients, the one that has been here for longest first.
        self.connections: dict[Connection, None] = {}
        self.refusals = Refusals(self._faults, time.monotonic, min(limits.max_connections, MAX_LINGERING))
        self._visits = Visits(log_addresses)
        self._clients: set[asyncio.Task[None]] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopped = asyncio.Event()

    async def start(self) -> None:
        """Start, and return once Redis has confirmed the subscriptions, however long Redis is away.

        Returns too if the bridge is stopped meanwhile. Raises what a task of the bridge has failed with.
        """
        if not self._tasks:
            self._stopped.clear()
            work: list[Coroutine[Any, Any, None]] = [self.source.run(), self._beat(), self._watch()]
            self._tasks = [asyncio.create_task(coroutine) for coroutine in work]
        subscribed = asyncio.create_task(self.source.subscribed.wait())
        try:
            # A stop cancels the tasks, so it ends this too.
            await asyncio.wait([subscribed, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            subscribed.cancel()
            await asyncio.gather(subscribed, return_exceptions=True)
        _raise_failures(self._tasks)

    async def stop(self) -> None:
        """Let go of Redis, close every client with 1001 and clear all state."""
        self._stopped.set()
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        for connection in tuple(self.connections):
            connection.disconnect(SHUTTING_DOWN)
        # Each client ends within the time that its close may linger.
        await asyncio.gather(*tasks, *self._clients, self.refusals.stop(), return_exceptions=True)

    @property
    def ready(self) -> bool:
        """Whether events can reach clients: the source is subscribed, and the bridge is not stopping."""
        return self.source.subscribed.is_set() and not self._stopped.is_set()

    async def first_try(self) -> None:
        """Wait until the first attempt to reach Redis has ended, either way."""
        await self.source.tried.wait()

    @property
    def full(self) -> bool:
        """Whether `max_connections` clients are here, so that no further one is admitted."""
        return len(self.connections) >= self.limits.max_connections

    async def failure(self) -> None:
        """Wait until a task of a started bridge fails, and raise what it has failed with. A stop is not a failure."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        _raise_failures(done)

    def connection_count(self, key_id: int) -> int:
        """Return how many live connections a key has."""
        return self.admission.live(key_id)

    def add_client(
        self,
        stream: IOStream,
        key: str | None,
        window: int | None = None,
        *,
        pings: Pings | None = None,
        address: str = LOCAL,
    ) -> Connection | None:
        """Serve an upgraded stream until it ends.

        `key` is the client's API key, `window` the window of permessage-deflate in bits, None without compression.
        `pings` pings the client in place of the bridge's own heartbeat, and `address` is its IP address. Returns None
        if the client is refused: it gets its close code, and nothing that it sends is processed.
        """
        stream.set_nodelay(True)
        outlet = Outlet(stream, self.slow_rule, clock=time.monotonic, on_slow=self.slow.add, window=window)
        known = self._keys.ring.find(key) if key else None
        admitted = self._admit(key, known)
        if not isinstance(admitted, Allowance):
            self._visits.log_refusal(admitted, known, address)
            self.refusals.refuse(stream, outlet, admitted, address)
            return None
        connection = Connection(
            stream,
            outlet,
            admitted,
            dialogue=self._dialogue,
            hub=self.hub,
            heartbeat=self.heartbeat,
            pings=pings,
            faults=self._faults,
            address=address,
            on_end=self._forget,
        )
        self.connections[connection] = None
        self._visits.log_arrival(connection)
        self._serve(connection.run())
        return connection

    def remove_client(self, connection: Connection, why: Disconnect) -> None:
        """Disconnect a client."""
        connection.disconnect(why)

    def _admit(self, key: str | None, known: Key | None) -> Allowance | Disconnect:
        if self._stopped.is_set():
            return SHUTTING_DOWN
        if not key:
            return KEY_REQUIRED
        if known is None:
            return KEY_INVALID
        allowance = self.admission.of(known)
        return allowance if allowance.take_place() else TOO_MANY_CONNECTIONS

    def _serve(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    def _forget(self, connection: Connection) -> None:
        self.connections.pop(connection, None)
        self.slow.discard(connection.outlet)
        self._visits.log_departure(connection)
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
            await asyncio.sleep(self.heartbeat.tick)
            self.heartbeat.beat()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(min(WATCH_INTERVAL, self.slow_rule.timeout / 4))
            self._abort_overdue()
            await self.refresh_keys()

    def _abort_overdue(self) -> None:
        now = time.monotonic()
        for outlet in tuple(self.slow):
            if outlet.slow_since is None:
                self.slow.discard(outlet)
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
        for connection in tuple(self.connections):
            key = ring.current(connection.allowance.key)
            if key is None:
                connection.disconnect(KEY_REVOKED)
            else:
                connection.take_key(key)
        self._disconnect_excess()

    def _disconnect_excess(self) -> None:
        """Disconnect the youngest connections of a key whose limit is lower now."""
        live: Counter[int] = Counter()
        for connection in tuple(self.connections):
            allowance = connection.allowance
            live[allowance.key.id] += 1
            if live[allowance.key.id] > allowance.places:
                connection.disconnect(TOO_MANY_CONNECTIONS)


def _raise_failures(tasks: Iterable[asyncio.Task[None]]) -> None:
    for task in tasks:
        if task.done() and not task.cancelled():
            task.result()

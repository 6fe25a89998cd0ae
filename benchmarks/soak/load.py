"""The load of a run: a publisher, a witness that must get every event, clients that come and go, and faults."""

import asyncio
import contextlib
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import redis.asyncio
from redis.exceptions import RedisError

from benchmarks.soak.figures import Account, Sample, is_cut, sample
from tests.support import raw
from tests.support.raw import RawClient
from tests.support.servers import CANDLE_SOURCE, BridgeProcess, RedisServer

EVENTS_PER_SECOND = 2_000
CONNECTIONS_PER_SECOND = 20
BATCHES_PER_SECOND = 20
SYMBOLS = 50

# In seconds: for how long a client of the server may lose frames, what a fault may take to be over, and what the server
# may take to let go of all clients. It lets go of a silent connection after 10 s.
SLOW_TIMEOUT = 5.0
RECOVERY = 30.0
SETTLING = 25.0

SILENT_CONNECTIONS = 200
FLOOD_SECONDS = 3.0
STOP_SECONDS = 2.0

_SERIAL = re.compile(rb'"volume":"(\d+)"')
_SUBSCRIBE = '{{"action":"subscribe","channels":[{}]}}'


@dataclass
class Soak:
    """One server under load. `directory` holds its key file."""

    server: BridgeProcess
    redis: RedisServer
    port: int
    witness_key: str
    directory: Path
    seed: int = 0
    account: Account = field(default_factory=Account)
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[tuple[str, float]] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._counting = True
        self._ended = False
        self._clients: set[asyncio.Task[None]] = set()
        self._keys_made = 0

    async def run(self, seconds: float, *, warm_up: float, faults: Sequence[str], pause: float) -> None:
        """Run for so many seconds after the warm-up, with a fault after each pause."""
        self._key_name, self._key = await self._new_key()
        _, self._flood_key = await self._new_key()
        witness = await RawClient.open(self.port, self.witness_key, then=raw.text(_SUBSCRIBE.format('"candles:*:*"')))
        await witness.message()
        self.before = sample(self.server.process.pid)
        with witness:
            async with asyncio.TaskGroup() as group:
                work = (self._witness(witness), self._publish(), self._connect())
                tasks = [group.create_task(coroutine) for coroutine in work]
                await asyncio.sleep(warm_up)
                tasks.append(group.create_task(self._sample()))
                await self._measure(time.monotonic() + seconds, faults, pause)
                self._ended = True
                await self._settle()
                for task in (*tasks, *self._clients):
                    task.cancel()

    async def _measure(self, until: float, faults: Sequence[str], pause: float) -> None:
        for name in faults:
            await asyncio.sleep(min(pause, max(0.0, until - time.monotonic())))
            if time.monotonic() < until:
                await self._strike(name)
        await asyncio.sleep(max(0.0, until - time.monotonic()))

    async def _settle(self) -> None:
        """Wait until the server has let go of all clients but the witness, and the witness has got everything."""
        deadline = time.monotonic() + SETTLING
        while time.monotonic() < deadline:
            self.after = sample(self.server.process.pid)
            if self.after.descriptors <= self.before.descriptors and not self._clients and not self.account.lost:
                return
            await asyncio.sleep(0.5)

    async def _sample(self) -> None:
        while not self._ended:
            self.samples.append(sample(self.server.process.pid))
            await asyncio.sleep(0.5)

    async def _witness(self, client: RawClient) -> None:
        while True:
            try:
                received = await client.frame()
            except TimeoutError:
                continue  # nothing comes while Redis is away
            if received.opcode == raw.PING:
                await client.send(raw.frame(raw.PONG, received.payload))
            elif serial := _SERIAL.search(received.payload):
                self.account.receive(int(serial[1]))
            else:
                raise RuntimeError(f"the witness is told {received}")

    async def _publish(self) -> None:
        client = redis.asyncio.Redis(port=self.redis.port, socket_timeout=10)
        due = time.monotonic()
        async with client:
            while not self._ended:
                serials = self.account.publish(EVENTS_PER_SECOND // BATCHES_PER_SECOND, counted=self._counting)
                pipeline = client.pipeline(transaction=False)
                for serial in serials:
                    pipeline.publish(*event(serial))
                try:
                    await pipeline.execute()
                except (RedisError, OSError):
                    if self._counting:
                        raise
                due = max(due + 1 / BATCHES_PER_SECOND, time.monotonic() - 1)
                await asyncio.sleep(max(0.0, due - time.monotonic()))

    # Clients that come and go

    async def _connect(self) -> None:
        kinds = {self._abrupt: 50, self._polite: 30, self._wrong_key: 10, self._never_reading: 10}
        while not self._ended:
            [kind] = self._random.choices(list(kinds), list(kinds.values()))
            task = asyncio.create_task(self._client(kind))
            self._clients.add(task)
            task.add_done_callback(self._clients.discard)
            await asyncio.sleep(1 / CONNECTIONS_PER_SECOND)

    async def _client(self, kind: Callable[[], Awaitable[str]]) -> None:
        try:
            outcome = await kind()
        except (EOFError, ConnectionError):
            outcome = "ended by the server"
        except (AssertionError, TimeoutError) as error:
            outcome = f"failed with {type(error).__name__}"
        self.outcomes[f"{kind.__name__.strip('_').replace('_', ' ')}: {outcome}"] += 1

    async def _abrupt(self) -> str:
        with await self._subscribed() as client:
            await self._read_for(client, self._random.uniform(0.2, 3))
            client.reset()
        return "reset"

    async def _polite(self) -> str:
        with await self._subscribed() as client:
            await self._read_for(client, self._random.uniform(0.2, 3))
            await client.send(raw.close(1000))
            await client.rest()
        return "closed"

    async def _wrong_key(self) -> str:
        with await RawClient.open(self.port, "not-a-key") as client:
            refusal = await client.frame()
        return refusal.payload[2:].decode()

    async def _never_reading(self) -> str:
        with await self._subscribed("*", receive_buffer=4_096) as client:
            await self._until(lambda: is_cut(client) or self._ended)
            return "cut off" if is_cut(client) else "not cut off before the end"

    async def _subscribed(self, symbol: str | None = None, *, receive_buffer: int | None = None) -> RawClient:
        symbols = [symbol] if symbol else [f"S{self._random.randrange(SYMBOLS)}-USD" for _ in range(3)]
        text = _SUBSCRIBE.format(",".join(f'"candles:{name}:*"' for name in symbols))
        return await RawClient.open(self.port, self._key, then=raw.text(text), receive_buffer=receive_buffer)

    async def _read_for(self, client: RawClient, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    await client.some()

    # Faults

    async def _strike(self, name: str) -> None:
        strike, cuts = FAULTS[name]
        started = time.monotonic()
        if cuts:
            # Events that are on their way when Redis goes are lost by its own contract, so they do not count.
            self._counting = False
            await self._until(lambda: not self.account.lost)
            started = time.monotonic()
        await strike(self)
        if cuts:
            struck = self.account.published
            await self._until(lambda: self.account.newest >= struck)
            self._counting = True
        self.faults.append((name, time.monotonic() - started))

    async def _until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + RECOVERY
        while not condition() and time.monotonic() < deadline:
            await asyncio.sleep(0.05)

    async def kill_redis(self) -> None:
        await asyncio.to_thread(self.redis.kill)
        await asyncio.to_thread(self.redis.start)

    async def stop_redis(self) -> None:
        self.redis.signal(signal.SIGSTOP)
        await asyncio.sleep(STOP_SECONDS)
        self.redis.signal(signal.SIGCONT)

    async def cut_redis_clients(self) -> None:
        async with redis.asyncio.Redis(port=self.redis.port) as client:
            await client.client_kill_filter(_type="pubsub")

    async def rewrite_keys(self) -> None:
        """Give new clients a new key and revoke the old one. Its clients are disconnected."""
        name, old = self._key_name, self._key
        with await RawClient.open(self.port, old) as client:
            self._key_name, self._key = await self._new_key()
            await self._keys("revoke", name)
            await self._until(lambda: is_cut(client))

    async def open_silent_connections(self) -> None:
        with contextlib.ExitStack() as clients:
            silent = [clients.enter_context(await RawClient.connect(self.port)) for _ in range(SILENT_CONNECTIONS)]
            await self._until(lambda: all(map(is_cut, silent)))
            self.outcomes[f"silent: {'cut off' if all(map(is_cut, silent)) else 'still connected'}"] += 1

    async def flood(self) -> None:
        """Send tiny messages without end, and connect again whenever the server has enough of it."""
        frames = raw.text("x") * 500
        until = time.monotonic() + FLOOD_SECONDS
        while time.monotonic() < until:
            with await RawClient.open(self.port, self._flood_key) as client:
                reading = asyncio.create_task(self._read_for(client, FLOOD_SECONDS))
                with contextlib.suppress(OSError, TimeoutError):
                    while time.monotonic() < until:
                        await client.send(frames)
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)

    # Keys, as an operator makes them

    async def _new_key(self) -> tuple[str, str]:
        """Make a key. Return its name and its text once the server, which polls the file, admits it."""
        name = f"clients-{self._keys_made}"
        self._keys_made += 1
        key = await self._keys("create", name)
        deadline = time.monotonic() + RECOVERY
        while time.monotonic() < deadline:
            with await RawClient.open(self.port, key, then=raw.frame(raw.PING)) as client:
                if (await client.frame()).opcode == raw.PONG:
                    return name, key
            await asyncio.sleep(0.2)
        raise RuntimeError("the server does not admit a new key")

    async def _keys(self, command: str, name: str) -> str:
        argv = (sys.executable, "-m", "tornado_bridge", "keys", command, name, "--api-keys")
        process = await asyncio.create_subprocess_exec(
            *argv, str(self.directory / "keys.toml"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        out, _ = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"keys {command} ends with {process.returncode}")
        return out.decode().strip()


# Each with whether events that are published meanwhile may be lost.
FAULTS: dict[str, tuple[Callable[[Soak], Awaitable[None]], bool]] = {
    "redis killed": (Soak.kill_redis, True),
    "keys rewritten": (Soak.rewrite_keys, False),
    "redis stopped": (Soak.stop_redis, True),
    "redis clients killed": (Soak.cut_redis_clients, True),
    "silent connections": (Soak.open_silent_connections, False),
    "flood": (Soak.flood, False),
}


def event(serial: int) -> tuple[str, str]:
    """Return the source channel and the payload of the candle with that serial as its volume."""
    source = CANDLE_SOURCE.format(symbol=f"S{serial % SYMBOLS}-USD", timeframe="1m")
    return source, (
        '{"timestamp":1708264800000,"open":42350.50,"high":42450.75,"low":42300.25,"close":42400.0,'
        f'"volume":{serial},"macdV":77.123,"isSynthetic":false,"sequenceNum":{serial}}}'
    )

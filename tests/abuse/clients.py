"""Good clients: they connect as the contract says, and measure whether they are answered."""

import asyncio
import contextlib
import json
import re
import socket
import time
from collections.abc import AsyncIterator, Callable

from tests.abuse.target import CANDLE_CHANNEL, Target
from tests.support.raw import CLOSE, PING, PONG, TEXT, Frame, RawClient, frame, handshake, text

# A good client must be answered within this many seconds.
ANSWER_WITHIN = 5.0

# How long a late client waits with its handshake after it has connected, in seconds.
LATE = 0.05

SUBSCRIBE = text(json.dumps({"action": "subscribe", "channels": [CANDLE_CHANNEL]}))


async def connect(port: int, source: str = "127.0.0.1") -> RawClient:
    """Open a connection from an address of this machine."""
    sock = socket.socket()
    sock.setblocking(False)
    try:
        if source != "127.0.0.1":
            sock.bind((source, 0))
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    except BaseException:
        sock.close()
        raise
    return RawClient(sock)


async def subscribed(target: Target, key: str | None = None, *, channels: tuple[str, ...] = ()) -> RawClient:
    """Return a client whose subscription has been answered."""
    subscribe = SUBSCRIBE
    if channels:
        subscribe = text(json.dumps({"action": "subscribe", "channels": channels}))
    client = await RawClient.open(target.port, key or target.key, then=subscribe)
    answer = await client.message()
    assert '"subscribed"' in answer, answer
    return client


async def visit(target: Target, *, late: bool = False, source: str = "127.0.0.1") -> bool:
    """Connect, subscribe, and tell whether the answer came in time. A late client sends nothing at first."""
    try:
        async with asyncio.timeout(ANSWER_WITHIN):
            with await connect(target.port, source) as client:
                if late:
                    await asyncio.sleep(LATE)
                await client.send(handshake(target.key) + SUBSCRIBE)
                return await client.status() == 101 and '"subscribed"' in await client.message()
    except (OSError, EOFError, TimeoutError):
        return False


async def ask(port: int, path: str = "/readyz") -> bool:
    """Ask a question of HTTP, and tell whether it is answered in time. 503 is an answer too: Redis may be away."""
    try:
        async with asyncio.timeout(ANSWER_WITHIN):
            with await connect(port) as client:
                await client.send(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
                return await client.status() in (200, 503)
    except (OSError, EOFError, TimeoutError):
        return False


class Answered:
    """Good clients and probes, one of each kind every `interval` seconds, and how many of them were answered."""

    def __init__(self, target: Target, sources: tuple[str, ...] = ("127.0.0.1",), interval: float = 0.05) -> None:
        self._target = target
        self._sources = sources
        self._interval = interval
        self._visits: list[asyncio.Task[bool]] = []
        self._probes: list[asyncio.Task[bool]] = []

    async def run(self, seconds: float) -> None:
        """Send good clients for that long, and wait for their answers."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            source = self._sources[len(self._visits) % len(self._sources)]
            for late in (False, True):
                self._visits.append(asyncio.create_task(visit(self._target, late=late, source=source)))
            self._probes.append(asyncio.create_task(ask(self._target.port)))
            await asyncio.sleep(self._interval)
        await asyncio.gather(*self._visits, *self._probes)

    @property
    def visits(self) -> float:
        """The answered good clients in percent."""
        return _percentage(self._visits)

    @property
    def probes(self) -> float:
        """The answered probes in percent."""
        return _percentage(self._probes)


def _percentage(tasks: list[asyncio.Task[bool]]) -> float:
    return 100 * sum(task.result() for task in tasks) / len(tasks)


class Reader:
    """Reads a client's connection to its end, or until it is stopped.

    `prices` are the closing prices of the candles that came, in order, and `arrivals` when they came. `close` is the
    close frame.
    """

    def __init__(self, client: RawClient) -> None:
        self._client = client
        self.prices: list[int] = []
        self.arrivals: list[float] = []
        self.messages: list[str] = []
        self.close: Frame | None = None
        self.ended = False
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            while True:
                # Without RawClient's patience: between two frames there may be any time.
                received = await self._next()
                if received.opcode == CLOSE:
                    self.close = received
                elif received.opcode == PING:
                    await self._client.send(frame(PONG, received.payload))
                elif received.opcode == TEXT:
                    self._take(received.payload.decode())
        except (OSError, EOFError):
            self.ended = True

    async def _next(self) -> Frame:
        while True:
            with contextlib.suppress(TimeoutError):
                return await self._client.frame()

    def _take(self, message: str) -> None:
        price = re.search(r'"close":"(\d+)"', message)
        if price is None:
            self.messages.append(message)
        else:
            self.prices.append(int(price[1]))
            self.arrivals.append(time.monotonic())

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._client.close()


@contextlib.asynccontextmanager
async def reader(target: Target, key: str | None = None, *, channels: tuple[str, ...] = ()) -> AsyncIterator[Reader]:
    """Subscribe, and read all that comes."""
    reading = Reader(await subscribed(target, key, channels=channels))
    try:
        yield reading
    finally:
        await reading.stop()


async def round_trip(client: RawClient) -> float:
    """Ping, and return the seconds until the pong came. Other frames are thrown away."""
    start = time.perf_counter()
    await client.send(frame(PING))
    while (await client.frame()).opcode != PONG:
        pass
    return time.perf_counter() - start


async def holds(condition: Callable[[], object], within: float) -> float:
    """Wait until `condition()` holds, and return the seconds that took, infinity where it does not hold in time."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > within:
            return float("inf")
        await asyncio.sleep(0.005)
    return time.monotonic() - start

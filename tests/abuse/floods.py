"""Clients that send without pause, clients that never read, and malformed bytes of all kinds."""

import asyncio
import contextlib
import itertools
import ssl
import time

from tests.abuse.clients import Reader, connect, reader
from tests.abuse.rows import Check, at_least, at_most, exactly
from tests.abuse.target import CANDLE_CHANNEL, CANDLE_SOURCE, Target, candle, target
from tests.support.raw import CONTINUATION, PING, TEXT, RawClient, close, frame, handshake, text
from tornado_bridge.connections.websocket import FLOOD_BURST

FLOODS = {
    "tiny text frames": (b"", frame(TEXT, b"x")),
    "pings": (b"", frame(PING)),
    "empty fragments": (frame(TEXT, b"{", final=False), frame(CONTINUATION, b"", final=False)),
}
POLICY_VIOLATION = 1008
BLOCK = 65_536

# Between two events whose latency is measured, in seconds.
EVENT_INTERVAL = 0.02

SLOW_CLIENTS = 60
BUDGET = 4_194_304

# What a read of Redis brings, what 60 connections take, and what the allocator keeps, in bytes.
SLACK = 8_388_608


async def _close_code(under_attack: Target, first: bytes, one: bytes, number: int) -> int | None:
    """Send so many frames at once, and return the close code that came, None if the client is still connected."""
    with await RawClient.open(under_attack.port, under_attack.key) as client:
        reading = Reader(client)
        with contextlib.suppress(OSError):
            await client.send(first + one * number)
            # A message that is answered, or a connection that has ended: the frames have been read by now.
            await client.send(close(1000))
        end = time.monotonic() + 10
        while not reading.ended and time.monotonic() < end:
            await asyncio.sleep(0.01)
        await reading.stop()
        code = None if reading.close is None else int.from_bytes(reading.close.payload[:2])
        return None if code == 1000 else code


async def _opened(under_attack: Target) -> tuple[Reader, RawClient]:
    client = await RawClient.open(under_attack.port, under_attack.key)
    return Reader(client), client


async def _flood(under_attack: Target, first: bytes, one: bytes) -> None:
    """Flood, and connect anew when the server has closed the connection."""
    block = one * (BLOCK // len(one))
    while True:
        with contextlib.suppress(OSError, EOFError, TimeoutError):
            reading, client = await _opened(under_attack)
            try:
                await client.send(first)
                while not reading.ended:
                    await client.send(block)
            finally:
                await reading.stop()
        await asyncio.sleep(0.01)


async def _latencies(under_attack: Target, seconds: float) -> list[float]:
    """Return the seconds from each event's publication to its arrival, infinity for an event that is lost."""
    published: list[float] = []
    async with reader(under_attack) as reading:
        with under_attack.redis.client() as redis:
            start = time.monotonic()
            for number in itertools.count():
                published.append(time.monotonic())
                redis.publish(CANDLE_SOURCE, candle(number))
                await asyncio.sleep(EVENT_INTERVAL)
                if time.monotonic() - start >= seconds:
                    break
        await asyncio.sleep(1)
        arrived = dict(zip(reading.prices, reading.arrivals, strict=True))
    return sorted(arrived.get(number, float("inf")) - sent for number, sent in enumerate(published))


async def floods(seconds: float) -> list[Check]:
    """tiny text frames, pings and empty fragments without pause"""
    checks: list[Check] = []
    with target() as under_attack:
        for name, (first, one) in FLOODS.items():
            within = await _close_code(under_attack, first, one, int(FLOOD_BURST * 0.9))
            beyond = await _close_code(under_attack, first, one, int(FLOOD_BURST * 1.5))
            checks.append(exactly(f"{name}: close at 0.9 and 1.5 times the budget", (within, beyond), (None, 1008)))
        tasks = [asyncio.create_task(_flood(under_attack, first, one)) for first, one in FLOODS.values()]
        trips = await _latencies(under_attack, seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.5)
        cpu = under_attack.cpu()
        await asyncio.sleep(1)
        checks += [
            at_most("latency of another client's events, p99", 1e3 * trips[int(len(trips) * 0.99)], 250, "ms"),
            at_most("and at most", 1e3 * trips[-1], 1_000, "ms"),
            at_most("CPU afterwards", 100 * (under_attack.cpu() - cpu), 5, "% of a core"),
        ]
    return checks


async def clients_that_never_read(seconds: float) -> list[Check]:
    """60 clients that never read, with a budget of 4 MiB"""
    events = int(max(seconds, 4.0) * 4_000)
    # Without the budget each of them could hold 1 MiB.
    options = ("--max-buffered-bytes", str(BUDGET), "--skip-bytes", "1048576", "--abort-bytes", "4194304")
    with target(*options) as under_attack, contextlib.ExitStack() as stack:
        subscribe = text(f'{{"action":"subscribe","channels":["{CANDLE_CHANNEL}"]}}')
        async with reader(under_attack) as reading:
            for _ in range(SLOW_CLIENTS):
                slow = await RawClient.open(under_attack.port, under_attack.key, then=subscribe, receive_buffer=4_096)
                stack.enter_context(slow)
                assert '"subscribed"' in await slow.message()
            before = most = under_attack.resident()
            for first in range(0, events, 100):
                batch = [(CANDLE_SOURCE, candle(number)) for number in range(first, first + 100)]
                await asyncio.to_thread(under_attack.redis.publish, *batch)
                most = max(most, under_attack.resident())
                await asyncio.sleep(0.01)
            end = time.monotonic() + 10
            while len(reading.prices) < events and time.monotonic() < end:
                await asyncio.sleep(0.05)
            aborted = await asyncio.to_thread(under_attack.metric, "tornado_bridge_slow_clients_aborted_total")
            growth = (most - before) / (1 << 20)
            return [
                at_most("resident set grows by", growth, (BUDGET + SLACK) / (1 << 20), "MiB"),
                at_least("slow clients cut off", aborted, 1),
                exactly(f"a healthy client's events of {events}", len(reading.prices), events),
                exactly("in order, once", reading.prices == [*range(events)], True),
            ]


def _hello() -> bytes:
    """Return what a TLS client sends first."""
    outgoing = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def _malformed(key: str) -> tuple[bytes, ...]:
    opened = handshake(key)
    return (
        _hello(),
        b"\x16\x03\x01\x02\x00",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 10_000 + b"\r\n\r\n",
        b"GET /%ff%00 HTTP/9.9\r\nHost: \xff\r\n\r\n",
        b"\x00" * 100 + b"\r\n\r\n",
        handshake(key, version="7"),
        handshake(key, nonce="short"),
        opened + b"\xff\xff\xff\xff",
        opened + frame(TEXT, b"\xff\xfe"),
        opened + frame(TEXT, b"{" * 1_000),
        opened[:40],
        opened,
    )


async def _attack(port: int, pieces: tuple[bytes, ...], tried: list[int]) -> None:
    """Send one piece after another on new connections. Each second connection is reset."""
    for number in itertools.count():
        with contextlib.suppress(OSError, EOFError, TimeoutError):
            client = await connect(port)
            tried[0] += 1
            try:
                await client.send(pieces[number % len(pieces)])
                if number % 2:
                    client.reset()
                    continue
                async with asyncio.timeout(0.05):
                    await client.first()
            finally:
                client.close()


async def malformed_bytes(seconds: float) -> list[Check]:
    """malformed requests, TLS hellos and resets on both ports"""
    with target() as under_attack:
        before, tried = len(under_attack.lines), [0]
        pieces = _malformed(under_attack.key)
        ports = (under_attack.port, under_attack.port, under_attack.metrics_port)
        tasks = [asyncio.create_task(_attack(port, pieces, tried)) for port in ports * 5]
        await asyncio.sleep(max(seconds, 5.0))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        ready = await asyncio.to_thread(lambda: under_attack.ready)
        lines = under_attack.lines[before:]
        return [
            at_least("connections", tried[0], 1_000),
            at_most("log lines", len(lines), 50 * max(1.0, seconds / 10)),
            exactly("lines with a key", sum(under_attack.key in line for line in lines), 0),
            exactly("ready", ready, True),
        ]

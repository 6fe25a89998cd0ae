"""A connection leaves nothing behind a second after it has ended, in any of twelve ways, many at a time.

TORNADO_BRIDGE_TEST_ENDS is the number of connections; `pytest -s` prints the figures.
"""

import asyncio
import dataclasses
import gc
import hashlib
import os
import random
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog
import tornado.ioloop

from tests.support import raw
from tests.support.raw import RawClient
from tests.support.servers import CANDLE_SOURCE, RedisServer
from tornado_bridge.bridge import WebSocketBridge
from tornado_bridge.connections import wrong_keys
from tornado_bridge.connections.dialogue import Answer
from tornado_bridge.keys import Key, KeyRing
from tornado_bridge.web import app

ENDS = int(os.environ.get("TORNADO_BRIDGE_TEST_ENDS", "600"))
SEED = 20_260_219

# Clients at a time. The limits are twice as high, so that slots and handshakes run out if they are not released.
AT_ONCE = 60
PING_INTERVAL = 0.5
# How long one connection may take to end, in seconds. On a busy machine a short heartbeat comes late.
PATIENCE = 30.0

# Bytes by tracemalloc that may be in use after all connections in addition to those before, for any number of them:
# tables that have grown for AT_ONCE clients. An outlet that is not released takes 2,000 bytes, a connection 3,500.
MEMORY_BOUND = 262_144

SHARED_KEY = "the-key-of-most-clients"
FAULT = '{"action":"fail"}'
PAYLOAD = '{"timestamp":1708264800000,"open":1,"high":2,"low":0.50,"close":1.5,"volume":3,"macdV":77.5}'
SUBSCRIPTIONS = ("candles:*:*", "candles:BTC-USD:1h", "signals:*:*", "signals:BTC-USD:*", "candles:*:1h")


class RevocableKeys:
    """Keys in memory, which a test can revoke and restore."""

    def __init__(self, texts: list[str]) -> None:
        self._keys = {
            text: Key(number, f"key-{number}", hashlib.sha256(text.encode()).hexdigest(), datetime.now(UTC))
            for number, text in enumerate(texts, 1)
        }
        self.ring = KeyRing(self._keys.values())

    def revoke(self, text: str) -> None:
        self._set(text, datetime.now(UTC))

    def restore(self, text: str) -> None:
        self._set(text, None)

    def _set(self, text: str, revoked: datetime | None) -> None:
        self._keys[text] = dataclasses.replace(self._keys[text], revoked=revoked)
        self.ring = KeyRing(self._keys.values())

    async def refresh(self) -> None:
        """Do nothing: the ring has been replaced already."""


KEYS = RevocableKeys([SHARED_KEY, *(f"the-key-of-client-{number}" for number in range(AT_ONCE))])


@dataclasses.dataclass(frozen=True)
class Client:
    """The arguments of an end: the connection, the client's own key, and a source of chance."""

    raw: RawClient
    key: str
    random: random.Random

    async def outcome(self, *, pong: bool = True) -> str:
        """Wait until the server closes the connection, and return how it did; answers pings only if `pong` is true."""
        told = "no close frame"
        try:
            while True:
                received = await self.raw.frame()
                if received.opcode == raw.PING and pong:
                    await self.raw.send(raw.frame(raw.PONG, received.payload))
                elif received.opcode == raw.CLOSE:
                    told = f"{int.from_bytes(received.payload[:2])} {received.payload[2:].decode()}".strip()
        except EOFError:
            return told
        except OSError:
            return told if told[0].isdigit() else "reset"


End = Callable[[Client], Awaitable[str]]


async def clean_close(client: Client) -> str:
    await client.raw.send(raw.close(1000, client.random.choice((b"", b"bye"))))
    return await client.outcome()


async def rst(client: Client) -> str:
    if client.random.random() < 0.5:
        await client.raw.send(raw.text('{"action":"subscribe","channels":["signals:*:1h"]}'))
    client.raw.reset()
    return ""


async def half_close(client: Client) -> str:
    client.raw.finish()
    return await client.outcome()


async def bad_close_reason(client: Client) -> str:
    await client.raw.send(raw.close(1000, b"\xff"))
    return await client.outcome()


async def corrupt_frame(client: Client) -> str:
    corrupt = (
        raw.frame(raw.TEXT, b"{}", reserved=client.random.randrange(1, 8)),
        raw.frame(raw.TEXT, b"{}", mask=None),
        raw.frame(client.random.choice((3, 7, 11, 15))),
        raw.frame(raw.PING, b"x" * 126),
        raw.frame(raw.PING, final=False),
        raw.frame(raw.CONTINUATION),
        raw.frame(raw.TEXT, b"{", final=False) + raw.text("}"),
        raw.close(1005),
    )
    await client.raw.send(client.random.choice(corrupt))
    code, _, _ = (await client.outcome()).partition(" ")
    return code


async def exception(client: Client) -> str:
    await client.raw.send(raw.text(FAULT))
    return await client.outcome()


async def ping_timeout(client: Client) -> str:
    return await client.outcome(pong=False)


# The server refuses these by the length in the header.
TOO_BIG = (
    raw.frame(raw.TEXT, b"x" * 65_537)[:14],
    raw.frame(raw.TEXT, b"x" * 65_537)[:1000],
    raw.frame(raw.TEXT, b"x" * 40_000, final=False) + raw.frame(raw.CONTINUATION, b"x" * 40_000)[:8],
)


async def oversize(client: Client) -> str:
    await client.raw.send(client.random.choice(TOO_BIG))
    return await client.outcome()


async def refused(client: Client) -> str:
    outcome = await client.outcome()
    if client.random.random() < 0.5:
        # The server resets a client that stays.
        await client.raw.cut()
    return outcome


async def revoked(client: Client) -> str:
    KEYS.revoke(client.key)
    try:
        outcome = await client.outcome()
        if client.random.random() < 0.5:
            await client.raw.cut()
        return outcome
    finally:
        KEYS.restore(client.key)


async def mid_handshake(client: Client) -> str:
    whole = raw.handshake(SHARED_KEY)
    await client.raw.send(whole[: client.random.choice((0, 1, len(whole) // 2, len(whole) - 2, len(whole)))])
    client.random.choice((client.raw.close, client.raw.reset))()
    return ""


async def mid_message(client: Client) -> str:
    whole = raw.text(f'{{"action":"subscribe","channels":["candles:*:*"],"x":"{"y" * 200}"}}')
    part = raw.frame(raw.TEXT, b'{"action":', final=False)
    await client.raw.send(client.random.choice((whole[:1], whole[:7], whole[:-1], part, part + whole[:3])))
    client.random.choice((client.raw.close, client.raw.reset))()
    return ""


# What the client sees of each end; "" if the client closes the connection itself.
OUTCOMES: dict[End, str] = {
    clean_close: "1000",
    rst: "",
    half_close: "no close frame",
    bad_close_reason: "1007 Invalid UTF-8",
    corrupt_frame: "1002",
    exception: "1011 Internal error",
    ping_timeout: "reset",
    oversize: "1009 Message too big",
    refused: "4001 Invalid API key",
    revoked: "4001 API key revoked",
    mid_handshake: "",
    mid_message: "",
}


@pytest.fixture
def door(
    bridge: WebSocketBridge, io_loop: tornado.ioloop.IOLoop, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[app.Doorway, int]]:
    """The bridge's HTTP server and its port. The bridge fails on the message FAULT, and on no other message."""
    answer = bridge._dialogue.answer

    def answer_or_fail(text: str, *rest: object) -> Answer:
        if text == FAULT:
            raise ZeroDivisionError
        return answer(text, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(bridge._dialogue, "answer", answer_or_fail)
    # All clients come from one address. Each wrong key is answered at once, however many there are.
    monkeypatch.setattr(wrong_keys, "FREE_TRIES", 10**9)
    server, port = app.serve(bridge, host="127.0.0.1", port=0, max_handshakes=2 * AT_ONCE)
    assert isinstance(server, app.Doorway)
    yield server, port
    server.stop()
    io_loop.run_sync(server.close_all_connections, timeout=10)


@pytest.fixture
def traced_memory() -> Iterator[None]:
    """Trace allocations with tracemalloc."""
    tracemalloc.start()
    yield
    tracemalloc.stop()


def everything_held(bridge: WebSocketBridge, server: app.Doorway) -> dict[str, int]:
    """Return the counts of everything that a connection may leave behind, except memory."""
    return raw.held(bridge) | {
        "handshakes": server.pending,
        "channels with subscribers": len(bridge.hub._index),
        "tasks of the process": len(asyncio.all_tasks()),
        "files of the process": len(os.listdir("/proc/self/fd")),
        **{f"connections of key {number}": bridge.connection_count(number) for number in (1, 2, AT_ONCE)},
    }


async def settled(
    bridge: WebSocketBridge, server: app.Doorway, baseline: dict[str, int]
) -> tuple[dict[str, int], float]:
    """Wait for the counts of before, for at most a second; return the counts and the seconds waited."""
    started = time.monotonic()
    while (found := everything_held(bridge, server)) != baseline and time.monotonic() - started < 1.0:
        await asyncio.sleep(0.002)
    return found, time.monotonic() - started


class Crowd:
    """Clients that connect and disconnect, AT_ONCE of them at a time, while events are published."""

    def __init__(self, port: int, redis_server: RedisServer, seed: int) -> None:
        self._port = port
        self._redis_server = redis_server
        self._random = random.Random(seed)
        self.ended: Counter[str] = Counter()
        self.unexpected: list[tuple[str, str]] = []

    async def run(self, ends: list[End]) -> None:
        """Carry out the ends in random order."""
        shuffled = iter(self._random.sample(ends, len(ends)))
        publishing = asyncio.create_task(self._publish())
        try:
            async with asyncio.TaskGroup() as clients:
                for number in range(AT_ONCE):
                    clients.create_task(self._carry_out(shuffled, f"the-key-of-client-{number}"))
        finally:
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)

    async def _publish(self) -> None:
        sources = [CANDLE_SOURCE.format(symbol=symbol, timeframe="1h") for symbol in ("BTC-USD", "ETH-USD")]
        while True:
            await asyncio.to_thread(self._redis_server.publish, *((source, PAYLOAD) for source in sources))
            await asyncio.sleep(0.01)

    async def _carry_out(self, ends: Iterator[End], key: str) -> None:
        for end in ends:
            async with asyncio.timeout(PATIENCE):
                outcome = await self._live(end, key)
            self.ended[end.__name__] += 1
            if outcome != OUTCOMES[end]:
                self.unexpected.append((end.__name__, outcome))

    async def _live(self, end: End, key: str) -> str:
        if end is mid_handshake:
            with await RawClient.connect(self._port) as client:
                return await end(Client(client, key, self._random))
        key = "a key that opens nothing" if end is refused else key if end is revoked else SHARED_KEY
        channels = ",".join(f'"{name}"' for name in self._random.sample(SUBSCRIPTIONS, 2))
        subscribe = raw.text(f'{{"action":"subscribe","channels":[{channels}]}}')
        with await RawClient.open(self._port, key, then=subscribe) as client:
            if end is not refused and self._random.random() < 0.7:
                assert (await client.message()).startswith('{"type":"subscribed"')
            return await end(Client(client, key, self._random))


settings = pytest.mark.bridge(
    keys=KEYS, ping_interval=PING_INTERVAL, max_connections_per_key=2 * AT_ONCE, rate_limit=1e9, rate_burst=10**9
)


@settings
@pytest.mark.gen_test(timeout=60)
@pytest.mark.parametrize("end", OUTCOMES, ids=lambda end: end.__name__)
async def test_an_end_is_seen_as_documented_and_leaves_nothing_behind_after_a_second(
    end: End, door: tuple[app.Doorway, int], bridge: WebSocketBridge, redis_server: RedisServer
) -> None:
    server, port = door
    before = everything_held(bridge, server)

    with structlog.testing.capture_logs() as lines:
        crowd = Crowd(port, redis_server, SEED)
        await crowd.run([end] * 10)
        after, _ = await settled(bridge, server, before)

    assert crowd.unexpected == []
    assert after == before
    assert {line["event"] for line in lines if line["log_level"] != "debug"} == SAID.get(end, set())


# The ends that write a log line: faults of the server and changes of the keys concern the operator.
SAID: dict[End, set[str]] = {exception: {"client message failed"}}


@pytest.mark.slow
@settings
@pytest.mark.usefixtures("traced_memory")
@pytest.mark.gen_test(timeout=60 + ENDS / 10)
async def test_all_ends_together_leave_nothing_behind_after_a_second(
    door: tuple[app.Doorway, int], bridge: WebSocketBridge, redis_server: RedisServer
) -> None:
    server, port = door
    before = everything_held(bridge, server)
    crowd = Crowd(port, redis_server, SEED)
    kinds = list(OUTCOMES)
    with structlog.testing.capture_logs() as lines:
        # First, so that memory allocated once does not count.
        await crowd.run([revoked] * AT_ONCE)
        await crowd.run(kinds * 10)
        assert (await settled(bridge, server, before))[0] == before
        memory_before = memory(lines)

        started = time.monotonic()
        await crowd.run([kinds[number % len(kinds)] for number in range(ENDS)])
        seconds = time.monotonic() - started
        after, waited = await settled(bridge, server, before)
        grown = memory(lines) - memory_before
    print(f"\n{ENDS} ends of seed {SEED} in {seconds:.1f} s; all given back after {waited:.3f} s; {grown} bytes more")

    assert crowd.unexpected == []
    assert sum(crowd.ended.values()) == AT_ONCE + 10 * len(kinds) + ENDS
    assert after == before
    assert grown <= MEMORY_BOUND, f"{grown} bytes more after {ENDS} ends"


def memory(lines: list[MutableMapping[str, Any]]) -> int:
    """Return the bytes in use by tracemalloc, without the log lines that the test itself keeps."""
    lines.clear()
    # The interpreter's cache of attributes keeps up to 4,096 names.
    if sys.version_info >= (3, 13):
        sys._clear_internal_caches()
    else:
        sys._clear_type_cache()
    gc.collect()
    return tracemalloc.get_traced_memory()[0]

"""tornado_bridge.bridge: admission, slow clients and lifecycle, over real sockets and a real Redis."""

import asyncio
import functools
import itertools
import json
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import websockets
from tornado.iostream import IOStream
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Close

from tests.support import raw
from tests.support.peer import Inflating
from tests.support.raw import (
    NOTHING_HELD,
    PING,
    PONG,
    TEXT,
    Frame,
    RawClient,
    closed,
    frame,
    handshake,
    held,
    tcp_pair,
    text,
    until,
)
from tests.support.servers import ALERT_SOURCE, CANDLE_SOURCE, LogLines, RedisServer, free_port
from tornado_bridge.bridge import Limits, WebSocketBridge
from tornado_bridge.connections.disconnects import KEY_INVALID, KEY_REQUIRED, Disconnect
from tornado_bridge.errors import ConfigurationError
from tornado_bridge.ingest import relay
from tornado_bridge.key_file import KeyFile, KeyWatch
from tornado_bridge.keys import FixedKeys, Key, KeyRing, digest
from tornado_bridge.web import app, stream
from tornado_bridge.wire.frames import CloseCode

PAYLOAD = '{"timestamp":1708264800000,"open":1,"high":2,"low":0.50,"close":1.5,"volume":3,"macdV":77.5}'
ALERT = (
    '{"id":123,"symbol":"BTC-USD","alertType":"momentum","timeframe":"15m","price":42350.5,"triggerValue":85.3,'
    '"triggeredAt":"2026-02-19T12:00:00.000Z","triggerLabel":"level_3"}'
)
SOURCE = CANDLE_SOURCE.format(symbol="BTC-USD", timeframe="1h")
SUBSCRIBE = text('{"action":"subscribe","channels":["candles:BTC-USD:1h"]}')
SUBSCRIBED = '{"type":"subscribed","channels":["candles:BTC-USD:1h"]}'


def candle(number: int) -> tuple[str, str]:
    """Return a candle with its number as its volume."""
    return SOURCE, f'{{"timestamp":1708264800000,"open":1,"high":2,"low":0.5,"close":1.5,"volume":{number}}}'


def number(message: str) -> int:
    return int(json.loads(message)["data"]["volume"])


async def publish(server: RedisServer, *messages: tuple[str, str | bytes]) -> None:
    await asyncio.to_thread(server.publish, *messages)


@asynccontextmanager
async def started(redis_url: str, **options: Any) -> AsyncIterator[tuple[WebSocketBridge, int]]:
    """Yield a started bridge and its port. After it has stopped, nothing may be held."""
    limits = Limits(**{field.name: options.pop(field.name) for field in fields(Limits) if field.name in options})
    given = {"redis_url": redis_url, "exchange_id": 1, "exchange_name": "coinbase", "keys": keys("one"), **options}
    bridge = WebSocketBridge(**given, limits=limits)
    await bridge.start()
    server, port = app.serve(bridge, host="127.0.0.1", port=0)
    try:
        yield bridge, port
    finally:
        server.stop()
        await server.close_all_connections()
        await bridge.stop()
    assert held(bridge) == NOTHING_HELD


def keys(*texts: str, **members: Any) -> FixedKeys:
    """Return keys whose text is also their name. Their ids count from 1."""
    rows = [KeyRing.single(text, text).find(text) for text in texts]
    return FixedKeys(
        KeyRing(
            Key(id, row.name, row.sha256, row.created, **members) for id, row in enumerate(rows, 1) if row is not None
        )
    )


async def subscribed(port: int, key: str, *, receive_buffer: int | None = None) -> RawClient:
    """Return a client that is subscribed to the candles of BTC-USD:1h."""
    client = await RawClient.open(port, key, then=SUBSCRIBE, receive_buffer=receive_buffer)
    assert await client.message() == SUBSCRIBED
    return client


@pytest.fixture(autouse=True)
def patience_with_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise the time limit of a plugin call. On a busy machine a call may exceed it, and the bridge would log that."""
    monkeypatch.setattr(relay, "SLOW_CALL", 60.0)


# From Redis to a client


@pytest.mark.gen_test
async def test_a_candle_reaches_its_subscriber_as_an_envelope(
    stream_url: str, key: str, redis_server: RedisServer
) -> None:
    async with websockets.connect(stream_url, additional_headers={"X-API-Key": key}) as client:
        await client.send('{"action":"subscribe","channels":["candles:BTC-USD:1h"]}')
        assert await client.recv() == '{"type":"subscribed","channels":["candles:BTC-USD:1h"]}'
        await asyncio.to_thread(redis_server.publish, (CANDLE_SOURCE.format(symbol="BTC-USD", timeframe="1h"), PAYLOAD))
        assert json.loads(await client.recv()) == {
            "type": "candle_close",
            "channel": "candles:BTC-USD:1h",
            "data": {
                "timestamp": "2024-02-18T14:00:00.000Z",
                "open": "1",
                "high": "2",
                "low": "0.5",
                "close": "1.5",
                "volume": "3",
            },
        }


@pytest.mark.gen_test
async def test_an_alert_reaches_its_subscriber_as_an_envelope(
    stream_url: str, key: str, redis_server: RedisServer
) -> None:
    async with websockets.connect(stream_url, additional_headers={"X-API-Key": key}) as client:
        await client.send('{"action":"subscribe","channels":["signals:*:15m"]}')
        assert await client.recv() == '{"type":"subscribed","channels":["signals:*:15m"]}'
        await publish(redis_server, (ALERT_SOURCE, ALERT))
        assert json.loads(await client.recv()) == {
            "type": "trade_signal",
            "channel": "signals:BTC-USD:15m",
            "data": {
                "symbol": "BTC-USD",
                "exchange": "coinbase",
                "timeframe": "15m",
                "signal_type": "momentum_signal",
                "direction": "bullish",
                "strength": "strong",
                "price": "42350.5",
                "timestamp": "2026-02-19T12:00:00.000Z",
            },
        }


@pytest.mark.gen_test
async def test_events_reach_a_client_in_the_order_of_redis(http_port: int, key: str, redis_server: RedisServer) -> None:
    with await subscribed(http_port, key) as client:
        await publish(redis_server, *map(candle, range(1000)))
        assert [number(await client.message()) for _ in range(1000)] == list(range(1000))


@pytest.mark.gen_test
async def test_a_bad_payload_does_not_affect_other_events(
    http_port: int, key: str, redis_server: RedisServer, bridge: WebSocketBridge, log_lines: LogLines
) -> None:
    with await subscribed(http_port, key) as client:
        await publish(redis_server, candle(1), (SOURCE, b"\xff"), (SOURCE, "{"), (SOURCE, "[]"), candle(2))
        assert [number(await client.message()) for _ in range(2)] == [1, 2]
    assert (bridge.relay.tallies["candle_close"].relayed, bridge.relay.tallies["candle_close"].invalid) == (2, 3)
    for _ in range(3):
        log_lines.take("event dropped")


@pytest.mark.gen_test
async def test_an_event_of_an_undeclared_form_is_counted(
    redis_server: RedisServer, bridge: WebSocketBridge, log_lines: LogLines
) -> None:
    await publish(redis_server, (CANDLE_SOURCE.format(symbol="BTC-USD", timeframe="9h"), PAYLOAD))
    await until(lambda: bridge.relay.unrouted == 1)
    log_lines.take("event dropped")


@pytest.mark.gen_test
async def test_frames_due_are_counted_for_every_subscriber(
    http_port: int, key: str, redis_server: RedisServer, bridge: WebSocketBridge
) -> None:
    with await subscribed(http_port, key), await subscribed(http_port, key):
        await publish(redis_server, *map(candle, range(10)))
        await until(lambda: bridge.hub.due == 20)


@pytest.mark.gen_test
async def test_a_client_that_vanishes_during_a_burst_does_not_affect_others(
    http_port: int, key: str, redis_server: RedisServer, bridge: WebSocketBridge
) -> None:
    vanishing = [await subscribed(http_port, key) for _ in range(3)]
    with await subscribed(http_port, key) as client:
        publishing = asyncio.create_task(publish(redis_server, *map(candle, range(2000))))
        for expected in range(2000):
            assert number(await client.message()) == expected
            if expected == 100:
                for other in vanishing:
                    other.reset()
        await publishing
        await until(lambda: len(bridge.connections) == 1)


# Admission


@pytest.mark.gen_test
async def test_a_client_without_a_key_is_closed_with_that_reason(stream_url: str) -> None:
    async with websockets.connect(stream_url) as client:
        with pytest.raises(websockets.ConnectionClosedError) as end:
            await client.recv()
    assert end.value.rcvd == Close(4001, "API key required")


@pytest.mark.gen_test
async def test_a_client_with_an_empty_key_is_closed_with_that_reason(http_port: int) -> None:
    with await RawClient.open(http_port, "") as client:
        assert await client.frame() == closed(4001, "API key required")


@pytest.mark.gen_test
async def test_a_client_with_an_unknown_key_is_closed_with_that_reason(stream_url: str) -> None:
    async with websockets.connect(stream_url, additional_headers={"X-API-Key": "wrong"}) as client:
        with pytest.raises(websockets.ConnectionClosedError) as end:
            await client.recv()
    assert end.value.rcvd == Close(4001, "Invalid API key")


@pytest.mark.gen_test
async def test_a_revoked_key_is_refused(redis_server: RedisServer, tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "keys.toml")
    key = file.create("alice")
    file.revoke("alice")
    async with started(redis_server.url, keys=KeyWatch(file)) as (_, port):
        with await RawClient.open(port, key) as client:
            assert await client.frame() == closed(4001, "Invalid API key")


@pytest.mark.gen_test
async def test_refused_clients_are_counted_by_their_reason(http_port: int, bridge: WebSocketBridge) -> None:
    for key in (None, "", "wrong"):
        with await RawClient.open(http_port, key) as client:
            assert (await client.frame()).opcode == 8
    assert bridge.refusals.counts == {KEY_REQUIRED: 2, KEY_INVALID: 1}


@pytest.mark.gen_test
async def test_a_refused_client_holds_nothing_once_it_has_gone(http_port: int, bridge: WebSocketBridge) -> None:
    with await RawClient.open(http_port, None) as client:
        assert await client.frame() == closed(4001, "API key required")
        assert held(bridge) == {**NOTHING_HELD, "tasks": 1}
    await until(lambda: held(bridge) == NOTHING_HELD)


@pytest.mark.gen_test
async def test_a_refused_client_that_stays_is_cut_off_within_250_ms_of_its_close_frame(
    http_port: int, bridge: WebSocketBridge
) -> None:
    with await RawClient.open(http_port, None) as client:
        assert await client.frame() == closed(4001, "API key required")
        began = time.monotonic()
        await client.cut()
        assert time.monotonic() - began < 0.25
        await until(lambda: held(bridge) == NOTHING_HELD)


@pytest.mark.gen_test
async def test_nothing_of_a_refused_client_is_processed(http_port: int, bridge: WebSocketBridge) -> None:
    with await RawClient.open(http_port, None, then=SUBSCRIBE + text("no JSON") + frame(PING, b"here?")) as client:
        assert await client.rest() == b"\x88\x12\x0f\xa1API key required"
        assert bridge.hub.cohorts == 0


async def flood(client: RawClient) -> None:
    """Send messages until the peer closes the connection."""
    while True:
        try:
            await client.send(SUBSCRIBE * 500)
        except OSError:
            return


@pytest.mark.gen_test
async def test_a_refused_client_that_floods_gets_its_close_frame_and_is_cut_off_within_250_ms_of_it(
    http_port: int, bridge: WebSocketBridge
) -> None:
    for _ in range(5):
        with await RawClient.open(http_port, "wrong", then=SUBSCRIBE * 500) as client:
            flooding = asyncio.create_task(flood(client))
            assert await client.frame() == closed(4001, "Invalid API key")
            began = time.monotonic()
            await flooding
            assert time.monotonic() - began < 0.25
            assert bridge.hub.cohorts == 0
    await until(lambda: held(bridge) == NOTHING_HELD)


@pytest.mark.gen_test
async def test_a_flood_of_refused_clients_leaves_an_admitted_one_its_answers(http_port: int, key: str) -> None:
    refused = [await RawClient.open(http_port, "wrong") for _ in range(10)]
    floods = [asyncio.create_task(flood(client)) for client in refused]
    with await subscribed(http_port, key) as client:
        await client.send(frame(PING, b"here?"))
        assert await client.frame() == Frame(0xA, b"here?")
    await asyncio.wait(floods)
    for other in refused:
        other.close()


@pytest.mark.gen_test
async def test_messages_sent_with_the_handshake_are_answered_in_order(http_port: int, key: str) -> None:
    early = b"".join(text(f'{{"action":"unsubscribe","channels":["{number}"]}}') for number in range(40))
    with await RawClient.open(http_port, key, then=early) as client:
        for number in range(40):
            assert await client.message() == f'{{"type":"unsubscribed","channels":["{number}"]}}'


@pytest.mark.gen_test
async def test_messages_sent_before_the_upgrade_is_seen_are_answered(http_port: int, key: str) -> None:
    with await RawClient.connect(http_port) as client:
        await client.send(handshake(key)[:-2])
        await client.send(b"\r\n" + SUBSCRIBE[:7])
        await client.send(SUBSCRIBE[7:])
        assert await client.status() == 101
        assert await client.message() == SUBSCRIBED


# Limits on connections


@pytest.mark.gen_test(timeout=20)
async def test_of_50_connections_of_one_key_that_race_exactly_5_are_left(
    http_port: int, key: str, bridge: WebSocketBridge
) -> None:
    clients = await asyncio.gather(*(RawClient.open(http_port, key, then=SUBSCRIBE) for _ in range(50)))
    answers = await asyncio.gather(*(client.frame() for client in clients))
    assert answers.count(Frame(TEXT, SUBSCRIBED.encode())) == 5
    assert answers.count(closed(4008, "Connection limit exceeded")) == 45
    assert bridge.connection_count(1) == 5
    for client in clients:
        client.close()
    await until(lambda: held(bridge) == NOTHING_HELD)


@pytest.mark.gen_test
async def test_a_place_that_is_given_back_can_be_taken_at_once(
    http_port: int, key: str, bridge: WebSocketBridge
) -> None:
    clients = [await subscribed(http_port, key) for _ in range(5)]
    for number in range(20):
        await clients[number].send(raw.close(1000))
        clients.append(await subscribed(http_port, key))
    assert bridge.connection_count(1) == 5
    for client in clients:
        client.close()


@pytest.mark.gen_test
async def test_a_refused_client_takes_no_place(http_port: int, key: str, bridge: WebSocketBridge) -> None:
    clients = [await subscribed(http_port, key) for _ in range(5)]
    for _ in range(3):
        with await RawClient.open(http_port, key) as refused:
            assert await refused.frame() == closed(4008, "Connection limit exceeded")
    assert bridge.connection_count(1) == 5
    clients.pop().reset()
    await until(lambda: bridge.connection_count(1) == 4)
    clients.append(await subscribed(http_port, key))
    for client in clients:
        client.close()


@pytest.mark.gen_test
async def test_the_limit_is_that_of_a_key(redis_server: RedisServer) -> None:
    async with started(redis_server.url, keys=keys("one", "two"), max_connections_per_key=1) as (bridge, port):
        with await subscribed(port, "one"), await subscribed(port, "two"):
            assert (bridge.connection_count(1), bridge.connection_count(2)) == (1, 1)


@pytest.mark.gen_test
async def test_a_keys_own_limit_comes_before_that_of_the_bridge(redis_server: RedisServer) -> None:
    async with started(redis_server.url, keys=keys("one", max_connections=2), max_connections_per_key=1) as (_, port):
        with await subscribed(port, "one"), await subscribed(port, "one"), await RawClient.open(port, "one") as third:
            assert await third.frame() == closed(4008, "Connection limit exceeded")


@pytest.mark.gen_test
async def test_a_key_that_never_came_has_no_connections(bridge: WebSocketBridge) -> None:
    assert bridge.connection_count(1) == 0


@pytest.mark.gen_test
@pytest.mark.bridge(max_connections=2)
async def test_only_admitted_clients_make_a_bridge_full(http_port: int, key: str, bridge: WebSocketBridge) -> None:
    with await subscribed(http_port, key), await RawClient.open(http_port, None) as refused:
        assert await refused.frame() == closed(4001, "API key required")
        assert bridge.refusals.lingering == 1
        assert not bridge.full
        with await subscribed(http_port, key):
            assert bridge.full
        await until(lambda: not bridge.full)


# Clients that leave before they are admitted


@pytest.mark.gen_test
@pytest.mark.parametrize("size", [0, 1, 50, -2, None])
async def test_a_reset_in_the_middle_of_the_handshake_leaves_nothing(
    http_port: int, key: str, bridge: WebSocketBridge, size: int | None
) -> None:
    for _ in range(5):
        client = await RawClient.connect(http_port)
        await client.send(handshake(key)[:size])
        client.reset()
    with await subscribed(http_port, key):
        await until(lambda: held(bridge) == {**NOTHING_HELD, **dict.fromkeys(SUBSCRIBER, 1)})


SUBSCRIBER = ("connections", "places", "cohorts", "heartbeats", "tasks")


@pytest.mark.gen_test
async def test_a_stream_that_has_ended_before_it_is_handed_over_leaves_nothing(
    bridge: WebSocketBridge, key: str
) -> None:
    with tcp_pair() as (near, _):
        stream = IOStream(near)
        stream.close()
        bridge.add_client(stream, key)
        await until(lambda: held(bridge) == NOTHING_HELD)


@pytest.mark.gen_test
async def test_a_client_that_was_added_can_be_removed(bridge: WebSocketBridge, key: str) -> None:
    with tcp_pair() as (near, client):
        connection = bridge.add_client(IOStream(near), key)
        assert connection is not None
        bridge.remove_client(connection, Disconnect(CloseCode.NORMAL, "Enough", reconnect=True))
        assert await client.rest() == b"\x88\x08\x03\xe8Enough"
        client.close()
        await until(lambda: held(bridge) == NOTHING_HELD)


# Keys that change


@pytest.fixture
def key_file(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "keys.toml")


@pytest.mark.gen_test(timeout=10)
async def test_a_key_revoked_while_connected_closes_its_clients_within_two_seconds(
    redis_server: RedisServer, key_file: KeyFile, log_lines: LogLines
) -> None:
    key = key_file.create("alice")
    async with started(redis_server.url, keys=KeyWatch(key_file)) as (bridge, port):
        with await subscribed(port, key) as one, await subscribed(port, key) as two:
            key_file.revoke("alice")
            began = time.monotonic()
            assert await one.frame() == closed(4001, "API key revoked")
            assert await two.frame() == closed(4001, "API key revoked")
            assert time.monotonic() - began < 2
        await until(lambda: held(bridge) == NOTHING_HELD)


@pytest.mark.gen_test
async def test_a_key_revoked_leaves_the_clients_of_others(redis_server: RedisServer, key_file: KeyFile) -> None:
    alice, bob = key_file.create("alice"), key_file.create("bob")
    async with started(redis_server.url, keys=KeyWatch(key_file), slow_timeout=0.1) as (_, port):
        with await subscribed(port, alice) as hers, await subscribed(port, bob) as his:
            key_file.revoke("alice")
            assert await hers.frame() == closed(4001, "API key revoked")
            await his.send(SUBSCRIBE)
            assert await his.message() == SUBSCRIBED


@pytest.mark.gen_test
async def test_a_key_that_is_gone_from_the_file_is_revoked(redis_server: RedisServer, key_file: KeyFile) -> None:
    key = key_file.create("alice")
    async with started(redis_server.url, keys=KeyWatch(key_file), slow_timeout=0.1) as (_, port):
        with await subscribed(port, key) as client:
            key_file.path.write_text("next_id = 2\n")
            assert await client.frame() == closed(4001, "API key revoked")


@pytest.mark.gen_test
async def test_a_key_whose_digest_has_changed_is_revoked(redis_server: RedisServer, key_file: KeyFile) -> None:
    key = key_file.create("alice")
    async with started(redis_server.url, keys=KeyWatch(key_file), slow_timeout=0.1) as (_, port):
        with await subscribed(port, key) as client:
            before = key_file.read()[0].sha256
            key_file.path.write_text(key_file.path.read_text().replace(before, "0" * 64))
            assert await client.frame() == closed(4001, "API key revoked")


@pytest.mark.gen_test
async def test_a_key_that_two_bridges_share_is_revoked_in_both(redis_server: RedisServer, key_file: KeyFile) -> None:
    key = key_file.create("alice")
    watch = KeyWatch(key_file)
    async with (
        started(redis_server.url, keys=watch, slow_timeout=0.1) as (_, port),
        started(redis_server.url, keys=watch, slow_timeout=0.1) as (_, other_port),
    ):
        with await subscribed(port, key) as one, await subscribed(other_port, key) as two:
            key_file.revoke("alice")
            assert await one.frame() == closed(4001, "API key revoked")
            assert await two.frame() == closed(4001, "API key revoked")


@pytest.mark.gen_test
async def test_a_key_that_expires_closes_its_clients_although_no_key_changes(redis_server: RedisServer) -> None:
    now = datetime(2026, 2, 19, 12, tzinfo=UTC)
    midnight = datetime(2026, 2, 20, tzinfo=UTC)
    ring = KeyRing(
        [
            Key(1, "one", digest("one"), now, expires=midnight),
            Key(2, "two", digest("two"), now),
        ],
        lambda: now,
    )
    async with started(redis_server.url, keys=FixedKeys(ring), slow_timeout=0.1) as (_, port):
        with await subscribed(port, "one") as one, await subscribed(port, "two") as two:
            now = midnight
            assert await one.frame() == closed(4001, "API key revoked")
            with await RawClient.open(port, "one") as again:
                assert await again.frame() == closed(4001, "Invalid API key")
            await two.send(SUBSCRIBE)
            assert await two.message() == SUBSCRIBED


@pytest.mark.gen_test
async def test_a_new_key_is_admitted_while_running(redis_server: RedisServer, key_file: KeyFile) -> None:
    key_file.create("alice")
    watch = KeyWatch(key_file)
    async with started(redis_server.url, keys=watch, slow_timeout=0.1) as (_, port):
        key = key_file.create("bob")
        await until(lambda: watch.ring.find(key) is not None)
        with await subscribed(port, key):
            pass


@pytest.mark.gen_test
async def test_a_key_file_that_turns_to_garbage_is_logged_once_and_closes_no_client(
    redis_server: RedisServer, key_file: KeyFile, log_lines: LogLines
) -> None:
    key = key_file.create("alice")
    watch = KeyWatch(key_file)
    async with started(redis_server.url, keys=watch, slow_timeout=0.04) as (_, port):
        with await subscribed(port, key) as client:
            good = key_file.path.read_text()
            key_file.path.write_text("garbage")
            await until(lambda: "key file cannot be used: the keys stay as they were" in events(log_lines))
            await asyncio.sleep(0.1)
            await client.send(SUBSCRIBE)
            assert await client.message() == SUBSCRIBED
            with await subscribed(port, key):
                key_file.path.write_text(good)
                await until(lambda: "key file read anew" in events(log_lines))
    line = log_lines.take("key file cannot be used: the keys stay as they were")
    assert line["cause"] == f"API key file {key_file.path} is not TOML (at end of document)"


def events(log_lines: LogLines) -> list[str]:
    return [line["event"] for line in log_lines.all()]


@pytest.mark.gen_test
async def test_a_changed_row_holds_for_its_clients_at_once(redis_server: RedisServer, key_file: KeyFile) -> None:
    key = key_file.create("alice", None, ["candles:*:*"])
    async with started(redis_server.url, keys=KeyWatch(key_file), slow_timeout=0.1) as (_, port):
        with await subscribed(port, key) as client:
            key_file.path.write_text(key_file.path.read_text().replace("candles:*:*", "signals:*:*"))
            assert await client.message() == '{"type":"unsubscribed","channels":["candles:BTC-USD:1h"]}'
            await client.send(text('{"action":"subscribe","channels":["candles:ETH-USD:1h","signals:ETH-USD:1h"]}'))
            assert await client.message() == (
                '{"type":"error","code":"INVALID_CHANNEL","message":"Not permitted: candles:ETH-USD:1h"}'
            )
            assert await client.message() == '{"type":"subscribed","channels":["signals:ETH-USD:1h"]}'


# Keys that are narrowed

ALL_CANDLES = text('{"action":"subscribe","channels":["candles:ETH-USD:1h","signals:*:*","candles:BTC-USD:1h"]}')
LOST = '{"type":"unsubscribed","channels":["candles:BTC-USD:1h","candles:ETH-USD:1h"]}'


def edit(file: KeyFile, before: str, after: str) -> None:
    old = file.path.read_text()
    assert before in old
    file.path.write_text(old.replace(before, after))


@pytest.mark.gen_test(timeout=10)
async def test_a_narrowed_key_ends_the_subscriptions_that_it_lost_within_two_seconds(
    redis_server: RedisServer, key_file: KeyFile
) -> None:
    key = key_file.create("alice", None, ["candles:*:*", "signals:*:*"])
    async with started(redis_server.url, keys=KeyWatch(key_file)) as (_, port):
        with await RawClient.open(port, key, then=ALL_CANDLES) as client:
            assert '"subscribed"' in await client.message()
            edit(key_file, "candles:*:*", "candles:SOL-USD:*")
            began = time.monotonic()
            assert await client.message() == LOST
            assert time.monotonic() - began < 2


@pytest.mark.gen_test(timeout=10)
async def test_no_event_of_a_channel_that_was_lost_follows_and_those_of_others_do(
    redis_server: RedisServer, key_file: KeyFile
) -> None:
    key = key_file.create("alice", None, ["candles:*:*", "signals:*:*"])
    async with started(redis_server.url, keys=KeyWatch(key_file), slow_timeout=0.1) as (bridge, port):
        with await RawClient.open(port, key, then=ALL_CANDLES) as client:
            assert '"subscribed"' in await client.message()
            edit(key_file, "candles:*:*", "candles:SOL-USD:*")
            assert await client.message() == LOST
            await publish(redis_server, candle(1), (ALERT_SOURCE, ALERT))
            assert json.loads(await client.message())["type"] == "trade_signal"
            assert bridge.relay.tallies["candle_close"].relayed == 1


@pytest.mark.gen_test(timeout=10)
async def test_every_client_of_a_narrowed_key_is_told_and_no_client_of_another(
    redis_server: RedisServer, key_file: KeyFile
) -> None:
    alice, bob = key_file.create("alice", None, ["candles:*:*"]), key_file.create("bob")
    async with started(redis_server.url, keys=KeyWatch(key_file), slow_timeout=0.1) as (_, port):
        with (
            await subscribed(port, alice) as one,
            await subscribed(port, alice) as two,
            await subscribed(port, bob) as b,
        ):
            edit(key_file, "candles:*:*", "signals:*:*")
            for client in (one, two):
                assert await client.message() == '{"type":"unsubscribed","channels":["candles:BTC-USD:1h"]}'
            await publish(redis_server, candle(7))
            assert number(await b.message()) == 7


@pytest.mark.gen_test(timeout=10)
async def test_a_wildcard_that_the_key_grants_in_part_only_is_lost(
    redis_server: RedisServer, key_file: KeyFile
) -> None:
    key = key_file.create("alice", None, ["candles:*:*"])
    subscribe = text('{"action":"subscribe","channels":["candles:*:*","candles:BTC-USD:*"]}')
    async with started(redis_server.url, keys=KeyWatch(key_file), slow_timeout=0.1) as (_, port):
        with await RawClient.open(port, key, then=subscribe) as client:
            assert '"subscribed"' in await client.message()
            edit(key_file, "candles:*:*", "candles:BTC-USD:*")
            assert await client.message() == '{"type":"unsubscribed","channels":["candles:*:*"]}'
            await publish(redis_server, candle(3))
            assert number(await client.message()) == 3


@pytest.mark.gen_test(timeout=10)
async def test_a_key_that_is_widened_again_gives_back_nothing_and_says_nothing(
    redis_server: RedisServer, key_file: KeyFile
) -> None:
    key = key_file.create("alice", None, ["candles:*:*"])
    watch = KeyWatch(key_file)
    async with started(redis_server.url, keys=watch, slow_timeout=0.1) as (bridge, port):
        with await subscribed(port, key) as client:
            edit(key_file, "candles:*:*", "signals:*:*")
            assert await client.message() == '{"type":"unsubscribed","channels":["candles:BTC-USD:1h"]}'
            edit(key_file, "signals:*:*", "candles:*:*")
            await bridge.refresh_keys()
            await client.send(frame(PING, b"quiet?"))
            assert await client.frame() == Frame(PONG, b"quiet?")
            await client.send(SUBSCRIBE)
            assert await client.message() == SUBSCRIBED


@pytest.mark.gen_test(timeout=10)
async def test_connections_above_a_lowered_limit_are_closed_the_youngest_first(
    redis_server: RedisServer, key_file: KeyFile
) -> None:
    alice, bob = key_file.create("alice", 4), key_file.create("bob")
    async with started(redis_server.url, keys=KeyWatch(key_file)) as (bridge, port):
        clients = [await subscribed(port, alice) for _ in range(4)]
        with await subscribed(port, bob) as his:
            edit(key_file, "max_connections = 4", "max_connections = 2")
            began = time.monotonic()
            for client in clients[2:]:
                assert await client.frame() == closed(4008, "Connection limit exceeded")
            assert time.monotonic() - began < 2
            assert bridge.connection_count(1) == 2
            await publish(redis_server, candle(1))
            for client in (*clients[:2], his):
                assert number(await client.message()) == 1
        for client in clients:
            client.close()


@pytest.mark.gen_test(timeout=10)
async def test_a_limit_that_is_raised_again_admits_at_once_and_says_nothing(
    redis_server: RedisServer, key_file: KeyFile
) -> None:
    key = key_file.create("alice", 1)
    async with started(redis_server.url, keys=KeyWatch(key_file), slow_timeout=0.1) as (bridge, port):
        with await subscribed(port, key) as first:
            edit(key_file, "max_connections = 1", "max_connections = 2")
            await bridge.refresh_keys()
            with await subscribed(port, key):
                await first.send(frame(PING, b"quiet?"))
                assert await first.frame() == Frame(PONG, b"quiet?")


# The heartbeat


@pytest.mark.gen_test
async def test_a_ping_comes_every_30_seconds_by_default(bridge: WebSocketBridge) -> None:
    assert bridge.heartbeat.tick == 1.0
    assert len(bridge.heartbeat._slots) == 30


@pytest.mark.gen_test
@pytest.mark.bridge(ping_interval=0.3)
async def test_a_ping_comes_every_interval(http_port: int, key: str) -> None:
    with await subscribed(http_port, key) as client:
        times = []
        for _ in range(4):
            assert await client.frame() == Frame(PING, b"")
            times.append(time.monotonic())
            await client.send(frame(0xA))
    assert all(0.25 < later - earlier < 1 for earlier, later in itertools.pairwise(times))


@pytest.mark.gen_test
@pytest.mark.bridge(ping_interval=0.1)
async def test_a_client_that_answers_pings_stays(
    stream_url: str, key: str, bridge: WebSocketBridge, redis_server: RedisServer
) -> None:
    async with websockets.connect(stream_url, additional_headers={"X-API-Key": key}, ping_interval=None) as client:
        await client.send('{"action":"subscribe","channels":["candles:BTC-USD:1h"]}')
        assert await client.recv() == SUBSCRIBED
        await asyncio.sleep(0.5)
        await publish(redis_server, candle(7))
        assert number(str(await client.recv())) == 7


@pytest.mark.gen_test
@pytest.mark.bridge(ping_interval=0.1)
async def test_a_client_that_does_not_answer_a_ping_is_reset_and_its_place_given_back(
    http_port: int, key: str, bridge: WebSocketBridge
) -> None:
    with await subscribed(http_port, key) as client:
        assert await client.frame() == Frame(PING, b"")
        with pytest.raises(ConnectionResetError):
            await client.frame()
        await until(lambda: held(bridge) == NOTHING_HELD)


# Slow clients


@pytest.fixture
def small_send_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the kernel a small send buffer, so that few frames fill it."""
    monkeypatch.setattr(stream, "SEND_BUFFER", 16_384)


async def fill(server: RedisServer, healthy: RawClient, count: int, at_once: int = 250) -> None:
    """Publish candles with numbers from 0. Each must reach the healthy client, in order."""
    for first in range(0, count, at_once):
        chunk = range(first, min(first + at_once, count))
        await publish(server, *map(candle, chunk))
        assert [number(await healthy.message()) for _ in chunk] == list(chunk)


@pytest.mark.gen_test(timeout=20)
@pytest.mark.usefixtures("small_send_buffer")
async def test_only_a_client_that_does_not_read_loses_frames(
    http_port: int, key: str, redis_server: RedisServer, bridge: WebSocketBridge, log_lines: LogLines
) -> None:
    with await subscribed(http_port, key) as healthy, await subscribed(http_port, key, receive_buffer=4096):
        await fill(redis_server, healthy, 1500)
        assert 0 < bridge.slow_rule.skipped < 1500
        assert bridge.hub.due == 3000
        assert bridge.slow_rule.aborted == 0
    await until(lambda: held(bridge) == NOTHING_HELD)
    line = log_lines.take("slow client lost frames")
    assert (line["key"], line["frames"], line["cut_off"]) == ("tests", bridge.slow_rule.skipped, False)


@pytest.mark.gen_test(timeout=20)
@pytest.mark.usefixtures("small_send_buffer")
async def test_frames_reach_a_slow_client_whole_and_in_order_when_it_reads_again(
    http_port: int, key: str, redis_server: RedisServer, bridge: WebSocketBridge, log_lines: LogLines
) -> None:
    with (
        await subscribed(http_port, key) as healthy,
        await subscribed(http_port, key, receive_buffer=4096) as slow,
    ):
        await fill(redis_server, healthy, 1500)
        received = [number(await slow.message()) for _ in range(1500 - bridge.slow_rule.skipped)]
        assert received == sorted(set(received))
        await publish(redis_server, candle(1500))
        assert number(await slow.message()) == 1500
    await until(lambda: held(bridge) == NOTHING_HELD)
    log_lines.take("slow client lost frames")


@pytest.mark.gen_test(timeout=20)
@pytest.mark.usefixtures("small_send_buffer")
async def test_a_slow_client_that_reads_again_is_no_longer_slow(
    http_port: int, key: str, redis_server: RedisServer, bridge: WebSocketBridge, log_lines: LogLines
) -> None:
    with (
        await subscribed(http_port, key) as healthy,
        await subscribed(http_port, key, receive_buffer=4096) as slow,
    ):
        await fill(redis_server, healthy, 1500)
        assert held(bridge)["slow"] == 1
        for _ in range(1500 - bridge.slow_rule.skipped):
            await slow.message()
        await until(lambda: held(bridge)["slow"] == 0)
    await until(lambda: held(bridge) == NOTHING_HELD)
    log_lines.take("slow client lost frames")


@pytest.mark.gen_test(timeout=20)
@pytest.mark.usefixtures("small_send_buffer")
@pytest.mark.bridge(slow_timeout=0.4)
async def test_a_client_that_is_slow_for_too_long_is_reset(
    http_port: int, key: str, redis_server: RedisServer, bridge: WebSocketBridge, log_lines: LogLines
) -> None:
    with (
        await subscribed(http_port, key) as healthy,
        await subscribed(http_port, key, receive_buffer=4096) as slow,
    ):
        await fill(redis_server, healthy, 1500)
        await until(lambda: bridge.slow_rule.aborted == 1)
        await until(lambda: len(bridge.connections) == 1)
        with pytest.raises(ConnectionResetError):
            await slow.rest()
        await publish(redis_server, candle(1))
        assert number(await healthy.message()) == 1
    line = log_lines.take("slow client lost frames")
    assert (line["frames"], line["cut_off"]) == (bridge.slow_rule.skipped, True)


@pytest.mark.gen_test(timeout=20)
@pytest.mark.usefixtures("small_send_buffer")
@pytest.mark.bridge(skip_bytes=100_000, abort_bytes=100_000)
async def test_a_client_for_which_too_much_is_held_back_is_reset_at_the_next_frame(
    http_port: int, key: str, redis_server: RedisServer, bridge: WebSocketBridge, log_lines: LogLines
) -> None:
    with (
        await subscribed(http_port, key) as healthy,
        await subscribed(http_port, key, receive_buffer=4096) as slow,
    ):
        await fill(redis_server, healthy, 1500)
        assert (bridge.slow_rule.aborted, bridge.slow_rule.skipped) == (1, 0)
        with pytest.raises(ConnectionResetError):
            await slow.rest()
    await until(lambda: held(bridge) == NOTHING_HELD)
    log_lines.take("slow client lost frames")


@pytest.mark.gen_test(timeout=20)
@pytest.mark.usefixtures("small_send_buffer")
async def test_a_slow_client_gets_the_answers_to_its_own_messages(
    http_port: int, key: str, redis_server: RedisServer, bridge: WebSocketBridge, log_lines: LogLines
) -> None:
    with (
        await subscribed(http_port, key) as healthy,
        await subscribed(http_port, key, receive_buffer=4096) as slow,
    ):
        await fill(redis_server, healthy, 1500)
        await slow.send(text('{"action":"unsubscribe","channels":["candles:BTC-USD:1h"]}'))
        received = [await slow.message() for _ in range(1500 - bridge.slow_rule.skipped + 1)]
        assert received[-1] == '{"type":"unsubscribed","channels":["candles:BTC-USD:1h"]}'
    await until(lambda: held(bridge) == NOTHING_HELD)
    log_lines.take("slow client lost frames")


@pytest.mark.gen_test(timeout=20)
@pytest.mark.usefixtures("small_send_buffer")
@pytest.mark.bridge(max_buffered_bytes=100_000)
async def test_past_the_budget_of_all_clients_the_slow_one_that_was_waited_for_longest_is_reset(
    http_port: int, key: str, redis_server: RedisServer, bridge: WebSocketBridge, log_lines: LogLines
) -> None:
    with (
        await subscribed(http_port, key) as healthy,
        await subscribed(http_port, key, receive_buffer=4096) as early,
    ):
        # In small batches: one takes no more than its part of the budget.
        await fill(redis_server, healthy, 1000, at_once=50)
        assert bridge.slow_rule.aborted == 0
        with await subscribed(http_port, key, receive_buffer=4096) as late:
            await fill(redis_server, healthy, 1500, at_once=50)
            assert (bridge.slow_rule.aborted, len(bridge.connections)) == (1, 2)
            assert bridge.slow_rule.buffered <= 100_000
            with pytest.raises(ConnectionResetError):
                await early.rest()
            assert number(await late.message()) == 0
    await until(lambda: held(bridge) == NOTHING_HELD)
    for _ in range(2):
        log_lines.take("slow client lost frames")


# Compression

OFFER = "Sec-WebSocket-Extensions: permessage-deflate"


@pytest.mark.gen_test(timeout=20)
@pytest.mark.bridge(compression=True)
async def test_clients_with_and_without_compression_read_the_same(
    stream_url: str, http_port: int, key: str, redis_server: RedisServer
) -> None:
    connect = functools.partial(websockets.connect, stream_url, additional_headers={"X-API-Key": key})
    narrow = ClientPerMessageDeflateFactory(server_max_window_bits=9)
    async with (
        connect() as wide,
        connect(extensions=[narrow], compression=None) as narrow_one,
        connect(compression=None) as plain,
    ):
        clients = (wide, narrow_one, plain)
        assert [len(client.protocol.extensions) for client in clients] == [1, 1, 0]
        for client in clients:
            await client.send('{"action":"subscribe","channels":["candles:BTC-USD:1h"]}')
            assert await client.recv() == SUBSCRIBED
        for first in range(0, 5_000, 250):
            await publish(redis_server, *map(candle, range(first, first + 250)))
            wide_texts, narrow_texts, texts = [[str(await client.recv()) for _ in range(250)] for client in clients]
            assert list(map(number, texts)) == list(range(first, first + 250))
            assert wide_texts == narrow_texts == texts


@pytest.mark.gen_test
@pytest.mark.bridge(compression=True)
async def test_a_burst_takes_a_quarter_of_its_bytes(http_port: int, key: str, redis_server: RedisServer) -> None:
    with await RawClient.open(http_port, key, OFFER, then=SUBSCRIBE) as client:
        assert await client.message() == SUBSCRIBED
        await publish(redis_server, *map(candle, range(500)))
        reader, texts, size = Inflating(12), list[str](), 0
        while len(texts) < 500:
            data = await client.some()
            texts += reader.read(data)
            size += len(data)
        assert list(map(number, texts)) == list(range(500))
        assert size * 4 < len("".join(texts))


@pytest.mark.gen_test
@pytest.mark.bridge(compression=True)
async def test_answers_pings_and_the_close_are_sent_uncompressed(
    http_port: int, key: str, bridge: WebSocketBridge
) -> None:
    with await RawClient.open(http_port, key, OFFER, then=SUBSCRIBE + frame(PING, b"here?")) as client:
        assert await client.message() == SUBSCRIBED
        assert await client.frame() == Frame(PONG, b"here?")
        await bridge.stop()
        assert await client.frame() == closed(1001, "Server shutting down")


@pytest.mark.gen_test
@pytest.mark.parametrize("compression", [True, False])
async def test_a_compressed_message_is_answered_if_compression_was_agreed_on(
    redis_server: RedisServer, compression: bool
) -> None:
    subscribe = zlib.compressobj(wbits=-15)
    payload = subscribe.compress(b'{"action":"subscribe","channels":["candles:BTC-USD:1h"]}')
    payload += subscribe.flush(zlib.Z_SYNC_FLUSH)
    async with started(redis_server.url, compression=compression) as (_, port):
        with await RawClient.open(port, "one", OFFER, then=frame(TEXT, payload[:-4], reserved=4)) as client:
            expected = Frame(TEXT, SUBSCRIBED.encode()) if compression else closed(1002, "Reserved bits set")
            assert await client.frame() == expected


@pytest.mark.gen_test(timeout=20)
@pytest.mark.usefixtures("small_send_buffer")
@pytest.mark.bridge(compression=True, skip_bytes=4_000)
async def test_a_slow_client_reads_the_batches_after_those_that_it_lost(
    http_port: int, key: str, redis_server: RedisServer, bridge: WebSocketBridge, log_lines: LogLines
) -> None:
    with (
        await subscribed(http_port, key) as healthy,
        await RawClient.open(http_port, key, OFFER, then=SUBSCRIBE, receive_buffer=4096) as slow,
    ):
        assert await slow.message() == SUBSCRIBED
        # Small chunks, because the limit of 4,000 buffered bytes holds for the healthy client too.
        await fill(redis_server, healthy, 5_000, at_once=15)
        assert 0 < bridge.slow_rule.skipped < 5_000
        reader, numbers = Inflating(12), list[int]()
        while len(numbers) < 5_000 - bridge.slow_rule.skipped:
            numbers += map(number, reader.read(await slow.some()))
        assert numbers == sorted(set(numbers))
        await publish(redis_server, candle(5_000))
        assert list(map(number, reader.read(await slow.some()))) == [5_000]
    await until(lambda: held(bridge) == NOTHING_HELD)
    log_lines.take("slow client lost frames")


# Lifecycle


@pytest.mark.gen_test(timeout=10)
async def test_start_resolves_once_redis_has_confirmed(redis_binary: str, log_lines: LogLines) -> None:
    server = RedisServer(redis_binary)
    bridge = WebSocketBridge(redis_url=server.url, exchange_id=1, exchange_name="coinbase", keys=keys("one"))
    starting = asyncio.create_task(bridge.start())
    await bridge.first_try()
    assert not starting.done()
    assert not bridge.ready
    with server:
        await starting
        assert bridge.ready
        with server.client() as client:
            assert client.pubsub_numpat() == 1
            assert client.pubsub_numsub(ALERT_SOURCE) == [(ALERT_SOURCE.encode(), 1)]
        await bridge.stop()
    log_lines.take("source down: trying again until it is back")
    log_lines.take("source up again: events published meanwhile are lost")


@pytest.mark.gen_test
async def test_an_event_published_as_start_resolves_is_relayed(redis_server: RedisServer) -> None:
    async with started(redis_server.url) as (bridge, _):
        await publish(redis_server, candle(1))
        await until(lambda: bridge.relay.tallies["candle_close"].relayed == 1)


@pytest.mark.gen_test(timeout=15)
@pytest.mark.bridge(redis="own_redis_server")
async def test_clients_stay_while_redis_is_away_and_get_the_events_after_its_return(
    http_port: int, key: str, own_redis_server: RedisServer, bridge: WebSocketBridge, log_lines: LogLines
) -> None:
    with await subscribed(http_port, key) as client:
        own_redis_server.kill()
        await until(lambda: not bridge.ready)
        await client.send(SUBSCRIBE)
        assert await client.message() == SUBSCRIBED
        await asyncio.to_thread(own_redis_server.start)
        await until(lambda: bridge.ready)
        await publish(own_redis_server, candle(1), candle(2))
        assert [number(await client.message()) for _ in range(2)] == [1, 2]
    assert bridge.source.connects == 2
    log_lines.take("source down: trying again until it is back")
    log_lines.take("source up again: events published meanwhile are lost")


@pytest.mark.gen_test
async def test_stop_closes_every_client_with_1001(stream_url: str, key: str, bridge: WebSocketBridge) -> None:
    clients = [await websockets.connect(stream_url, additional_headers={"X-API-Key": key}) for _ in range(5)]
    await bridge.stop()
    for client in clients:
        await client.wait_closed()
        assert client.protocol.close_rcvd == Close(1001, "Server shutting down")


@pytest.mark.gen_test
async def test_stop_cuts_off_a_client_that_stays(http_port: int, key: str, bridge: WebSocketBridge) -> None:
    with await subscribed(http_port, key) as client:
        began = time.monotonic()
        await bridge.stop()
        assert time.monotonic() - began < 0.4
        assert await client.frame() == closed(1001, "Server shutting down")


@pytest.mark.gen_test
async def test_stop_clears_everything(http_port: int, key: str, bridge: WebSocketBridge) -> None:
    with await subscribed(http_port, key), await subscribed(http_port, key):
        await bridge.stop()
        assert held(bridge) == NOTHING_HELD
        assert bridge.connection_count(1) == 0
        assert not bridge.ready


@pytest.mark.gen_test
@pytest.mark.bridge(redis="own_redis_server")
async def test_stop_unsubscribes(bridge: WebSocketBridge, own_redis_server: RedisServer) -> None:
    await bridge.stop()
    with own_redis_server.client() as client:
        await until(lambda: client.pubsub_numpat() == 0)
        await until(lambda: len(client.client_list()) == 1)


@pytest.mark.gen_test
async def test_a_client_that_comes_after_a_stop_is_closed_with_1001(
    http_port: int, key: str, bridge: WebSocketBridge
) -> None:
    await bridge.stop()
    with await RawClient.open(http_port, key) as client:
        assert await client.frame() == closed(1001, "Server shutting down")
    await until(lambda: held(bridge) == NOTHING_HELD)


@pytest.mark.gen_test
async def test_stop_may_be_called_again(bridge: WebSocketBridge) -> None:
    await bridge.stop()
    await bridge.stop()


@pytest.mark.gen_test
async def test_stop_may_be_called_before_a_start(redis_server: RedisServer) -> None:
    bridge = WebSocketBridge(redis_url=redis_server.url, exchange_id=1, exchange_name="coinbase", keys=keys("one"))
    await bridge.stop()
    await bridge.start()
    assert bridge.ready
    await bridge.stop()


@pytest.mark.gen_test
async def test_start_may_be_called_again_after_a_stop(
    http_port: int, key: str, bridge: WebSocketBridge, redis_server: RedisServer
) -> None:
    for expected in range(3):
        await bridge.stop()
        await bridge.start()
        with await subscribed(http_port, key) as client:
            await publish(redis_server, candle(expected))
            assert number(await client.message()) == expected


@pytest.mark.gen_test
@pytest.mark.bridge(redis="own_redis_server")
async def test_start_may_be_called_twice_and_subscribes_once(
    bridge: WebSocketBridge, own_redis_server: RedisServer
) -> None:
    await bridge.start()
    with own_redis_server.client() as client:
        assert len(client.client_list()) == 2


@pytest.mark.gen_test(timeout=10)
async def test_start_returns_after_a_stop_while_redis_is_away(log_lines: LogLines) -> None:
    bridge = WebSocketBridge(
        redis_url=f"redis://127.0.0.1:{free_port()}", exchange_id=1, exchange_name="coinbase", keys=keys("one")
    )
    starting = asyncio.create_task(bridge.start())
    await bridge.first_try()
    assert not starting.done()
    await bridge.stop()
    await starting
    assert not bridge.ready
    log_lines.take("source down: trying again until it is back")


@pytest.mark.gen_test(timeout=10)
async def test_a_bridge_that_was_stopped_while_redis_was_away_can_be_started(
    redis_binary: str, log_lines: LogLines
) -> None:
    server = RedisServer(redis_binary)
    bridge = WebSocketBridge(redis_url=server.url, exchange_id=1, exchange_name="coinbase", keys=keys("one"))
    starting = asyncio.create_task(bridge.start())
    await bridge.first_try()
    await bridge.stop()
    await starting
    with server:
        await bridge.start()
        assert bridge.ready
        await bridge.stop()
    log_lines.take("source down: trying again until it is back")
    log_lines.take("source up again: events published meanwhile are lost")


@pytest.mark.gen_test(timeout=10)
async def test_a_start_that_is_cancelled_leaves_a_bridge_that_can_be_stopped(log_lines: LogLines) -> None:
    bridge = WebSocketBridge(
        redis_url=f"redis://127.0.0.1:{free_port()}", exchange_id=1, exchange_name="coinbase", keys=keys("one")
    )
    starting = asyncio.create_task(bridge.start())
    await bridge.first_try()
    starting.cancel()
    await asyncio.wait([starting])
    await bridge.stop()
    log_lines.take("source down: trying again until it is back")


@pytest.mark.gen_test
async def test_two_bridges_live_in_one_process(redis_server: RedisServer) -> None:
    other_source = SOURCE.replace("exchange:1", "exchange:2")
    async with (
        started(redis_server.url, keys=keys("one")) as (_, port),
        started(redis_server.url, keys=keys("two"), exchange_id=2, exchange_name="kraken") as (other, other_port),
    ):
        with await subscribed(port, "one") as client, await subscribed(other_port, "two") as other_client:
            await publish(redis_server, candle(1), (other_source, candle(2)[1]))
            assert number(await client.message()) == 1
            assert number(await other_client.message()) == 2
            assert other.relay.tallies["candle_close"].relayed == 1


@pytest.mark.gen_test
async def test_a_key_of_one_bridge_opens_no_other(redis_server: RedisServer) -> None:
    async with (
        started(redis_server.url, keys=keys("one")),
        started(redis_server.url, keys=keys("two")) as (_, other_port),
    ):
        with await RawClient.open(other_port, "one") as client:
            assert await client.frame() == closed(4001, "Invalid API key")


# Internal faults


@pytest.mark.gen_test
async def test_each_plugin_has_its_record(bridge: WebSocketBridge) -> None:
    assert sorted(bridge.relay.quarantines) == ["candle", "signals"]


class FailingKeys(FixedKeys):
    async def refresh(self) -> None:
        raise RuntimeError("a fault of ours")


@pytest.mark.gen_test
async def test_a_task_that_ends_by_a_fault_of_ours_is_a_failure(redis_server: RedisServer) -> None:
    async with started(redis_server.url, keys=FailingKeys(keys("one").ring), slow_timeout=0.1) as (bridge, _):
        with pytest.raises(RuntimeError, match="a fault of ours"):
            await bridge.failure()


@pytest.mark.gen_test(timeout=10)
async def test_start_raises_what_a_task_has_failed_with_while_redis_is_away(log_lines: LogLines) -> None:
    bridge = WebSocketBridge(
        redis_url=f"redis://127.0.0.1:{free_port()}",
        exchange_id=1,
        exchange_name="coinbase",
        keys=FailingKeys(keys("one").ring),
        limits=Limits(slow_timeout=0.1),
    )
    with pytest.raises(RuntimeError, match="a fault of ours"):
        await bridge.start()
    await bridge.stop()
    log_lines.take("source down: trying again until it is back")


@pytest.mark.gen_test
async def test_a_stop_does_not_count_as_a_failure(redis_server: RedisServer) -> None:
    async with started(redis_server.url) as (bridge, _):
        failure = asyncio.create_task(bridge.failure())
        await asyncio.sleep(0)
        await bridge.stop()
        await failure


# Settings


@pytest.mark.parametrize("exchange_id", ["", "-1", "1:2", "*", "é", "x" * 65, "1\n"])
def test_an_exchange_id_that_could_be_more_than_a_part_of_a_channel_is_refused(exchange_id: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        WebSocketBridge(redis_url="redis://", exchange_id=exchange_id, exchange_name="coinbase", keys=keys("one"))
    assert str(refusal.value) == "the exchange id must be 1 to 64 letters, digits, _ or -, and not begin with -"


@pytest.mark.parametrize("exchange_name", ["", " coinbase", "<b>", "x" * 65, "coinbase\n"])
def test_an_invalid_exchange_name_is_refused(exchange_name: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        WebSocketBridge(redis_url="redis://", exchange_id=1, exchange_name=exchange_name, keys=keys("one"))
    assert str(refusal.value) == ("the exchange name must be 1 to 64 letters, digits, spaces, '.', '_' or '-'")

"""The whole server as an operator runs it: a real redis-server, a `serve` process, and the websockets library."""

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import websockets

from tests.support.oracle import expected
from tests.support.payloads import PRIVATE
from tests.support.servers import CANDLE_SOURCE, RedisServer, serving

DATA = Path(__file__).parents[1] / "data"
BURSTS = 20
CHANNELS = 50
CLIENTS = 100
SUBSCRIBED = '{"type":"subscribed"'


def market() -> list[tuple[str, str]]:
    """Return the source channels and payloads of 7,571 real events, in order."""
    with gzip.open(DATA / "market.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [(event["source"], event["payload"]) for event in map(json.loads, lines)]


async def subscribed(url: str, key: str, *channels: str) -> websockets.ClientConnection:
    client = await websockets.connect(url, additional_headers={"X-API-Key": key}, max_queue=None)
    for start in range(0, len(channels), 20):
        await client.send(json.dumps({"action": "subscribe", "channels": channels[start : start + 20]}))
        assert str(await client.recv()).startswith(SUBSCRIBED)
    return client


async def received(client: websockets.ClientConnection, number: int) -> list[Any]:
    async with asyncio.timeout(60):
        return [json.loads(await client.recv()) for _ in range(number)]


@pytest.mark.gen_test(timeout=120)
async def test_real_market_events_arrive_once_in_order_and_without_private_values(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    events = market()
    with serving(tmp_path, redis_server.url) as (_, url, key):
        everything = await subscribed(url, key, "candles:*:*", "signals:*:*")
        one = await subscribed(url, key, "candles:EUR-USD:1h")
        # In pieces: a client that falls behind may lose frames by contract.
        all_received: list[Any] = []
        for start in range(0, len(events), 100):
            await asyncio.to_thread(redis_server.publish, *events[start : start + 100])
            all_received += await received(everything, len(events[start : start + 100]))
        one_received = await received(one, 5_000)
        await everything.close()
        await one.close()
    candles = [envelope for envelope in all_received if envelope["type"] == "candle_close"]
    signals = [envelope for envelope in all_received if envelope["type"] == "trade_signal"]
    assert (len(candles), len(signals)) == (7_148, 423)
    assert one_received == [envelope for envelope in candles if envelope["channel"] == "candles:EUR-USD:1h"]
    for (source, payload), envelope in zip(events, all_received, strict=True):
        assert envelope == expected(source, payload.encode())
        assert not [name for name in PRIVATE if f'"{name}"' in json.dumps(envelope)]
        members = json.loads(payload, parse_float=str, parse_int=str)
        public = {"coinbase", *(value for name, value in members.items() if name not in PRIVATE)}
        private = {value for name, value in members.items() if name in PRIVATE}
        assert not private & set(envelope["data"].values()) - public


@pytest.mark.slow
@pytest.mark.gen_test(timeout=120)
async def test_a_hundred_clients_receive_every_burst_once_and_in_order_though_one_stops_reading(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    channels = [f"candles:S{i}-USD:1m" for i in range(CHANNELS)]
    with serving(tmp_path, redis_server.url, "--max-connections-per-key", "200", "--rate-burst", "1000") as (
        process,
        url,
        key,
    ):
        stopped = await asyncio.open_connection("127.0.0.1", int(url.split(":")[2].split("/")[0]), limit=1)
        await shake_hands(*stopped, key=key, channels=channels)
        clients = [await subscribed(url, key, *channels) for _ in range(CLIENTS - 1)]
        due = [
            {"channel": channel, "volume": str(burst * CHANNELS + i)}
            for burst in range(BURSTS)
            for i, channel in enumerate(channels)
        ]
        for burst in range(BURSTS):
            await asyncio.to_thread(redis_server.publish, *(event(burst, i) for i in range(CHANNELS)))
        got = await asyncio.gather(*(received(client, BURSTS * CHANNELS) for client in clients))
        for envelopes in got:
            assert [{"channel": e["channel"], "volume": e["data"]["volume"]} for e in envelopes] == due
        for client in clients:
            await client.close()
        stopped[1].close()
        status, _, _ = process.stop()
    assert status == 0


def event(burst: int, i: int) -> tuple[str, str]:
    payload = {"timestamp": 1708264800000, "open": 1, "high": 2, "low": 0.5, "close": 1.5, "macdV": 77.123}
    return (
        CANDLE_SOURCE.format(symbol=f"S{i}-USD", timeframe="1m"),
        json.dumps({**payload, "volume": burst * CHANNELS + i}),
    )


async def shake_hands(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, key: str, channels: list[str]
) -> None:
    """Subscribe as a client that stops reading afterwards: its reader has a limit of one byte."""
    writer.write(
        b"GET /public/v1/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        b"X-API-Key: " + key.encode() + b"\r\n\r\n"
    )
    for start in range(0, len(channels), 20):
        text = json.dumps({"action": "subscribe", "channels": channels[start : start + 20]}).encode()
        writer.write(bytes((0x81, 0x80 | 126)) + len(text).to_bytes(2) + bytes(4) + text)
    await writer.drain()
    await reader.readexactly(1)


@pytest.mark.gen_test(timeout=60)
async def test_clients_stay_connected_while_redis_is_killed_and_started_again(
    own_redis_server: RedisServer, tmp_path: Path
) -> None:
    with serving(tmp_path, own_redis_server.url) as (process, url, key):
        client = await subscribed(url, key, "candles:*:*")
        own_redis_server.kill()
        await asyncio.to_thread(own_redis_server.start)
        async with asyncio.timeout(20):
            while await asyncio.to_thread(own_redis_server.subscribers) < 1:
                await asyncio.sleep(0.02)
        await asyncio.to_thread(own_redis_server.publish, event(0, 7))
        assert [envelope["data"]["volume"] for envelope in await received(client, 1)] == ["7"]
        await client.close()
        _, _, err = process.stop()
    assert err.count("source down") == 1
    assert err.count("source up again") == 1

"""Candles from Redis, as the texts that their subscribers receive."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import redis.asyncio

CONFIRMATION_SECONDS = 10

Json = dict[str, Any]


@asynccontextmanager
async def candles(redis_url: str, exchange: str) -> AsyncIterator[AsyncIterator[tuple[str, str]]]:
    """Subscribe to an exchange (ID:NAME). Once Redis has confirmed it, yield channels with their texts."""
    bus = redis.asyncio.from_url(redis_url, decode_responses=True, socket_timeout=None)
    async with bus, bus.pubsub() as pubsub:
        await pubsub.psubscribe(f"channel:exchange:{exchange.partition(':')[0]}:candle:close:*:*")
        if await pubsub.get_message(timeout=CONFIRMATION_SECONDS) is None:
            raise SystemExit("Redis has not confirmed the subscription")
        yield _texts(pubsub)


async def _texts(pubsub: redis.asyncio.client.PubSub) -> AsyncIterator[tuple[str, str]]:
    async for message in pubsub.listen():
        if message["type"] != "pmessage":
            continue
        symbol, timeframe = message["channel"].split(":")[-2:]
        channel = f"candles:{symbol}:{timeframe}"
        yield channel, compact(_envelope(channel, json.loads(message["data"], parse_float=Decimal)))


def compact(message: Json) -> str:
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False)


def _envelope(channel: str, candle: Json) -> Json:
    time = datetime.fromtimestamp(candle["timestamp"] / 1000, UTC)
    return {
        "type": "candle_close",
        "channel": channel,
        "data": {
            "timestamp": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "open": _plain(candle["open"]),
            "high": _plain(candle["high"]),
            "low": _plain(candle["low"]),
            "close": _plain(candle["close"]),
            "volume": _plain(candle["volume"]),
        },
    }


def _plain(number: int | Decimal) -> str:
    return format(Decimal(number).normalize(), "f")

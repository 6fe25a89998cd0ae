"""tornado_bridge.bridge: admission and lifecycle, over real sockets."""

import asyncio
import json

import pytest
import websockets

from tests.servers import CANDLE_SOURCE, RedisServer

PAYLOAD = '{"timestamp":1708264800000,"open":1,"high":2,"low":0.50,"close":1.5,"volume":3,"macdV":77.5}'


@pytest.mark.gen_test
async def test_a_candle_reaches_its_subscriber_as_an_envelope(
    stream_url: str, key: str, redis_server: RedisServer
) -> None:
    async with websockets.connect(stream_url, additional_headers={"X-API-Key": key}) as client:
        await client.send('{"action":"subscribe","channels":["candles:BTC-USD:1h"]}')
        assert await client.recv() == '{"type":"subscribed","channels":["candles:BTC-USD:1h"]}'
        await asyncio.to_thread(
            redis_server.publish, (CANDLE_SOURCE.format(symbol="BTC-USD", timeframe="1h"), PAYLOAD)
        )
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

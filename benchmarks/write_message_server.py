"""The server as it is usually written with Tornado: each event goes to each subscriber by `write_message`.

Speaks the wire contract as far as the benchmarks use it: candles, one key (from the environment), subscribe
and unsubscribe by channel. What a careful author adds is there (Nagle off, pings, closed clients forgotten).
What is not: any batching, and those checks of the shipped server whose absence only makes this one cheaper.
"""

import argparse
import asyncio
import hmac
import json
import os
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import redis.asyncio
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application
from tornado.websocket import WebSocketClosedError, WebSocketHandler

Json = dict[str, Any]


class Stream(WebSocketHandler):
    def initialize(self, key: str, subscribers: "dict[str, set[Stream]]") -> None:
        self.key = key
        self.subscribers = subscribers

    def open(self, *args: str, **kwargs: str) -> None:
        if not hmac.compare_digest(self.request.headers.get("X-API-Key", ""), self.key):
            self.close(4001, "Invalid API key")
            return
        self.set_nodelay(True)

    def on_message(self, message: str | bytes) -> None:
        request = json.loads(message)
        channels = list(dict.fromkeys(request["channels"]))
        for channel in channels:
            if request["action"] == "subscribe":
                self.subscribers.setdefault(channel, set()).add(self)
            else:
                self.subscribers.get(channel, set()).discard(self)
        self.write_message(compact({"type": f"{request['action']}d", "channels": channels}))

    def on_close(self) -> None:
        for subscribers in self.subscribers.values():
            subscribers.discard(self)


def compact(message: Json) -> str:
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False)


def plain(number: int | Decimal) -> str:
    return format(Decimal(number).normalize(), "f")


def candle_envelope(channel: str, candle: Json) -> Json:
    time = datetime.fromtimestamp(candle["timestamp"] / 1000, UTC)
    return {
        "type": "candle_close",
        "channel": channel,
        "data": {
            "timestamp": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "open": plain(candle["open"]),
            "high": plain(candle["high"]),
            "low": plain(candle["low"]),
            "close": plain(candle["close"]),
            "volume": plain(candle["volume"]),
        },
    }


async def relay(pubsub: redis.asyncio.client.PubSub, subscribers: dict[str, set[Stream]]) -> None:
    async for message in pubsub.listen():
        if message["type"] != "pmessage":
            continue
        symbol, timeframe = message["channel"].split(":")[-2:]
        channel = f"candles:{symbol}:{timeframe}"
        envelope = candle_envelope(channel, json.loads(message["data"], parse_float=Decimal))
        text = compact(envelope)
        for client in tuple(subscribers.get(channel, ())):
            try:
                client.write_message(text)
            except WebSocketClosedError:
                subscribers[channel].discard(client)


async def serve(redis_url: str, exchange_id: str, port: int) -> None:
    subscribers: dict[str, set[Stream]] = {}
    settings = {"key": os.environ["TORNADO_BRIDGE_API_KEY"], "subscribers": subscribers}
    application = Application([("/public/v1/stream", Stream, settings)], websocket_ping_interval=30)
    sockets = bind_sockets(port, "127.0.0.1")
    HTTPServer(application).add_sockets(sockets)
    bus = redis.asyncio.from_url(redis_url, decode_responses=True, socket_timeout=None)
    async with bus.pubsub() as pubsub:
        await pubsub.psubscribe(f"channel:exchange:{exchange_id}:candle:close:*:*")
        confirmation = await pubsub.get_message(timeout=10)
        if confirmation is None:
            raise SystemExit("Redis has not confirmed the subscription")
        print(f"listening on http://127.0.0.1:{sockets[0].getsockname()[1]}", flush=True)
        await relay(pubsub, subscribers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--redis-url", required=True)
    parser.add_argument("--exchange", required=True, help="ID:NAME")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    asyncio.run(serve(options.redis_url, options.exchange.partition(":")[0], options.port))


if __name__ == "__main__":
    main()

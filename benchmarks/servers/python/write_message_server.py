"""The server as it is usually written with Tornado: each event goes to each subscriber by `write_message`.

It has the additions of a careful author: Nagle's algorithm is off, clients are pinged, closed clients are forgotten. It
batches nothing and leaves out the checks of the bridge, which would only add to its cost.
"""

import asyncio
from argparse import Namespace
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from benchmarks.servers.python.candle import candles
from benchmarks.servers.python.contract import (
    INVALID_KEY,
    INVALID_KEY_CODE,
    KEY_HEADER,
    PATH,
    PING_SECONDS,
    is_valid_key,
    parse_arguments,
    say_listening,
)
from benchmarks.servers.python.subscribers import Subscribers


class Stream(WebSocketHandler):
    def initialize(self, subscribers: "Subscribers[Stream]", compression: bool) -> None:
        self.subscribers = subscribers
        self.compression = compression

    def get_compression_options(self) -> dict[str, Any] | None:
        return {} if self.compression else None

    def open(self, *args: str, **kwargs: str) -> None:
        if not is_valid_key(self.request.headers.get(KEY_HEADER)):
            self.close(INVALID_KEY_CODE, INVALID_KEY)
            return
        self.set_nodelay(True)

    def on_message(self, message: str | bytes) -> None:
        self.write_message(self.subscribers.answer(self, message))

    def on_close(self) -> None:
        self.subscribers.forget(self)


async def run(options: Namespace) -> None:
    subscribers = Subscribers[Stream]()
    settings = {"subscribers": subscribers, "compression": options.compression}
    application = Application([(PATH, Stream, settings)], websocket_ping_interval=PING_SECONDS)
    sockets = bind_sockets(options.port, "127.0.0.1")
    HTTPServer(application).add_sockets(sockets)
    async with candles(options.redis_url, options.exchange) as texts:
        say_listening(sockets[0].getsockname()[1])
        async for channel, text in texts:
            for client in subscribers.of(channel):
                try:
                    client.write_message(text)
                except WebSocketClosedError:
                    subscribers.forget(client)


if __name__ == "__main__":
    asyncio.run(run(parse_arguments(__doc__)))

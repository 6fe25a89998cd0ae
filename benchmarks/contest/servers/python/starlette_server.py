"""The peer written with Starlette on uvicorn: each event goes to each subscriber by `send_text`."""

import asyncio
import socket
from argparse import Namespace
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

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


class Server(uvicorn.Server):
    """A uvicorn server that prints its address on stdout once it listens."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        say_listening(self.servers[0].sockets[0].getsockname()[1])


def application(options: Namespace) -> Starlette:
    subscribers = Subscribers[WebSocket]()

    async def stream(client: WebSocket) -> None:
        await client.accept()
        if not is_valid_key(client.headers.get(KEY_HEADER)):
            await client.close(INVALID_KEY_CODE, INVALID_KEY)
            return
        try:
            async for text in client.iter_text():
                await client.send_text(subscribers.answer(client, text))
        finally:
            subscribers.forget(client)

    async def relay(texts: AsyncIterator[tuple[str, str]]) -> None:
        async for channel, text in texts:
            for client in subscribers.of(channel):
                try:
                    await client.send_text(text)
                except (WebSocketDisconnect, RuntimeError):  # gone, or closing
                    subscribers.forget(client)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with candles(options.redis_url, options.exchange) as texts:
            task = asyncio.create_task(relay(texts))
            yield
            task.cancel()

    return Starlette(routes=[WebSocketRoute(PATH, stream)], lifespan=lifespan)


def run(options: Namespace) -> None:
    config = uvicorn.Config(
        application(options),
        host="127.0.0.1",
        port=options.port,
        log_level="warning",
        ws_ping_interval=PING_SECONDS,
        ws_per_message_deflate=options.compression,
    )
    Server(config).run()


if __name__ == "__main__":
    run(parse_arguments(__doc__))

"""The peer written with `websockets`: each event goes to its subscribers by `broadcast`."""

import asyncio
from argparse import Namespace
from http import HTTPStatus

from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosedError
from websockets.http11 import Request, Response

from benchmarks.servers.python.candle import candles
from benchmarks.servers.python.contract import (
    INVALID_KEY,
    KEY_HEADER,
    PATH,
    PING_SECONDS,
    is_valid_key,
    parse_arguments,
    say_listening,
)
from benchmarks.servers.python.subscribers import Subscribers


def admit(connection: ServerConnection, request: Request) -> Response | None:
    if request.path != PATH:
        return connection.respond(HTTPStatus.NOT_FOUND, "")
    if not is_valid_key(request.headers.get(KEY_HEADER)):
        return connection.respond(HTTPStatus.UNAUTHORIZED, INVALID_KEY)
    return None


async def run(options: Namespace) -> None:
    subscribers = Subscribers[ServerConnection]()

    async def stream(connection: ServerConnection) -> None:
        try:
            async for text in connection:
                await connection.send(subscribers.answer(connection, text))
        except ConnectionClosedError:
            return  # gone without the closing handshake
        finally:
            subscribers.forget(connection)

    server = serve(
        stream,
        "127.0.0.1",
        options.port,
        process_request=admit,
        compression="deflate" if options.compression else None,
        ping_interval=PING_SECONDS,
    )
    async with candles(options.redis_url, options.exchange) as texts, server as serving:
        say_listening(next(iter(serving.sockets)).getsockname()[1])
        async for channel, text in texts:
            broadcast(subscribers.of(channel), text)


if __name__ == "__main__":
    asyncio.run(run(parse_arguments(__doc__)))

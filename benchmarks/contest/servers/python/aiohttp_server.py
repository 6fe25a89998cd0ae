"""The peer written with aiohttp: each event goes to each subscriber by `send_str`."""

import asyncio
from argparse import Namespace

from aiohttp import WSMsgType, web

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


async def run(options: Namespace) -> None:
    subscribers = Subscribers[web.WebSocketResponse]()

    async def stream(request: web.Request) -> web.WebSocketResponse:
        if not is_valid_key(request.headers.get(KEY_HEADER)):
            raise web.HTTPUnauthorized(text=INVALID_KEY)
        client = web.WebSocketResponse(heartbeat=PING_SECONDS, compress=options.compression)
        await client.prepare(request)
        try:
            async for message in client:
                if message.type is WSMsgType.TEXT:
                    await client.send_str(subscribers.answer(client, message.data))
        finally:
            subscribers.forget(client)
        return client

    application = web.Application()
    application.add_routes([web.get(PATH, stream)])
    runner = web.AppRunner(application)
    async with candles(options.redis_url, options.exchange) as texts:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", options.port).start()
        say_listening(runner.addresses[0][1])
        async for channel, text in texts:
            for client in subscribers.of(channel):
                try:
                    await client.send_str(text)
                except ConnectionResetError:
                    subscribers.forget(client)


if __name__ == "__main__":
    asyncio.run(run(parse_arguments(__doc__)))

"""A Redis that answers what no Redis should answer."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from tests.abuse.clients import holds, reader
from tests.abuse.rows import Check, at_least, exactly
from tests.abuse.target import CANDLE_SOURCE, candle, target
from tests.support.servers import free_port

MALFORMED = (
    b"*0\r\n",
    b"*2\r\n$8\r\npmessage\r\n$1\r\nx\r\n",
    b"*3\r\n$7\r\nmessage\r\n*0\r\n$1\r\nx\r\n",
    b"*4\r\n$8\r\npmessage\r\n$1\r\nx\r\n*1\r\n:1\r\n$1\r\ny\r\n",
    b"*1\r\n*0\r\n",
    b":7\r\n",
    b"\x00\xff\r\n",
)


class Impostor:
    """Stands before a redis-server. Each connection gets one malformed reply behind the confirmations."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.redis_port = 0
        self.left = list(MALFORMED)

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        async with await asyncio.start_server(self._serve, "127.0.0.1", self.port):
            yield

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, requests = await asyncio.open_connection("127.0.0.1", self.redis_port)
        forward = asyncio.create_task(self._pass(reader, requests))
        backward = asyncio.create_task(self._pass(answers, writer, inject=True))
        # Either end ends both.
        await asyncio.wait({forward, backward}, return_when=asyncio.FIRST_COMPLETED)
        for task in (forward, backward):
            task.cancel()
        await asyncio.gather(forward, backward, return_exceptions=True)
        requests.close()
        writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, inject: bool = False) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                if inject and b"\nsubscribe\r\n" in data and self.left:
                    # The server reads the confirmations by themselves, and is subscribed.
                    await asyncio.sleep(0.05)
                    writer.write(self.left.pop(0))


async def malformed_replies(_: float) -> list[Check]:
    """a Redis that answers `*0`, a short message, an array for a channel …"""
    impostor = Impostor(free_port())

    def url(port: int) -> str:
        impostor.redis_port = port
        return f"redis://127.0.0.1:{impostor.port}/0"

    async with impostor.listening():
        # The server starts in another thread: the impostor needs this loop.
        context = target(redis_url=url)
        under_attack = await asyncio.to_thread(context.__enter__)
        try:
            await holds(lambda: not impostor.left, 15)
            await asyncio.sleep(0.5)
            ready = await asyncio.to_thread(lambda: under_attack.ready)
            subscriptions = await asyncio.to_thread(under_attack.metric, "tornado_bridge_source_subscriptions_total")
            async with reader(under_attack) as reading:
                await asyncio.to_thread(under_attack.redis.publish, (CANDLE_SOURCE, candle(7)))
                await holds(lambda: reading.prices, 5)
                return [
                    exactly("process lives", under_attack.lives, True),
                    at_least("subscribed", subscriptions, 1 + len(MALFORMED), "times"),
                    exactly("ready", ready, True),
                    exactly("events afterwards", reading.prices, [7]),
                ]
        finally:
            await asyncio.to_thread(context.__exit__, None, None, None)

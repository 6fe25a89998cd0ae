"""Strangers who connect and say nothing, and strangers who send bodies without end."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Iterator

from tests.abuse.clients import Answered, ask, connect, holds
from tests.abuse.rows import Check, at_least, at_most, exactly
from tests.abuse.target import Target, target
from tests.support.raw import RawClient

SILENT = 1_000
RENEWED_PER_SECOND = 100
SOURCES = tuple(f"127.0.0.{last}" for last in range(2, 21))

# More strangers than the server has descriptors.
STRANGERS = 1_100
OPEN_FILES = 1_024

BODY = 100 << 20


class Silence:
    """Silent connections, which are renewed one by one."""

    def __init__(self, port: int, sources: tuple[str, ...]) -> None:
        self._port = port
        self._sources = sources
        self._opened = 0
        self._clients: deque[RawClient] = deque()

    async def open(self, number: int) -> None:
        """Open so many connections."""
        for _ in range(number):
            self._opened += 1
            self._clients.append(await connect(self._port, self._sources[self._opened % len(self._sources)]))

    async def renew(self) -> None:
        """Replace the oldest connection, again and again."""
        while True:
            await self.open(1)
            self._clients.popleft().close()
            await asyncio.sleep(1 / RENEWED_PER_SECOND)

    def close(self) -> None:
        for client in self._clients:
            client.close()


@contextlib.contextmanager
def silence(port: int, sources: tuple[str, ...] = ("127.0.0.1",)) -> Iterator[Silence]:
    silent = Silence(port, sources)
    try:
        yield silent
    finally:
        silent.close()


async def _renewed(under_attack: Target, sources: tuple[str, ...], seconds: float) -> Answered:
    answered = Answered(under_attack)
    with silence(under_attack.port, sources) as silent:
        await silent.open(SILENT)
        renewing = asyncio.create_task(silent.renew())
        await answered.run(seconds)
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
    return answered


async def silent_connections(seconds: float) -> list[Check]:
    """1,000 silent connections, renewed 100 per second"""
    with target() as under_attack:
        many = await _renewed(under_attack, SOURCES, seconds)
        one = await _renewed(under_attack, ("127.0.0.1",), seconds)
        return [
            at_least("good clients beside 19 addresses", many.visits, 99, "%"),
            at_least("probes", many.probes, 99, "%"),
            at_least("good clients beside their own address", one.visits, 99, "%"),
            at_least("probes", one.probes, 99, "%"),
        ]


async def too_many_for_the_descriptors(seconds: float) -> list[Check]:
    """1,100 strangers at 1,024 open files"""
    # More places than descriptors are asked for, so the limit of open files is what must bound the strangers.
    options = ("--max-handshakes", str(2 * STRANGERS))
    with target(*options, open_files=OPEN_FILES) as under_attack, silence(under_attack.port, SOURCES) as silent:
        lines = len(under_attack.lines)
        await silent.open(STRANGERS)
        cpu, start = under_attack.cpu(), time.monotonic()
        await asyncio.sleep(max(seconds, 5.0))
        share = 100 * (under_attack.cpu() - cpu) / (time.monotonic() - start)
        lines = len(under_attack.lines) - lines
        answered = Answered(under_attack)
        running = asyncio.create_task(answered.run(2.0))
        with under_attack.redis.client() as client:
            client.client_kill_filter(_type="pubsub")
        back = await holds(lambda: under_attack.logged("source up again"), 5.0)
        await running
        return [
            at_most("CPU while they hold", share, 20, "% of a core"),
            at_most("log lines in 5 s", lines, 5),
            at_most("Redis back after", back, 2, "s"),
            at_least("good clients", answered.visits, 99, "%"),
            at_least("probes", answered.probes, 99, "%"),
        ]


async def _send_body(port: int, path: str, *, chunked: bool) -> None:
    """Send all of a body but its last megabyte, and hold the connection, unless the server closes it."""
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {BODY}"
    block = b"x" * (1 << 20)
    with contextlib.suppress(OSError, EOFError, TimeoutError), await connect(port) as client:
        await client.send(f"POST {path} HTTP/1.1\r\nHost: x\r\n{length}\r\n\r\n".encode())
        for _ in range((BODY >> 20) - 1):
            await client.send(b"%x\r\n%b\r\n" % (len(block), block) if chunked else block)
        await client.rest()


async def bodies(seconds: float) -> list[Check]:
    """six unfinished bodies of 100 MB on each port"""
    with target() as under_attack:
        assert await ask(under_attack.port)
        assert await ask(under_attack.metrics_port, "/metrics")
        before = most = under_attack.resident()
        ports = ((under_attack.port, "/public/v1/stream"), (under_attack.metrics_port, "/metrics"))
        tasks = [
            asyncio.create_task(_send_body(port, path, chunked=chunked))
            for port, path in ports
            for chunked in (False, True)
            for _ in range(3)
        ]
        end = time.monotonic() + min(seconds, 8.0)
        while time.monotonic() < end:
            most = max(most, under_attack.resident())
            await asyncio.sleep(0.01)
        metrics = await ask(under_attack.metrics_port, "/metrics")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        growth = (most - before) / 1e6
        return [at_most("resident set grows by", growth, 10, "MB"), exactly("metrics answered", metrics, True)]

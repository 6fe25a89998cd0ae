"""docs/embedding.md: the application of the page, run as it is written."""

import asyncio
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import websockets

from tests.support.servers import CANDLE_SOURCE, RedisServer, free_port
from tornado_bridge import KeyFile

PAGE = (Path(__file__).parents[2] / "docs" / "embedding.md").read_text(encoding="utf-8")
PROGRAM = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)[0]
CANDLE = '{"timestamp":1708264800000,"open":1,"high":1,"low":1,"close":1,"volume":1}'


class Application(NamedTuple):
    """The running program: its address, as HOST:PORT, and a key for it."""

    process: subprocess.Popen[bytes]
    address: str
    key: str


@pytest.fixture
def application(redis_server: RedisServer, tmp_path: Path) -> Iterator[Application]:
    key = KeyFile(tmp_path / "keys.toml").create("acme")
    port = free_port()
    program = PROGRAM.replace("redis://127.0.0.1:6379/0", redis_server.url).replace("8765", str(port))
    with subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        yield Application(process, f"127.0.0.1:{port}", key)
        process.kill()


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read(), "utf-8")


async def until_ready(address: str) -> None:
    """Wait until `/readyz` answers 200."""
    async with asyncio.timeout(30):
        while True:
            try:
                await asyncio.to_thread(read, f"http://{address}/readyz")
                return
            except OSError:  # refused, or 503
                await asyncio.sleep(0.05)


@pytest.mark.gen_test(timeout=60)
async def test_the_application_serves_its_own_page_and_the_stream(
    application: Application, redis_server: RedisServer
) -> None:
    await until_ready(application.address)
    assert await asyncio.to_thread(read, f"http://{application.address}/about") == "A page of your own."
    url = f"ws://{application.address}/public/v1/stream"
    async with websockets.connect(url, additional_headers={"X-API-Key": application.key}) as client:
        await client.send('{"action":"subscribe","channels":["candles:*:*"]}')
        assert await client.recv() == '{"type":"subscribed","channels":["candles:*:*"]}'
        source = CANDLE_SOURCE.format(symbol="BTC-USD", timeframe="1h")
        await asyncio.to_thread(redis_server.publish, (source, CANDLE))
        assert str(await client.recv()).startswith('{"type":"candle_close","channel":"candles:BTC-USD:1h"')


@pytest.mark.gen_test(timeout=60)
async def test_the_application_closes_its_clients_when_it_is_stopped(application: Application) -> None:
    await until_ready(application.address)
    url = f"ws://{application.address}/public/v1/stream"
    async with websockets.connect(url, additional_headers={"X-API-Key": application.key}) as client:
        await client.send('{"action":"subscribe","channels":["candles:*:*"]}')
        await client.recv()  # admitted
        application.process.send_signal(signal.SIGINT)
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await client.recv()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1001, "Server shutting down")

"""tornado_bridge.demo: a server with a moving market, without anything else to install."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import redis
from websockets.sync.client import connect

from tests.support.servers import BridgeProcess, bridge_process
from tornado_bridge import demo as demonstration
from tornado_bridge.demo import demo, market
from tornado_bridge.errors import BridgeError, ConfigurationError
from tornado_bridge.server.settings import Settings

PRIVATE = ("macdV", "fastEMA", "slowEMA", "atr", "informativeATR", "isSynthetic", "sequenceNum", "triggerLabel")


class Said:
    """The lines that a demo has printed."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.complete = asyncio.Event()

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        if " tail " in line:
            self.complete.set()


@contextlib.asynccontextmanager
async def running(**options: str) -> AsyncIterator[Said]:
    """Run a demo in this process; a signal ends it."""
    said = Said()
    demonstrating = asyncio.create_task(demo({"port": "0", **options}, said))
    try:
        async with asyncio.timeout(20):
            await said.complete.wait()
        yield said
    finally:
        if not demonstrating.done():
            os.kill(os.getpid(), signal.SIGINT)
        async with asyncio.timeout(20):
            await demonstrating


def files(directory: Path) -> list[str]:
    return [path.name for path in directory.rglob("*.toml")]


@pytest.mark.gen_test(timeout=60)
async def test_its_key_file_is_gone_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demonstration.tempfile, "tempdir", str(tmp_path))
    async with running():
        assert files(tmp_path) == ["keys.toml"]
    assert files(tmp_path) == []


@pytest.mark.gen_test
async def test_an_invalid_port_is_refused() -> None:
    with pytest.raises(ConfigurationError) as caught:
        await demo({"port": "99999"}, Said())
    assert str(caught.value) == "--port on the command line: expected a port from 0 to 65535, got '99999'"


@pytest.mark.gen_test
async def test_the_default_port_is_8765_for_any_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORNADO_BRIDGE_PORT", "80")
    ports: list[int] = []

    async def serve(settings: Settings, _: object) -> None:
        ports.append(settings.port)

    monkeypatch.setattr(market, "Market", object)
    monkeypatch.setattr(demonstration.process, "serve", serve)
    await demo({}, Said())
    assert ports == [8765]


@pytest.mark.gen_test(timeout=60)
async def test_a_market_that_has_failed_is_reported_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def publish(*_: object) -> None:
        raise redis.ConnectionError("gone")

    monkeypatch.setattr(market, "Market", object)
    monkeypatch.setattr(market, "publish", publish)
    with pytest.raises(BridgeError, match=r"^the market has stopped: gone$"):
        async with running():
            pass


# As a process


class Demo(NamedTuple):
    """A demo process with the lines that it has printed."""

    process: BridgeProcess
    lines: list[str]

    @property
    def stream(self) -> str:
        return self.lines[0].split()[1]

    @property
    def key(self) -> str:
        return self.lines[1].split()[1]

    @property
    def redis_url(self) -> str:
        return self.lines[2].split()[1]


@contextlib.contextmanager
def started() -> Iterator[Demo]:
    with bridge_process("demo", "--port", "0") as process:
        yield Demo(process, [process.line() for _ in range(6)])


@pytest.fixture(scope="module")
def shown() -> Iterator[Demo]:
    """A demo for all tests that do not stop it."""
    with started() as demo:
        yield demo


def test_it_prints_stream_key_redis_and_a_line_to_paste(shown: Demo) -> None:
    assert re.fullmatch(r"stream  ws://127\.0\.0\.1:\d+/public/v1/stream", shown.lines[0])
    assert re.fullmatch(r"key     tb_[A-Za-z0-9_-]{43}", shown.lines[1])
    assert re.fullmatch(r"redis   redis://127\.0\.0\.1:\d+/0", shown.lines[2])
    assert shown.lines[3:] == [
        "",
        "Follow it in another terminal:",
        f"TORNADO_BRIDGE_API_KEY={shown.key} tornado-bridge tail --url {shown.stream} 'candles:*:*' 'signals:*:*'",
    ]


def test_a_client_with_the_key_receives_candles(shown: Demo) -> None:
    with connect(shown.stream, additional_headers={"X-API-Key": shown.key}) as client:
        client.send('{"action":"subscribe","channels":["candles:*:*"]}')
        assert client.recv(timeout=20) == '{"type":"subscribed","channels":["candles:*:*"]}'
        candle = str(client.recv(timeout=20))
    assert candle.startswith('{"type":"candle_close","channel":"candles:')
    assert [name for name in PRIVATE if name in candle] == []


def test_the_redis_shows_the_events_with_their_private_members(shown: Demo) -> None:
    with redis.Redis.from_url(shown.redis_url) as client, client.pubsub(ignore_subscribe_messages=True) as subscriber:
        subscriber.psubscribe("channel:exchange:1:candle:close:*:*")
        deadline = time.monotonic() + 20
        while (message := subscriber.get_message(timeout=1)) is None:
            assert time.monotonic() < deadline
    assert b'"macdV":' in message["data"]


def test_the_line_to_paste_works_in_a_shell(shown: Demo) -> None:
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": os.environ["HOME"]}
    with subprocess.Popen(
        ["sh", "-c", f"exec 2>&1; {shown.lines[5]} | head -n 3"], stdout=subprocess.PIPE, env=environment
    ) as shell:
        out, _ = shell.communicate(timeout=30)
    lines = out.decode().splitlines()
    assert any(re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3}Z candles:[A-Z]+-[A-Z]+:1m O \S+ H .+Z", line) for line in lines)


def test_the_redis_that_it_prints_answers_any_client(shown: Demo) -> None:
    with redis.Redis.from_url(shown.redis_url) as client:
        assert client.ping()


def test_its_key_is_not_in_its_arguments(shown: Demo) -> None:
    assert shown.key.encode() not in Path(f"/proc/{shown.process.process.pid}/cmdline").read_bytes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_with_status_zero_and_no_more_output(number: signal.Signals) -> None:
    with started() as demo:
        assert demo.process.stop(number) == (0, "", "")


def test_a_port_in_use_is_reported_in_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as occupant:
        port = occupant.getsockname()[1]
        with bridge_process("demo", "--port", str(port)) as process:
            assert process.finish() == (
                2,
                "",
                f"tornado-bridge: --port on the command line: 127.0.0.1 port {port} cannot be listened on "
                "(Address already in use)\n",
            )

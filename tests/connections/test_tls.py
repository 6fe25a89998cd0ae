"""An application with the bridge's routes behind its own TLS: a slow client is treated as any other is."""

import asyncio
import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import tornado.ioloop
import tornado.netutil
import websockets
from tornado.httpserver import HTTPServer
from tornado.web import Application
from websockets.frames import Close

from tests.support.raw import NOTHING_HELD, held, until
from tests.support.servers import CANDLE_SOURCE, LogLines, RedisServer
from tornado_bridge.bridge import WebSocketBridge
from tornado_bridge.ingest import relay
from tornado_bridge.web import app, stream

SUBSCRIBE = '{"action":"subscribe","channels":["candles:BTC-USD:1h"]}'
SUBSCRIBED = '{"type":"subscribed","channels":["candles:BTC-USD:1h"]}'
SOURCE = CANDLE_SOURCE.format(symbol="BTC-USD", timeframe="1h")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1, which is its own authority, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    directory = tmp_path_factory.mktemp("tls")
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    subject = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2")
    kind = ("-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    files = ("-keyout", str(key), "-out", str(certificate))
    subprocess.run(["openssl", "req", *kind, *subject, *files], check=True, capture_output=True)
    return certificate, key


@pytest.fixture
def trusting(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    """The client's context."""
    return ssl.create_default_context(cafile=str(certificate[0]))


@pytest.fixture
def tls_port(
    bridge: WebSocketBridge,
    io_loop: tornado.ioloop.IOLoop,
    certificate: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[int]:
    """The port of an application that mounts the bridge's routes and speaks TLS. The kernel buffers little."""
    monkeypatch.setattr(stream, "SEND_BUFFER", 16_384)
    monkeypatch.setattr(relay, "SLOW_CALL", 60.0)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*map(str, certificate))
    server = HTTPServer(Application(app.routes(bridge)), ssl_options=context)
    sockets = tornado.netutil.bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    yield int(sockets[0].getsockname()[1])
    server.stop()
    io_loop.run_sync(server.close_all_connections, timeout=10)


@asynccontextmanager
async def subscribed(
    port: int, key: str, context: ssl.SSLContext, *, receive_buffer: int | None = None
) -> AsyncIterator[websockets.ClientConnection]:
    """Give a subscribed client, which reads a message only when it is asked to."""
    sock = socket.create_connection(("127.0.0.1", port))
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    async with websockets.connect(
        f"wss://127.0.0.1:{port}{app.STREAM_PATH}",
        sock=sock,
        ssl=context,
        additional_headers={"X-API-Key": key},
        compression=None,
        max_queue=1,
        ping_interval=None,
        close_timeout=1,
    ) as client:
        await client.send(SUBSCRIBE)
        assert await client.recv() == SUBSCRIBED
        yield client


def candle(number: int) -> tuple[str, str]:
    return SOURCE, f'{{"timestamp":1708264800000,"open":1,"high":2,"low":0.5,"close":1.5,"volume":{number}}}'


def number(message: str | bytes) -> int:
    return int(json.loads(message)["data"]["volume"])


async def fill(server: RedisServer, healthy: websockets.ClientConnection, count: int) -> None:
    """Publish candles numbered from 0; each must reach the healthy client, in order."""
    for first in range(0, count, 250):
        chunk = range(first, first + 250)
        await asyncio.to_thread(server.publish, *map(candle, chunk))
        assert [number(await healthy.recv()) for _ in chunk] == list(chunk)


@pytest.mark.gen_test(timeout=20)
async def test_events_reach_a_client_behind_tls_whole_and_in_order(
    tls_port: int, key: str, trusting: ssl.SSLContext, redis_server: RedisServer
) -> None:
    async with subscribed(tls_port, key, trusting) as client:
        await fill(redis_server, client, 1_000)


@pytest.mark.gen_test(timeout=30)
async def test_a_slow_client_behind_tls_is_skipped_and_reads_on_afterwards(
    tls_port: int,
    key: str,
    trusting: ssl.SSLContext,
    redis_server: RedisServer,
    bridge: WebSocketBridge,
    log_lines: LogLines,
) -> None:
    async with (
        subscribed(tls_port, key, trusting) as healthy,
        subscribed(tls_port, key, trusting, receive_buffer=4096) as slow,
    ):
        await fill(redis_server, healthy, 8_000)
        assert 0 < bridge.slow_rule.skipped < 8_000
        assert (bridge.slow_rule.aborted, len(bridge.connections)) == (0, 2)

        received = [number(await slow.recv()) for _ in range(8_000 - bridge.slow_rule.skipped)]

        assert received == sorted(set(received))
        await until(lambda: bridge.slow_rule.buffered == 0)
        await asyncio.to_thread(redis_server.publish, candle(8_000))
        assert number(await slow.recv()) == 8_000
        await slow.send(SUBSCRIBE)
        assert await slow.recv() == SUBSCRIBED
    await until(lambda: held(bridge) == NOTHING_HELD)
    log_lines.take("slow client lost frames")


@pytest.mark.gen_test(timeout=20)
@pytest.mark.bridge(slow_timeout=0.4)
async def test_a_client_behind_tls_that_is_slow_for_too_long_is_reset(
    tls_port: int,
    key: str,
    trusting: ssl.SSLContext,
    redis_server: RedisServer,
    bridge: WebSocketBridge,
    log_lines: LogLines,
) -> None:
    async with (
        subscribed(tls_port, key, trusting) as healthy,
        subscribed(tls_port, key, trusting, receive_buffer=4096),
    ):
        await fill(redis_server, healthy, 8_000)
        await until(lambda: bridge.slow_rule.aborted == 1)
        await until(lambda: len(bridge.connections) == 1)
    await until(lambda: held(bridge) == NOTHING_HELD)
    log_lines.take("slow client lost frames")


@pytest.mark.gen_test
async def test_a_refused_client_behind_tls_gets_its_close_code(tls_port: int, trusting: ssl.SSLContext) -> None:
    async with websockets.connect(f"wss://127.0.0.1:{tls_port}{app.STREAM_PATH}", ssl=trusting) as client:
        await client.wait_closed()
        assert client.protocol.close_rcvd == Close(4001, "API key required")


@pytest.mark.gen_test
async def test_a_stop_closes_a_client_behind_tls_with_1001(
    tls_port: int, key: str, trusting: ssl.SSLContext, bridge: WebSocketBridge
) -> None:
    async with subscribed(tls_port, key, trusting) as client:
        await bridge.stop()
        await client.wait_closed()
        assert client.protocol.close_rcvd == Close(1001, "Server shutting down")


@pytest.mark.gen_test
@pytest.mark.bridge(ping_interval=0.1)
async def test_a_client_behind_tls_that_answers_pings_stays(
    tls_port: int, key: str, trusting: ssl.SSLContext, redis_server: RedisServer
) -> None:
    async with subscribed(tls_port, key, trusting) as client:
        await asyncio.sleep(0.5)
        await asyncio.to_thread(redis_server.publish, candle(7))
        assert number(await client.recv()) == 7

"""tornado_bridge.web.stream: Tornado's pings beside the bridge's own, and the log of an embedding application."""

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import tornado.ioloop
from tornado.httpserver import HTTPServer
from tornado.web import Application

from tests.support.raw import (
    NOTHING_HELD,
    PATIENCE,
    PING,
    PONG,
    Frame,
    RawClient,
    closed,
    frame,
    handshake,
    held,
    until,
)
from tests.support.servers import LogLines
from tests.web.test_doorway import at_once
from tornado_bridge.bridge import WebSocketBridge
from tornado_bridge.web.app import STREAM_PATH, routes

INTERVAL = 0.3


@pytest.fixture
def mounted_port(bridge: WebSocketBridge, io_loop: tornado.ioloop.IOLoop) -> Iterator[int]:
    """The port of a plain application that mounts the bridge's routes."""
    server = HTTPServer(Application([*routes(bridge)]))
    server.listen(0, "127.0.0.1")
    [listening] = server._sockets.values()
    yield listening.getsockname()[1]
    server.stop()
    io_loop.run_sync(server.close_all_connections, timeout=10)


def pinging() -> int:
    """Return the number of Tornado's tasks that ping a client."""
    return sum("periodic_ping" in repr(task.get_coro()) for task in asyncio.all_tasks())


async def seconds_until_the_end(client: RawClient) -> tuple[float, list[Frame]]:
    """Return how long a client that never answers stays connected, in seconds, and the frames that it receives."""
    started, received = time.monotonic(), []
    try:
        while True:
            received.append(await client.frame())
    except (EOFError, ConnectionResetError):
        return time.monotonic() - started, received


# The heartbeat


@pytest.mark.gen_test
@pytest.mark.bridge(ping_interval=INTERVAL)
async def test_tornado_pings_a_client_that_came_through_the_handler(
    mounted_port: int, bridge: WebSocketBridge, key: str
) -> None:
    with await RawClient.open(mounted_port, key) as client:
        for _ in range(3):
            assert await client.frame() == Frame(PING, b"")
            await client.send(frame(PONG))
        assert (pinging(), len(bridge.heartbeat)) == (1, 0)
    await until(lambda: held(bridge) == NOTHING_HELD and not pinging())


@pytest.mark.gen_test
@pytest.mark.bridge(ping_interval=INTERVAL)
async def test_a_client_that_the_doorway_let_in_is_pinged_by_the_wheel(
    http_port: int, bridge: WebSocketBridge, key: str
) -> None:
    with at_once(http_port, handshake(key)) as client:
        assert await client.status() == 101
        assert await client.frame() == Frame(PING, b"")
        assert (pinging(), len(bridge.heartbeat)) == (0, 1)


@pytest.mark.gen_test
@pytest.mark.bridge(ping_interval=INTERVAL)
async def test_both_heartbeats_cut_a_dead_peer_at_the_same_time(
    http_port: int, mounted_port: int, bridge: WebSocketBridge, key: str
) -> None:
    with at_once(http_port, handshake(key)) as wheels, await RawClient.open(mounted_port, key) as tornados:
        assert await wheels.status() == 101
        ends = await asyncio.gather(seconds_until_the_end(wheels), seconds_until_the_end(tornados))
    assert [received for _, received in ends] == [[Frame(PING, b"")]] * 2
    # The ping comes after one interval. The missing pong is noticed after another. A tick is a 30th of an interval.
    assert min(seconds for seconds, _ in ends) >= 2 * INTERVAL * 0.9
    assert held(bridge) == NOTHING_HELD


@pytest.mark.gen_test
async def test_a_refused_client_is_not_pinged(mounted_port: int, bridge: WebSocketBridge) -> None:
    with await RawClient.open(mounted_port, "wrong") as client:
        assert await client.frame() == closed(4001, "Invalid API key")
        assert pinging() == 0


@pytest.mark.gen_test
@pytest.mark.bridge(ping_interval=INTERVAL)
async def test_a_client_that_leaves_is_no_longer_pinged(mounted_port: int, bridge: WebSocketBridge, key: str) -> None:
    with await RawClient.open(mounted_port, key):
        await until(lambda: pinging() == 1)
    await until(lambda: not pinging())


@pytest.mark.gen_test
@pytest.mark.bridge(ping_interval=INTERVAL)
async def test_no_ping_follows_a_close_frame(mounted_port: int, bridge: WebSocketBridge, key: str) -> None:
    with await RawClient.open(mounted_port, key) as client:
        await until(lambda: len(bridge.connections) == 1)
        await client.send(frame(8))
        assert await client.frame() == closed(None)
        assert await client.rest() == b""
        assert pinging() == 0


# Embedded in an application of its own


@pytest.mark.gen_test
async def test_the_send_buffer_is_small_for_an_embedder_too(
    mounted_port: int, bridge: WebSocketBridge, key: str
) -> None:
    with await RawClient.open(mounted_port, key):
        [connection] = bridge.connections
        buffer = connection.outlet._stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        assert buffer in (131_072, 262_144)


@asynccontextmanager
async def said(caplog: pytest.LogCaptureFixture) -> AsyncIterator[list[str]]:
    lines: list[str] = []
    caplog.set_level(logging.DEBUG)
    yield lines
    lines += [logging.Formatter().format(record) for record in caplog.records]


@pytest.mark.gen_test
@pytest.mark.parametrize("path", [STREAM_PATH, "/healthz", "/readyz", "/asyncapi.json"])
async def test_a_plain_application_logs_no_key(
    mounted_port: int, key: str, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with said(caplog) as lines:
        for request in (
            handshake(key, target=f"{path}?apiKey={key}"),
            handshake(None, target=f"{path}?apiKey={key}"),
            handshake(None, f"Authorization: Bearer {key}", target=path, version="8"),
            f"GET {path}?apiKey={key} HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
            f"HEAD {path}?apiKey={key} HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
            f"PUT {path}?apiKey={key} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode(),
        ):
            with await RawClient.connect(mounted_port) as client:
                await client.send(request)
                await client.response()
        await asyncio.sleep(0)
    assert [line for line in lines if path in line]
    assert [line for line in lines if key in line] == []
    caplog.clear()


@pytest.mark.gen_test
async def test_an_exception_in_a_handler_of_a_plain_application_is_logged_without_the_key(
    mounted_port: int,
    key: str,
    bridge: WebSocketBridge,
    caplog: pytest.LogCaptureFixture,
    log_lines: LogLines,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise RuntimeError(f"the key was {key}")

    monkeypatch.setattr(bridge, "add_client", failing)
    async with said(caplog) as lines:
        with await RawClient.connect(mounted_port) as client:
            await client.send(handshake(None, target=f"{STREAM_PATH}?apiKey={key}"))
            async with asyncio.timeout(PATIENCE):
                await client.rest()
    assert [line for line in lines if key in line] == []
    assert log_lines.take("request failed")["error"] == "RuntimeError"
    caplog.clear()

"""tornado_bridge.web.listener: strangers can neither fill the port nor take its descriptors away."""

import asyncio
import contextlib
import errno
import resource
import socket
import time
import urllib.parse
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import websockets
from tornado.iostream import IOStream
from tornado.web import Application
from websockets.sync.client import connect

from tests.support.raw import PATIENCE, RawClient, handshake, until
from tests.support.servers import LogLines, RedisServer, serving
from tornado_bridge.bridge import WebSocketBridge
from tornado_bridge.key_file import KeyFile
from tornado_bridge.web import app
from tornado_bridge.web.doorway import Doorway
from tornado_bridge.web.listener import Listener

CLOSED = "waiting connection closed: all places for requests are taken"
READY = b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"

# Two strangers and a neighbour, all on this machine.
STRANGER, OTHER, NEIGHBOUR = "127.0.0.2", "127.0.0.3", "127.0.0.4"


@contextlib.asynccontextmanager
async def served(bridge: WebSocketBridge, max_handshakes: int) -> AsyncIterator[tuple[Doorway, int]]:
    server, port = app.serve(bridge, host="127.0.0.1", port=0, max_handshakes=max_handshakes)
    try:
        yield server, port
    finally:
        server.stop()
        await server.close_all_connections()
        assert server.pending == 0
        assert (server._groups, server._crowded) == ({}, {})


class Crowd(contextlib.ExitStack):
    """Connections that say nothing."""

    def __init__(self, server: Listener, port: int) -> None:
        super().__init__()
        self._server = server
        self._port = port
        self._accepted = 0
        handle_stream = server.handle_stream

        def counting(stream: IOStream, address: Any) -> None:
            self._accepted += 1
            handle_stream(stream, address)

        server.handle_stream = counting  # type: ignore[method-assign]

    async def add(self, address: str, data: bytes = b"") -> RawClient:
        """Open a connection from an address, and wait until it is accepted. `data` comes with it."""
        before = self._accepted
        client = self.enter_context(RawClient(open_from(address, self._port, data)))
        await until(lambda: self._accepted > before)
        return client


def open_from(address: str, port: int, data: bytes = b"") -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), PATIENCE, source_address=(address, 0))
    sock.sendall(data)
    return sock


def closed(client: RawClient) -> bool:
    """Whether the server has closed the connection."""
    try:
        return client.socket.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


async def which_closed(clients: list[RawClient], count: int) -> list[int]:
    """Wait until so many of the connections are closed, and return which."""
    found: list[int] = []
    deadline = time.monotonic() + PATIENCE
    while len(found) < count:
        assert time.monotonic() < deadline
        found = [number for number, client in enumerate(clients) if closed(client)]
        await asyncio.sleep(0.002)
    return found


async def at_once(crowd: Crowd, address: str, key: str) -> None:
    client = await crowd.add(address, handshake(key))
    assert await client.status() == 101


async def later(crowd: Crowd, address: str, key: str) -> None:
    client = await crowd.add(address)
    await client.send(handshake(key))
    assert await client.status() == 101


async def ready(crowd: Crowd, address: str, key: str) -> None:
    client = await crowd.add(address)
    await client.send(READY)
    assert await client.status() == 200


# Places


@pytest.mark.gen_test
@pytest.mark.parametrize("newcomer", [at_once, later, ready])
async def test_a_newcomer_is_served_while_silent_connections_take_all_places_again_and_again(
    bridge: WebSocketBridge, key: str, log_lines: LogLines, newcomer: Callable[[Crowd, str, str], Any]
) -> None:
    async with served(bridge, 8) as (server, port):
        with Crowd(server, port) as crowd:
            for _ in range(3):
                for _ in range(12):
                    await crowd.add(STRANGER)
                assert server.pending == 8
                await newcomer(crowd, NEIGHBOUR, key)
                await newcomer(crowd, STRANGER, key)
    log_lines.take(CLOSED)


@pytest.mark.gen_test
async def test_the_connection_that_has_been_quiet_for_longest_goes(
    bridge: WebSocketBridge, log_lines: LogLines
) -> None:
    async with served(bridge, 4) as (server, port):
        with Crowd(server, port) as crowd:
            clients = [await crowd.add(f"127.0.0.{number}") for number in range(2, 6)]
            await crowd.add("127.0.0.6")
            assert await which_closed(clients, 1) == [0]
            await crowd.add("127.0.0.7")
            assert await which_closed(clients, 2) == [0, 1]
            assert server.pending == 4
    log_lines.take(CLOSED)


@pytest.mark.gen_test
async def test_strangers_of_one_address_do_not_evict_those_of_another(
    bridge: WebSocketBridge, log_lines: LogLines
) -> None:
    async with served(bridge, 8) as (server, port):
        with Crowd(server, port) as crowd:
            # The oldest of all: by age alone they would go first.
            neighbours = [await crowd.add(NEIGHBOUR) for _ in range(3)]
            strangers = [await crowd.add(STRANGER) for _ in range(5)]
            for _ in range(5):
                await crowd.add(STRANGER)
            assert await which_closed([*neighbours, *strangers], 5) == [3, 4, 5, 6, 7]
            for neighbour in neighbours:
                await neighbour.send(READY)
                assert await neighbour.status() == 200
    log_lines.take(CLOSED)


@pytest.mark.gen_test
async def test_a_newcomer_of_another_address_takes_a_place_of_the_crowd(
    bridge: WebSocketBridge, log_lines: LogLines
) -> None:
    async with served(bridge, 4) as (server, port):
        with Crowd(server, port) as crowd:
            neighbour = await crowd.add(NEIGHBOUR)
            strangers = [await crowd.add(STRANGER) for _ in range(3)]
            await crowd.add(OTHER)
            assert await which_closed([neighbour, *strangers], 1) == [1]
    log_lines.take(CLOSED)


@pytest.mark.gen_test
async def test_behind_one_shared_address_each_client_is_served(
    bridge: WebSocketBridge, key: str, log_lines: LogLines
) -> None:
    async with served(bridge, 4) as (server, port):
        with Crowd(server, port) as crowd:
            for _ in range(4):
                for _ in range(6):
                    await crowd.add(STRANGER)
                await later(crowd, STRANGER, key)
    log_lines.take(CLOSED)


@pytest.mark.gen_test
async def test_a_health_checker_that_asks_now_and_then_keeps_its_connection(
    bridge: WebSocketBridge, log_lines: LogLines
) -> None:
    async with served(bridge, 4) as (server, port):
        with Crowd(server, port) as crowd:
            checker = await crowd.add(STRANGER)
            for _ in range(6):
                await checker.send(READY.replace(b"GET", b"HEAD"))
                assert await checker.status() == 200
                for _ in range(3):
                    await crowd.add(STRANGER)
            assert not closed(checker)
    log_lines.take(CLOSED)


@pytest.mark.gen_test
async def test_an_admitted_client_is_no_waiting_connection(bridge: WebSocketBridge, key: str) -> None:
    async with served(bridge, 1) as (server, port):
        with Crowd(server, port) as crowd:
            for _ in range(3):
                await later(crowd, STRANGER, key)
                await until(lambda: server.pending == 0)
            assert len(bridge.connections) == 3


@pytest.mark.gen_test
async def test_connections_on_a_unix_socket_count_as_one_client(
    tmp_path: Path, io_loop: object, log_lines: LogLines
) -> None:
    server = Listener(Application(), max_pending=2)
    path = str(tmp_path / "port")
    with socket.socket(socket.AF_UNIX) as listening, contextlib.ExitStack() as clients:
        listening.bind(path)
        listening.listen()
        listening.setblocking(False)
        server.add_socket(listening)
        for _ in range(3):
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(path)
        await until(lambda: server.pending == 2 and server._groups == {"local": 2})
        server.stop()
        await server.close_all_connections()
    log_lines.take(CLOSED)


@pytest.mark.gen_test
async def test_the_send_buffer_is_set_for_each_connection(io_loop: object) -> None:
    server = Listener(Application(), max_pending=2)
    port = server.listen_on("127.0.0.1", 0, send_buffer=8_192)
    streams: list[IOStream] = []
    server.handle_stream = lambda stream, address: streams.append(stream)  # type: ignore[method-assign]
    with await RawClient.connect(port):
        await until(lambda: streams)
        # Linux doubles the figure.
        assert streams[0].socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) in (8_192, 16_384)
        streams[0].close()
    server.stop()


# Descriptors


@pytest.mark.gen_test
async def test_another_fault_of_accept_does_not_pause_the_port(
    io_loop: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [errno.ECONNABORTED]
    accept = socket.socket.accept

    def failing(self: socket.socket) -> Any:
        if failures:
            raise OSError(failures.pop(), "accept")
        return accept(self)

    monkeypatch.setattr(socket.socket, "accept", failing)
    server = Listener(Application(log_function=lambda _: None), max_pending=2)
    port = server.listen_on("127.0.0.1", 0)
    began = time.monotonic()
    with await RawClient.connect(port) as client:
        await client.send(READY)
        assert await client.status() == 404
    assert failures == []
    assert time.monotonic() - began < 0.4
    server.stop()
    await server.close_all_connections()


@pytest.mark.gen_test
async def test_a_port_that_is_closed_in_its_pause_stays_closed(
    io_loop: object, monkeypatch: pytest.MonkeyPatch, log_lines: LogLines
) -> None:
    def exhausted(_: socket.socket) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket.socket, "accept", exhausted)
    monkeypatch.setattr("tornado_bridge.web.listener.PAUSE", 0.05)
    server = Listener(Application(), max_pending=2)
    port = server.listen_on("127.0.0.1", 0)
    with await RawClient.connect(port):
        await until(lambda: [line for line in log_lines.all() if line["log_level"] == "error"])
        server.stop()
        await asyncio.sleep(0.1)
    assert log_lines.take("no connection accepted: out of file descriptors") == {
        "event": "no connection accepted: out of file descriptors",
        "log_level": "error",
        "cause": "Too many open files",
        "seconds": 0.05,
    }


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def test_a_process_without_descriptors_rests_cuts_a_revoked_key_off_and_accepts_again(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    with (
        serving(tmp_path, redis_server.url) as (process, url, key),
        connect(url, additional_headers={"X-API-Key": key}) as client,
        contextlib.ExitStack() as crowd,
    ):
        pid = process.process.pid
        parts = urllib.parse.urlsplit(url)
        descriptors = Path(f"/proc/{pid}/fd")
        limit = len(list(descriptors.iterdir())) + 8
        other = KeyFile(tmp_path / "keys.toml").create("other")
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, limit))
        for _ in range(16):
            crowd.enter_context(socket.create_connection((str(parts.hostname), parts.port), timeout=5))
        deadline = time.monotonic() + 5
        while len(list(descriptors.iterdir())) < limit:
            assert time.monotonic() < deadline
        began, used = time.monotonic(), processor_seconds(pid)
        KeyFile(tmp_path / "keys.toml").revoke("tests")
        with pytest.raises(websockets.ConnectionClosed, match="API key revoked"):
            client.recv(timeout=5)
        assert time.monotonic() - began < 2
        # Measured: 0.03 s of processor time in 3 s. Without the pause it is all of the time.
        time.sleep(3 - (time.monotonic() - began))
        assert processor_seconds(pid) - used < 0.75
        crowd.close()
        with connect(url, additional_headers={"X-API-Key": other}, open_timeout=10) as newcomer:
            newcomer.send('{"action":"subscribe","channels":["candles:*:*"]}')
            assert newcomer.recv(timeout=5) == '{"type":"subscribed","channels":["candles:*:*"]}'
        _, _, err = process.stop()
    assert err.count("no connection accepted: out of file descriptors") == 1

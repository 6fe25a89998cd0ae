"""tornado_bridge.web.doorway: the clients that it admits at once. They cannot tell it from Tornado's path."""

import asyncio
import contextlib
import logging
import re
import select
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream, SSLIOStream

from tests.support.raw import NOTHING_HELD, PATIENCE, RawClient, closed, handshake, held, tcp_pair, text, until
from tests.support.servers import LogLines
from tests.web.test_app import LEAKY, SECRET, said
from tornado_bridge.bridge import WebSocketBridge
from tornado_bridge.connections.connection import Connection
from tornado_bridge.connections.heartbeat import Pings
from tornado_bridge.web import app

ALLOWED = "https://app.example"
SUBSCRIBE = text('{"action":"subscribe","channels":["signals:*:*"]}')
SUBSCRIBED = '{"type":"subscribed","channels":["signals:*:*"]}'


@pytest.fixture
def by_tornado(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The addresses of the connections that were passed on to Tornado."""
    addresses: list[object] = []
    handle_stream = HTTPServer.handle_stream

    def noting(server: HTTPServer, stream: IOStream, address: Any) -> None:
        addresses.append(address)
        handle_stream(server, stream, address)

    monkeypatch.setattr(HTTPServer, "handle_stream", noting)
    return addresses


@asynccontextmanager
async def served(bridge: WebSocketBridge, *allow_origin: str, max_handshakes: int = 1000) -> AsyncIterator[int]:
    server, port = app.serve(bridge, host="127.0.0.1", port=0, allow_origin=allow_origin, max_handshakes=max_handshakes)
    try:
        yield port
    finally:
        server.stop()
        await server.close_all_connections()


def at_once(port: int, data: bytes) -> RawClient:
    """Open a connection whose bytes have all arrived when the server accepts it."""
    sock = socket.create_connection(("127.0.0.1", port), PATIENCE)
    sock.sendall(data)
    return RawClient(sock)


async def later(port: int, data: bytes, by_tornado: list[object]) -> RawClient:
    """Open a connection that has sent nothing when the server accepts it."""
    client = await RawClient.connect(port)
    await until(lambda: client.socket.getsockname() in by_tornado)
    await client.send(data)
    return client


# Right away


@pytest.mark.gen_test
async def test_a_client_whose_handshake_has_arrived_is_not_passed_on_to_tornado(
    http_port: int, bridge: WebSocketBridge, key: str, by_tornado: list[object]
) -> None:
    with at_once(http_port, handshake(key)) as client:
        assert await client.status() == 101
        await client.send(SUBSCRIBE)
        assert await client.message() == SUBSCRIBED
        assert held(bridge) == dict.fromkeys(NOTHING_HELD, 1) | {"slow": 0, "buffered": 0}
    await until(lambda: held(bridge) == NOTHING_HELD)
    assert by_tornado == []


@pytest.mark.gen_test
async def test_a_message_that_came_with_the_handshake_is_answered(
    http_port: int, key: str, by_tornado: list[object]
) -> None:
    with at_once(http_port, handshake(key) + SUBSCRIBE) as client:
        assert await client.status() == 101
        assert await client.message() == SUBSCRIBED
    assert by_tornado == []


@pytest.mark.gen_test
async def test_an_answer_that_the_socket_takes_in_part_comes_whole(
    http_port: int, key: str, by_tornado: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    send = socket.socket.send
    parts: list[bytes] = []

    def send_less(self: socket.socket, data: bytes) -> int:
        if bytes(data[:12]) == b"HTTP/1.1 101":
            parts.append(data)
            return send(self, data[:5])
        return send(self, data)

    monkeypatch.setattr(socket.socket, "send", send_less)
    with at_once(http_port, handshake(key) + SUBSCRIBE) as client:
        assert await client.status() == 101
        assert await client.message() == SUBSCRIBED
    assert len(parts) == 1
    assert by_tornado == []


@pytest.mark.gen_test
async def test_a_key_in_the_query_is_admitted_right_away(
    http_port: int, bridge: WebSocketBridge, key: str, by_tornado: list[object]
) -> None:
    with at_once(http_port, handshake(None, target=f"{app.STREAM_PATH}?apiKey={key}")) as client:
        assert await client.status() == 101
        assert len(bridge.connections) == 1
    assert by_tornado == []


@pytest.mark.gen_test
@pytest.mark.parametrize(("given", "reason"), [(None, "API key required"), ("wrong", "Invalid API key")])
async def test_a_client_without_a_valid_key_is_refused_after_the_upgrade(
    http_port: int, bridge: WebSocketBridge, by_tornado: list[object], given: str | None, reason: str
) -> None:
    with at_once(http_port, handshake(given)) as client:
        assert await client.status() == 101
        assert await client.frame() == closed(4001, reason)
        assert len(bridge.connections) == 0
    assert by_tornado == []


@pytest.mark.gen_test
@pytest.mark.bridge(max_connections_per_key=1)
async def test_a_client_past_the_places_of_its_key_is_refused_after_the_upgrade(
    http_port: int, key: str, by_tornado: list[object]
) -> None:
    with at_once(http_port, handshake(key)) as first, at_once(http_port, handshake(key)) as second:
        assert await first.status() == 101
        assert await second.status() == 101
        assert await second.frame() == closed(4008, "Connection limit exceeded")
    assert by_tornado == []


@pytest.mark.gen_test
async def test_a_client_that_is_let_in_gets_its_frames_without_delay(
    http_port: int, bridge: WebSocketBridge, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams: list[IOStream] = []
    add_client = bridge.add_client

    def noting(
        stream: IOStream, given: str | None, window: int | None, *, pings: Pings | None = None, address: str
    ) -> Connection | None:
        streams.append(stream)
        return add_client(stream, given, window, pings=pings, address=address)

    monkeypatch.setattr(bridge, "add_client", noting)
    with at_once(http_port, handshake(key)) as client:
        assert await client.status() == 101
        assert streams[0].socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


@pytest.mark.gen_test
async def test_a_client_that_is_let_in_does_not_count_as_a_handshake(bridge: WebSocketBridge, key: str) -> None:
    async with served(bridge, max_handshakes=1) as port:
        with at_once(port, handshake(key)), at_once(port, handshake(key)), at_once(port, handshake(key)):
            await until(lambda: len(bridge.connections) == 3)


@pytest.mark.gen_test
async def test_a_client_that_is_let_in_takes_no_place_from_the_waiting_connections(
    bridge: WebSocketBridge, key: str, by_tornado: list[object]
) -> None:
    async with served(bridge, max_handshakes=1) as port:
        with await later(port, b"", by_tornado) as waiting, at_once(port, handshake(key)) as second:
            assert await second.status() == 101
            await waiting.send(handshake(key))
            assert await waiting.status() == 101


@pytest.mark.gen_test
async def test_a_stream_with_tls_is_left_to_tornado_with_all_that_it_has_sent(
    bridge: WebSocketBridge, key: str
) -> None:
    server, _ = app.serve(bridge, host="127.0.0.1", port=0)
    with tcp_pair() as (near, client):
        await client.send(handshake(key))
        await until(lambda: select.select([near], [], [], 0)[0])
        # Its handshake of TLS has not begun, so all bytes are as the client sent them.
        near_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).wrap_socket(
            near, server_side=True, do_handshake_on_connect=False
        )
        stream = SSLIOStream(near_tls)
        assert not server._let_in(stream, ("127.0.0.1", 1))
        assert socket.socket.recv(near_tls, 65_536, socket.MSG_PEEK) == handshake(key)
        stream.close()
    assert held(bridge) == NOTHING_HELD
    server.stop()


@pytest.mark.gen_test
async def test_a_client_that_has_gone_leaves_nothing(http_port: int, bridge: WebSocketBridge, key: str) -> None:
    at_once(http_port, handshake(key)).close()
    at_once(http_port, handshake(key)).reset()
    at_once(http_port, b"").reset()
    with at_once(http_port, handshake(key)) as last:
        assert await last.status() == 101
        await until(lambda: len(bridge.connections) == 1)


# Both paths look the same to a client


SAME: dict[str, Callable[[str], bytes]] = {
    "header": lambda key: handshake(key),
    "query": lambda key: handshake(None, target=f"{app.STREAM_PATH}?apiKey={key}"),
    "encoded query": lambda key: handshake(None, target=f"{app.STREAM_PATH}?apiKey=%{ord(key[0]):02x}{key[1:]}"),
    "other query": lambda key: handshake(key, target=f"{app.STREAM_PATH}?a=b"),
    "bearer": lambda key: handshake(None, f"Authorization: Bearer {key}"),
    "basic": lambda key: handshake(None, f"Authorization: Basic {key}"),
    "header before query": lambda key: handshake("wrong", target=f"{app.STREAM_PATH}?apiKey={key}"),
    "empty header": lambda key: handshake("", target=f"{app.STREAM_PATH}?apiKey={key}"),
    "two headers": lambda key: handshake(key, f"X-API-Key: {key}"),
    "no key": lambda key: handshake(None),
    "wrong key": lambda key: handshake("wrong"),
    "padded key": lambda key: handshake(f" \t{key} \t"),
    "key beyond ascii": lambda key: handshake("gr\xfc\xdfe"),
    "allowed origin": lambda key: handshake(key, f"Origin: {ALLOWED}"),
    "other origin": lambda key: handshake(key, "Origin: https://evil.example"),
    "empty origin": lambda key: handshake(key, "Origin:"),
    "browser": lambda key: handshake(key, f"Origin: {ALLOWED}", "Sec-Fetch-Site: cross-site"),
    "no origin": lambda key: handshake(key, "Sec-Fetch-Site: cross-site"),
    "compression": lambda key: handshake(key, "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9"),
    "bad compression": lambda key: handshake(key, "Sec-WebSocket-Extensions: permessage-deflate; x"),
    "subprotocol": lambda key: handshake(key, "Sec-WebSocket-Protocol: chat"),
    "version 8": lambda key: handshake(key, version="8"),
    "bad nonce": lambda key: handshake(key, nonce="x"),
    "no nonce": lambda key: handshake(key).replace(b"Sec-WebSocket-Key", b"X"),
    "no upgrade": lambda key: handshake(key).replace(b"Upgrade: websocket", b"X: x"),
    "no connection": lambda key: handshake(key).replace(b"Connection: Upgrade", b"X: x"),
    "close": lambda key: handshake(key).replace(b"Connection: Upgrade", b"Connection: close, Upgrade"),
    "lower case": lambda key: handshake(key).replace(b"Upgrade: websocket", b"upgrade: WEBSOCKET"),
    "host with port": lambda key: handshake(key).replace(b"127.0.0.1", b"example.org:8080"),
    "no host": lambda key: handshake(key).replace(b"Host", b"X"),
    "two hosts": lambda key: handshake(key, "Host: x"),
    "bad host": lambda key: handshake(key).replace(b"127.0.0.1", b"a b"),
    "http 1.0": lambda key: handshake(key).replace(b"HTTP/1.1", b"HTTP/1.0"),
    "absolute": lambda key: handshake(key, target=f"http://127.0.0.1{app.STREAM_PATH}"),
    "post": lambda key: handshake(key).replace(b"GET", b"POST", 1),
    "other path": lambda key: handshake(key, target="/public/v1/streams"),
    "health": lambda key: handshake(key, target="/healthz"),
    "body": lambda key: handshake(key, "Content-Length: 2") + b"ab",
    "no body": lambda key: handshake(key, "Content-Length: 0"),
    "chunks": lambda key: handshake(key, "Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "too long a body": lambda key: handshake(key, "Content-Length: 8193"),
    "8 KiB": lambda key: handshake(key, "X: " + "x" * (8192 - len(handshake(key, "X: ")))),
    "over 8 KiB": lambda key: handshake(key, "X: " + "x" * (8193 - len(handshake(key, "X: ")))),
    "folded": lambda key: handshake(key, "X: a", " b"),
    "control": lambda key: handshake(key, "X: \x01"),
    "blank before colon": lambda key: handshake(key, "X : a"),
    "frames behind": lambda key: handshake(key) + SUBSCRIBE + b"\x88\x80\0\0\0\0",
}


async def received_within(client: RawClient, within: float = 0.3) -> bytes:
    """Return all bytes that a client receives within so many seconds, without the `Date` headers."""
    received = bytearray()
    try:
        async with asyncio.timeout(within):
            while True:
                received += await client.some()
    except (TimeoutError, EOFError, ConnectionResetError):
        return re.sub(rb"\r\nDate: [^\r]+", b"", bytes(received))


@pytest.mark.gen_test(timeout=20)
@pytest.mark.bridge(max_connections_per_key=1000)
@pytest.mark.parametrize(("allow_origin", "compression"), [((), False), ((ALLOWED,), True)])
async def test_both_paths_answer_a_client_in_the_same_way(
    bridge: WebSocketBridge,
    key: str,
    by_tornado: list[object],
    monkeypatch: pytest.MonkeyPatch,
    allow_origin: tuple[str, ...],
    compression: bool,
) -> None:
    monkeypatch.setattr(bridge, "compression", compression)
    requests = {name: request_of(key) for name, request_of in SAME.items()}
    with contextlib.ExitStack() as clients:
        async with served(bridge, *allow_origin) as port:
            first = [clients.enter_context(at_once(port, data)) for data in requests.values()]
            right_away = await asyncio.gather(*map(received_within, first))
            second = [clients.enter_context(await later(port, data, by_tornado)) for data in requests.values()]
            tornados = await asyncio.gather(*map(received_within, second))
    assert dict(zip(requests, right_away, strict=True)) == dict(zip(requests, tornados, strict=True))


@pytest.mark.gen_test
@pytest.mark.bridge(max_connections=1)
async def test_a_full_bridge_answers_with_503(http_port: int, key: str, bridge: WebSocketBridge) -> None:
    with at_once(http_port, handshake(key)), at_once(http_port, handshake(key)) as second:
        assert await second.status() == 503
        assert len(bridge.connections) == 1


# No key in a log


@pytest.mark.gen_test
async def test_the_access_log_has_method_path_and_status(
    http_port: int, key: str, log_lines: LogLines, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with at_once(http_port, handshake(None, target=f"{app.STREAM_PATH}?apiKey={key}")) as client:
        assert await client.status() == 101
    assert log_lines.take("request") == {
        "event": "request",
        "log_level": "debug",
        "method": "GET",
        "path": "/public/v1/stream",
        "status": 101,
    }


@pytest.mark.gen_test
async def test_no_log_line_holds_the_key_of_a_request(
    bridge: WebSocketBridge, caplog: pytest.LogCaptureFixture, log_lines: LogLines
) -> None:
    caplog.set_level(logging.DEBUG)
    async with served(bridge, ALLOWED) as port:
        with contextlib.ExitStack() as clients:
            for data in LEAKY:
                await received_within(clients.enter_context(at_once(port, data)), within=0.05)
    assert len(caplog.records) + len(log_lines.all()) > len(LEAKY)
    assert SECRET not in said(caplog, log_lines)


@pytest.mark.gen_test
async def test_an_exception_is_logged_only_by_its_name_and_ends_the_connection(
    http_port: int,
    bridge: WebSocketBridge,
    caplog: pytest.LogCaptureFixture,
    log_lines: LogLines,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(stream: IOStream, key: str | None, *_: object, **__: object) -> None:
        raise RuntimeError(f"the key was {key}")

    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(bridge, "add_client", failing)
    with at_once(http_port, handshake(SECRET)) as client:
        assert (await client.rest()).startswith(b"HTTP/1.1 101 ")
    [record] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert logging.Formatter().format(record) == "Error in connection callback: RuntimeError"
    assert SECRET not in said(caplog, log_lines)
    caplog.clear()

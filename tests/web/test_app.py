"""tornado_bridge.web.app: the requests that the HTTP side accepts and refuses, and what it does not log."""

import asyncio
import contextlib
import gc
import logging
import socket
import time
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Network

import pytest
import tornado.ioloop
import websockets
from tornado.httpclient import AsyncHTTPClient, HTTPResponse
from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream
from tornado.web import Application, RequestHandler

from tests.support.raw import RawClient, closed, handshake, until
from tests.support.servers import LogLines
from tornado_bridge.bridge import WebSocketBridge
from tornado_bridge.connections.addresses import Network
from tornado_bridge.connections.connection import Connection
from tornado_bridge.connections.heartbeat import Pings
from tornado_bridge.web import app

SECRET = "never-to-be-seen"


@asynccontextmanager
async def served(
    bridge: WebSocketBridge,
    *,
    allow_origin: tuple[str, ...] = (),
    trusted_proxy: tuple[Network, ...] = (),
    max_handshakes: int = 1000,
) -> AsyncIterator[int]:
    """Serve a bridge on a port of its own."""
    server, port = app.serve(
        bridge,
        host="127.0.0.1",
        port=0,
        allow_origin=allow_origin,
        trusted_proxy=trusted_proxy,
        max_handshakes=max_handshakes,
    )
    try:
        yield port
    finally:
        server.stop()
        await server.close_all_connections()


async def fetch(port: int, path: str, method: str = "GET") -> HTTPResponse:
    return await AsyncHTTPClient().fetch(
        f"http://127.0.0.1:{port}{path}", method=method, allow_nonstandard_methods=True, raise_error=False
    )


async def admitted(port: int, request: bytes, bridge: WebSocketBridge) -> bool:
    """Tell whether the client of this request is admitted. The only other outcome is a refusal of its key."""
    with await RawClient.connect(port) as client:
        await client.send(request)
        assert await client.status() == 101
        if len(bridge.connections) == 1:
            return True
        received = await client.frame()
        assert received in (closed(4001, "API key required"), closed(4001, "Invalid API key"))
        return False


# The members of a request that hold the key


@pytest.mark.gen_test
async def test_a_key_in_x_api_key_is_admitted(http_port: int, bridge: WebSocketBridge, key: str) -> None:
    assert await admitted(http_port, handshake(None, f"X-API-Key: {key}"), bridge)


@pytest.mark.gen_test
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
async def test_a_bearer_key_is_admitted_in_any_case_of_the_scheme(
    http_port: int, bridge: WebSocketBridge, key: str, scheme: str
) -> None:
    assert await admitted(http_port, handshake(None, f"Authorization: {scheme} {key}"), bridge)


@pytest.mark.gen_test
async def test_a_key_in_the_query_is_admitted(http_port: int, bridge: WebSocketBridge, key: str) -> None:
    assert await admitted(http_port, handshake(None, target=f"{app.STREAM_PATH}?a=b&apiKey={key}"), bridge)


@pytest.mark.gen_test
async def test_a_percent_encoded_key_in_the_query_is_admitted(
    http_port: int, bridge: WebSocketBridge, key: str
) -> None:
    encoded = "".join(f"%{ord(letter):02x}" for letter in key)
    assert await admitted(http_port, handshake(None, target=f"{app.STREAM_PATH}?apiKey={encoded}"), bridge)


@pytest.mark.gen_test
async def test_x_api_key_comes_before_a_bearer_key(http_port: int, bridge: WebSocketBridge, key: str) -> None:
    assert await admitted(http_port, handshake(None, f"X-API-Key: {key}", "Authorization: Bearer wrong"), bridge)


@pytest.mark.gen_test
async def test_a_wrong_x_api_key_is_refused_whatever_the_other_places_hold(
    http_port: int, bridge: WebSocketBridge, key: str
) -> None:
    request = handshake(
        None, "X-API-Key: wrong", f"Authorization: Bearer {key}", target=f"{app.STREAM_PATH}?apiKey={key}"
    )
    assert not await admitted(http_port, request, bridge)


@pytest.mark.gen_test
async def test_an_empty_x_api_key_is_present(http_port: int, bridge: WebSocketBridge, key: str) -> None:
    assert not await admitted(http_port, handshake(None, "X-API-Key:", f"Authorization: Bearer {key}"), bridge)


@pytest.mark.gen_test
async def test_a_bearer_key_comes_before_the_query(http_port: int, bridge: WebSocketBridge, key: str) -> None:
    request = handshake(None, f"Authorization: Bearer {key}", target=f"{app.STREAM_PATH}?apiKey=wrong")
    assert await admitted(http_port, request, bridge)


@pytest.mark.gen_test
async def test_an_empty_bearer_key_is_present(http_port: int, bridge: WebSocketBridge, key: str) -> None:
    request = handshake(None, "Authorization: Bearer", target=f"{app.STREAM_PATH}?apiKey={key}")
    assert not await admitted(http_port, request, bridge)


@pytest.mark.gen_test
async def test_another_scheme_does_not_hold_a_key(http_port: int, bridge: WebSocketBridge, key: str) -> None:
    request = handshake(None, f"Authorization: Basic {key}", target=f"{app.STREAM_PATH}?apiKey={key}")
    assert await admitted(http_port, request, bridge)


@pytest.mark.gen_test
async def test_the_first_of_several_keys_in_the_query_counts(http_port: int, bridge: WebSocketBridge, key: str) -> None:
    assert await admitted(http_port, handshake(None, target=f"{app.STREAM_PATH}?apiKey={key}&apiKey=wrong"), bridge)


@pytest.mark.gen_test
async def test_two_x_api_keys_are_refused(http_port: int, bridge: WebSocketBridge, key: str) -> None:
    assert not await admitted(http_port, handshake(None, f"X-API-Key: {key}", f"X-API-Key: {key}"), bridge)


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "request_of_no_key",
    [
        handshake(None),
        handshake(None, "X-API-Key:"),
        handshake(None, "Authorization: Bearer"),
        handshake(None, "Authorization: Bearer  "),
        handshake(None, target=f"{app.STREAM_PATH}?apiKey="),
        handshake(None, target=f"{app.STREAM_PATH}?apiKey"),
        handshake(None, target=f"{app.STREAM_PATH}?apikey=wrong-case"),
    ],
)
async def test_without_a_key_the_upgrade_succeeds_and_4001_follows(http_port: int, request_of_no_key: bytes) -> None:
    with await RawClient.connect(http_port) as client:
        await client.send(request_of_no_key)
        assert await client.status() == 101
        assert await client.frame() == closed(4001, "API key required")


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "request_of_a_wrong_key",
    [
        handshake("wrong"),
        handshake(None, "Authorization: Bearer wrong"),
        handshake(None, target=f"{app.STREAM_PATH}?apiKey=wrong"),
        handshake(None, target=f"{app.STREAM_PATH}?apiKey=%ff%fe"),
        handshake(None, target=f"{app.STREAM_PATH}?apiKey=%00"),
        handshake("gr\xfc\xdfe"),
    ],
)
async def test_with_an_unknown_key_the_upgrade_succeeds_and_4001_follows(
    http_port: int, request_of_a_wrong_key: bytes
) -> None:
    with await RawClient.connect(http_port) as client:
        await client.send(request_of_a_wrong_key)
        assert await client.status() == 101
        assert await client.frame() == closed(4001, "Invalid API key")


# Requests that are not an opening handshake


@pytest.mark.gen_test
async def test_a_plain_get_of_the_stream_is_answered_with_426(http_port: int) -> None:
    with await RawClient.connect(http_port) as client:
        await client.send(b"GET /public/v1/stream HTTP/1.1\r\nHost: x\r\n\r\n")
        head = (await client.response()).split("\r\n")
        assert head[0].startswith("HTTP/1.1 426 ")
        assert {"Upgrade: websocket", "Connection: Upgrade"} <= set(head)


@pytest.mark.gen_test
async def test_an_upgrade_to_something_else_is_answered_with_426(http_port: int) -> None:
    with await RawClient.connect(http_port) as client:
        await client.send(b"GET /public/v1/stream HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n")
        assert await client.status() == 426


@pytest.mark.gen_test
@pytest.mark.parametrize("version", ["8", "12", "14", "", "x"])
async def test_a_wrong_version_is_answered_with_426_and_the_right_one(http_port: int, key: str, version: str) -> None:
    with await RawClient.connect(http_port) as client:
        await client.send(handshake(key, version=version))
        head = await client.response()
        assert head.startswith("HTTP/1.1 426 ")
        assert "Sec-Websocket-Version: 13" in head.split("\r\n")


@pytest.mark.gen_test
async def test_an_upgrade_without_its_connection_header_is_answered_with_400(http_port: int, key: str) -> None:
    with await RawClient.connect(http_port) as client:
        await client.send(handshake(key).replace(b"Connection: Upgrade\r\n", b""))
        assert await client.status() == 400


@pytest.mark.gen_test
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "BREW"])
async def test_another_method_is_answered_with_405(http_port: int, method: str) -> None:
    with await RawClient.connect(http_port) as client:
        await client.send(handshake(None).replace(b"GET", method.encode(), 1))
        assert await client.status() == 405


@pytest.mark.gen_test
async def test_another_path_is_answered_with_404(http_port: int, key: str) -> None:
    with await RawClient.connect(http_port) as client:
        await client.send(handshake(key, target="/public/v2/stream"))
        assert await client.status() == 404


# Origins


@pytest.mark.gen_test
@pytest.mark.parametrize("origin", ["https://anywhere.example", "null", "http://127.0.0.1"])
async def test_any_origin_may_come_by_default(http_port: int, bridge: WebSocketBridge, key: str, origin: str) -> None:
    assert await admitted(http_port, handshake(key, f"Origin: {origin}"), bridge)


@pytest.mark.gen_test
@pytest.mark.parametrize("site", ["cross-site", "same-site", "same-origin", "none"])
async def test_a_browser_may_come_from_any_site_by_default(
    http_port: int, bridge: WebSocketBridge, key: str, site: str
) -> None:
    request = handshake(key, "Origin: https://anywhere.example", f"Sec-Fetch-Site: {site}")
    assert await admitted(http_port, request, bridge)


@pytest.mark.gen_test
@pytest.mark.parametrize("origin", ["https://app.example", "https://beta.example"])
async def test_an_allowed_origin_may_come(bridge: WebSocketBridge, key: str, origin: str) -> None:
    async with served(bridge, allow_origin=("https://app.example", "https://beta.example")) as port:
        assert await admitted(port, handshake(key, f"Origin: {origin}"), bridge)


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "http://app.example", "https://app.example:8443", "https://app.example.evil", "null", ""],
)
async def test_another_origin_than_those_allowed_is_answered_with_403(
    bridge: WebSocketBridge, key: str, origin: str
) -> None:
    async with served(bridge, allow_origin=("https://app.example",)) as port:
        with await RawClient.connect(port) as client:
            await client.send(handshake(key, f"Origin: {origin}"))
            assert await client.status() == 403
        assert bridge.connection_count(1) == 0


@pytest.mark.gen_test
async def test_the_origin_of_the_server_itself_is_not_allowed(bridge: WebSocketBridge, key: str) -> None:
    async with served(bridge, allow_origin=("https://app.example",)) as port:
        with await RawClient.connect(port) as client:
            await client.send(handshake(key, "Origin: http://127.0.0.1", "Sec-Fetch-Site: same-origin"))
            assert await client.status() == 403


@pytest.mark.gen_test
async def test_a_client_without_an_origin_is_admitted_as_it_is_not_a_browser(bridge: WebSocketBridge, key: str) -> None:
    async with served(bridge, allow_origin=("https://app.example",)) as port:
        assert await admitted(port, handshake(key), bridge)


# The address of a client


@pytest.mark.gen_test
@pytest.mark.bridge(log_addresses=True)
@pytest.mark.parametrize("pause", [False, True])
@pytest.mark.parametrize(
    ("trusted_proxy", "address"),
    [((), "127.0.0.1"), ((IPv4Network("127.0.0.0/8"),), "203.0.113.7"), ((IPv4Network("10.0.0.0/8"),), "127.0.0.1")],
)
async def test_a_trusted_proxy_names_the_client_on_both_ways_in(
    bridge: WebSocketBridge,
    key: str,
    log_lines: LogLines,
    caplog: pytest.LogCaptureFixture,
    pause: bool,
    trusted_proxy: tuple[Network, ...],
    address: str,
) -> None:
    caplog.set_level(logging.INFO)
    request = handshake(key, "X-Forwarded-For: 198.51.100.1, 203.0.113.7")
    async with served(bridge, trusted_proxy=trusted_proxy) as port:
        with socket.create_connection(("127.0.0.1", port)) as sock:
            # With the pause it is accepted without a byte, and goes Tornado's way.
            sock.sendall(b"" if pause else request)
            await asyncio.sleep(0.05)
            sock.sendall(request if pause else b"")
            await until(lambda: bridge.connections)
    assert log_lines.take("client connected")["address"] == address


# Health checks of a load balancer


@pytest.mark.gen_test
async def test_healthz_answers(http_port: int) -> None:
    response = await fetch(http_port, "/healthz")
    assert (response.code, response.body) == (200, b'{"status": "ok"}')


@pytest.mark.gen_test
async def test_readyz_says_ready_while_events_can_reach_clients(http_port: int) -> None:
    response = await fetch(http_port, "/readyz")
    assert (response.code, response.body) == (200, b'{"status": "ready"}')


@pytest.mark.gen_test
async def test_readyz_says_503_once_the_bridge_has_stopped(http_port: int, bridge: WebSocketBridge) -> None:
    await bridge.stop()
    response = await fetch(http_port, "/readyz")
    assert (response.code, response.body) == (503, b'{"status": "unavailable"}')


@pytest.mark.gen_test
@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_a_probe_may_use_head(http_port: int, path: str) -> None:
    asked = await fetch(http_port, path)
    probed = await fetch(http_port, path, "HEAD")
    assert (probed.code, probed.body, probed.headers["Content-Length"]) == (200, b"", str(len(asked.body)))


@pytest.mark.gen_test
async def test_head_of_readyz_says_503_once_the_bridge_has_stopped(http_port: int, bridge: WebSocketBridge) -> None:
    await bridge.stop()
    assert (await fetch(http_port, "/readyz", "HEAD")).code == 503


@pytest.mark.gen_test
async def test_healthz_answers_though_the_bridge_has_stopped(http_port: int, bridge: WebSocketBridge) -> None:
    await bridge.stop()
    assert (await fetch(http_port, "/healthz")).code == 200


# The description of the stream


@pytest.mark.gen_test
@pytest.mark.parametrize("name", ["json", "yaml"])
async def test_the_description_of_the_stream_needs_no_key(http_port: int, name: str) -> None:
    response = await fetch(http_port, f"/asyncapi.{name}")
    assert (response.code, response.headers["Content-Type"]) == (200, f"application/{name}")
    assert app.STREAM_PATH.encode() in response.body


CORS = "Access-Control-Allow-Origin"


async def described(port: int, *headers: str) -> list[str]:
    """Return the head of the answer to a request for the description."""
    with await RawClient.connect(port) as client:
        await client.send("\r\n".join(("GET /asyncapi.json HTTP/1.1", "Host: x", *headers, "\r\n")).encode())
        head = (await client.response()).split("\r\n")
    assert head[0] == "HTTP/1.1 200 OK"
    return head


@pytest.mark.gen_test
@pytest.mark.parametrize("headers", [(), ("Origin: https://anywhere.example",)])
async def test_a_page_of_any_origin_may_read_the_description_by_default(
    http_port: int, headers: tuple[str, ...]
) -> None:
    head = await described(http_port, *headers)
    assert f"{CORS}: *" in head
    assert "Vary: Origin" not in head


@pytest.mark.gen_test
async def test_a_page_of_an_allowed_origin_may_read_the_description(bridge: WebSocketBridge) -> None:
    async with served(bridge, allow_origin=("https://app.example", "https://beta.example")) as port:
        head = await described(port, "Origin: https://beta.example")
    assert {f"{CORS}: https://beta.example", "Vary: Origin"} <= set(head)


@pytest.mark.gen_test
@pytest.mark.parametrize("headers", [(), ("Origin: https://evil.example",), ("Origin: *",), ("Origin:",)])
async def test_a_page_of_another_origin_than_those_allowed_may_not_read_the_description(
    bridge: WebSocketBridge, headers: tuple[str, ...]
) -> None:
    async with served(bridge, allow_origin=("https://app.example",)) as port:
        head = await described(port, *headers)
    assert [line for line in head if line.startswith(CORS)] == []
    assert "Vary: Origin" in head


@pytest.mark.gen_test
@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/public/v1/stream"])
async def test_a_page_may_read_nothing_but_the_description(http_port: int, path: str) -> None:
    with await RawClient.connect(http_port) as client:
        await client.send(f"GET {path} HTTP/1.1\r\nHost: x\r\nOrigin: https://anywhere.example\r\n\r\n".encode())
        assert CORS not in await client.response()


# Mounted in another application


class HelloHandler(RequestHandler):
    def get(self) -> None:
        self.write("hello")


@pytest.fixture
def mounted_port(bridge: WebSocketBridge, io_loop: tornado.ioloop.IOLoop) -> Iterator[int]:
    server = HTTPServer(Application([("/hello", HelloHandler), *app.routes(bridge)], log_function=lambda _: None))
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    server.add_socket(listening)
    yield listening.getsockname()[1]
    server.stop()
    io_loop.run_sync(server.close_all_connections)


@pytest.mark.gen_test
async def test_the_routes_serve_in_an_application_that_has_others(mounted_port: int, key: str) -> None:
    assert (await fetch(mounted_port, "/hello")).body == b"hello"
    url = f"ws://127.0.0.1:{mounted_port}{app.STREAM_PATH}"
    async with websockets.connect(url, additional_headers={"X-API-Key": key}) as client:
        await client.send('{"action":"subscribe","channels":["signals:*:*"]}')
        assert await client.recv() == '{"type":"subscribed","channels":["signals:*:*"]}'


@pytest.mark.gen_test
async def test_request_and_handler_are_freed_without_the_collector_once_the_client_is_in(
    mounted_port: int, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[weakref.ref[object]] = []
    opened = app.StreamHandler.open

    def noting(handler: app.StreamHandler) -> None:
        held.extend(map(weakref.ref, (handler, handler.request)))
        opened(handler)

    monkeypatch.setattr(app.StreamHandler, "open", noting)
    gc.disable()
    try:
        with await RawClient.open(mounted_port, key):
            await until(lambda: len(held) == 2 and not any(reference() for reference in held))
    finally:
        gc.enable()


# Bounds


@pytest.mark.gen_test
async def test_headers_of_8_kib_are_read(http_port: int, bridge: WebSocketBridge, key: str) -> None:
    padding = 8_192 - len(handshake(key, "X-Padding: "))
    request = handshake(key, "X-Padding: " + "x" * padding)
    assert len(request) == 8_192
    assert await admitted(http_port, request, bridge)


@pytest.mark.gen_test
async def test_headers_over_8_kib_are_refused(http_port: int, bridge: WebSocketBridge, key: str) -> None:
    padding = 8_193 - len(handshake(key, "X-Padding: "))
    with await RawClient.connect(http_port) as client:
        await client.send(handshake(key, "X-Padding: " + "x" * padding))
        assert await client.rest() == b""
    assert len(bridge.connections) == 0


@pytest.mark.gen_test
async def test_headers_without_end_are_refused(http_port: int) -> None:
    with await RawClient.connect(http_port) as client:
        await client.send(b"GET /public/v1/stream HTTP/1.1\r\nHost: x\r\nX-Padding: " + b"x" * 8_200)
        assert await client.rest() == b""


@pytest.mark.gen_test
async def test_a_handshake_that_does_not_come_to_its_end_is_cut_off(
    bridge: WebSocketBridge, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "HANDSHAKE_TIMEOUT", 0.2)
    async with served(bridge) as port:
        with await RawClient.connect(port) as client:
            began = time.monotonic()
            await client.send(handshake(key)[:-2])
            assert await client.rest() == b""
            assert time.monotonic() - began >= 0.2


async def send_byte_by_byte(client: RawClient, data: bytes) -> None:
    for byte in data:
        await client.send(bytes((byte,)))
        await asyncio.sleep(0.01)


@pytest.mark.gen_test
async def test_a_handshake_that_comes_byte_by_byte_is_cut_off(
    bridge: WebSocketBridge, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "HANDSHAKE_TIMEOUT", 0.2)
    async with served(bridge) as port:
        with await RawClient.connect(port) as client:
            trickle = asyncio.create_task(send_byte_by_byte(client, handshake(key)))
            with contextlib.suppress(ConnectionResetError):  # a byte may arrive after the connection has been closed
                assert await client.rest() == b""
            with pytest.raises(OSError):
                await trickle
    assert len(bridge.connections) == 0


@pytest.mark.gen_test
async def test_a_connection_that_says_nothing_is_cut_off(
    bridge: WebSocketBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "HANDSHAKE_TIMEOUT", 0.2)
    async with served(bridge) as port:
        with await RawClient.connect(port) as client:
            assert await client.rest() == b""


@pytest.mark.gen_test
async def test_a_body_that_does_not_come_is_cut_off(
    bridge: WebSocketBridge, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "HANDSHAKE_TIMEOUT", 0.2)
    async with served(bridge) as port:
        with await RawClient.connect(port) as client:
            await client.send(handshake(key, "Content-Length: 5"))
            assert await client.rest() == b""
    assert len(bridge.connections) == 0


@pytest.mark.gen_test
async def test_a_body_over_8_kib_is_refused_by_its_header(http_port: int, key: str) -> None:
    with await RawClient.connect(http_port) as client:
        await client.send(handshake(key, "Content-Length: 8193"))
        assert await client.status() == 400


@pytest.mark.gen_test
async def test_the_timeout_of_the_handshake_does_not_touch_a_client(
    bridge: WebSocketBridge, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "HANDSHAKE_TIMEOUT", 0.1)
    async with served(bridge) as port:
        url = f"ws://127.0.0.1:{port}{app.STREAM_PATH}"
        async with websockets.connect(url, additional_headers={"X-API-Key": key}) as client:
            await asyncio.sleep(0.3)
            await client.send('{"action":"subscribe","channels":["signals:*:*"]}')
            assert await client.recv() == '{"type":"subscribed","channels":["signals:*:*"]}'


@pytest.mark.gen_test
async def test_the_kernel_holds_no_more_than_asked_for_a_client_that_does_not_read(
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
    with await RawClient.open(http_port, key):
        # Linux reports twice the size that was set.
        assert streams[0].socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) in (131_072, 262_144)


@pytest.mark.gen_test
async def test_frames_are_not_held_back_by_nagles_algorithm(
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
    with await RawClient.open(http_port, key):
        assert streams[0].socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


@pytest.mark.gen_test
async def test_past_the_limit_of_handshakes_the_connection_that_has_waited_for_longest_is_closed(
    bridge: WebSocketBridge, key: str, log_lines: LogLines
) -> None:
    async with served(bridge, max_handshakes=2) as port:
        with (
            await RawClient.connect(port) as first,
            await RawClient.connect(port),
            await RawClient.connect(port) as third,
        ):
            assert await first.rest() == b""
            await third.send(handshake(key))
            assert await third.status() == 101
    log_lines.take("waiting connection closed: all places for requests are taken")


@pytest.mark.gen_test
async def test_a_handshake_that_has_ended_makes_room_for_the_next(bridge: WebSocketBridge, key: str) -> None:
    async with served(bridge, max_handshakes=1) as port:
        for _ in range(3):
            with await RawClient.connect(port) as client:
                client.finish()
                assert await client.rest() == b""


@pytest.mark.gen_test
async def test_a_client_that_was_admitted_no_longer_counts_as_a_handshake(bridge: WebSocketBridge, key: str) -> None:
    async with served(bridge, max_handshakes=1) as port:
        with (
            await RawClient.open(port, key),
            await RawClient.open(port, key),
            await RawClient.open(port, key),
        ):
            await until(lambda: len(bridge.connections) == 3)


@pytest.mark.gen_test
@pytest.mark.bridge(max_connections=2)
async def test_a_full_bridge_answers_with_503(http_port: int, key: str) -> None:
    with (
        await RawClient.open(http_port, key),
        await RawClient.open(http_port, key),
        await RawClient.connect(http_port) as third,
    ):
        await third.send(handshake(key))
        head = await third.response()
        assert head.startswith("HTTP/1.1 503 ")
        assert "Retry-After: 10" in head.split("\r\n")


# No key in a log


LEAKY: list[bytes] = [
    # admitted, refused, answered
    handshake(None, target=f"{app.STREAM_PATH}?apiKey={SECRET}"),
    handshake(SECRET),
    handshake(None, f"Authorization: Bearer {SECRET}"),
    handshake(SECRET, nonce="x"),
    handshake(SECRET, version="8"),
    handshake(SECRET, f"Origin: https://{SECRET}.example"),
    handshake(SECRET, f"Sec-WebSocket-Extensions: {SECRET}; a=="),
    handshake(SECRET).replace(b"Connection: Upgrade\r\n", b""),
    handshake(None, target=f"{app.STREAM_PATH}?apiKey={SECRET}").replace(b"GET", b"POST", 1),
    handshake(None, target=f"/elsewhere?apiKey={SECRET}"),
    handshake(None, target=f"/healthz?apiKey={SECRET}").replace(b"GET", b"PUT", 1),
    handshake(None).replace(b"GET", SECRET.encode(), 1),
    handshake(None, target="/healthz").replace(b"GET", SECRET.encode(), 1),
    handshake(None, target="/elsewhere").replace(b"GET", SECRET.encode(), 1),
    f"GET {app.STREAM_PATH}?apiKey={SECRET} HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
    # malformed
    handshake(f"{SECRET}\x01"),
    handshake(None, f"X-API-Key {SECRET}"),
    handshake(None, f"X-API-Key {SECRET}: x"),
    handshake(None, f"Host: {SECRET}"),
    handshake(SECRET).replace(b"Host: 127.0.0.1", f"Host: {SECRET} {SECRET}".encode()),
    handshake(SECRET, f"Content-Length: {SECRET}"),
    handshake(SECRET, f"Transfer-Encoding: {SECRET}"),
    handshake(SECRET, "Content-Length: 1", f"Content-Length: {SECRET}"),
    handshake(None, target=f"{app.STREAM_PATH}?apiKey={SECRET}\x01"),
    handshake(None, target=f"{app.STREAM_PATH}?apiKey={SECRET} {SECRET}"),
    handshake(SECRET).replace(b"HTTP/1.1", f"HTTP/{SECRET}".encode()),
    handshake(SECRET, "Content-Length: 2", "Transfer-Encoding: chunked") + f"{SECRET}\r\n".encode(),
    handshake(SECRET, "Transfer-Encoding: chunked") + f"{SECRET}\r\n".encode(),
    f"POST /elsewhere?apiKey={SECRET} HTTP/1.1\r\nHost: x\r\n"
    f"Content-Type: multipart/form-data; boundary={SECRET}\r\nContent-Length: 3\r\n\r\nabc".encode(),
    f"POST {app.STREAM_PATH}?apiKey={SECRET} HTTP/1.1\r\nHost: x\r\n"
    f"Content-Type: multipart/form-data; boundary={SECRET}\r\nContent-Length: 3\r\n\r\nabc".encode(),
    f"POST /elsewhere?apiKey={SECRET} HTTP/1.1\r\nHost: x\r\nContent-Encoding: {SECRET}\r\n"
    "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 3\r\n\r\na=b".encode(),
    f"{SECRET}\r\n\r\n".encode(),
    SECRET.encode() * 1000,
]


def said(caplog: pytest.LogCaptureFixture, log_lines: LogLines) -> str:
    """Return every log line of every library, with all arguments and tracebacks."""
    formatter = logging.Formatter("%(name)s %(levelname)s %(message)s")
    records = [f"{formatter.format(record)} {record.args}" for record in caplog.records]
    return "\n".join((*records, *map(repr, log_lines.all())))


@pytest.mark.gen_test
@pytest.mark.parametrize("request_with_a_key", LEAKY, ids=range(len(LEAKY)))
async def test_no_log_line_holds_the_key_of_a_request(
    bridge: WebSocketBridge, caplog: pytest.LogCaptureFixture, log_lines: LogLines, request_with_a_key: bytes
) -> None:
    caplog.set_level(logging.DEBUG)
    async with served(bridge, allow_origin=("https://app.example",)) as port:
        with await RawClient.connect(port) as client:
            await client.send(request_with_a_key)
            answer = await client.first()
            await until(lambda: len(caplog.records) + len(log_lines.all()) > 1)
    assert SECRET not in said(caplog, log_lines)
    assert SECRET.encode() not in answer


@pytest.mark.gen_test
async def test_an_exception_in_a_handler_is_logged_only_by_its_name(
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
    with await RawClient.connect(http_port) as client:
        await client.send(handshake(None, target=f"{app.STREAM_PATH}?apiKey={SECRET}"))
        await client.rest()
    assert log_lines.take("request failed") == {
        "event": "request failed",
        "log_level": "error",
        "path": "/public/v1/stream",
        "error": "RuntimeError",
    }
    assert SECRET not in said(caplog, log_lines)


@pytest.mark.gen_test
async def test_an_exception_before_the_upgrade_is_answered_with_500_and_logged_only_by_its_name(
    http_port: int,
    caplog: pytest.LogCaptureFixture,
    log_lines: LogLines,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(handler: RequestHandler) -> None:
        raise RuntimeError(f"the key was {SECRET}")

    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(app.StreamHandler, "get_websocket_protocol", failing)
    with await RawClient.connect(http_port) as client:
        await client.send(handshake(None, target=f"{app.STREAM_PATH}?apiKey={SECRET}"))
        answer = await client.first()
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert SECRET.encode() not in answer
    log_lines.take("request failed", error="RuntimeError")
    assert SECRET not in said(caplog, log_lines)


@pytest.mark.gen_test
async def test_a_request_with_a_fault_of_the_client_is_not_logged_as_an_error(
    http_port: int, log_lines: LogLines
) -> None:
    await fetch(http_port, "/elsewhere")
    await fetch(http_port, "/healthz", method="DELETE")
    assert [line["log_level"] for line in log_lines.all() if line["event"] == "request"] == ["debug", "debug"]


@pytest.mark.gen_test
async def test_the_access_log_has_method_path_and_status(http_port: int, log_lines: LogLines) -> None:
    await fetch(http_port, "/healthz?apiKey=whatever")
    assert log_lines.take("request") == {
        "event": "request",
        "log_level": "debug",
        "method": "GET",
        "path": "/healthz",
        "status": 200,
    }

"""The HTTP side: the stream's endpoint, its description, and the two questions of a load balancer."""

import socket
from collections.abc import Sequence
from typing import Any

import structlog
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, HTTPError, RequestHandler
from tornado.websocket import WebSocketHandler, WebSocketProtocol, _WebSocketParams

from tornado_bridge.bridge import WebSocketBridge
from tornado_bridge.connections.websocket import Handshake
from tornado_bridge.logs import ThrottledLog
from tornado_bridge.web import asyncapi
from tornado_bridge.web.doorway import Doorway
from tornado_bridge.wire.handshake import api_key, may_come

log = structlog.get_logger(__name__)

STREAM_PATH = "/public/v1/stream"

# Bounds on a connection that is no WebSocket yet.
MAX_HEADER_BYTES = 8_192
HANDSHAKE_TIMEOUT = 10.0
MAX_HANDSHAKES = 1_000

# What the kernel may hold for a client that does not read, in bytes (it doubles the figure for its own accounting);
# left to itself it takes up to 4 MB before user space sees that the client is slow. Connections inherit it.
SEND_BUFFER = 131_072

Rule = tuple[str, type[RequestHandler], dict[str, Any]]


def routes(bridge: WebSocketBridge, *, allow_origin: Sequence[str] = ()) -> list[Rule]:
    """Return the bridge's routes, to be mounted in an application; `allow_origin` empty allows any."""
    description = asyncapi.document(bridge.registry)
    as_json = {"text": asyncapi.as_json(description), "content_type": "application/json"}
    as_yaml = {"text": asyncapi.as_yaml(description), "content_type": "application/yaml"}
    return [
        (STREAM_PATH, StreamHandler, {"bridge": bridge, "allow_origin": frozenset(allow_origin)}),
        ("/healthz", HealthHandler, {}),
        ("/readyz", ReadyHandler, {"bridge": bridge}),
        ("/asyncapi.json", DescriptionHandler, as_json),
        ("/asyncapi.yaml", DescriptionHandler, as_yaml),
    ]


def serve(
    bridge: WebSocketBridge,
    *,
    host: str,
    port: int,
    allow_origin: Sequence[str] = (),
    max_handshakes: int = MAX_HANDSHAKES,
) -> tuple[HTTPServer, int]:
    """Open the port and serve the bridge on it; returns the server and the port, which 0 lets the kernel pick.

    Raises OSError where the port cannot be had.
    """
    application = Application(
        routes(bridge, allow_origin=allow_origin),
        default_handler_class=MissingHandler,
        log_function=_log_request,
        serve_traceback=False,
    )
    server = Doorway(
        application,
        bridge=bridge,
        path=STREAM_PATH,
        allow_origin=frozenset(allow_origin),
        max_handshakes=max_handshakes,
        max_header_size=MAX_HEADER_BYTES,
        max_body_size=MAX_HEADER_BYTES,
        idle_connection_timeout=HANDSHAKE_TIMEOUT,
        body_timeout=HANDSHAKE_TIMEOUT,
    )
    sockets = bind_sockets(port, host, backlog=1024)
    for listening in sockets:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    server.add_sockets(sockets)
    return server, sockets[0].getsockname()[1]


def _log_request(handler: RequestHandler) -> None:
    """Log the path alone: the query may hold an API key."""
    log.debug("request", method=handler.request.method, path=handler.request.path, status=handler.get_status())


class _QuietHandler(RequestHandler):
    """A handler whose errors name neither the query nor the headers, which may hold an API key."""

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        if not isinstance(value, HTTPError):  # those are the client's own
            faults = self.settings.setdefault("tornado_bridge_faults", ThrottledLog(log))
            faults.error("request failed", path=self.request.path, error=getattr(typ, "__name__", "unknown"))


class MissingHandler(_QuietHandler):
    """Whatever is not here."""

    def prepare(self) -> None:
        raise HTTPError(404)


class HealthHandler(_QuietHandler):
    """Whether the process answers."""

    def get(self) -> None:
        self.write({"status": "ok"})


class ReadyHandler(_QuietHandler):
    """Whether events can reach clients: 200, or 503 while the source is away or the bridge stops."""

    def initialize(self, bridge: WebSocketBridge) -> None:
        self._bridge = bridge

    def get(self) -> None:
        if not self._bridge.ready:
            self.set_status(503)
        self.write({"status": "ready" if self._bridge.ready else "unavailable"})


class DescriptionHandler(_QuietHandler):
    """What clients may send and what they get, for programs; public, like the contract."""

    def initialize(self, text: str, content_type: str) -> None:
        self._text = text
        self._content_type = content_type

    def get(self) -> None:
        self.set_header("Content-Type", self._content_type)
        self.finish(self._text)


class StreamHandler(_QuietHandler, WebSocketHandler):
    """The opening handshake of a client; its stream then goes to the bridge."""

    def initialize(self, bridge: WebSocketBridge, allow_origin: frozenset[str]) -> None:
        self._bridge = bridge
        self._allow_origin = allow_origin

    async def get(self, *args: Any, **kwargs: Any) -> None:
        if self.request.headers.get("Upgrade", "").lower() != "websocket":
            self.set_status(426)
            self.set_header("Upgrade", "websocket")
            self.set_header("Connection", "Upgrade")
            self.finish("This is a WebSocket endpoint.")
            return
        origin = self.request.headers.get("Origin")
        if not may_come(origin, self._allow_origin):
            self.set_status(403)
            self.finish("Origin not allowed.")
            return
        if self._bridge.full:
            self.set_status(503)
            self.set_header("Retry-After", "10")
            self.finish("Too many connections.")
            return
        await super().get(*args, **kwargs)

    def check_origin(self, origin: str) -> bool:
        """Let every origin pass that `get` has let pass: there are no cookies, the key is the only authority."""
        return True

    def get_websocket_protocol(self) -> WebSocketProtocol | None:
        if self.request.headers.get("Sec-WebSocket-Version") != "13":
            return None
        return Handshake(self, False, _WebSocketParams(), compression=self._bridge.compression)

    def open(self, *args: str, **kwargs: str) -> None:
        assert isinstance(self.ws_connection, Handshake)
        given = self.request.query_arguments.get("apiKey")
        key = api_key(self.request.headers, given[0].decode("utf-8", "replace") if given else None)
        self._bridge.add_client(self.ws_connection.stream, key, self.ws_connection.window)
        # What refers to itself is freed only when Python's collector comes by, which it seldom does.
        self.ws_connection = None
        self.on_connection_close()

"""The HTTP side: the stream's endpoint, its description, and the two questions of a load balancer."""

import socket
from collections.abc import Sequence
from typing import Any

import structlog
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, HTTPError, RequestHandler

from tornado_bridge.bridge import WebSocketBridge
from tornado_bridge.web import asyncapi, stream
from tornado_bridge.web.doorway import Doorway
from tornado_bridge.web.stream import QuietHandler, StreamHandler

log = structlog.get_logger(__name__)

STREAM_PATH = "/public/v1/stream"

# Bounds on a connection that is no WebSocket yet.
MAX_HEADER_BYTES = 8_192
HANDSHAKE_TIMEOUT = 10.0
MAX_HANDSHAKES = 1_000

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
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, stream.SEND_BUFFER)
    server.add_sockets(sockets)
    return server, sockets[0].getsockname()[1]


def _log_request(handler: RequestHandler) -> None:
    """Log the path alone: the query may hold an API key."""
    log.debug("request", method=handler.request.method, path=handler.request.path, status=handler.get_status())


class MissingHandler(QuietHandler):
    """Whatever is not here."""

    def prepare(self) -> None:
        raise HTTPError(404)


class HealthHandler(QuietHandler):
    """Whether the process answers."""

    def get(self) -> None:
        self.write({"status": "ok"})


class ReadyHandler(QuietHandler):
    """Whether events can reach clients: 200, or 503 while the source is away or the bridge stops."""

    def initialize(self, bridge: WebSocketBridge) -> None:
        self._bridge = bridge

    def get(self) -> None:
        if not self._bridge.ready:
            self.set_status(503)
        self.write({"status": "ready" if self._bridge.ready else "unavailable"})


class DescriptionHandler(QuietHandler):
    """What clients may send and what they get, for programs; public, like the contract."""

    def initialize(self, text: str, content_type: str) -> None:
        self._text = text
        self._content_type = content_type

    def get(self) -> None:
        self.set_header("Content-Type", self._content_type)
        self.finish(self._text)

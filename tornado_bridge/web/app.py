"""The HTTP side: the stream's endpoint, its description, and the probes of a load balancer."""

from collections.abc import Sequence
from typing import Any

import structlog
from tornado.web import Application, HTTPError, RequestHandler

from tornado_bridge.bridge import WebSocketBridge
from tornado_bridge.connections.addresses import Network
from tornado_bridge.web import asyncapi, quiet, stream
from tornado_bridge.web.doorway import Doorway
from tornado_bridge.web.quiet import QuietHandler
from tornado_bridge.web.stream import StreamHandler

log = structlog.get_logger(__name__)

STREAM_PATH = "/public/v1/stream"

# Bounds on a connection that is not a WebSocket yet.
MAX_HEADER_BYTES = 8_192
MAX_BODY_BYTES = 8_192
HANDSHAKE_TIMEOUT = 10.0
MAX_HANDSHAKES = 1_000

Rule = tuple[str, type[RequestHandler], dict[str, Any]]


def routes(
    bridge: WebSocketBridge, *, allow_origin: Sequence[str] = (), trusted_proxy: Sequence[Network] = ()
) -> list[Rule]:
    """Return the bridge's routes, to be mounted in an application.

    `allow_origin` are the origins from which browsers are admitted, all if it is empty. `trusted_proxy` are the
    networks of proxies whose X-Forwarded-For names the client.
    """
    quiet.hide_requests()
    description = asyncapi.document(bridge.registry)
    origins = frozenset(allow_origin)
    as_json = {"text": asyncapi.as_json(description), "content_type": "application/json", "allow_origin": origins}
    as_yaml = {"text": asyncapi.as_yaml(description), "content_type": "application/yaml", "allow_origin": origins}
    return [
        (STREAM_PATH, StreamHandler, {"bridge": bridge, "allow_origin": origins, "trusted_proxy": trusted_proxy}),
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
    trusted_proxy: Sequence[Network] = (),
    max_handshakes: int = MAX_HANDSHAKES,
) -> tuple[Doorway, int]:
    """Open the port and serve the bridge on it. Return the server and the port; port 0 lets the kernel choose one.

    At most `max_handshakes` connections may wait for a request or have one under way. Raises OSError if the port cannot
    be had.
    """
    application = Application(
        routes(bridge, allow_origin=allow_origin, trusted_proxy=trusted_proxy),
        default_handler_class=MissingHandler,
        log_function=_log_request,
        serve_traceback=False,
    )
    server = Doorway(
        application,
        bridge=bridge,
        path=STREAM_PATH,
        allow_origin=frozenset(allow_origin),
        trusted_proxy=trusted_proxy,
        max_pending=max_handshakes,
        max_header_size=MAX_HEADER_BYTES,
        max_body_size=MAX_BODY_BYTES,
        idle_connection_timeout=HANDSHAKE_TIMEOUT,
        body_timeout=HANDSHAKE_TIMEOUT,
    )
    return server, server.listen_on(host, port, send_buffer=stream.SEND_BUFFER)


def _log_request(handler: RequestHandler) -> None:
    """Log the path without its query, which may hold an API key."""
    log.debug("request", method=handler.request.method, path=handler.request.path, status=handler.get_status())


class MissingHandler(QuietHandler):
    """Answers every other path with 404."""

    def prepare(self) -> None:
        raise HTTPError(404)


class ProbeHandler(QuietHandler):
    """A question of a load balancer, which may be asked with GET or HEAD."""

    def head(self) -> None:
        self.get()

    def get(self) -> None:
        raise NotImplementedError


class HealthHandler(ProbeHandler):
    """Whether the process answers."""

    def get(self) -> None:
        self.finish({"status": "ok"})


class ReadyHandler(ProbeHandler):
    """Whether events can reach clients: 200, or 503 while the source is away or the bridge stops."""

    def initialize(self, bridge: WebSocketBridge) -> None:
        self._bridge = bridge

    def get(self) -> None:
        if not self._bridge.ready:
            self.set_status(503)
        self.finish({"status": "ready" if self._bridge.ready else "unavailable"})


class DescriptionHandler(QuietHandler):
    """Describes for programs what clients may send and what they get. It is as public as the contract."""

    def initialize(self, text: str, content_type: str, allow_origin: frozenset[str]) -> None:
        self._text = text
        self._content_type = content_type
        self._allow_origin = allow_origin

    def get(self) -> None:
        self.set_header("Content-Type", self._content_type)
        if not self._allow_origin:
            self.set_header("Access-Control-Allow-Origin", "*")
        else:
            self.set_header("Vary", "Origin")
            origin = self.request.headers.get("Origin")
            if origin in self._allow_origin:
                self.set_header("Access-Control-Allow-Origin", str(origin))
        self.finish(self._text)

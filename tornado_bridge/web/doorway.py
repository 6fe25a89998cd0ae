"""The stream's port: the usual client is let in as it is accepted, without Tornado's HTTP."""

import functools
import logging
import socket
import time
from collections.abc import Sequence
from typing import Any

import structlog
import tornado
from tornado.httputil import format_timestamp
from tornado.iostream import IOStream, SSLIOStream

from tornado_bridge.bridge import WebSocketBridge
from tornado_bridge.connections.addresses import Network, client_of, peer_of
from tornado_bridge.web.listener import Listener
from tornado_bridge.wire import handshake

log = structlog.get_logger(__name__)
_logger = logging.getLogger(__name__)

_SERVER = f"TornadoServer/{tornado.version}"


@functools.lru_cache(1)
def _date(now: int) -> str:
    return format_timestamp(now)


class Doorway(Listener):
    """The listener of a bridge.

    The usual client sends its handshake with the connection, or has sent it by the time the connection is accepted. It
    goes to `bridge` right away and takes no place among the waiting connections. Every other connection goes through
    Tornado's HTTP, which takes several times as long (docs/performance.md).
    """

    def initialize(  # type: ignore[override]
        self,
        request_callback: Any,
        *,
        bridge: WebSocketBridge,
        path: str,
        allow_origin: frozenset[str],
        trusted_proxy: Sequence[Network],
        max_header_size: int,
        **kwargs: Any,
    ) -> None:
        self._bridge = bridge
        self._path = path
        self._allow_origin = allow_origin
        self._trusted_proxy = trusted_proxy
        self._max_header_size = max_header_size
        super().initialize(request_callback, max_header_size=max_header_size, **kwargs)

    def handle_stream(self, stream: IOStream, address: Any) -> None:
        if not self._let_in(stream, address):
            super().handle_stream(stream, address)

    def _let_in(self, stream: IOStream, address: Any) -> bool:
        """Let in the usual client. False leaves all that it has sent to be read."""
        if isinstance(stream, SSLIOStream):
            return False
        try:
            begun = handshake.read(stream.socket.recv(self._max_header_size, socket.MSG_PEEK))
        except OSError:
            return False
        if begun is None or begun[0].path != self._path:
            return False
        request, size = begun
        decision = handshake.decide(
            request, allow_origin=self._allow_origin, compression=self._bridge.compression, full=self._bridge.full
        )
        if isinstance(decision, handshake.Refused):
            # The handler asks the same question, and Tornado writes the answer.
            return False
        answer = handshake.answer(decision, server=_SERVER, date=_date(int(time.time())))
        try:
            stream.socket.recv(size)
            sent = stream.socket.send(answer)
        except OSError:  # the peer has gone
            stream.close()
            return True
        if sent < len(answer):
            stream.write(answer[sent:])
        # To make a line that nobody wants would take 15 µs.
        if _logger.isEnabledFor(logging.DEBUG):
            log.debug("request", method="GET", path=self._path, status=101)
        self._hand_over(stream, decision, client_of(peer_of(address), request.headers, self._trusted_proxy))
        return True

    def _hand_over(self, stream: IOStream, accepted: handshake.Accepted, address: str) -> None:
        handed_over = False
        try:
            self._bridge.add_client(stream, accepted.key, accepted.window, address=address)
            handed_over = True
        finally:
            if not handed_over:
                stream.close()

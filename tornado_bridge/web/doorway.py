"""The way in: which connections are taken, and which of them need not go through Tornado's HTTP."""

import functools
import logging
import socket
import time
from typing import Any

import structlog
import tornado
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerConnectionDelegate, format_timestamp
from tornado.iostream import IOStream

from tornado_bridge.bridge import WebSocketBridge
from tornado_bridge.logs import ThrottledLog
from tornado_bridge.wire import handshake

log = structlog.get_logger(__name__)
_logger = logging.getLogger(__name__)

_SERVER = f"TornadoServer/{tornado.version}"


@functools.lru_cache(1)
def _date(now: int) -> str:
    return format_timestamp(now)


class Doorway(HTTPServer):
    """An HTTP server that holds at most `max_handshakes` connections which are no WebSocket yet.

    A connection past that is closed unread: whoever floods the door pays with other newcomers, never with a client.
    The usual client sends its handshake with the connection, or has sent it by the time the connection is accepted. It
    goes to `bridge` right away. Every other connection goes through Tornado's HTTP, which takes several times as long
    (docs/performance.md).
    """

    def initialize(  # type: ignore[override]
        self,
        request_callback: HTTPServerConnectionDelegate,
        *,
        bridge: WebSocketBridge,
        path: str,
        allow_origin: frozenset[str],
        max_handshakes: int,
        max_header_size: int,
        **kwargs: Any,
    ) -> None:
        self._bridge = bridge
        self._path = path
        self._allow_origin = allow_origin
        self._max_handshakes = max_handshakes
        self._max_header_size = max_header_size
        self._handshakes = 0
        self._log = ThrottledLog(log)
        logging.getLogger("tornado.general").addFilter(_without_quotation)
        logging.getLogger("tornado.application").addFilter(_without_traceback)
        super().initialize(request_callback, max_header_size=max_header_size, **kwargs)

    def handle_stream(self, stream: IOStream, address: Any) -> None:
        if self._handshakes >= self._max_handshakes:
            self._log.warning("connection turned away: too many have not been admitted yet")
            stream.close()
            return
        if not self._let_in(stream):
            self._handshakes += 1
            super().handle_stream(stream, address)

    def _let_in(self, stream: IOStream) -> bool:
        """Let in the usual client. False leaves all that it has sent to be read."""
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
            # Tornado's way asks the same question, and has the means to write the answer.
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
        self._hand_over(stream, decision)
        return True

    def _hand_over(self, stream: IOStream, accepted: handshake.Accepted) -> None:
        handed_over = False
        try:
            self._bridge.add_client(stream, accepted.key, accepted.window)
            handed_over = True
        finally:
            if not handed_over:
                stream.close()

    def on_close(self, server_conn: object) -> None:
        self._handshakes -= 1
        super().on_close(server_conn)


def _without_quotation(record: logging.LogRecord) -> bool:
    """Cut off what Tornado quotes of a malformed request: it may be an API key."""
    if str(record.msg).startswith("Malformed HTTP message"):
        record.msg, record.args = "Malformed HTTP message", ()
    return True


def _without_traceback(record: logging.LogRecord) -> bool:
    """Leave of an exception that a connection ran into its name: its text and its frames may hold an API key."""
    if record.msg == "Error in connection callback" and record.exc_info and record.exc_info[0]:
        record.msg, record.exc_info = f"Error in connection callback: {record.exc_info[0].__name__}", None
    return True

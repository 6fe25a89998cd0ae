"""A port that strangers cannot close: bounds on the connections that are not a WebSocket yet."""

import errno
import socket
from collections import Counter
from typing import Any

import structlog
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPConnection, HTTPMessageDelegate
from tornado.ioloop import IOLoop
from tornado.iostream import IOStream
from tornado.netutil import bind_sockets

from tornado_bridge.connections.addresses import group_of, peer_of
from tornado_bridge.logs import ThrottledLog

log = structlog.get_logger(__name__)

BACKLOG = 1024

# `accept` fails with these while the process or the system is out of descriptors or memory.
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

# Seconds for which a port accepts nothing after that.
PAUSE = 0.5

# When all places are taken, one client group may have this share of them. Behind a proxy all clients share its address,
# so the share is not small.
SHARE = 0.5


class Listener(HTTPServer):
    """An HTTP server that holds at most `max_pending` connections which wait for a request or have one under way.

    When all places are taken, the connection that has been quiet for longest is closed. So a newcomer is always served:
    strangers who fill the places compete with each other. A client group that has half of the places or more gives up
    its own quietest connection. A connection counts as young again when it has been answered.
    """

    def initialize(self, request_callback: Any, *, max_pending: int, **kwargs: Any) -> None:  # type: ignore[override]
        self._max_pending = max_pending
        self._max_per_group = max(1, int(max_pending * SHARE))
        # The waiting connections with their client group and Tornado's reader of their requests. The one that has been
        # quiet for longest comes first.
        self._pending: dict[IOStream, tuple[str, Any]] = {}
        self._groups: Counter[str] = Counter()
        # The groups that have their share of the places.
        self._crowded: dict[str, None] = {}
        self._faults = ThrottledLog(log)
        super().initialize(request_callback, **kwargs)

    @property
    def pending(self) -> int:
        """Connections that wait for a request or have one under way."""
        return len(self._pending)

    def listen_on(self, host: str, port: int, *, send_buffer: int | None = None) -> int:
        """Open the port and return its number. Port 0 lets the kernel choose one.

        `send_buffer` is the size in bytes of the kernel's buffer for each connection. Raises OSError if the port cannot
        be had.
        """
        sockets = [_PausingSocket(self._faults, one) for one in bind_sockets(port, host, backlog=BACKLOG)]
        if send_buffer is not None:
            for listening in sockets:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        self.add_sockets(sockets)
        return int(sockets[0].getsockname()[1])

    def handle_stream(self, stream: IOStream, address: Any) -> None:
        group = group_of(peer_of(address))
        if len(self._pending) >= self._max_pending:
            self._close_quietest(group if group in self._crowded else next(iter(self._crowded), None))
        self._pending[stream] = group, None
        self._groups[group] += 1
        if self._groups[group] >= self._max_per_group:
            self._crowded[group] = None
        super().handle_stream(stream, address)

    def start_request(self, server_conn: Any, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        # Tornado calls this for a new connection, and again each time a request has been answered.
        known = self._pending.pop(server_conn.stream, None)
        if known is not None:
            self._pending[server_conn.stream] = known[0], request_conn
        return super().start_request(server_conn, request_conn)

    def on_close(self, server_conn: Any) -> None:
        self._forget(server_conn.stream)
        super().on_close(server_conn)

    def _close_quietest(self, group: str | None) -> None:
        """Close the connection that has been quiet for longest, of one group or of all."""
        for quietest, (its_group, reader) in self._pending.items():
            # A reader without a stream has just handed it over: it is an admitted client now.
            if group in (None, its_group) and (reader is None or reader.stream is not None):
                self._faults.warning("waiting connection closed: all places for requests are taken")
                self._forget(quietest)
                quietest.close()
                return

    def _forget(self, stream: IOStream) -> None:
        known = self._pending.pop(stream, None)
        if known is not None:
            group, _ = known
            self._groups[group] -= 1
            if self._groups[group] < self._max_per_group:
                self._crowded.pop(group, None)
            if not self._groups[group]:
                del self._groups[group]


class _PausingSocket(socket.socket):
    """A listening socket that pauses when `accept` fails for want of descriptors.

    The kernel keeps reporting the waiting connection, so without a pause the loop would do nothing but fail.
    """

    def __init__(self, faults: ThrottledLog, listening: socket.socket) -> None:
        super().__init__(fileno=listening.detach())
        self.setblocking(False)
        self._faults = faults

    def accept(self) -> tuple[socket.socket, Any]:
        try:
            return super().accept()
        except OSError as error:
            if error.errno not in _EXHAUSTED:
                raise
            self._faults.error("no connection accepted: out of file descriptors", cause=error.strerror, seconds=PAUSE)
            IOLoop.current().update_handler(self.fileno(), 0)
            IOLoop.current().call_later(PAUSE, self._resume)
            raise BlockingIOError from None

    def _resume(self) -> None:
        if self.fileno() != -1:
            IOLoop.current().update_handler(self.fileno(), IOLoop.READ)

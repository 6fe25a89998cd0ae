"""The stream's endpoint as a Tornado WebSocketHandler: the handshake, and Tornado's own pings."""

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

from tornado.websocket import WebSocketHandler, WebSocketProtocol, WebSocketProtocol13, _WebSocketParams

from tornado_bridge.bridge import WebSocketBridge
from tornado_bridge.connections.addresses import LOCAL, Network, client_of
from tornado_bridge.connections.outlet import Outlet
from tornado_bridge.web.quiet import QuietHandler
from tornado_bridge.wire import frames, handshake

# Bytes that the kernel may hold for a client that does not read (it doubles the figure for its own accounting). Left
# to itself it takes up to 4 MB before user space sees that the client is slow.
SEND_BUFFER = 131_072


class Handover(WebSocketProtocol13):
    """Tornado's handshake and its pings. The frames are the bridge's, so it reads none.

    Tornado pings each `ping_interval` and closes when no pong has come by the next ping. Here its pings go through the
    client's outlet, so that none lands inside another frame, and its close is an abort, since the peer does not answer.
    """

    _outlet: Outlet | None = None
    _pinging: "asyncio.Task[None] | None" = None

    def attach(self, outlet: Outlet) -> None:
        """Start to ping an admitted client."""
        self._outlet = outlet
        # The bridge serves the client from now on. The request and its handler can be freed.
        del self.handler
        self.start_pinging()

    def start_pinging(self) -> None:
        """Ping admitted clients alone: Tornado calls this before the key has been looked at."""
        if self._outlet is not None:
            super().start_pinging()

    async def periodic_ping(self) -> None:
        self._pinging = asyncio.current_task()
        await super().periodic_ping()

    def write_ping(self, data: bytes) -> None:
        if self._outlet is not None:
            self._outlet.write(frames.PING)

    def note_pong(self) -> None:
        """Tell Tornado of a pong that the bridge has read."""
        self._received_pong = True

    def stop(self) -> None:
        """Stop to ping."""
        self._outlet = None
        if self._pinging is not None:
            self._pinging.cancel()

    def close(self, code: int | None = None, reason: str | None = None) -> None:
        if self._outlet is not None:
            self._outlet.abort("no answer to a ping")

    async def _receive_frame_loop(self) -> None:
        """Leave the frames to the bridge, in a task of its own, so that request and handler can be freed."""


class StreamHandler(QuietHandler, WebSocketHandler):
    """The opening handshake of a client. Its stream then goes to the bridge."""

    def initialize(
        self, bridge: WebSocketBridge, allow_origin: frozenset[str], trusted_proxy: Sequence[Network] = ()
    ) -> None:
        self._bridge = bridge
        self._allow_origin = allow_origin
        self._trusted_proxy = trusted_proxy
        self._accepted: handshake.Accepted | None = None

    async def get(self, *args: Any, **kwargs: Any) -> None:
        decision = handshake.decide(
            self.request,
            allow_origin=self._allow_origin,
            compression=self._bridge.compression,
            full=self._bridge.full,
        )
        if isinstance(decision, handshake.Refused):
            self.set_status(decision.status)
            for name, value in decision.headers:
                self.set_header(name, value)
            self.finish(decision.text)
            return
        self._accepted = decision
        if decision.extensions is not None:
            self.set_header("Sec-WebSocket-Extensions", decision.extensions)
        await super().get(*args, **kwargs)

    @property
    def ping_interval(self) -> float:
        """The bridge's own interval, in seconds, in place of the setting `websocket_ping_interval`."""
        return self._bridge.limits.ping_interval

    def check_origin(self, origin: str) -> bool:
        """Admit every origin that `decide` has admitted. There are no cookies: the key is the only authority."""
        return True

    def get_websocket_protocol(self) -> WebSocketProtocol | None:
        return Handover(self, False, _WebSocketParams(ping_interval=self.ping_interval))

    def open(self, *args: str, **kwargs: str) -> None:
        assert self._accepted is not None
        assert isinstance(self.ws_connection, Handover)
        handover = self.ws_connection
        if not handover.stream.closed():
            handover.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        address = client_of(self.request.remote_ip or LOCAL, self.request.headers, self._trusted_proxy)
        accepted = self._accepted
        self._bridge.add_client(handover.stream, accepted.key, accepted.window, pings=handover, address=address)
        # Python's collector seldom runs, so the cycle of handler and protocol is broken by hand.
        self.ws_connection = None
        self.on_connection_close()

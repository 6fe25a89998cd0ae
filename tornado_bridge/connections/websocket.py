"""One WebSocket, from the end of Tornado's opening handshake to the end of the connection (RFC 6455)."""

import asyncio
import base64
import binascii
from collections.abc import Callable

from tornado.iostream import IOStream, StreamClosedError
from tornado.websocket import WebSocketHandler, WebSocketProtocol13, _WebSocketParams

from tornado_bridge.connections.outlet import Outlet
from tornado_bridge.wire import deflate, frames
from tornado_bridge.wire.frames import FrameReader, Opcode, ProtocolError, Received

# One turn of the loop reads at most this many bytes of one client and handles at most this many messages and control
# frames; a message that is longer than the former, as a compressed one can be, is the last of its turn.
READ_SIZE = 8_192
TURN = 64

# From the close frame to the end of the TCP connection, in seconds; the contract allows 0.25.
LINGER = 0.2

# What is read and thrown away in that time, in bytes.
LINGER_BYTES = 1 << 20


class Handshake(WebSocketProtocol13):
    """Tornado's opening handshake, and nothing after it: the handler's `open` hands the stream over.

    With `compression` it agrees on permessage-deflate with those who offer it; `window` is the window then, in bits.
    """

    def __init__(
        self, handler: WebSocketHandler, mask_outgoing: bool, params: _WebSocketParams, *, compression: bool = False
    ) -> None:
        super().__init__(handler, mask_outgoing, params)
        self._compression = compression
        self.window: int | None = None

    def _handle_websocket_headers(self, handler: WebSocketHandler) -> None:
        super()._handle_websocket_headers(handler)
        try:
            nonce = base64.b64decode(handler.request.headers["Sec-WebSocket-Key"], validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("Sec-WebSocket-Key is no base64") from None
        if len(nonce) != 16:
            raise ValueError("Sec-WebSocket-Key is not 16 bytes")
        offers = handler.request.headers.get("Sec-WebSocket-Extensions", "")
        agreement = deflate.agree(offers) if self._compression else None
        if agreement is not None:
            self.window = agreement.window
            handler.set_header("Sec-WebSocket-Extensions", agreement.header)

    def start_pinging(self) -> None:
        """Leave the heartbeat to the bridge: one task for all connections."""

    async def _receive_frame_loop(self) -> None:
        """Leave the frames to WebSocket, in a task of its own, so that request and handler can be freed."""


class WebSocket:
    """Reads one client's frames, answers its pings and its close.

    `on_text` is called with every message, `on_pong` with nothing for every pong, `on_closing` once before a close
    frame goes out, whoever asked for it: no data may follow it. None of them may wait.
    """

    __slots__ = ("_linger", "_on_closing", "_on_pong", "_on_text", "_outlet", "_reader", "_stream", "closing")

    def __init__(
        self,
        stream: IOStream,
        outlet: Outlet,
        *,
        max_message: int,
        on_text: Callable[[str], None],
        on_pong: Callable[[], None],
        on_closing: Callable[[], None],
    ) -> None:
        self._stream = stream
        self._outlet = outlet
        self._reader = FrameReader(max_message, None if outlet.window is None else deflate.inflate)
        self._on_text = on_text
        self._on_pong = on_pong
        self._on_closing = on_closing
        self._linger: asyncio.TimerHandle | None = None
        self.closing = False

    async def run(self) -> None:
        """Serve the client until its connection has ended, for whatever reason."""
        discarded = 0
        try:
            while True:
                data = await self._stream.read_bytes(READ_SIZE, partial=True)
                if self.closing:
                    discarded += len(data)
                    if discarded > LINGER_BYTES:
                        self._outlet.abort()
                else:
                    await self._serve(data)
                # A read that finds bytes waiting does not give way by itself.
                await asyncio.sleep(0)
        except StreamClosedError:
            self.closing = True
        finally:
            if self._linger is not None:
                self._linger.cancel()
            # Whatever else has ended this: nobody would serve the client any more.
            self._outlet.abort()

    async def _serve(self, data: bytes) -> None:
        try:
            size = 0
            for number, received in enumerate(self._reader.feed(data), start=1):
                self._take(received)
                size += len(received.text) + len(received.payload)
                if number % TURN == 0 or size >= READ_SIZE:
                    size = 0
                    await asyncio.sleep(0)
                if self.closing or self._stream.closed():
                    return
        except ProtocolError as error:
            self.close(error.code, error.reason)

    def _take(self, received: Received) -> None:
        if received.opcode is Opcode.TEXT:
            self._on_text(received.text)
        elif received.opcode is Opcode.BINARY:
            self._on_binary(received.payload)
        elif received.opcode is Opcode.PING:
            self._outlet.pong(received.payload)
        elif received.opcode is Opcode.PONG:
            self._on_pong()
        else:
            self.close(received.code)

    def _on_binary(self, payload: bytes) -> None:
        """Take a binary message as its UTF-8 text (PROTOCOL.md section 1)."""
        self._on_text(frames.utf8(payload))

    def close(self, code: int | None, reason: str = "") -> None:
        """Send a close frame; the connection ends within LINGER seconds, and nothing more is processed.

        What the peer still sends is read and thrown away, or the kernel would reset the connection and with it the
        close frame on its way.
        """
        if self.closing:
            return
        self.closing = True
        self._on_closing()
        self._outlet.write(frames.close(code, reason))
        self._outlet.finish()
        self._linger = asyncio.get_running_loop().call_later(LINGER, self._outlet.abort)

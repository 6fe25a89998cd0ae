"""Three readers of a client's frames with one form of result: the bridge's, websockets' and Tornado's."""

import contextlib
import dataclasses
from asyncio import Future

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application
from tornado.websocket import WebSocketHandler, WebSocketProtocol, WebSocketProtocol13, _WebSocketParams
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Close, Frame
from websockets.frames import Opcode as TheirOpcode
from websockets.protocol import SERVER, Protocol

from tests.support.raw import CLOSE, RawClient, handshake, until
from tornado_bridge.wire import deflate
from tornado_bridge.wire.frames import Opcode, ProtocolError
from tornado_bridge.wire.reader import FrameReader

MAX_MESSAGE = 1_000

OPEN = "open"
CLOSED = "closed"
FAILED = "failed"


@dataclasses.dataclass(frozen=True)
class Reading:
    """What a reader makes of a stream: messages, pings and pongs by kind and payload, and how it ends.

    `end` is OPEN if the reader waits for more bytes, CLOSED after a close frame with `code` and `reason`, and FAILED
    after an error. The code of an error is None for a reader that does not say it.
    """

    messages: tuple[tuple[str, bytes], ...] = ()
    end: str = OPEN
    code: int | None = None
    reason: str = ""


def by_bridge(stream: bytes, *, compressed: bool = False) -> Reading:
    reader = FrameReader(MAX_MESSAGE, deflate.inflate if compressed else None)
    messages: list[tuple[str, bytes]] = []
    try:
        for received in reader.feed(stream):
            if received.opcode is Opcode.CLOSE:
                return Reading(tuple(messages), CLOSED, received.code, received.text)
            messages.append((received.opcode.name.lower(), received.payload or received.text.encode()))
    except ProtocolError as error:
        return Reading(tuple(messages), FAILED, int(error.code))
    return Reading(tuple(messages))


def by_websockets(stream: bytes, *, compressed: bool = False) -> Reading:
    """Read with websockets' own Protocol. Its connections join the fragments and decode the text, as here."""
    protocol = Protocol(SERVER, max_size=MAX_MESSAGE)
    if compressed:
        protocol.extensions = [PerMessageDeflate(True, True, 15, 15)]
    protocol.receive_data(stream)
    messages: list[tuple[str, bytes]] = []
    kind, message = "", b""
    for frame in protocol.events_received():
        assert isinstance(frame, Frame)  # the handshake lies behind this protocol
        data = bytes(frame.data)
        if frame.opcode is TheirOpcode.CLOSE:
            close = Close.parse(data)
            return Reading(tuple(messages), CLOSED, close.code if data else None, close.reason)
        if frame.opcode in (TheirOpcode.PING, TheirOpcode.PONG):
            messages.append((frame.opcode.name.lower(), data))
            continue
        if frame.opcode is not TheirOpcode.CONT:
            kind, message = frame.opcode.name.lower(), b""
        message += data
        if frame.fin:
            if kind == "text" and not _is_utf8(message):
                return Reading(tuple(messages), FAILED, 1007)
            messages.append((kind, message))
    if protocol.parser_exc is None:
        return Reading(tuple(messages))
    assert protocol.close_sent is not None
    return Reading(tuple(messages), FAILED, protocol.close_sent.code)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


class _Watched(WebSocketProtocol13):
    """Tornado's own reader, which tells whether it waits for more bytes than it has."""

    closed_by_peer = False
    _waiting_for = 0

    async def _read_bytes(self, n: int) -> bytes:
        self._waiting_for = n
        try:
            return await super()._read_bytes(n)
        finally:
            self._waiting_for = 0

    def _handle_message(self, opcode: int, data: bytes) -> "Future[None] | None":
        handled = super()._handle_message(opcode, data)
        self.closed_by_peer = opcode == CLOSE
        return handled

    def waits_after(self, size: int) -> bool:
        """Tell whether the first `size` bytes of the stream have come, and are not enough to go on."""
        come = self._wire_bytes_in + self.stream._read_buffer_size
        return come == size and self._waiting_for > self.stream._read_buffer_size


class _Noting(WebSocketHandler):
    """Takes down what Tornado's reader hands out."""

    def initialize(self, opened: "list[_Noting]") -> None:
        self.messages: list[tuple[str, bytes]] = []
        self.ended = False
        self.protocol: _Watched | None = None
        opened.append(self)

    def get_websocket_protocol(self) -> WebSocketProtocol:
        self.protocol = _Watched(self, False, _WebSocketParams(max_message_size=MAX_MESSAGE))
        return self.protocol

    def on_message(self, message: str | bytes) -> None:
        self.messages.append(("text", message.encode()) if isinstance(message, str) else ("binary", message))

    def on_ping(self, data: bytes) -> None:
        self.messages.append(("ping", data))

    def on_pong(self, data: bytes) -> None:
        self.messages.append(("pong", data))

    def on_close(self) -> None:
        self.ended = True


class TornadoReader:
    """Tornado's WebSocketProtocol13 behind a real port, one connection per stream."""

    def __init__(self) -> None:
        self._opened: list[_Noting] = []
        application = Application([("/", _Noting, {"opened": self._opened})])
        self.server = HTTPServer(application)
        [listening] = bind_sockets(0, "127.0.0.1")
        self.server.add_socket(listening)
        self._port = listening.getsockname()[1]

    async def read(self, stream: bytes) -> Reading:
        self._opened.clear()
        with await RawClient.connect(self._port) as client:
            await client.send(handshake(None, target="/"))
            assert await client.status() == 101
            [handler] = self._opened
            protocol = handler.protocol
            assert protocol is not None
            with contextlib.suppress(ConnectionError):  # it may be cut before it has read everything
                await client.send(stream)
            await until(lambda: handler.ended or protocol.waits_after(len(stream)))
            messages = tuple(handler.messages)
            if not handler.ended:
                return Reading(messages)
            if not protocol.closed_by_peer:
                return Reading(messages, FAILED)
            return Reading(messages, CLOSED, handler.close_code, handler.close_reason or "")

    async def close(self) -> None:
        self.server.stop()
        await self.server.close_all_connections()

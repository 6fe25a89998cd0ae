"""Reads the frames of one client (RFC 6455), in whatever pieces the socket brings them."""

import codecs
import dataclasses
from collections.abc import Callable, Iterator

from tornado_bridge.wire.frames import COMPRESSED, FIN, MAX_CONTROL, CloseCode, Opcode, ProtocolError

_RESERVED = 0x70
_MASKED = 0x80


@dataclasses.dataclass(frozen=True, slots=True)
class Received:
    """A whole message or a control frame. `opcode` is TEXT, BINARY, CLOSE, PING or PONG.

    `text` is the text of a message or the reason of a close frame. `payload` belongs to a binary message, a ping or a
    pong. `code` belongs to a close frame; it is None if the frame has no code.
    """

    opcode: Opcode
    text: str = ""
    payload: bytes = b""
    code: int | None = None


Inflate = Callable[[bytes, int], bytes]

_utf8_decoder = codecs.getincrementaldecoder("utf-8")
# Stands in until the first fragment, which brings its own decoder.
_NO_DECODER = _utf8_decoder()


class FrameReader:
    """Reads the frames of one client.

    `max_message` bounds a message in bytes, all its fragments together. Between two reads the reader holds at most that
    much and one frame header. `inflate` is needed with permessage-deflate: it takes a compressed payload and the
    largest size of its message, and returns the message or raises ProtocolError.
    """

    __slots__ = ("_buffer", "_compressed", "_decoder", "_inflate", "_max_message", "_message", "_opcode", "frames")

    def __init__(self, max_message: int, inflate: Inflate | None = None) -> None:
        self._max_message = max_message
        self._inflate = inflate
        self._compressed = False
        self._buffer = b""
        # Fragments are kept as bytes: a str of one character takes as much memory as 80 bytes.
        self._message: bytearray | None = None
        self._opcode = Opcode.TEXT
        self._decoder = _NO_DECODER
        # Frames read so far, fragments and control frames included.
        self.frames = 0

    def feed(self, data: bytes) -> Iterator[Received]:
        """Yield the messages and control frames that `data` completes.

        Raises ProtocolError at the first frame that breaks RFC 6455, after it has yielded everything before that frame.
        """
        buffer = self._buffer + data if self._buffer else data
        start = 0
        try:
            while (frame := self._next_frame(buffer, start)) is not None:
                first, payload, start = frame
                self.frames += 1
                received = self._take(first, payload)
                if received is not None:
                    yield received
        finally:
            self._buffer = buffer[start:]

    def _next_frame(self, buffer: bytes, start: int) -> tuple[int, bytes, int] | None:
        """Return first byte, unmasked payload and end of the frame at `start`, or None if it is not whole."""
        if len(buffer) - start < 2:
            return None
        first, second = buffer[start], buffer[start + 1]
        length = second & ~_MASKED
        _check_header(first, second, length, 0 if self._inflate is None else COMPRESSED)
        start += 2
        if length >= 126:
            size = 2 if length == 126 else 8
            if len(buffer) - start < size:
                return None
            length = int.from_bytes(buffer[start : start + size])
            start += size
            if length >= 1 << 63:
                raise ProtocolError(CloseCode.PROTOCOL_ERROR, "Frame length out of range")
        most = self._max_message
        if self._compressed or first & COMPRESSED:
            # Deflate stores what it cannot compress in blocks, which take at most this much more.
            most += most // 64 + 64
        if not first & 0x8 and len(self._message or b"") + length > most:
            raise ProtocolError(CloseCode.MESSAGE_TOO_BIG, "Message too big")
        end = start + 4 + length
        if len(buffer) < end:
            return None
        return first, _unmask(buffer[start : start + 4], buffer[start + 4 : end]), end

    def _take(self, first: int, payload: bytes) -> Received | None:
        opcode = Opcode(first & 0x0F)
        final = bool(first & FIN)
        if opcode is Opcode.PING or opcode is Opcode.PONG:
            return Received(opcode, payload=payload)
        if opcode is Opcode.CLOSE:
            return _close(payload)
        if opcode is Opcode.CONTINUATION:
            return self._continue(payload, final)
        if self._message is not None:
            raise ProtocolError(CloseCode.PROTOCOL_ERROR, "Message inside a message")
        compressed = bool(first & COMPRESSED)
        if final:
            return self._whole(opcode, payload, compressed)
        self._opcode = opcode
        self._compressed = compressed
        self._message = bytearray()
        self._decoder = _utf8_decoder()
        return self._continue(payload, final)

    def _continue(self, payload: bytes, final: bool) -> Received | None:
        if self._message is None:
            raise ProtocolError(CloseCode.PROTOCOL_ERROR, "Nothing to continue")
        self._message += payload
        if self._opcode is Opcode.TEXT and not self._compressed:
            # RFC 6455 section 8.1: invalid UTF-8 fails at the fragment that shows it.
            try:
                self._decoder.decode(payload, final)
            except UnicodeDecodeError:
                raise ProtocolError(CloseCode.INVALID_DATA, "Invalid UTF-8") from None
        if not final:
            return None
        message, self._message = bytes(self._message), None
        compressed, self._compressed = self._compressed, False
        return self._whole(self._opcode, message, compressed)

    def _whole(self, opcode: Opcode, payload: bytes, compressed: bool) -> Received:
        if compressed:
            assert self._inflate is not None  # RSV1 would have been refused
            payload = self._inflate(payload, self._max_message)
        if opcode is Opcode.BINARY:
            return Received(opcode, payload=payload)
        return Received(opcode, text=utf8(payload))


def utf8(payload: bytes) -> str:
    """Return the text of a payload. Raises ProtocolError if it is not UTF-8."""
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise ProtocolError(CloseCode.INVALID_DATA, "Invalid UTF-8") from None


def _check_header(first: int, second: int, length: int, agreed: int) -> None:
    """Refuse a frame by its first two bytes, before waiting for the rest.

    `agreed` are the reserved bits that the first frame of a message may set.
    """
    reserved = first & _RESERVED
    if reserved and (reserved != agreed or first & 0x0F not in (Opcode.TEXT, Opcode.BINARY)):
        raise ProtocolError(CloseCode.PROTOCOL_ERROR, "Reserved bits set")
    opcode = first & 0x0F
    if opcode not in _OPCODES:
        raise ProtocolError(CloseCode.PROTOCOL_ERROR, "Unknown opcode")
    if opcode & 0x8 and (not first & FIN or length > MAX_CONTROL):
        raise ProtocolError(CloseCode.PROTOCOL_ERROR, "Control frame fragmented or too long")
    if not second & _MASKED:
        raise ProtocolError(CloseCode.PROTOCOL_ERROR, "Frame not masked")


_OPCODES = frozenset(Opcode)


def _unmask(mask: bytes, payload: bytes) -> bytes:
    size = len(payload)
    if not size:
        return b""
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload) ^ int.from_bytes(key)).to_bytes(size)


def _close(payload: bytes) -> Received:
    if not payload:
        return Received(Opcode.CLOSE)
    if len(payload) == 1:
        raise ProtocolError(CloseCode.PROTOCOL_ERROR, "Close code cut short")
    code = int.from_bytes(payload[:2])
    if not _may_be_sent(code):
        raise ProtocolError(CloseCode.PROTOCOL_ERROR, "Invalid close code")
    return Received(Opcode.CLOSE, code=code, text=utf8(payload[2:]))


def _may_be_sent(code: int) -> bool:
    """Tell whether a peer may send a close code: RFC 6455 section 7.4.2, and the codes registered with IANA since."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999

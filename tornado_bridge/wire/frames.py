"""The frames of RFC 6455: the bytes of those a server sends, a reader of those a client sends.

Server frames carry no mask, so the bytes of a frame are made once and shared by every connection.
"""

import codecs
import dataclasses
import enum
import struct
from collections.abc import Callable, Iterator


class CloseCode(enum.IntEnum):
    """RFC 6455 section 7.4.1, and the bridge's own of PROTOCOL.md section 1."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    INVALID_DATA = 1007
    MESSAGE_TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    UNAUTHORIZED = 4001
    TOO_MANY_CONNECTIONS = 4008


class Opcode(enum.IntEnum):
    """RFC 6455 section 5.2."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


_FIN = 0x80
_RESERVED = 0x70
_COMPRESSED = 0x40  # RSV1 (RFC 7692 section 6)
_MASKED = 0x80
_MAX_CONTROL = 125

PING = bytes((_FIN | Opcode.PING, 0))

# One is made for every event, so its two shorter headers are made before.
_SHORT_TEXT = tuple(bytes((_FIN | Opcode.TEXT, length)) for length in range(126))
_MEDIUM_TEXT = bytes((_FIN | Opcode.TEXT, 126))
_SHORT_COMPRESSED = tuple(bytes((_FIN | _COMPRESSED | Opcode.TEXT, length)) for length in range(126))


def message(opcode: Opcode, payload: bytes) -> bytes:
    """Return the one frame of a whole message, TEXT (of UTF-8 bytes) or BINARY."""
    return _header(opcode, len(payload)) + payload


def text(payload: bytes) -> bytes:
    """Return the text frame of UTF-8 bytes."""
    length = len(payload)
    if length < 126:
        return _SHORT_TEXT[length] + payload
    if length < 1 << 16:
        return _MEDIUM_TEXT + length.to_bytes(2) + payload
    return message(Opcode.TEXT, payload)


def compressed(payload: bytes) -> bytes:
    """Return the text frame of a payload that permessage-deflate has compressed."""
    length = len(payload)
    if length < 126:
        return _SHORT_COMPRESSED[length] + payload
    return _header(_COMPRESSED | Opcode.TEXT, length) + payload


def payload_of(frame: bytes) -> bytes:
    """Return the payload of a frame of ours."""
    length = frame[1]
    return frame[2:] if length < 126 else frame[4:] if length == 126 else frame[10:]


def pong(payload: bytes) -> bytes:
    """Return the pong that answers a ping of that payload (at most 125 bytes)."""
    return _header(Opcode.PONG, len(payload)) + payload


def close(code: int | None, reason: str = "") -> bytes:
    """Return the close frame of a code and a reason of at most 123 bytes; one without either for None."""
    payload = b"" if code is None else code.to_bytes(2) + reason.encode()
    return _header(Opcode.CLOSE, len(payload)) + payload


def _header(first: int, length: int) -> bytes:
    if length < 126:
        return bytes((_FIN | first, length))
    if length < 1 << 16:
        return struct.pack("!BBH", _FIN | first, 126, length)
    return struct.pack("!BBQ", _FIN | first, 127, length)


class ProtocolError(Exception):
    """What a peer sent breaks the protocol; the connection ends with `code` and `reason`."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclasses.dataclass(frozen=True, slots=True)
class Received:
    """A whole message or a control frame: `opcode` is TEXT, BINARY, CLOSE, PING or PONG.

    `text` is that of a text message or the reason of a close, `payload` that of a binary message, ping or pong, `code`
    that of a close (None where it has none).
    """

    opcode: Opcode
    text: str = ""
    payload: bytes = b""
    code: int | None = None


Inflate = Callable[[bytes, int], bytes]

_utf8_decoder = codecs.getincrementaldecoder("utf-8")
# Stands in until the first fragment, which brings one of its own.
_NO_DECODER = _utf8_decoder()


class FrameReader:
    """Reads the frames of one client out of whatever pieces the socket brings.

    `max_message` bounds a message, fragments together, in bytes. At most that much and a frame's header is held back
    between two reads. `inflate` is given where permessage-deflate was agreed on: it returns the message of a compressed
    payload, of at most so many bytes, or raises ProtocolError.
    """

    __slots__ = ("_buffer", "_compressed", "_decoder", "_inflate", "_max_message", "_message", "_opcode")

    def __init__(self, max_message: int, inflate: Inflate | None = None) -> None:
        self._max_message = max_message
        self._inflate = inflate
        self._compressed = False
        self._buffer = b""
        # Bytes, not text: a text of one character takes as much memory as 80 bytes.
        self._message: bytearray | None = None
        self._opcode = Opcode.TEXT
        self._decoder = _NO_DECODER

    def feed(self, data: bytes) -> Iterator[Received]:
        """Yield what `data` completes.

        Raises ProtocolError at the first frame that breaks RFC 6455; what came before it has been yielded.
        """
        buffer = self._buffer + data if self._buffer else data
        start = 0
        try:
            while (frame := self._next_frame(buffer, start)) is not None:
                first, payload, start = frame
                received = self._take(first, payload)
                if received is not None:
                    yield received
        finally:
            self._buffer = buffer[start:]

    def _next_frame(self, buffer: bytes, start: int) -> tuple[int, bytes, int] | None:
        """Return first byte, unmasked payload and end of the frame at `start`, None while it is not whole."""
        if len(buffer) - start < 2:
            return None
        first, second = buffer[start], buffer[start + 1]
        length = second & ~_MASKED
        _check_header(first, second, length, 0 if self._inflate is None else _COMPRESSED)
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
        if self._compressed or first & _COMPRESSED:
            # Stored blocks, which is what deflate makes of what it cannot compress, take so much more at the most.
            most += most // 64 + 64
        if not first & 0x8 and len(self._message or b"") + length > most:
            raise ProtocolError(CloseCode.MESSAGE_TOO_BIG, "Message too big")
        end = start + 4 + length
        if len(buffer) < end:
            return None
        return first, _unmask(buffer[start : start + 4], buffer[start + 4 : end]), end

    def _take(self, first: int, payload: bytes) -> Received | None:
        opcode = Opcode(first & 0x0F)
        final = bool(first & _FIN)
        if opcode is Opcode.PING or opcode is Opcode.PONG:
            return Received(opcode, payload=payload)
        if opcode is Opcode.CLOSE:
            return _close(payload)
        if opcode is Opcode.CONTINUATION:
            return self._continue(payload, final)
        if self._message is not None:
            raise ProtocolError(CloseCode.PROTOCOL_ERROR, "Message inside a message")
        compressed = bool(first & _COMPRESSED)
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
            # RFC 6455 section 8.1: what is no UTF-8 fails with the fragment that shows it.
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
    """Return the text of a payload; raises ProtocolError where it is not UTF-8."""
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise ProtocolError(CloseCode.INVALID_DATA, "Invalid UTF-8") from None


def _check_header(first: int, second: int, length: int, agreed: int) -> None:
    """Refuse a frame by its first two bytes, before any more of it is waited for.

    `agreed` are the reserved bits that the first frame of a message may have set.
    """
    reserved = first & _RESERVED
    if reserved and (reserved != agreed or first & 0x0F not in (Opcode.TEXT, Opcode.BINARY)):
        raise ProtocolError(CloseCode.PROTOCOL_ERROR, "Reserved bits set")
    opcode = first & 0x0F
    if opcode not in _OPCODES:
        raise ProtocolError(CloseCode.PROTOCOL_ERROR, "Unknown opcode")
    if opcode & 0x8 and (not first & _FIN or length > _MAX_CONTROL):
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
    """RFC 6455 section 7.4.2, and the codes registered with IANA since."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999

"""The frames of RFC 6455 that a server sends, as bytes.

A server's frames carry no mask, so the bytes of a frame are made once and shared by every connection.
"""

import enum
import struct


class CloseCode(enum.IntEnum):
    """The close codes of RFC 6455 section 7.4.1, and the bridge's own (docs/protocol.md section 1)."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    INVALID_DATA = 1007
    POLICY_VIOLATION = 1008
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


FIN = 0x80
COMPRESSED = 0x40  # RSV1 (RFC 7692 section 6)
MAX_CONTROL = 125

# Bytes of the header of an unmasked frame of 126 to 65,535 bytes.
MEDIUM_HEADER = 4

PING = bytes((FIN | Opcode.PING, 0))

# A text frame is made per event. Its two shorter headers are made in advance, which is faster than struct.pack().
_SHORT_TEXT = tuple(bytes((FIN | Opcode.TEXT, length)) for length in range(126))
_MEDIUM_TEXT = bytes((FIN | Opcode.TEXT, 126))
_SHORT_COMPRESSED = tuple(bytes((FIN | COMPRESSED | Opcode.TEXT, length)) for length in range(126))


def message(opcode: Opcode, payload: bytes) -> bytes:
    """Return the single frame of a whole message. `opcode` is TEXT (then `payload` is UTF-8) or BINARY."""
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
    return _header(COMPRESSED | Opcode.TEXT, length) + payload


def pong(payload: bytes) -> bytes:
    """Return the pong frame that answers a ping. `payload` is the ping's, at most 125 bytes."""
    return _header(Opcode.PONG, len(payload)) + payload


def close(code: int | None, reason: str = "") -> bytes:
    """Return a close frame. `reason` is at most 123 bytes of UTF-8. Without a code the frame is empty."""
    payload = b"" if code is None else code.to_bytes(2) + reason.encode()
    return _header(Opcode.CLOSE, len(payload)) + payload


def _header(first: int, length: int) -> bytes:
    if length < 126:
        return bytes((FIN | first, length))
    if length < 1 << 16:
        return struct.pack("!BBH", FIN | first, 126, length)
    return struct.pack("!BBQ", FIN | first, 127, length)


class ProtocolError(Exception):
    """The peer broke the protocol. The connection ends with `code` and `reason`."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason

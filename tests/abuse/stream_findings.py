"""What is special about a client's stream of frames, by RFC 6455, found without the bridge's reader.

A finding is a property of one frame on which implementations differ, or may differ. The walk ends at a close frame and
at the first frame that is an error.
"""

import codecs

from tests.abuse.frame_readers import MAX_MESSAGE

NOT_MASKED = "a frame without a mask"
UNKNOWN_OPCODE = "a reserved opcode"
LENGTH_OUT_OF_RANGE = "a length of 2^63 or more"
HEADER_ALONE = "a header that is an error, without a payload within the bounds"
CONTROL_IN_A_FULL_MESSAGE = "a control frame longer than what the message around it may still have"
CLOSE_IN_A_MESSAGE = "a close frame between fragments"
CUT_CLOSE_CODE = "a close frame of one byte"
INVALID_CLOSE_CODE = "a close code that may not be sent"
TWO_ERRORS_IN_A_CLOSE = "a close frame with an invalid code and an invalid reason"
EARLY_UTF_8 = "a fragment that is invalid UTF-8, and not the last one"

_CONTINUATION, _TEXT, _CLOSE = 0x0, 0x1, 0x8
_OPCODES = (0x0, 0x1, 0x2, 0x8, 0x9, 0xA)


def findings(stream: bytes) -> frozenset[str]:
    """Return the findings of a stream without compression."""
    return frozenset(_Walk(stream).found)


class _Walk:
    def __init__(self, stream: bytes) -> None:
        self.found: set[str] = set()
        self._left = stream
        # Bytes of the message whose last fragment has not come.
        self._size: int | None = None
        self._decoder: codecs.IncrementalDecoder | None = None
        while self._frame():
            pass

    def _frame(self) -> bool:
        """Take a frame off the stream, and tell whether the walk goes on."""
        if len(self._left) < 2:
            return False
        first, second, rest = self._left[0], self._left[1], self._left[2:]
        final, reserved, opcode = bool(first & 0x80), first & 0x70, first & 0x0F
        length = second & 0x7F
        control = opcode >= 0x8
        error = bool(reserved) or (control and (not final or length > 125))
        if opcode not in _OPCODES:
            self.found.add(UNKNOWN_OPCODE)
            error = True
        if second < 0x80:
            self.found.add(NOT_MASKED)
            error = True
        extended = {126: 2, 127: 8}.get(length, 0)
        if len(rest) < extended:
            if error:
                self.found.add(HEADER_ALONE)
            return False
        if extended:
            length, rest = int.from_bytes(rest[:extended]), rest[extended:]
        if length >= 1 << 63:
            self.found.add(LENGTH_OUT_OF_RANGE)
            error = True
        mask, masked, self._left = rest[:4], rest[4 : 4 + length], rest[4 + length :]
        whole = len(rest) >= 4 + length
        if error:
            if not whole or (self._size or 0) + length > MAX_MESSAGE:
                self.found.add(HEADER_ALONE)
            return False
        if control and self._size is not None and self._size + length > MAX_MESSAGE:
            self.found.add(CONTROL_IN_A_FULL_MESSAGE)
        if not whole or (not control and (self._size or 0) + length > MAX_MESSAGE):
            return False
        payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(masked))
        if opcode == _CLOSE:
            self._close(payload)
            return False
        return control or self._data(opcode, payload, final=final)

    def _close(self, payload: bytes) -> None:
        if self._size is not None:
            self.found.add(CLOSE_IN_A_MESSAGE)
        if len(payload) == 1:
            self.found.add(CUT_CLOSE_CODE)
        code = int.from_bytes(payload[:2])
        if len(payload) >= 2 and code not in (*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)):
            self.found.add(INVALID_CLOSE_CODE)
            if not _is_utf8(payload[2:]):
                self.found.add(TWO_ERRORS_IN_A_CLOSE)

    def _data(self, opcode: int, payload: bytes, *, final: bool) -> bool:
        if (opcode == _CONTINUATION) == (self._size is None):
            return False
        if opcode != _CONTINUATION:
            self._size = 0
            self._decoder = codecs.getincrementaldecoder("utf-8")() if opcode == _TEXT else None
        assert self._size is not None
        self._size += len(payload)
        if self._decoder is not None:
            try:
                self._decoder.decode(payload, final)
            except UnicodeDecodeError:
                if not final:
                    self.found.add(EARLY_UTF_8)
                return False
        if final:
            self._size = None
        return True


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True

"""Frames as the client of the websockets library reads them."""

import websockets.frames
import websockets.streams
from websockets.extensions.permessage_deflate import PerMessageDeflate


def read_frame(sent: bytes) -> websockets.frames.Frame:
    """Return the single frame in `sent`; raises EOFError for less than a frame, AssertionError for more."""
    stream = websockets.streams.StreamReader()
    stream.feed_data(sent)
    stream.feed_eof()
    parsing = websockets.frames.Frame.parse(stream.read_exact, mask=False)
    while True:
        try:
            next(parsing)
        except StopIteration as parsed:
            frame: websockets.frames.Frame = parsed.value
            break
    frame.check()
    assert stream.buffer == b""
    return frame


class Inflating:
    """A client of another library that agreed on permessage-deflate, with one context for all messages to it."""

    def __init__(self, window: int = 15) -> None:
        self._stream = websockets.streams.StreamReader()
        self._extension = PerMessageDeflate(
            remote_no_context_takeover=False,
            local_no_context_takeover=True,
            remote_max_window_bits=window,
            local_max_window_bits=15,
        )

    def read(self, sent: bytes) -> list[str]:
        """Return the texts of the frames that are complete, compressed or not. The rest waits for more bytes."""
        self._stream.feed_data(sent)
        texts: list[str] = []
        while _holds_a_frame(bytes(self._stream.buffer)):
            parsing = websockets.frames.Frame.parse(
                self._stream.read_exact, mask=False, extensions=[self._extension], max_size=1 << 24
            )
            try:
                next(parsing)
            except StopIteration as parsed:
                frame: websockets.frames.Frame = parsed.value
                assert (frame.opcode, frame.fin) == (websockets.frames.Opcode.TEXT, True)
                texts.append(bytes(frame.data).decode())
        return texts

    @property
    def waits(self) -> bool:
        """Whether it holds an incomplete frame."""
        return bool(self._stream.buffer)


def _holds_a_frame(data: bytes) -> bool:
    header = 2 if len(data) < 2 or data[1] < 126 else 4 if data[1] == 126 else 10
    if len(data) < header:
        return False
    return len(data) >= header + (data[1] if header == 2 else int.from_bytes(data[2:header]))

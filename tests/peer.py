"""What somebody else's client reads."""

import websockets.frames
import websockets.streams


def read_frame(sent: bytes) -> websockets.frames.Frame:
    """Return the one frame that `sent` is; raises EOFError for less, AssertionError for more."""
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

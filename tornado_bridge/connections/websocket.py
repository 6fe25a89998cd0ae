"""One WebSocket, from the end of its opening handshake to the end of the connection (RFC 6455)."""

import asyncio
import time
from collections.abc import Callable

from tornado.iostream import IOStream, StreamClosedError

from tornado_bridge.connections.disconnects import FLOODING
from tornado_bridge.connections.outlet import Outlet
from tornado_bridge.wire import deflate, frames
from tornado_bridge.wire.frames import Opcode, ProtocolError
from tornado_bridge.wire.reader import FrameReader, Received, utf8

# In one turn of the loop the bridge reads at most READ_SIZE bytes of one client, and handles at most TURN messages and
# control frames. A compressed message can be longer than READ_SIZE; it is the last of its turn.
READ_SIZE = 8_192
TURN = 64

# Seconds from the close frame to the end of the TCP connection. The contract allows 0.25.
LINGER = 0.2

# Bytes that are read and thrown away in that time.
LINGER_BYTES = 1 << 20

# A client may send this many frames at once, and this many per second in the long run. Each 4 KiB, as sent or as
# inflated, counts as one frame more. The rate limit allows 300 messages per minute. At 64 KiB each they cost 85 per
# second, so only a flood exceeds this.
FLOOD_BURST = 2_000.0
FLOOD_RATE = 100.0
_FLOOD_BYTES = 4_096


class WebSocket:
    """Reads the frames of one client, and answers its pings and its close.

    `on_text` is called with each message and `on_pong` at each pong. `on_closing` is called once, before a close frame
    goes out, since no data may follow that frame. None of them may wait. A client that sends more than `budget` frames
    at once is disconnected. `ended_by` is the close code and reason that ended the connection, or None. It has the code
    of a client's own close frame, but not its reason.
    """

    __slots__ = (
        "_budget",
        "_credit",
        "_credited",
        "_linger",
        "_max_message",
        "_on_closing",
        "_on_pong",
        "_on_text",
        "_outlet",
        "_paid",
        "_reader",
        "_stream",
        "closing",
        "ended_by",
    )

    def __init__(
        self,
        stream: IOStream,
        outlet: Outlet,
        *,
        max_message: int,
        on_text: Callable[[str], None],
        on_pong: Callable[[], None],
        on_closing: Callable[[], None],
        budget: float = FLOOD_BURST,
    ) -> None:
        self._stream = stream
        self._outlet = outlet
        self._reader = FrameReader(max_message, None if outlet.window is None else deflate.inflate)
        self._on_text = on_text
        self._on_pong = on_pong
        self._on_closing = on_closing
        self._linger: asyncio.TimerHandle | None = None
        self._max_message = max_message
        # Bytes that were charged as they came, and that no message has been made from yet.
        self._paid = 0
        self._budget = self._credit = budget
        self._credited = time.monotonic()
        self.closing = False
        self.ended_by: tuple[int | None, str] | None = None

    async def run(self) -> None:
        """Serve the client until its connection has ended."""
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
                # A read that finds bytes waiting does not yield to the loop by itself.
                await asyncio.sleep(0)
        except StreamClosedError:
            self.closing = True
        finally:
            if self._linger is not None:
                self._linger.cancel()
            # If anything else has ended this task, the client would wait for ever.
            self._outlet.abort()

    async def _serve(self, data: bytes) -> None:
        frames_before = self._reader.frames
        handled = turn = 0
        try:
            for number, received in enumerate(self._reader.feed(data), start=1):
                self._take(received)
                size = len(received.text) + len(received.payload)
                handled += size
                turn += size
                if number % TURN == 0 or turn >= READ_SIZE:
                    turn = 0
                    await asyncio.sleep(0)
                if self.closing or self._stream.closed():
                    return
        except ProtocolError as error:
            self.close(error.code, error.reason)
            return
        self._charge(self._reader.frames - frames_before, len(data), handled)

    def _charge(self, count: int, sent: int, handled: int) -> None:
        """Take the cost of a read off the client's budget, and disconnect the client when it is used up.

        The read brought `count` frames in `sent` bytes. `handled` is the size of the messages that it completed.
        """
        inflated = max(0, handled - self._paid - sent)
        self._paid = min(self._max_message, max(0, self._paid + sent - handled))
        cost = count + (sent + inflated) / _FLOOD_BYTES
        now = time.monotonic()
        self._credit = min(self._budget, self._credit + (now - self._credited) * FLOOD_RATE) - cost
        self._credited = now
        if self._credit < 0:
            self.close(FLOODING.code, FLOODING.reason)

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
        """Take a binary message as its UTF-8 text (docs/protocol.md section 1)."""
        self._on_text(utf8(payload))

    def close(self, code: int | None, reason: str = "") -> None:
        """Send a close frame. The connection ends within LINGER seconds, and nothing more is processed.

        Bytes that still come are read and thrown away. Otherwise the kernel would reset the connection, and the close
        frame might not arrive.
        """
        if self.closing:
            return
        self.closing = True
        self.ended_by = code, reason
        self._on_closing()
        self._outlet.write(frames.close(code, reason))
        self._outlet.finish()
        self._linger = asyncio.get_running_loop().call_later(LINGER, self._outlet.abort)

"""Writes to one client. A slow client loses frames, or is aborted (docs/protocol.md section 6)."""

import contextlib
import dataclasses
import socket
import struct
from collections.abc import Callable
from typing import Any

from tornado.iostream import IOStream, SSLIOStream

from tornado_bridge.stream.cohort import Cohort, Send
from tornado_bridge.wire import frames

# Buffered bytes go to the stream in pieces of this many bytes. The stream reports a piece only once all of it has left,
# so `buffered` is exact to within one piece.
_PIECE = 16_384

# The buffer of every idle outlet. All of them share this object, so it must stay empty.
_NOTHING = bytearray()

# SO_LINGER with a time of zero: close() resets the connection, and the kernel drops the bytes that it has not sent.
_RESET = struct.pack("ii", 1, 0)


# Bytes that may be buffered in user space for all clients together.
BUFFER_BUDGET = 67_108_864


@dataclasses.dataclass
class SlowRule:
    """When a slow client loses frames, and when it is disconnected.

    A client loses new frames while more than `skip_bytes` are buffered for it. It is disconnected once that has lasted
    for `timeout` seconds, and beyond `abort_bytes`. All clients together may have `budget` bytes buffered; beyond that
    the client that has been waited for longest is disconnected. `skipped` counts lost frames, `aborted` disconnected
    clients, and `buffered` the bytes buffered now.
    """

    skip_bytes: int
    abort_bytes: int
    timeout: float
    budget: int = BUFFER_BUDGET
    skipped: int = 0
    aborted: int = 0
    buffered: int = 0
    # The outlets with buffered bytes, the one that has been waited for longest first.
    waiting: "dict[Outlet, None]" = dataclasses.field(default_factory=dict, repr=False)

    def grow(self, outlet: "Outlet", size: int) -> None:
        """Take note that `size` more bytes are buffered for an outlet, and keep to the budget."""
        self.buffered += size
        self.waiting[outlet] = None
        while self.buffered > self.budget:
            next(iter(self.waiting)).abort_slow()

    def shrink(self, outlet: "Outlet", size: int) -> None:
        """Take note that `size` bytes fewer are buffered for an outlet."""
        self.buffered -= size
        if not outlet.buffered:
            self.waiting.pop(outlet, None)


class Outlet:
    """The writing side of one connection.

    While nothing is buffered, the hub writes to the socket itself. Otherwise every write is added to the buffer.
    `clock` is monotonic, in seconds. `on_slow` is called when the client becomes slow. `window` is the window of
    permessage-deflate in bits, or None without compression.

    """

    __slots__ = (
        "_clock",
        "_direct",
        "_finishing",
        "_held",
        "_on_slow",
        "_pong",
        "_rule",
        "_stream",
        "_taking",
        "aborted_for",
        "buffered",
        "cohort",
        "cut_off",
        "skipped",
        "slow_since",
        "window",
    )

    def __init__(
        self,
        stream: IOStream,
        rule: SlowRule,
        *,
        clock: Callable[[], float],
        on_slow: "Callable[[Outlet], None]",
        window: int | None = None,
    ) -> None:
        self._stream = stream
        # Under TLS only the stream may write: the socket's own send can demand that it waits and writes the same again.
        self._direct = not isinstance(stream, SSLIOStream)
        self._rule = rule
        self._clock = clock
        self._on_slow = on_slow
        self._pong: bytes | None = None
        self._finishing = False
        self.window = window
        self.cohort: Cohort | None = None
        self.buffered = 0
        self.cut_off = False
        # Why the server has aborted the connection.
        self.aborted_for = ""
        self.skipped = 0
        self.slow_since: float | None = None
        self._held = _NOTHING
        self._taking = 0
        if stream.writing():
            # The end of the handshake has not been sent yet, and every frame must follow it. It counts as one byte.
            self.buffered = self._taking = 1
            rule.grow(self, 1)
            stream.write(b"").add_done_callback(self._taken)

    @property
    def idle_send(self) -> Send | None:
        if self.buffered or not self._direct or self._stream.closed():
            return None
        send: Send = self._stream.socket.send
        return send

    def offer(self, batch: bytes, frames: int) -> None:
        if self.buffered > self._rule.abort_bytes:
            self.abort_slow()
        elif self.buffered > self._rule.skip_bytes:
            self.skipped += frames
            self._rule.skipped += frames
        else:
            self._hold(batch)

    def fell_short(self, batch: bytes, sent: int) -> None:
        if sent < 0:
            self.abort()
        else:
            self._hold(batch[sent:])

    def write(self, data: bytes) -> None:
        """Write a reply or a control frame. These are never skipped."""
        if not self.buffered and self._direct and not self._stream.closed():
            try:
                sent = self._stream.socket.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                sent = -1
            if sent != len(data):
                self.fell_short(data, sent)
        else:
            self._hold(data)
            if self.buffered > self._rule.abort_bytes:
                self.abort_slow()

    def pong(self, payload: bytes) -> None:
        """Answer a ping. While bytes are buffered, only the latest ping is answered (RFC 6455 section 5.5.3)."""
        if self.buffered:
            self._pong = payload
        else:
            self.write(frames.pong(payload))

    def overdue(self, now: float) -> bool:
        """Tell whether the client has been slow for at least the rule's timeout. `now` is a time of `clock`."""
        return self.slow_since is not None and now - self.slow_since >= self._rule.timeout

    def abort_slow(self) -> None:
        """Abort the connection of a client that is too slow, and count it."""
        if not self._stream.closed():
            self.cut_off = True
            self._rule.aborted += 1
        self.abort("too slow")

    def abort(self, why: str = "") -> None:
        """End the connection without a closing handshake. The kernel drops the bytes that it has not sent.

        `why` is a reason for the log.
        """
        if not self._stream.closed():
            self.aborted_for = self.aborted_for or why
            self._stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._stream.close()
        self._let_go()

    def finish(self) -> None:
        """Shut the sending side down, as soon as everything has been sent."""
        self._finishing = True
        if not self.buffered and not self._stream.closed():
            with contextlib.suppress(OSError):  # the peer may have closed the connection first
                self._stream.socket.shutdown(socket.SHUT_WR)

    def _hold(self, data: bytes) -> None:
        if self._stream.closed():
            return
        was_idle = not self.buffered
        if not self._held:
            self._held = bytearray()
        self._held += data
        self.buffered += len(data)
        if not self._taking:
            self._give()
        self._rule.grow(self, len(data))
        if self._stream.closed():
            return
        if was_idle and self.cohort is not None:
            self.cohort.place(self)
        if self.slow_since is None and self.buffered > self._rule.skip_bytes:
            self.slow_since = self._clock()
            self._on_slow(self)

    def _give(self) -> None:
        """Write one piece to the stream. The next piece follows when the kernel has taken this one."""
        piece = bytes(self._held[:_PIECE])
        del self._held[:_PIECE]
        self._taking = len(piece)
        self._stream.write(piece).add_done_callback(self._taken)

    def _taken(self, _: Any) -> None:
        """Go on after the kernel has taken a piece, or let go of the buffer if the stream is closed."""
        if self._stream.closed():
            self._let_go()
            return
        taken, self._taking = self._taking, 0
        self.buffered -= taken
        self._rule.shrink(self, taken)
        if self.buffered <= self._rule.skip_bytes:
            self.slow_since = None
        if self._held:
            self._give()
        else:
            self._drained()

    def _let_go(self) -> None:
        """Drop all buffered bytes, since the stream is closed."""
        self._held = _NOTHING
        self._taking = 0
        dropped, self.buffered = self.buffered, 0
        self._rule.shrink(self, dropped)

    def _drained(self) -> None:
        self._held = _NOTHING
        pong, self._pong = self._pong, None
        if self.cohort is not None:
            self.cohort.place(self)
        if self._finishing:
            self.finish()
        elif pong is not None:
            self.pong(pong)

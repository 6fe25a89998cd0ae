"""permessage-deflate (RFC 7692): what is agreed on, batches of compressed frames, the messages of a client."""

import dataclasses
import re
import zlib
from collections.abc import Iterable, Sequence

from tornado_bridge.wire import frames
from tornado_bridge.wire.frames import CloseCode, ProtocolError

# Of realistic candles, 50 a batch: 45 bytes a message of 189 with a window of 12 bits as with one of 15, and 48 with
# one of 10. One window for all who offer that much makes one cohort of them.
MAX_WINDOW = 12

# zlib compresses with no window of 8 bits.
MIN_WINDOW = 9

# Level 6 saves 3 bytes a message more and takes 8.7 µs for it, not 7.1; more memory than this saves nothing.
_LEVEL = 3
_MEMORY = 5

# A context costs 8 µs a frame, however many connections it is for; for 100 that is 0.08 µs a delivery, and to send one
# takes 0.15 µs or more. A frame compressed alone costs 14 µs, once for all cohorts, and is smaller by a fifth, not by
# three quarters; for 200 deliveries that is 0.07 µs.
LARGE_COHORT = 100
MANY_DELIVERIES = 200

# So many contexts of small cohorts may an event be in, on average; to take an event in costs as much as one of them.
CONTEXTS = 2

# What ends a message and is not sent (RFC 7692 section 7.2.1), and an empty last block, which ends the stream.
_TAIL = b"\x00\x00\xff\xff"
_END = b"\x01\x00\x00\xff\xff"

# The widest, so that none need be asked of a client; nothing is held between its messages.
_CLIENT_WINDOW = 15

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = rf'[ \t]*({_TOKEN})[ \t]*(?:=[ \t]*({_TOKEN}|"(?:[^"\\]|\\.)+")[ \t]*)?'
# RFC 6455 section 9.1. None of them looks at a byte twice; a quotation without an end is taken to the end.
_offers = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+').findall
_offer = re.compile(rf"[ \t]*({_TOKEN})[ \t]*((?:;{_PARAMETER})*)").fullmatch
_parameters = re.compile(f";{_PARAMETER}").findall
_window = re.compile("[89]|1[0-5]").fullmatch


@dataclasses.dataclass(frozen=True, slots=True)
class Agreement:
    """What has been agreed on: the window that frames are compressed with, in bits, and the header that says so."""

    window: int
    header: str


def agree(offers: str) -> Agreement | None:
    """Return what the first offer that can be accepted leads to, None where none can.

    `offers` is the client's Sec-WebSocket-Extensions. An offer with a parameter that is unknown, ill-formed or there
    twice is declined (RFC 7692 section 7), and so is one that wants a fresh context for each message: within a batch
    the context is taken over.
    """
    for text in _offers(offers):
        offer = _offer(text)
        if offer is not None and offer[1].lower() == "permessage-deflate":
            agreement = _agreement(_parameters(offer[2]))
            if agreement is not None:
                return agreement
    return None


def _agreement(offered: Iterable[tuple[str, str]]) -> Agreement | None:
    parameters: dict[str, str] = {}
    for name, value in offered:
        name = name.lower()
        if value.startswith('"'):
            value = re.sub(r"\\(.)", r"\1", value[1:-1])
        if name in parameters or not _valid(name, value):
            return None
        parameters[name] = value
    if "server_no_context_takeover" in parameters:
        return None
    header = "permessage-deflate; client_no_context_takeover"
    if "server_max_window_bits" not in parameters:
        return Agreement(MAX_WINDOW, header)
    window = min(int(parameters["server_max_window_bits"]), MAX_WINDOW)
    if window < MIN_WINDOW:
        return None
    return Agreement(window, f"{header}; server_max_window_bits={window}")


def _valid(name: str, value: str) -> bool:
    match name:
        case "server_no_context_takeover" | "client_no_context_takeover":
            return not value
        case "server_max_window_bits":
            return bool(_window(value))
        case "client_max_window_bits":
            return not value or bool(_window(value))
    return False


def compress(batch: Sequence[bytes], window: int) -> bytes:
    """Return the bytes of a batch of text frames, compressed with one context, which begins and ends with it.

    Who skips one batch and gets the next can still read that. What compression does not make smaller stays as it is.
    """
    context = zlib.compressobj(_LEVEL, zlib.DEFLATED, -window, _MEMORY)
    compressed: list[bytes] = []
    for frame in batch:
        data = context.compress(frames.payload_of(frame)) + context.flush(zlib.Z_SYNC_FLUSH)
        compressed.append(frames.compressed(data[: -len(_TAIL)]))
    whole, plain = b"".join(compressed), b"".join(batch)
    # All or none: what a frame of the batch says of an earlier one holds only if that one was compressed too.
    return whole if len(whole) < len(plain) else plain


class Compression:
    """What becomes of the batches of one flush: which are compressed, and for whom.

    A large cohort has contexts of its own, and so have the small ones while they are few. If there are many, what they
    get is compressed frame by frame, once for all of them, where that is for many connections, or else not at all: the
    cost grows with the events and the large cohorts, and not with the sets of subscriptions.

    `events` is how many were published, `cohorts` the number of frames and of connections of each that agreed on
    permessage-deflate.
    """

    __slots__ = ("_alone", "_own", "_shared")

    def __init__(self, events: int, cohorts: Iterable[tuple[int, int]]) -> None:
        frames = deliveries = 0
        for pending, members in cohorts:
            if members < LARGE_COHORT:
                frames += pending
                deliveries += pending * members
        self._own = frames <= CONTEXTS * events
        self._shared = deliveries >= MANY_DELIVERIES * events
        self._alone = _Alone()

    def batch(self, batch: Sequence[bytes], window: int, members: int) -> bytes:
        """Return the bytes of a batch of text frames for a cohort of so many connections."""
        if self._own or members >= LARGE_COHORT:
            return compress(batch, window)
        if self._shared:
            return b"".join(map(self._alone.__getitem__, batch))
        return b"".join(batch)


class _Alone(dict[bytes, bytes]):
    """Frames compressed each with a context of its own, and so narrow a window that all may read them."""

    def __missing__(self, frame: bytes) -> bytes:
        alone = self[frame] = compress((frame,), MIN_WINDOW)
        return alone


def inflate(payload: bytes, max_length: int) -> bytes:
    """Return a client's message, of at most `max_length` bytes.

    Raises ProtocolError for one that is longer, without having made it, and for what is no whole message.
    """
    stream = zlib.decompressobj(-_CLIENT_WINDOW)
    try:
        message = stream.decompress(payload + _TAIL + _END, max_length + 1)
    except zlib.error:
        raise ProtocolError(CloseCode.PROTOCOL_ERROR, "Invalid compressed data") from None
    if len(message) > max_length:
        raise ProtocolError(CloseCode.MESSAGE_TOO_BIG, "Message too big")
    # A last block may come from the client as well (RFC 7692 section 7.2.3.4); only an empty one may follow it.
    if not stream.eof or stream.unused_data not in (b"", b"\x00" + _TAIL + _END):
        raise ProtocolError(CloseCode.PROTOCOL_ERROR, "Invalid compressed data")
    return message

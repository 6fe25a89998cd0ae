"""permessage-deflate (RFC 7692): the agreement, batches of compressed frames, and compressed client messages."""

import dataclasses
import re
import zlib
from collections.abc import Callable, Iterable, Sequence

from tornado_bridge.wire import frames
from tornado_bridge.wire.frames import CloseCode, ProtocolError

# Measured on realistic candles of 189 bytes, 50 per batch: 45 bytes per message with a window of 12 or 15 bits, 48 with
# 10 bits. One window for all clients that offer as much puts them into one cohort.
MAX_WINDOW = 12

# zlib cannot compress with a window of 8 bits.
MIN_WINDOW = 9

# Level 6 saves 3 bytes more per message and takes 8.7 µs instead of 7.1. More memory than this saves nothing.
_LEVEL = 3
_MEMORY = 5

# A context costs 8 µs per frame for any number of connections. For 100 connections that is 0.08 µs per delivery, and a
# send takes 0.15 µs or more. A frame that is compressed alone costs 14 µs, once for all cohorts, and is smaller by a
# fifth instead of three quarters. For 200 deliveries that is 0.07 µs.
LARGE_COHORT = 100
MANY_DELIVERIES = 200

# An event may be in this many contexts of small cohorts, on average. Its ingest costs as much as one of them.
CONTEXTS = 2

# _TAIL ends each message and is not sent (RFC 7692 section 7.2.1). _END is an empty last block, which ends the stream.
_TAIL = b"\x00\x00\xff\xff"
_END = b"\x01\x00\x00\xff\xff"

# The widest window, so that the client need not be asked for a smaller one. No context is held between its messages.
_CLIENT_WINDOW = 15

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = rf'[ \t]*({_TOKEN})[ \t]*(?:=[ \t]*({_TOKEN}|"(?:[^"\\]|\\.)+")[ \t]*)?'
# The grammar of RFC 6455 section 9.1. No pattern looks at a byte twice. An unfinished quotation ends with the header.
_offers = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+').findall
_offer = re.compile(rf"[ \t]*({_TOKEN})[ \t]*((?:;{_PARAMETER})*)").fullmatch
_parameters = re.compile(f";{_PARAMETER}").findall
_window = re.compile("[89]|1[0-5]").fullmatch


@dataclasses.dataclass(frozen=True, slots=True)
class Agreement:
    """An agreement on permessage-deflate: the window for the server's frames in bits, and the header that says so."""

    window: int
    header: str


def agree(offers: str) -> Agreement | None:
    """Return the agreement to the first acceptable offer, or None.

    `offers` is the client's Sec-WebSocket-Extensions. An offer with an unknown, invalid or repeated parameter is
    declined (RFC 7692 section 7). So is an offer that asks for a fresh context for each message, since the messages of
    a batch share one.
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
    """Return the frames of a batch of texts, compressed with one context that begins and ends with the batch.

    A client that misses one batch can still read the next. A batch that compression does not make smaller stays plain.
    """
    context = zlib.compressobj(_LEVEL, zlib.DEFLATED, -window, _MEMORY)
    compressed: list[bytes] = []
    for text in batch:
        data = context.compress(text) + context.flush(zlib.Z_SYNC_FLUSH)
        compressed.append(frames.compressed(data[: -len(_TAIL)]))
    whole, plain = b"".join(compressed), b"".join(map(frames.text, batch))
    # All or none: a frame refers back to earlier frames of its batch, which must have been compressed too.
    return whole if len(whole) < len(plain) else plain


class Compression:
    """Decides for one flush which batches are compressed, and for which cohorts.

    A large cohort has contexts of its own. So have the small cohorts while they are few. If there are many, their
    frames are compressed one by one, once for all of them, if that serves many connections; else they are sent plain.
    So the cost grows with the events and the large cohorts, and not with the number of different subscriptions.

    `events` is how many events were published. `cohorts` are those that agreed on permessage-deflate, each as its
    number of texts and of connections.
    """

    __slots__ = ("_alone", "_own", "_plain", "_shared")

    def __init__(self, events: int, cohorts: Iterable[tuple[int, int]]) -> None:
        texts = deliveries = 0
        for pending, members in cohorts:
            if members < LARGE_COHORT:
                texts += pending
                deliveries += pending * members
        self._own = texts <= CONTEXTS * events
        self._shared = deliveries >= MANY_DELIVERIES * events
        self._alone = _Frames(lambda text: compress((text,), MIN_WINDOW))
        self._plain = _Frames(frames.text)

    def batch(self, batch: Sequence[bytes], window: int, members: int) -> bytes:
        """Return the frames of a batch of texts for a cohort of `members` connections."""
        if self._own or members >= LARGE_COHORT:
            return compress(batch, window)
        made = self._alone if self._shared else self._plain
        return b"".join(map(made.__getitem__, batch))


class _Frames(dict[bytes, bytes]):
    """Frames by their text, each made once per flush. A frame compressed alone has the window that all can read."""

    def __init__(self, make: Callable[[bytes], bytes]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, text: bytes) -> bytes:
        frame = self[text] = self._make(text)
        return frame


def inflate(payload: bytes, max_length: int) -> bytes:
    """Return a client's message, of at most `max_length` bytes.

    Raises ProtocolError for a longer message, before it is decompressed whole, and for an incomplete one.
    """
    stream = zlib.decompressobj(-_CLIENT_WINDOW)
    try:
        message = stream.decompress(payload + _TAIL + _END, max_length + 1)
    except zlib.error:
        raise ProtocolError(CloseCode.PROTOCOL_ERROR, "Invalid compressed data") from None
    if len(message) > max_length:
        raise ProtocolError(CloseCode.MESSAGE_TOO_BIG, "Message too big")
    # The client may send a last block too (RFC 7692 section 7.2.3.4). Only an empty one may follow it.
    if not stream.eof or stream.unused_data not in (b"", b"\x00" + _TAIL + _END):
        raise ProtocolError(CloseCode.PROTOCOL_ERROR, "Invalid compressed data")
    return message

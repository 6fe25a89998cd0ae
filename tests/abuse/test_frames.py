"""The bridge's frame reader against those of websockets and Tornado, on streams that no decent client sends.

All three must make the same of a stream, but for the differences in the tables. A row names the section of the RFC that
decides, and it is in the table because the bridge follows that section.

TORNADO_BRIDGE_TEST_STREAMS is how many streams each reader is given.
"""

import dataclasses
import os
import zlib
from collections.abc import Iterator

import pytest
import tornado.ioloop
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.abuse import stream_findings as findings
from tests.abuse.frame_readers import (
    CLOSED,
    FAILED,
    MAX_MESSAGE,
    Reading,
    TornadoReader,
    by_bridge,
    by_websockets,
)
from tests.support.raw import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close, frame

STREAMS = int(os.environ.get("TORNADO_BRIDGE_TEST_STREAMS", "200"))

RSV1 = 4


@dataclasses.dataclass(frozen=True)
class Difference:
    """A stream on which the bridge and another reader differ. `finding` is how it is recognised in other streams."""

    section: str
    finding: str
    stream: bytes
    bridge: Reading
    other: Reading


def full(*behind: bytes) -> bytes:
    """Return a fragment that leaves one byte of the message, and what comes behind it."""
    return frame(BINARY, b"a" * (MAX_MESSAGE - 1), final=False) + b"".join(behind)


BEGUN = frame(TEXT, b"a", final=False)
NOT_UTF_8 = frame(TEXT, b"\xff", final=False)
EARLY = NOT_UTF_8 + frame(PING, b"b")

PROTOCOL_ERROR = Reading(end=FAILED, code=1002)
INVALID_DATA = Reading(end=FAILED, code=1007)
ABORTED = Reading(end=FAILED)

FROM_WEBSOCKETS = (
    Difference("RFC 6455 section 8.1", findings.EARLY_UTF_8, EARLY, INVALID_DATA, Reading((("ping", b"b"),))),
    Difference(
        "RFC 6455 section 5.4",
        findings.CLOSE_IN_A_MESSAGE,
        BEGUN + close(1000),
        Reading(end=CLOSED, code=1000),
        PROTOCOL_ERROR,
    ),
    Difference(
        "RFC 6455 section 5.4",
        findings.CONTROL_IN_A_FULL_MESSAGE,
        full(frame(PING, b"ab")),
        Reading((("ping", b"ab"),)),
        Reading(end=FAILED, code=1009),
    ),
    Difference("RFC 6455 section 5.2", findings.HEADER_ALONE, b"\x91\x85", PROTOCOL_ERROR, Reading()),
    Difference(
        "RFC 6455 section 5.2",
        findings.LENGTH_OUT_OF_RANGE,
        b"\x81\xff" + (1 << 63).to_bytes(8),
        PROTOCOL_ERROR,
        Reading(end=FAILED, code=1009),
    ),
    # The RFC does not say which of two errors counts.
    Difference(
        "RFC 6455 section 7.1.7", findings.TWO_ERRORS_IN_A_CLOSE, close(999, b"\xff"), PROTOCOL_ERROR, INVALID_DATA
    ),
)

FROM_TORNADO = (
    Difference("RFC 6455 section 8.1", findings.EARLY_UTF_8, EARLY, INVALID_DATA, Reading((("ping", b"b"),))),
    Difference(
        "RFC 6455 section 5.1",
        findings.NOT_MASKED,
        frame(TEXT, b"a", mask=None),
        PROTOCOL_ERROR,
        Reading((("text", b"a"),)),
    ),
    Difference("RFC 6455 section 5.2", findings.UNKNOWN_OPCODE, frame(3, final=False), PROTOCOL_ERROR, Reading()),
    Difference("RFC 6455 section 5.5", findings.HEADER_ALONE, b"\x09\x80", PROTOCOL_ERROR, Reading()),
    Difference(
        "RFC 6455 section 5.4",
        findings.CONTROL_IN_A_FULL_MESSAGE,
        full(frame(PING, b"ab")),
        Reading((("ping", b"ab"),)),
        ABORTED,
    ),
    Difference(
        "RFC 6455 section 5.5.1", findings.CUT_CLOSE_CODE, frame(CLOSE, b"a"), PROTOCOL_ERROR, Reading(end=CLOSED)
    ),
    Difference(
        "RFC 6455 section 7.4.1",
        findings.INVALID_CLOSE_CODE,
        close(1005),
        PROTOCOL_ERROR,
        Reading(end=CLOSED, code=1005),
    ),
)


def differ(ours: Reading, theirs: Reading) -> bool:
    """Tell whether two readings differ. Tornado does not say the code of an error."""
    if ours.end == theirs.end == FAILED and theirs.code is None:
        ours = dataclasses.replace(ours, code=None)
    return ours != theirs


def assert_alike(ours: Reading, theirs: Reading, stream: bytes, known: tuple[Difference, ...]) -> None:
    """Fail if the readings differ, and the stream has no finding that is known to make a difference."""
    if not differ(ours, theirs):
        return
    assert findings.findings(stream) & {difference.finding for difference in known}, (stream, ours, theirs)
    # Up to the difference, the messages are the same.
    both = min(len(ours.messages), len(theirs.messages))
    assert ours.messages[:both] == theirs.messages[:both]


# Streams

payloads = st.one_of(
    st.binary(max_size=6),
    st.text(max_size=4).map(str.encode),
    st.sampled_from((b"", b"\xc3", b"\xa9", b"a" * 125, b"a" * 126, b"a" * 500, b"a" * 999, b"a" * 1000, b"a" * 1001)),
)
codes = st.one_of(st.sampled_from((999, 1000, 1001, 1005, 1014, 1016, 3000, 4999, 5000)), st.integers(0, 65_535))
masks = st.binary(min_size=4, max_size=4)
data_frames = st.builds(frame, st.sampled_from((TEXT, BINARY)), payloads, final=st.booleans(), mask=masks)
continuations = st.builds(frame, st.just(CONTINUATION), payloads, final=st.booleans(), mask=masks)
controls = st.builds(frame, st.sampled_from((PING, PONG)), st.binary(max_size=4), mask=masks)
closes = st.one_of(st.builds(close, codes, payloads.map(lambda reason: reason[:123])), st.just(frame(CLOSE)))
closes_with_a_text = st.builds(close, codes, st.text(max_size=4).map(str.encode))
odd_frames = st.builds(
    frame,
    st.integers(0, 15),
    payloads,
    final=st.booleans(),
    reserved=st.sampled_from((0, 0, 1, 2, 4)),
    mask=st.one_of(masks, st.none()),
)
streams = st.lists(
    st.one_of(data_frames, continuations, continuations, controls, controls, closes, odd_frames), max_size=6
).map(b"".join)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A stream of which some bytes are replaced, removed or added."""
    stream = draw(streams)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(stream)))
        stream = stream[:start] + draw(st.binary(max_size=2)) + stream[start + draw(st.integers(0, 2)) :]
    return stream


def deflated(payload: bytes, level: int, *, last_block: bool) -> bytes:
    """Return a compressed payload as a client sends it, by RFC 7692 section 7.2.1 or with a last block by 7.2.3.4."""
    context = zlib.compressobj(level, wbits=-15)
    if last_block:
        return context.compress(payload) + context.flush() + b"\x00"
    return (context.compress(payload) + context.flush(zlib.Z_SYNC_FLUSH))[:-4]


@st.composite
def compressed_messages(draw: st.DrawFn) -> bytes:
    """A compressed message in fragments, with control frames between them."""
    payload = draw(st.one_of(st.text(max_size=20).map(str.encode), st.binary(max_size=20), st.just(b"ab" * 450)))
    whole = deflated(payload, draw(st.sampled_from((0, 1, 6))), last_block=draw(st.booleans()))
    opcode = draw(st.sampled_from((TEXT, BINARY)))
    cuts = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=3)))
    fragments = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    stream = b""
    for number, fragment in enumerate(fragments):
        final = number == len(fragments) - 1
        first = number == 0
        stream += frame(opcode if first else CONTINUATION, fragment, final=final, reserved=RSV1 if first else 0)
        if not final and draw(st.booleans()):
            stream += draw(controls)
    return stream


whole_data_frames = st.builds(frame, st.sampled_from((TEXT, BINARY)), payloads, mask=masks)
bombs = st.integers(990, 1100).map(
    lambda size: frame(BINARY, deflated(b"a" * size, 6, last_block=False), reserved=RSV1)
)
compressed_streams = st.lists(
    st.one_of(compressed_messages(), compressed_messages(), whole_data_frames, bombs, closes_with_a_text), max_size=5
).map(b"".join)


# websockets


@pytest.mark.parametrize("difference", FROM_WEBSOCKETS, ids=lambda difference: difference.finding)
def test_a_difference_from_websockets_is_as_the_table_says(difference: Difference) -> None:
    assert difference.finding in findings.findings(difference.stream)
    assert by_bridge(difference.stream) == difference.bridge
    assert by_websockets(difference.stream) == difference.other


@settings(max_examples=STREAMS, deadline=None)
@given(st.one_of(streams, mutated()))
def test_the_bridge_reads_any_stream_as_websockets_does(stream: bytes) -> None:
    assert_alike(by_bridge(stream), by_websockets(stream), stream, FROM_WEBSOCKETS)


@settings(max_examples=STREAMS, deadline=None)
@given(compressed_streams)
def test_the_bridge_reads_compressed_messages_as_websockets_does(stream: bytes) -> None:
    assert by_bridge(stream, compressed=True) == by_websockets(stream, compressed=True)


def test_a_message_of_the_largest_size_is_read_also_where_compression_makes_it_longer() -> None:
    stream = frame(BINARY, deflated(b"a" * MAX_MESSAGE, 0, last_block=False), reserved=RSV1)
    assert by_bridge(stream, compressed=True) == Reading((("binary", b"a" * MAX_MESSAGE),))
    # RFC 6455 section 10.4 leaves to an implementation what it bounds. websockets bounds the compressed size too.
    assert by_websockets(stream, compressed=True) == Reading(end=FAILED, code=1009)


# RFC 7692 section 7.2.2 has the server decompress a payload with 00 00 ff ff behind it. These are no DEFLATE streams.
@pytest.mark.parametrize(
    ("payload", "lenient"),
    [
        pytest.param(b"", b"", id="nothing: an empty message is 00, section 7.2.3.6"),
        pytest.param(deflated(b"Hello", 6, last_block=True)[:-1], b"Hello", id="a last block alone, section 7.2.3.4"),
        pytest.param(deflated(b"Hello", 6, last_block=False)[:1], b"H", id="a block that is cut short"),
    ],
)
def test_compressed_data_that_is_not_whole_is_refused_where_websockets_is_lenient(
    payload: bytes, lenient: bytes
) -> None:
    stream = frame(BINARY, payload, reserved=RSV1)
    assert by_bridge(stream, compressed=True) == PROTOCOL_ERROR
    assert by_websockets(stream, compressed=True) == Reading((("binary", lenient),))


# Tornado


@pytest.fixture
def by_tornado(io_loop: tornado.ioloop.IOLoop) -> Iterator[TornadoReader]:
    reader = TornadoReader()
    yield reader
    io_loop.run_sync(reader.close, timeout=10)


@pytest.mark.gen_test
async def test_a_difference_from_tornado_is_as_the_table_says(by_tornado: TornadoReader) -> None:
    for difference in FROM_TORNADO:
        assert difference.finding in findings.findings(difference.stream)
        assert by_bridge(difference.stream) == difference.bridge
        assert await by_tornado.read(difference.stream) == difference.other, difference


def test_the_bridge_reads_any_stream_as_tornado_does(by_tornado: TornadoReader, io_loop: tornado.ioloop.IOLoop) -> None:
    @settings(max_examples=STREAMS, deadline=None)
    @given(st.one_of(streams, mutated()))
    def read_alike(stream: bytes) -> None:
        theirs = io_loop.run_sync(lambda: by_tornado.read(stream), timeout=10)
        assert_alike(by_bridge(stream), theirs, stream, FROM_TORNADO)

    read_alike()


# The tables are as long as they must be


@pytest.mark.parametrize(
    ("stream", "finding"),
    [
        (frame(TEXT, b"a") + close(1000), None),
        (BEGUN + frame(PING) + frame(CONTINUATION, b"b"), None),
        (frame(TEXT, b"a" * 1_001), None),
        (full(frame(PING, b"a"), frame(CONTINUATION, b"a")), None),
        (frame(TEXT, b"\xff"), None),
        (BEGUN + frame(CONTINUATION, b"\xff"), None),
        (frame(PING, b"a", final=False), None),
        (close(1000) + frame(TEXT, mask=None), None),
        (NOT_UTF_8, findings.EARLY_UTF_8),
        (full(frame(CONTINUATION, b"ab", reserved=1)), findings.HEADER_ALONE),
    ],
)
def test_a_stream_has_a_finding_only_where_readers_may_differ(stream: bytes, finding: str | None) -> None:
    assert findings.findings(stream) == (set() if finding is None else {finding})

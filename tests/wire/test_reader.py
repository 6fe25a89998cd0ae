"""tornado_bridge.wire.reader, with frames of a client, whole and in pieces."""

import itertools
import tracemalloc
from collections.abc import Iterable

import pytest
import websockets.frames
from hypothesis import given, settings
from hypothesis import strategies as st

from tornado_bridge.wire import frames
from tornado_bridge.wire.frames import Opcode, ProtocolError
from tornado_bridge.wire.reader import FrameReader, Received

MAX_MESSAGE = 65_536

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

MASK = b"\x37\xfa\x21\x3d"


def length_of(size: int) -> bytes:
    """Return the length of a payload as a client writes it, with the mask bit."""
    if size < 126:
        return bytes((0x80 | size,))
    if size < 65_536:
        return b"\xfe" + size.to_bytes(2, "big")
    return b"\xff" + size.to_bytes(8, "big")


def masked(payload: bytes, mask: bytes = MASK) -> bytes:
    return bytes(a ^ b for a, b in zip(payload, itertools.cycle(mask), strict=False))


def frame(opcode: int, payload: bytes = b"", *, final: bool = True, reserved: int = 0, mask: bytes = MASK) -> bytes:
    """Return a frame of a client."""
    return bytes((final << 7 | reserved << 4 | opcode,)) + length_of(len(payload)) + mask + masked(payload, mask)


def texts(*messages: str) -> list[Received]:
    return [Received(Opcode.TEXT, text=message) for message in messages]


def read(*pieces: bytes, max_message: int = MAX_MESSAGE) -> list[Received]:
    reader = FrameReader(max_message)
    return [received for piece in pieces for received in reader.feed(piece)]


def refusal(*pieces: bytes, max_message: int = MAX_MESSAGE) -> tuple[int, str]:
    with pytest.raises(ProtocolError) as caught:
        read(*pieces, max_message=max_message)
    return caught.value.code, caught.value.reason


# Messages


def test_the_masked_text_of_rfc_6455_section_5_7_is_read() -> None:
    assert read(b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58") == texts("Hello")


def test_the_fragmented_text_of_rfc_6455_section_5_7_is_read() -> None:
    assert read(frame(TEXT, b"Hel", final=False), frame(CONTINUATION, b"lo")) == texts("Hello")


def test_frames_of_another_projects_client_are_read() -> None:
    made = websockets.frames.Frame(websockets.frames.Opcode.TEXT, b"a" * 70_000).serialize(mask=True)

    assert read(made, max_message=70_000) == texts("a" * 70_000)


def test_all_that_one_piece_holds_is_read() -> None:
    assert read(frame(TEXT, b"one") + frame(TEXT, b"two") + frame(TEXT, b"three")) == texts("one", "two", "three")


def test_a_binary_message_arrives_as_its_bytes() -> None:
    assert read(frame(BINARY, b"\xff{}")) == [Received(Opcode.BINARY, payload=b"\xff{}")]


def test_a_fragmented_binary_message_arrives_as_its_bytes() -> None:
    assert read(frame(BINARY, b"\xc3", final=False), frame(CONTINUATION, b"\xff")) == [
        Received(Opcode.BINARY, payload=b"\xc3\xff")
    ]


def test_an_empty_message_is_a_message() -> None:
    assert read(frame(TEXT)) == texts("")


def test_a_message_of_empty_fragments_is_empty() -> None:
    assert read(frame(TEXT, final=False), frame(CONTINUATION, final=False), frame(CONTINUATION)) == texts("")


def test_a_character_may_be_cut_between_two_fragments() -> None:
    assert read(frame(TEXT, b"\xf0\x9f", final=False), frame(CONTINUATION, b"\x98\x80!")) == texts("\U0001f600!")


def test_a_message_after_a_fragmented_one_starts_anew() -> None:
    pieces = frame(TEXT, b"a", final=False), frame(CONTINUATION, b"b"), frame(TEXT, b"c"), frame(TEXT, b"d")

    assert read(*pieces) == texts("ab", "c", "d")


def test_a_control_character_and_the_last_code_point_are_text() -> None:
    assert read(frame(TEXT, "\0\x7f\U0010ffff".encode())) == texts("\0\x7f\U0010ffff")


def test_a_length_in_more_bytes_than_it_needs_is_read() -> None:
    # RFC 6455 section 5.2 forbids a sender to do this. docs/protocol.md section 1 does not list it as an error.
    assert read(b"\x81\xfe\x00\x05" + MASK + masked(b"Hello")) == texts("Hello")


@pytest.mark.parametrize("mask", [b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\x00\x00\x00\x01", b"\x80\x00\x00\x00"])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 125, 126, 1_001])
def test_any_mask_is_taken_off_payloads_of_any_length(mask: bytes, size: int) -> None:
    text = "abcdefg"[: size % 7] + "0123456" * (size // 7)

    assert read(frame(TEXT, text.encode(), mask=mask)) == texts(text)


def test_every_byte_of_a_mask_is_used_in_its_turn() -> None:
    assert read(b"\x89\x86\x01\x02\x04\x08\x00\x00\x00\x00\x00\x00") == [
        Received(Opcode.PING, payload=b"\x01\x02\x04\x08\x01\x02")
    ]


# Control frames


def test_a_ping_is_read_with_its_payload() -> None:
    assert read(b"\x89\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58") == [Received(Opcode.PING, payload=b"Hello")]


def test_a_pong_is_read_with_its_payload() -> None:
    assert read(frame(PONG, b"Hello")) == [Received(Opcode.PONG, payload=b"Hello")]


def test_a_control_frame_may_have_125_bytes() -> None:
    assert read(frame(PING, b"a" * 125)) == [Received(Opcode.PING, payload=b"a" * 125)]


def test_the_payload_of_a_ping_need_not_be_text() -> None:
    assert read(frame(PING, b"\xff\x00\xc3")) == [Received(Opcode.PING, payload=b"\xff\x00\xc3")]


def test_a_control_frame_between_fragments_comes_first() -> None:
    pieces = frame(TEXT, b"a", final=False), frame(PING, b"?"), frame(CONTINUATION, b"b")

    assert read(*pieces) == [Received(Opcode.PING, payload=b"?"), *texts("ab")]


def test_a_close_frame_between_fragments_is_read() -> None:
    pieces = frame(TEXT, b"a", final=False), frame(CLOSE, b"\x03\xe8")

    assert read(*pieces) == [Received(Opcode.CLOSE, code=1000)]


def test_a_close_frame_may_be_empty() -> None:
    assert read(frame(CLOSE)) == [Received(Opcode.CLOSE, code=None)]


def test_a_close_frame_is_read_with_code_and_reason() -> None:
    assert read(frame(CLOSE, b"\x03\xe9" + "tschüß".encode())) == [Received(Opcode.CLOSE, code=1001, text="tschüß")]


def test_the_reason_of_a_close_frame_may_have_123_bytes() -> None:
    assert read(frame(CLOSE, b"\x03\xe8" + b"a" * 123)) == [Received(Opcode.CLOSE, code=1000, text="a" * 123)]


@pytest.mark.parametrize("code", [*range(1000, 1004), *range(1007, 1015), 3000, 3999, 4000, 4001, 4999])
def test_a_close_code_that_may_be_sent_is_taken(code: int) -> None:
    assert read(frame(CLOSE, code.to_bytes(2, "big"))) == [Received(Opcode.CLOSE, code=code)]


# Protocol errors


@pytest.mark.parametrize("code", [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535])
def test_a_close_code_that_may_not_be_sent_is_refused(code: int) -> None:
    assert refusal(frame(CLOSE, code.to_bytes(2, "big"))) == (1002, "Invalid close code")


def test_a_close_frame_of_one_byte_is_refused() -> None:
    assert refusal(frame(CLOSE, b"\x03")) == (1002, "Close code cut short")


def test_the_reason_of_a_close_frame_must_be_utf_8() -> None:
    assert refusal(frame(CLOSE, b"\x03\xe8\xff")) == (1007, "Invalid UTF-8")


@pytest.mark.parametrize("opcode", [CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG])
def test_a_frame_without_a_mask_is_refused_by_its_first_two_bytes(opcode: int) -> None:
    assert refusal(bytes((0x80 | opcode, 0x05))) == (1002, "Frame not masked")


@pytest.mark.parametrize("reserved", [0x10, 0x20, 0x40, 0x70])
@pytest.mark.parametrize("opcode", [TEXT, BINARY, CLOSE, PING, PONG])
def test_a_frame_with_reserved_bits_is_refused_by_its_first_two_bytes(opcode: int, reserved: int) -> None:
    assert refusal(bytes((0x80 | reserved | opcode, 0x85))) == (1002, "Reserved bits set")


@pytest.mark.parametrize("opcode", [0x3, 0x4, 0x5, 0x6, 0x7, 0xB, 0xC, 0xD, 0xE, 0xF])
@pytest.mark.parametrize("final", [0x00, 0x80])
def test_a_frame_with_a_reserved_opcode_is_refused_by_its_first_two_bytes(opcode: int, final: int) -> None:
    assert refusal(bytes((final | opcode, 0x80))) == (1002, "Unknown opcode")


@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
def test_a_fragmented_control_frame_is_refused_by_its_first_two_bytes(opcode: int) -> None:
    assert refusal(bytes((opcode, 0x80))) == (1002, "Control frame fragmented or too long")


@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
@pytest.mark.parametrize("length", [126, 127])
def test_a_control_frame_over_125_bytes_is_refused_by_its_first_two_bytes(opcode: int, length: int) -> None:
    assert refusal(bytes((0x80 | opcode, 0x80 | length))) == (1002, "Control frame fragmented or too long")


@pytest.mark.parametrize("final", [True, False])
def test_a_continuation_of_nothing_is_refused(final: bool) -> None:
    assert refusal(frame(CONTINUATION, b"a", final=final)) == (1002, "Nothing to continue")


def test_a_continuation_of_a_message_that_is_over_is_refused() -> None:
    pieces = frame(TEXT, b"a", final=False), frame(CONTINUATION, b"b"), frame(CONTINUATION, b"c")

    assert refusal(*pieces) == (1002, "Nothing to continue")


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("final", [True, False])
def test_a_message_inside_a_message_is_refused(opcode: int, final: bool) -> None:
    assert refusal(frame(TEXT, b"a", final=False), frame(opcode, b"b", final=final)) == (
        1002,
        "Message inside a message",
    )


def test_a_message_inside_a_message_that_is_still_empty_is_refused() -> None:
    assert refusal(frame(TEXT, final=False), frame(TEXT, b"b")) == (1002, "Message inside a message")


def test_a_length_with_the_highest_bit_set_is_refused_by_the_header() -> None:
    assert refusal(b"\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00") == (1002, "Frame length out of range")


INVALID_UTF_8 = [
    pytest.param(b"\xff", id="no lead byte"),
    pytest.param(b"\x80", id="continuation byte alone"),
    pytest.param(b"\xc3", id="cut short"),
    pytest.param(b"\xc3(", id="lead byte alone"),
    pytest.param(b"\xc0\xaf", id="overlong of two"),
    pytest.param(b"\xe0\x80\xaf", id="overlong of three"),
    pytest.param(b"\xed\xa0\x80", id="surrogate"),
    pytest.param(b"\xf4\x90\x80\x80", id="past the last code point"),
]


@pytest.mark.parametrize("payload", INVALID_UTF_8)
def test_a_text_message_that_is_not_utf_8_is_refused(payload: bytes) -> None:
    assert refusal(frame(TEXT, b"{}" + payload)) == (1007, "Invalid UTF-8")


@pytest.mark.parametrize("payload", INVALID_UTF_8)
def test_a_fragmented_message_that_is_not_utf_8_is_refused(payload: bytes) -> None:
    assert refusal(frame(TEXT, b"{}", final=False), frame(CONTINUATION, payload)) == (1007, "Invalid UTF-8")


def test_a_fragment_that_no_utf_8_can_follow_is_refused_at_once() -> None:
    assert refusal(frame(TEXT, b"\xce\xba\xff", final=False)) == (1007, "Invalid UTF-8")


def test_a_character_that_the_last_fragment_does_not_finish_is_refused() -> None:
    assert refusal(frame(TEXT, b"\xf0\x9f", final=False), frame(CONTINUATION)) == (1007, "Invalid UTF-8")


def test_messages_before_a_protocol_error_are_read() -> None:
    reading = FrameReader(MAX_MESSAGE).feed(frame(TEXT, b"a") + frame(PING, b"b") + b"\x81\x00")

    assert next(reading) == Received(Opcode.TEXT, text="a")
    assert next(reading) == Received(Opcode.PING, payload=b"b")
    with pytest.raises(ProtocolError, match="Frame not masked"):
        next(reading)


def test_the_rest_of_a_piece_is_read_with_the_next() -> None:
    reader = FrameReader(MAX_MESSAGE)
    reading = reader.feed(frame(TEXT, b"a") + frame(TEXT, b"b"))
    assert next(reading) == Received(Opcode.TEXT, text="a")
    reading.close()  # type: ignore[attr-defined]

    assert list(reader.feed(frame(TEXT, b"c"))) == texts("b", "c")


# Bounds


def test_a_message_of_the_largest_size_is_read() -> None:
    assert read(frame(TEXT, b"a" * 65_536)) == texts("a" * 65_536)


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_one_byte_too_large_is_refused_by_its_header(opcode: int) -> None:
    header = bytes((0x80 | opcode,)) + b"\xff\x00\x00\x00\x00\x00\x01\x00\x01"

    assert refusal(header) == (1009, "Message too big")


def test_the_largest_length_that_can_be_declared_is_refused_by_the_header() -> None:
    assert refusal(b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff") == (1009, "Message too big")


def test_the_size_is_that_of_all_fragments_together() -> None:
    pieces = frame(TEXT, b"a" * 40_000, final=False), frame(CONTINUATION, b"a" * 25_537)

    assert refusal(*pieces) == (1009, "Message too big")


def test_fragments_of_the_largest_size_together_are_read() -> None:
    pieces = frame(TEXT, b"a" * 40_000, final=False), frame(CONTINUATION, b"a" * 25_536)

    assert read(*pieces) == texts("a" * 65_536)


def test_the_size_is_in_bytes_not_in_characters() -> None:
    assert refusal(frame(TEXT, "é".encode() * 32_769)) == (1009, "Message too big")


def test_a_control_frame_between_fragments_does_not_count() -> None:
    pieces = frame(TEXT, b"a" * 65_536, final=False), frame(PING, b"?" * 125), frame(CONTINUATION)

    assert read(*pieces) == [Received(Opcode.PING, payload=b"?" * 125), *texts("a" * 65_536)]


def test_messages_do_not_count_together() -> None:
    pieces = [frame(TEXT, b"a" * 40_000, final=False), frame(CONTINUATION, b"a" * 20_000)] * 2

    assert read(*pieces) == texts("a" * 60_000, "a" * 60_000)


def grown_by(pieces: Iterable[bytes]) -> int:
    """Return the number of bytes that a reader still holds after the pieces."""
    reader = FrameReader(MAX_MESSAGE)
    assert list(reader.feed(frame(TEXT, final=False))) == []
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for piece in pieces:
            assert list(reader.feed(piece)) == []
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return after - before


def test_empty_fragments_without_end_take_no_memory() -> None:
    assert grown_by(itertools.repeat(frame(CONTINUATION, final=False), 20_000)) < 20_000


def test_fragments_of_one_character_take_little_more_memory_than_their_bytes() -> None:
    fragment = frame(CONTINUATION, "\u0100".encode(), final=False)

    assert grown_by(itertools.repeat(fragment, 32_768)) < 2 * 65_536


def test_a_frame_that_comes_byte_by_byte_takes_little_more_memory_than_its_bytes() -> None:
    unfinished = frame(CONTINUATION, b"a" * 20_000)[:-1]

    assert grown_by(unfinished[i : i + 1] for i in range(len(unfinished))) < 2 * 20_000


# Compressed messages

RSV1 = 4


def upper(payload: bytes, max_length: int) -> bytes:
    """Stand in for a decompressor: return the payload in capitals."""
    if len(payload) > max_length:
        raise ProtocolError(frames.CloseCode.MESSAGE_TOO_BIG, "as told")
    return payload.upper()


def read_compressed(*pieces: bytes) -> list[Received]:
    reader = FrameReader(MAX_MESSAGE, upper)
    return [received for piece in pieces for received in reader.feed(piece)]


def refusal_of_compressed(*pieces: bytes) -> tuple[int, str]:
    with pytest.raises(ProtocolError) as caught:
        read_compressed(*pieces)
    return caught.value.code, caught.value.reason


@pytest.mark.parametrize(
    ("opcode", "expected"),
    [(TEXT, Received(Opcode.TEXT, text="ABC")), (BINARY, Received(Opcode.BINARY, payload=b"ABC"))],
)
def test_a_compressed_message_is_inflated(opcode: int, expected: Received) -> None:
    assert read_compressed(frame(opcode, b"abc", reserved=RSV1)) == [expected]


def test_the_fragments_of_a_compressed_message_are_inflated_together() -> None:
    pieces = (
        frame(TEXT, b"a", final=False, reserved=RSV1),
        frame(PING, b"b"),
        frame(CONTINUATION, b"c", final=False),
        frame(CONTINUATION, b"d"),
    )

    assert read_compressed(*pieces) == [Received(Opcode.PING, payload=b"b"), *texts("ACD")]


def test_a_message_is_compressed_or_not_by_its_own_first_frame() -> None:
    pieces = (
        frame(TEXT, b"a", reserved=RSV1),
        frame(TEXT, b"b"),
        frame(TEXT, b"c", final=False, reserved=RSV1),
        frame(CONTINUATION, b"d"),
        frame(TEXT, b"e", final=False),
        frame(CONTINUATION, b"f"),
    )

    assert read_compressed(*pieces) == texts("A", "b", "CD", "ef")


def test_a_fragment_of_a_compressed_message_need_not_be_text() -> None:
    reader = FrameReader(MAX_MESSAGE, lambda payload, _: b"inflated")
    pieces = frame(TEXT, b"\xff", final=False, reserved=RSV1), frame(CONTINUATION, b"\xfe")

    assert [received for piece in pieces for received in reader.feed(piece)] == texts("inflated")


@pytest.mark.parametrize("final", [True, False])
def test_a_compressed_text_message_must_be_utf_8(final: bool) -> None:
    pieces = frame(TEXT, b"\xff", final=final, reserved=RSV1), *([] if final else [frame(CONTINUATION)])

    assert refusal_of_compressed(*pieces) == (1007, "Invalid UTF-8")


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("reserved", [1, 2, 3, 5, 6, 7])
def test_every_other_reserved_bit_is_refused(opcode: int, reserved: int) -> None:
    assert refusal_of_compressed(frame(opcode, b"a", reserved=reserved)) == (1002, "Reserved bits set")


@pytest.mark.parametrize("opcode", [PING, PONG, CLOSE, CONTINUATION, 0x3, 0xB])
def test_only_the_first_frame_of_a_message_says_that_it_is_compressed(opcode: int) -> None:
    pieces = frame(TEXT, b"a", final=False, reserved=RSV1), frame(opcode, reserved=RSV1)

    assert refusal_of_compressed(*pieces) == (1002, "Reserved bits set")


def test_a_compressed_frame_without_an_agreement_is_refused_by_its_first_two_bytes() -> None:
    assert refusal(b"\xc1\x80") == (1002, "Reserved bits set")


@pytest.mark.parametrize("size", [66_624, 1 << 62])
def test_a_compressed_message_of_an_impossible_length_is_refused_by_its_header(size: int) -> None:
    header = b"\xc1\xff" + (size + 1).to_bytes(8)

    assert refusal_of_compressed(header) == (1009, "Message too big")


def test_a_compressed_message_may_be_a_little_larger_than_its_text() -> None:
    assert refusal_of_compressed(frame(TEXT, b"a" * 66_624, reserved=RSV1)) == (1009, "as told")


def test_the_fragments_of_a_compressed_message_count_together() -> None:
    pieces = frame(TEXT, b"a" * 60_000, final=False, reserved=RSV1), frame(CONTINUATION, b"a" * 6_625)

    assert refusal_of_compressed(*pieces) == (1009, "Message too big")


def test_the_messages_after_a_compressed_one_may_not_be_larger() -> None:
    pieces = (
        frame(TEXT, b"a", final=False, reserved=RSV1),
        frame(CONTINUATION, b"a"),
        frame(TEXT, b"a" * 65_537),
    )

    assert refusal_of_compressed(*pieces) == (1009, "Message too big")


# Pieces

characters = st.characters(codec="utf-8")
messages = st.tuples(
    st.sampled_from([TEXT, BINARY]),
    st.one_of(st.text(characters, max_size=12), st.text(characters, min_size=126, max_size=140)),
    st.lists(st.integers(0, 600), max_size=4),
    st.lists(st.tuples(st.sampled_from([PING, PONG]), st.binary(max_size=125)), max_size=3),
)


@settings(deadline=None)
@given(
    st.lists(messages, max_size=4),
    st.one_of(st.none(), st.sampled_from([1000, 1001, 4999])),
    st.lists(st.integers(0, 3_000), max_size=12),
    st.data(),
)
def test_any_split_of_a_stream_gives_the_same_messages(
    sent: list[tuple[int, str, list[int], list[tuple[int, bytes]]]],
    close: int | None,
    splits: list[int],
    data: st.DataObject,
) -> None:
    mask = st.binary(min_size=4, max_size=4)
    stream = b""
    expected: list[Received] = []
    for opcode, text, cuts, controls in sent:
        payload = text.encode()
        bounds = [0, *sorted(min(cut, len(payload)) for cut in cuts), len(payload)]
        fragments = [payload[start:end] for start, end in itertools.pairwise(bounds)]
        for i, fragment in enumerate(fragments):
            final = i == len(fragments) - 1
            stream += frame(CONTINUATION if i else opcode, fragment, final=final, mask=data.draw(mask))
            if not final and controls:
                control, body = controls[i % len(controls)]
                stream += frame(control, body, mask=data.draw(mask))
                expected.append(Received(Opcode(control), payload=body))
        expected += texts(text) if opcode == TEXT else [Received(Opcode.BINARY, payload=payload)]
    if close is not None:
        stream += frame(CLOSE, close.to_bytes(2, "big") + b"bye", mask=data.draw(mask))
        expected.append(Received(Opcode.CLOSE, code=close, text="bye"))
    bounds = [0, *sorted(min(split, len(stream)) for split in splits), len(stream)]

    assert read(*(stream[start:end] for start, end in itertools.pairwise(bounds))) == expected


@settings(deadline=None)
@given(st.lists(messages, min_size=1, max_size=2))
def test_a_stream_that_comes_byte_by_byte_gives_the_same_messages(
    sent: list[tuple[int, str, list[int], list[tuple[int, bytes]]]],
) -> None:
    stream = b"".join(frame(opcode, text.encode()) for opcode, text, _, _ in sent)

    assert read(*(bytes((byte,)) for byte in stream)) == read(stream)


def outcome(pieces: Iterable[bytes]) -> tuple[list[Received], str]:
    reader = FrameReader(200)
    found: list[Received] = []
    try:
        for piece in pieces:
            found.extend(reader.feed(piece))
    except ProtocolError as error:
        return found, error.reason
    return found, ""


@settings(deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=8), messages.map(lambda m: frame(m[0], m[1].encode()))), max_size=6))
def test_any_bytes_are_read_or_refused_the_same_in_one_piece_and_byte_by_byte(parts: list[bytes]) -> None:
    stream = b"".join(parts)

    _, whole = outcome([stream])
    found, dripped = outcome(bytes((byte,)) for byte in stream)

    assert dripped == whole
    assert all(len(received.text.encode()) <= 200 for received in found)

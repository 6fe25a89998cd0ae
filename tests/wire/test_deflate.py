"""tornado_bridge.wire.deflate: offers and answers, batches that another client reads, messages of clients."""

import contextlib
import itertools
import time
import tracemalloc
import zlib
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.peer import Inflating
from tornado_bridge.wire import deflate, frames
from tornado_bridge.wire.deflate import Compression, agree, compress, inflate
from tornado_bridge.wire.frames import ProtocolError

ANSWER = "permessage-deflate; client_no_context_takeover"

CANDLE = (
    '{"type":"candle_close","channel":"candles:C%03d-USD:1m","data":{"timestamp":"2024-02-18T14:00:00.000Z",'
    '"open":"42%03d.5","high":"42%03d.75","low":"41%03d.25","close":"42%03d","volume":"%d"}}'
)


def candles(count: int) -> list[str]:
    return [CANDLE % (i, i * 37 % 999, i * 91 % 999, i * 53 % 999, i * 71 % 999, i) for i in range(count)]


def encoded(texts: Sequence[str]) -> list[bytes]:
    """Return texts in the form that the hub passes to `compress`."""
    return [text.encode() for text in texts]


def plain(texts: Sequence[str]) -> bytes:
    """Return the frames of texts without compression."""
    return b"".join(map(frames.text, encoded(texts)))


def answer(offers: str) -> tuple[int, str] | None:
    agreement = agree(offers)
    return None if agreement is None else (agreement.window, agreement.header)


def client_deflate(text: bytes, *, level: int = 6, memory: int = 8, end: int = zlib.Z_SYNC_FLUSH) -> bytes:
    """Return the payload of a compressed message from a client."""
    stream = zlib.compressobj(level, zlib.DEFLATED, -15, memory)
    data = stream.compress(text) + stream.flush(end)
    return data[:-4] if end == zlib.Z_SYNC_FLUSH else data + b"\x00"


def refusal(payload: bytes, max_length: int = 65_536) -> tuple[int, str]:
    with pytest.raises(ProtocolError) as caught:
        inflate(payload, max_length)
    return caught.value.code, caught.value.reason


# The agreement


@pytest.mark.parametrize(
    "offer",
    [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; client_max_window_bits=8",
        "permessage-deflate; client_max_window_bits=15",
        'permessage-deflate; client_max_window_bits="10"',
        "permessage-deflate; client_no_context_takeover",
        "permessage-deflate;client_no_context_takeover;client_max_window_bits",
        " permessage-deflate \t;\t client_max_window_bits = 12 ",
        "Permessage-Deflate; Client_Max_Window_Bits",
        ",, permessage-deflate",
    ],
)
def test_an_offer_without_a_window_of_ours_is_accepted_with_a_window_of_12_bits(offer: str) -> None:
    assert answer(offer) == (12, ANSWER)


@pytest.mark.parametrize(
    ("asked", "window"), [("15", 12), ("14", 12), ("13", 12), ("12", 12), ("11", 11), ("10", 10), ("9", 9), ('"9"', 9)]
)
def test_a_requested_window_is_kept_and_declared(asked: str, window: int) -> None:
    offer = f"permessage-deflate; server_max_window_bits={asked}; client_max_window_bits"
    assert answer(offer) == (window, f"{ANSWER}; server_max_window_bits={window}")


@pytest.mark.parametrize(
    "parameters",
    [
        "server_max_window_bits=8",
        "server_no_context_takeover",
        "server_no_context_takeover; client_no_context_takeover; server_max_window_bits=12; client_max_window_bits",
    ],
)
def test_an_offer_that_a_batch_cannot_keep_is_declined(parameters: str) -> None:
    assert answer(f"permessage-deflate; {parameters}") is None


@pytest.mark.parametrize(
    "parameters",
    [
        "unknown",
        "unknown=1",
        "max_window_bits=10",
        "server_max_window_bits",
        "server_max_window_bits=7",
        "server_max_window_bits=16",
        "server_max_window_bits=09",
        "server_max_window_bits=1_0",
        "server_max_window_bits=10.0",
        "server_max_window_bits=-10",
        "server_max_window_bits=\u0661\u0660",
        'server_max_window_bits=" 10"',
        'server_max_window_bits=""',
        'server_max_window_bits="10',
        "server_max_window_bits=10 11",
        "client_max_window_bits=7",
        "client_max_window_bits=16",
        "client_max_window_bits=x",
        "client_max_window_bits=",
        "client_no_context_takeover=1",
        "client_no_context_takeover=true",
        'client_no_context_takeover=""',
        "server_no_context_takeover=1",
        "client_no_context_takeover; client_no_context_takeover",
        "client_max_window_bits; client_max_window_bits=10",
        "client_max_window_bits; Client_Max_Window_Bits",
        "server_max_window_bits=10; server_max_window_bits=10",
        "",
        ";",
        "client_max_window_bits;",
        "=10",
        "client max window bits",
        "client_max_window_bits=(10)",
        "client_max_window_bits\x0b",
    ],
)
def test_an_offer_that_is_not_understood_is_declined_and_the_next_is_tried(parameters: str) -> None:
    offer = f"permessage-deflate; {parameters}"
    assert answer(offer) is None
    # A quotation that is not closed extends to the end of the header.
    if parameters.count('"') % 2 == 0:
        assert answer(f"{offer}, permessage-deflate; server_max_window_bits=10") == (
            10,
            f"{ANSWER}; server_max_window_bits=10",
        )


def test_the_first_offer_that_can_be_accepted_is() -> None:
    offers = (
        'x-webkit-deflate-frame; a="permessage-deflate, permessage-deflate", '
        "permessage-deflate; server_no_context_takeover, permessage-deflate; server_max_window_bits=8, "
        "permessage-deflate; server_max_window_bits=10, permessage-deflate"
    )
    assert answer(offers) == (10, f"{ANSWER}; server_max_window_bits=10")


@pytest.mark.parametrize(
    "offers",
    [
        "",
        " ",
        ",",
        ";",
        ";permessage-deflate",
        "x-webkit-deflate-frame",
        "permessage-deflate2",
        "xpermessage-deflate",
        "permessage deflate",
        "permessage-deflate=1",
        '"permessage-deflate"',
        'x; a="permessage-deflate, permessage-deflate, permessage-deflate"',
        'x; a="\\", permessage-deflate, "',
        'x; a="\\", permessage-deflate"',
    ],
)
def test_a_header_without_a_valid_offer_is_not_answered(offers: str) -> None:
    assert answer(offers) is None


@pytest.mark.parametrize("piece", ['"', '"\\', '"\\"', ",", ";", "a;", "permessage-deflate;", "x=", '="', "\t", "a, "])
def test_an_offer_of_8_kib_is_parsed_in_a_moment(piece: str) -> None:
    offers = "permessage-deflate; a" + piece * (8_192 // len(piece))
    began = time.perf_counter()
    agree(offers)
    assert time.perf_counter() - began < 0.1


@settings(deadline=None)
@given(st.lists(st.sampled_from([*';,="\\ \t8915', "permessage-deflate", "server_max_window_bits", "é"]), max_size=30))
def test_any_text_is_answered_or_not(pieces: list[str]) -> None:
    agreement = agree("".join(pieces))
    assert agreement is None or 9 <= agreement.window <= 12


# Batches


@pytest.mark.parametrize("window", [9, 10, 11, 12])
def test_another_projects_client_reads_a_batch(window: int) -> None:
    texts = candles(300)
    assert Inflating(window).read(compress(encoded(texts), window)) == texts


def test_a_message_of_a_batch_takes_a_quarter_of_its_bytes() -> None:
    assert len(plain(candles(50))) / 50 > 180
    assert len(compress(encoded(candles(50)), 12)) / 50 < 50


@pytest.mark.parametrize("window", [9, 12])
def test_a_narrow_window_is_kept(window: int) -> None:
    # The same text comes again just outside the window. A decoder with this window would not find it.
    filler = "".join(chr(33 + i * i % 89) for i in range(1 << window))
    texts = ["a text that is told twice" * 2, filler, "a text that is told twice" * 2]
    data = compress(encoded(texts), window)
    assert Inflating(window).read(data) == texts


def test_a_batch_can_be_read_without_the_one_before() -> None:
    first, second = compress(encoded(candles(20)), 12), compress(encoded(candles(40)), 12)
    client = Inflating(12)
    assert client.read(first) == candles(20)
    assert client.read(second) == candles(40)
    assert Inflating(12).read(second) == candles(40)


def test_a_message_without_a_text_is_read() -> None:
    texts = ["", candles(1)[0], "", "", candles(2)[1], ""]
    assert Inflating(12).read(compress(encoded(texts), 12)) == texts


@pytest.mark.parametrize("texts", [["a"], ["{}"], ["", ""], ["aA0", "bB1"]])
def test_a_batch_that_compression_would_make_larger_stays_plain(texts: list[str]) -> None:
    assert compress(encoded(texts), 12) == plain(texts)


def test_a_batch_is_compared_with_its_plain_frames_and_not_with_its_texts() -> None:
    # Both are compressed to a frame of 8 bytes. The plain frames have 8 and 9 bytes.
    assert compress([b"a" * 6], 12) == b"\x81\x06aaaaaa"
    assert compress([b"a" * 7], 12)[:2] == b"\xc1\x06"


def test_a_large_message_is_read() -> None:
    texts = ["".join(candles(2_000)), "a" * 70_000, "".join(candles(10))]
    assert Inflating(12).read(compress(encoded(texts), 12)) == texts


texts = st.lists(
    st.one_of(
        st.text(st.characters(codec="utf-8"), max_size=60),
        st.integers(0, 99).map(lambda i: candles(100)[i]),
        st.integers(100, 70_000).map(lambda size: "".join(map(str, range(size // 4)))[:size]),
    ),
    max_size=8,
)


@settings(deadline=None)
@given(st.lists(texts, max_size=6), st.integers(9, 12), st.lists(st.booleans(), min_size=6, max_size=6), st.data())
def test_any_batches_in_any_pieces_are_read_whichever_are_skipped(
    batches: list[list[str]], window: int, skips: list[bool], data: st.DataObject
) -> None:
    kept = [batch for batch, skipped in zip(batches, skips, strict=False) if not skipped]
    stream = b"".join(compress(encoded(batch), window) for batch in kept)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    client = Inflating(window)

    read = [
        text for start, end in itertools.pairwise([0, *cuts, len(stream)]) for text in client.read(stream[start:end])
    ]

    assert read == [text for batch in kept for text in batch]
    assert not client.waits


# Which batches are compressed


def form(data: bytes, texts: Sequence[str], window: int = 12) -> str:
    """Return the name of the form in which the bytes hold a batch of texts."""
    forms = {
        plain(texts): "plain",
        compress(encoded(texts), window): "own context",
        b"".join(compress((text,), 9) for text in encoded(texts)): "shared",
    }
    return forms[data]


@pytest.mark.parametrize(
    ("events", "cohorts", "members", "expected"),
    [
        # A large cohort, with any number of small ones.
        (50, [(50, 100)], 100, "own context"),
        (50, [(50, 100), *[(50, 1)] * 2_000], 100, "own context"),
        # Small cohorts while they are few.
        (50, [(50, 1)], 1, "own context"),
        (50, [(50, 99)] * 2, 99, "own context"),
        (50, [(5, 1)] * 20, 1, "own context"),
        # Many small cohorts and few connections per event.
        (50, [(50, 1)] * 3, 1, "plain"),
        (50, [(50, 1)] * 199, 1, "plain"),
        (500, [(20, 1)] * 500, 1, "plain"),
        # Many small cohorts and many connections per event.
        (50, [(50, 1)] * 200, 1, "shared"),
        (50, [(50, 99)] * 3, 99, "shared"),
        (1, [(1, 1)] * 2_000, 1, "shared"),
        # A large cohort does not change the choice for the small ones.
        (50, [(50, 100)] * 10 + [(50, 1)], 1, "own context"),
        (50, [(50, 1_000)] + [(50, 1)] * 10, 1, "plain"),
    ],
)
def test_how_a_batch_is_compressed(events: int, cohorts: list[tuple[int, int]], members: int, expected: str) -> None:
    texts = candles(5)
    assert form(Compression(events, cohorts).batch(encoded(texts), 12, members), texts) == expected


def test_a_frame_is_compressed_once_for_all_small_cohorts(monkeypatch: pytest.MonkeyPatch) -> None:
    compressed: list[int] = []

    def counting(batch: Sequence[bytes], window: int) -> bytes:
        compressed.append(len(batch))
        return compress(batch, window)

    monkeypatch.setattr(deflate, "compress", counting)
    compression = Compression(10, [(10, 1)] * 1_000)
    batch = encoded(candles(10))
    sent = [compression.batch(batch, window, 1) for window in (9, 12) * 500]
    assert compressed == [1] * 10
    assert [Inflating(9).read(one) for one in sent[:2]] == [candles(10)] * 2


def test_a_plain_frame_is_made_once_for_all_small_cohorts(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[bytes] = []
    text = frames.text

    def counting(payload: bytes) -> bytes:
        made.append(payload)
        return text(payload)

    monkeypatch.setattr(frames, "text", counting)
    compression = Compression(10, [(10, 1)] * 100)
    batch = encoded(candles(10))
    sent = {compression.batch(batch, window, 1) for window in (9, 12) * 50}
    assert made == batch
    assert sent == {b"".join(map(text, batch))}


@settings(deadline=None)
@given(
    st.lists(st.tuples(texts, st.sampled_from([1, 100]), st.booleans()), max_size=5),
    st.integers(9, 12),
    st.sampled_from([(1_000, []), (1, [(9, 1)]), (1, [(999, 1)])]),
)
def test_batches_of_all_forms_are_read_one_after_the_other(
    batches: list[tuple[list[str], int, bool]], window: int, flush: tuple[int, list[tuple[int, int]]]
) -> None:
    compression = Compression(*flush)
    client = Inflating(window)
    for batch, members, skipped in batches:
        data = compression.batch(encoded(batch), window, members)
        if not skipped:
            assert client.read(data) == batch


# Messages of a client


@pytest.mark.parametrize("size", [0, 1, 125, 1_000, 65_535, 65_536])
@pytest.mark.parametrize("level", [0, 1, 9])
def test_a_message_is_inflated(size: int, level: int) -> None:
    message = b"".join(b"%d " % i for i in range(size // 2 + 1))[:size]
    assert inflate(client_deflate(message, level=level), 65_536) == message


def test_the_message_of_rfc_7692_section_7_2_3_1_is_inflated() -> None:
    assert inflate(b"\xf2\x48\xcd\xc9\xc9\x07\x00", 65_536) == b"Hello"


def test_the_stored_block_of_rfc_7692_section_7_2_3_3_is_inflated() -> None:
    assert inflate(b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", 65_536) == b"Hello"


def test_the_last_block_of_rfc_7692_section_7_2_3_4_is_inflated() -> None:
    assert inflate(b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00", 65_536) == b"Hello"


def test_the_two_blocks_of_rfc_7692_section_7_2_3_5_are_inflated() -> None:
    assert inflate(b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", 65_536) == b"Hello"


def test_a_message_cannot_refer_to_an_earlier_one() -> None:
    # The second "Hello" of RFC 7692 section 7.2.3.2 refers to the context of the first.
    assert refusal(b"\xf2\x00\x11\x00\x00") == (1002, "Invalid compressed data")


def test_a_message_that_is_one_byte_too_long_is_refused() -> None:
    assert refusal(client_deflate(b"a" * 65_537)) == (1009, "Message too big")


def test_a_message_that_would_inflate_to_60_mb_takes_little_memory() -> None:
    bomb = client_deflate(b"\0" * 60_000_000, level=9)
    assert len(bomb) < 65_536
    tracemalloc.start()
    try:
        assert refusal(bomb) == (1009, "Message too big")
        assert tracemalloc.get_traced_memory()[1] < 400_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "payload",
    [
        b"\xff",
        b"\x07",
        b"Hello",
        client_deflate(b"Hello, Hello, Hello")[:-2],
        # A stored block that declares 32 bytes but holds 5.
        b"\x00\x20\x00\xdf\xff\x48\x65\x6c\x6c\x6f",
        b"\x00\x05\x00\xfa\xfe\x48\x65\x6c\x6c\x6f\x00",
        # Bytes after the last block.
        client_deflate(b"Hello", end=zlib.Z_FINISH) + b"\x00",
        client_deflate(b"Hello", end=zlib.Z_FINISH)[:-1] + client_deflate(b"Hello"),
        zlib.compress(b"Hello"),
    ],
)
def test_invalid_compressed_data_is_refused(payload: bytes) -> None:
    assert refusal(payload) == (1002, "Invalid compressed data")


@settings(deadline=None)
@given(st.binary(max_size=2_000), st.integers(0, 9), st.integers(1, 9))
def test_any_message_is_inflated_however_it_was_compressed(message: bytes, level: int, memory: int) -> None:
    assert inflate(client_deflate(message, level=level, memory=memory), 2_000) == message


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_inflated_or_refused(payload: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        assert len(inflate(payload, 1_000)) <= 1_000

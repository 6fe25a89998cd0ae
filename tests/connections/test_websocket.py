"""tornado_bridge.connections.websocket: frames over a TCP connection, and the opening handshake over HTTP."""

import asyncio
import socket
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest
import websockets
from tornado.iostream import IOStream

from tests.support import raw
from tests.support.raw import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Frame,
    RawClient,
    closed,
    frame,
    handshake,
    tcp_pair,
    text,
    until,
)
from tornado_bridge.connections import websocket
from tornado_bridge.connections.outlet import Outlet, SlowRule
from tornado_bridge.connections.websocket import FLOOD_BURST, WebSocket


class Served:
    """A WebSocket on a real connection, its peer, and the messages and events that were reported."""

    def __init__(self, near: socket.socket, peer: RawClient, window: int | None, budget: float) -> None:
        self.peer = peer
        self.stream = IOStream(near)
        rule = SlowRule(65_536, 262_144, 30)
        self.outlet = Outlet(self.stream, rule, clock=time.monotonic, on_slow=lambda _: None, window=window)
        self.texts: list[str] = []
        self.pongs = 0
        self.closings = 0
        self.websocket = WebSocket(
            self.stream,
            self.outlet,
            max_message=65_536,
            on_text=self.on_text,
            on_pong=self.on_pong,
            on_closing=self.on_closing,
            budget=budget,
        )
        self.run = asyncio.create_task(self.websocket.run())

    def on_text(self, message: str) -> None:
        self.texts.append(message)
        if message == "abort":
            self.outlet.abort()

    def on_pong(self) -> None:
        self.pongs += 1

    def on_closing(self) -> None:
        self.closings += 1

    async def ended(self) -> None:
        async with asyncio.timeout(raw.PATIENCE):
            await self.run


@asynccontextmanager
async def serving(*, window: int | None = None, budget: float = FLOOD_BURST) -> AsyncIterator[Served]:
    """Serve one peer. Afterwards the peer goes, and the WebSocket must end."""
    with tcp_pair(send_buffer=65_536, receive_buffer=65_536) as (near, peer):
        served = Served(near, peer, window, budget)
        try:
            yield served
        finally:
            peer.close()
            await asyncio.wait([served.run], timeout=raw.PATIENCE)
        assert served.run.done()
        assert served.stream.closed()


# Messages


@pytest.mark.gen_test
async def test_a_text_message_is_handed_on() -> None:
    async with serving() as served:
        await served.peer.send(text("grüße"))
        await until(lambda: served.texts == ["grüße"])


@pytest.mark.gen_test
async def test_a_binary_message_is_its_text() -> None:
    async with serving() as served:
        await served.peer.send(frame(BINARY, "grüße".encode()))
        await until(lambda: served.texts == ["grüße"])


@pytest.mark.gen_test
async def test_messages_of_one_packet_are_handed_on_in_order() -> None:
    async with serving() as served:
        await served.peer.send(b"".join(text(str(number)) for number in range(500)))
        await until(lambda: len(served.texts) == 500)
        assert served.texts == [str(number) for number in range(500)]


@pytest.mark.gen_test
async def test_a_message_that_comes_byte_by_byte_is_handed_on() -> None:
    async with serving() as served:
        for byte in text("slow"):
            await served.peer.send(bytes((byte,)))
            await asyncio.sleep(0)
        await until(lambda: served.texts == ["slow"])


@pytest.mark.gen_test
async def test_fragments_are_one_message() -> None:
    async with serving() as served:
        await served.peer.send(
            frame(TEXT, b"one ", final=False)
            + frame(CONTINUATION, b"two ", final=False)
            + frame(CONTINUATION, b"three")
        )
        await until(lambda: served.texts == ["one two three"])


@pytest.mark.gen_test
async def test_a_ping_between_fragments_is_answered_before_the_message_is_whole() -> None:
    async with serving() as served:
        await served.peer.send(frame(TEXT, b"one ", final=False) + frame(PING, b"here?"))
        assert await served.peer.frame() == Frame(PONG, b"here?")
        await served.peer.send(frame(CONTINUATION, b"two"))
        await until(lambda: served.texts == ["one two"])


@pytest.mark.gen_test
async def test_a_message_of_64_kib_is_handed_on() -> None:
    async with serving() as served:
        await served.peer.send(frame(TEXT, b"x" * 65_536))
        await until(lambda: served.texts == ["x" * 65_536])


@pytest.mark.gen_test
@pytest.mark.parametrize(("size", "count", "most"), [(0, 30_000, 64), (16_384, 100, 1)])
async def test_a_flooding_peer_leaves_every_other_task_its_turn(size: int, count: int, most: int) -> None:
    async with serving(budget=100_000) as served:
        flood = asyncio.create_task(served.peer.send(frame(TEXT, b"x" * size) * count))
        handed_on = 0
        while len(served.texts) < count:
            before = len(served.texts)
            await asyncio.sleep(0)
            handed_on = max(handed_on, len(served.texts) - before)
        await flood
        assert handed_on <= most


# Compressed messages


def compressed(message: bytes, *, final: bool = True) -> bytes:
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    return frame(TEXT, (stream.compress(message) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4], final=final, reserved=4)


@pytest.mark.gen_test
async def test_a_compressed_message_is_handed_on() -> None:
    async with serving(window=12) as served:
        await served.peer.send(compressed("grüße".encode()) + text("plain") + compressed(b"x" * 65_536))
        await until(lambda: served.texts == ["grüße", "plain", "x" * 65_536])


@pytest.mark.gen_test
async def test_a_ping_between_the_fragments_of_a_compressed_message_is_answered() -> None:
    async with serving(window=12) as served:
        payload = b"\xf2\x48\xcd\xc9\xc9\x07\x00"
        await served.peer.send(frame(TEXT, payload[:3], final=False, reserved=4) + frame(PING, b"here?"))
        assert await served.peer.frame() == Frame(PONG, b"here?")
        await served.peer.send(frame(CONTINUATION, payload[3:]))
        await until(lambda: served.texts == ["Hello"])


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("data", "close"),
    [
        (compressed(b"x" * 65_537), closed(1009, "Message too big")),
        (compressed(b"\xff"), closed(1007, "Invalid UTF-8")),
        (frame(TEXT, b"\xff", reserved=4), closed(1002, "Invalid compressed data")),
        (frame(PING, b"x", reserved=4), closed(1002, "Reserved bits set")),
        (frame(TEXT, b"x", reserved=6), closed(1002, "Reserved bits set")),
        (frame(TEXT, final=False, reserved=4) + frame(CONTINUATION, reserved=4), closed(1002, "Reserved bits set")),
    ],
)
async def test_a_wrong_compressed_message_ends_with_a_close_code(data: bytes, close: Frame) -> None:
    async with serving(window=12) as served:
        await served.peer.send(compressed(b"before") + data + text("after"))
        assert await served.peer.frame() == close
        assert served.texts == ["before"]


@pytest.mark.gen_test
async def test_a_flood_of_compressed_messages_leaves_every_other_task_its_turn() -> None:
    async with serving(window=12) as served:
        await served.peer.send(compressed(b"x" * 65_536) * 64)
        handed_on = 0
        while len(served.texts) < 64:
            before = len(served.texts)
            await asyncio.sleep(0)
            handed_on = max(handed_on, len(served.texts) - before)
        assert handed_on == 1


# Pings and pongs


@pytest.mark.gen_test
async def test_a_ping_is_answered_with_its_payload() -> None:
    async with serving() as served:
        await served.peer.send(frame(PING, b"x" * 125))
        assert await served.peer.frame() == Frame(PONG, b"x" * 125)


@pytest.mark.gen_test
async def test_a_pong_is_handed_on() -> None:
    async with serving() as served:
        await served.peer.send(frame(PONG, b"whatever"))
        await until(lambda: served.pongs == 1)


@pytest.mark.gen_test
async def test_of_pings_that_come_while_something_is_held_back_the_latest_is_answered() -> None:
    async with serving() as served:
        batch = b"\0" * 1_000_000
        served.outlet.fell_short(batch, 0)
        await served.peer.send(b"".join(frame(PING, b"%d" % number) for number in range(1000)) + text("after"))
        await until(lambda: served.texts == ["after"])
        received = b""
        while len(received) < len(batch):
            received += await served.peer.some()
        assert received[len(batch) :] in (b"", b"\x8a\x03999")


# The close of a peer


@pytest.mark.gen_test
@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1011, 1014, 3000, 4999])
async def test_a_close_is_answered_with_its_code(code: int) -> None:
    async with serving() as served:
        await served.peer.send(raw.close(code, b"bye"))
        assert await served.peer.rest() == b"\x88\x02" + code.to_bytes(2)


@pytest.mark.gen_test
async def test_a_close_without_a_code_is_answered_without_one() -> None:
    async with serving() as served:
        await served.peer.send(raw.close())
        assert await served.peer.rest() == b"\x88\x00"


@pytest.mark.gen_test
@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535])
async def test_a_close_with_a_code_that_may_not_be_sent_is_a_protocol_error(code: int) -> None:
    async with serving() as served:
        await served.peer.send(raw.close(code))
        assert await served.peer.frame() == closed(1002, "Invalid close code")


@pytest.mark.gen_test
async def test_a_close_with_half_a_code_is_a_protocol_error() -> None:
    async with serving() as served:
        await served.peer.send(frame(CLOSE, b"\x03"))
        assert await served.peer.frame() == closed(1002, "Close code cut short")


@pytest.mark.gen_test
async def test_a_close_with_a_reason_of_invalid_utf_8_ends_with_1007() -> None:
    async with serving() as served:
        await served.peer.send(raw.close(1000, b"\xff"))
        assert await served.peer.frame() == closed(1007, "Invalid UTF-8")


@pytest.mark.gen_test
async def test_a_message_after_a_close_is_not_handed_on() -> None:
    async with serving() as served:
        await served.peer.send(text("before") + raw.close(1000) + text("after") + frame(PING, b"after"))
        assert await served.peer.rest() == b"\x88\x02\x03\xe8"
        assert served.texts == ["before"]


@pytest.mark.gen_test
async def test_a_message_after_a_close_in_a_packet_of_its_own_is_not_handed_on() -> None:
    async with serving() as served:
        await served.peer.send(raw.close(1000))
        assert await served.peer.frame() == closed(1000)
        await served.peer.send(text("after"))
        await served.peer.cut()
        assert served.texts == []


# Our own close


@pytest.mark.gen_test
async def test_a_close_has_its_code_and_reason() -> None:
    async with serving() as served:
        served.websocket.close(4001, "API key required")
        assert await served.peer.rest() == b"\x88\x12\x0f\xa1API key required"


@pytest.mark.gen_test
async def test_a_second_close_does_nothing() -> None:
    async with serving() as served:
        served.websocket.close(4001, "API key required")
        served.websocket.close(1001, "Server shutting down")
        assert await served.peer.rest() == b"\x88\x12\x0f\xa1API key required"


@pytest.mark.gen_test
async def test_closing_is_reported_once_before_the_close_frame_goes_out() -> None:
    async with serving() as served:
        await served.peer.send(raw.close(1000))
        assert await served.peer.frame() == closed(1000)
        served.websocket.close(1001, "Server shutting down")
        assert served.closings == 1


@pytest.mark.gen_test
async def test_a_peer_that_answers_our_close_and_goes_is_waited_for_no_longer() -> None:
    async with serving() as served:
        served.websocket.close(1001, "Server shutting down")
        await served.peer.send(raw.close(1001))
        served.peer.close()
        began = time.monotonic()
        await served.ended()
        assert time.monotonic() - began < 0.15


@pytest.mark.gen_test
async def test_a_peer_that_stays_is_cut_off_in_time() -> None:
    async with serving() as served:
        served.websocket.close(4001, "API key required")
        began = time.monotonic()
        assert await served.peer.frame() == closed(4001, "API key required")
        await served.peer.cut()
        assert time.monotonic() - began < 0.25


@pytest.mark.gen_test
async def test_a_peer_that_sends_on_gets_the_whole_close_frame() -> None:
    async with serving() as served:
        await served.peer.send(text("x" * 1000) * 100)
        served.websocket.close(4001, "API key required")
        await served.peer.send(text("x" * 1000) * 100)
        assert await served.peer.rest() == b"\x88\x12\x0f\xa1API key required"
        assert served.texts == []


@pytest.mark.gen_test
async def test_a_peer_that_floods_after_a_close_is_cut_off_at_a_mebibyte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "LINGER", 60)
    async with serving() as served:
        served.websocket.close(4001, "API key required")
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            await served.peer.send(b"\0" * 20_000_000)
        await served.ended()


@pytest.mark.gen_test
async def test_a_peer_that_sends_a_mebibyte_after_a_close_is_not_cut_off_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(websocket, "LINGER", 60)
    async with serving() as served:
        served.websocket.close(4001, "API key required")
        await served.peer.send(b"\0" * (1 << 20))
        assert await served.peer.rest() == b"\x88\x12\x0f\xa1API key required"
        assert not served.run.done()


# Floods


FLOODED = closed(1008, "Too many messages")


async def outcome(served: Served) -> Frame | None:
    """Return the close frame that the peer gets, None if the connection lasts until everything has been read."""
    # The first may be answered in the read that uses up the budget. The second comes after it.
    for end in (b"end", b"very end"):
        await served.peer.send(frame(PING, end))
        while (received := await served.peer.frame()) != Frame(PONG, end):
            if received.opcode == CLOSE:
                return received
    return None


TINY = {
    "text": frame(TEXT),
    "ping": frame(PING),
    "pong": frame(PONG),
    "message of two fragments": frame(TEXT, final=False) + frame(CONTINUATION),
}


@pytest.fixture
def no_refill(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no time pass for the budget, so that the machine's speed does not count."""
    monkeypatch.setattr(websocket, "FLOOD_RATE", 0.0)


@pytest.mark.gen_test
@pytest.mark.usefixtures("no_refill")
@pytest.mark.parametrize("kind", TINY)
async def test_a_peer_that_sends_more_than_2000_frames_at_once_is_disconnected(kind: str) -> None:
    async with serving() as served:
        await served.peer.send(TINY[kind] * 2_010)
        assert await outcome(served) == FLOODED


@pytest.mark.gen_test
@pytest.mark.usefixtures("no_refill")
@pytest.mark.parametrize("kind", ["text", "ping", "pong"])
async def test_a_peer_that_sends_1990_frames_at_once_is_not(kind: str) -> None:
    async with serving() as served:
        await served.peer.send(TINY[kind] * 1_990)
        assert await outcome(served) is None


@pytest.mark.gen_test
@pytest.mark.usefixtures("no_refill")
async def test_empty_fragments_without_end_are_a_flood_too() -> None:
    async with serving() as served:
        await served.peer.send(frame(TEXT, final=False) + frame(CONTINUATION, final=False) * 2_010)
        assert await outcome(served) == FLOODED


@pytest.mark.gen_test
@pytest.mark.usefixtures("no_refill")
@pytest.mark.parametrize(("count", "end"), [(110, None), (120, FLOODED)])
async def test_each_4_kib_count_as_one_frame_more(count: int, end: Frame | None) -> None:
    # A message of 64 KiB costs a little more than 17.
    async with serving() as served:
        await served.peer.send(frame(TEXT, b"x" * 65_536) * count)
        assert await outcome(served) == end


@pytest.mark.gen_test
@pytest.mark.usefixtures("no_refill")
@pytest.mark.parametrize(("count", "end"), [(110, None), (130, FLOODED)])
async def test_each_4_kib_that_a_message_inflates_to_count_as_one_frame_more(count: int, end: Frame | None) -> None:
    async with serving(window=12) as served:
        await served.peer.send(compressed(b"x" * 65_536) * count)
        assert await outcome(served) == end


@pytest.mark.gen_test
@pytest.mark.usefixtures("no_refill")
@pytest.mark.parametrize("step", [1, 7, 8_192])
async def test_a_message_costs_the_same_in_whatever_pieces_it_comes(step: int) -> None:
    async with serving() as served:
        whole = frame(TEXT, b"x" * 8_186)
        for start in range(0, len(whole), step):
            await served.peer.send(whole[start : start + step])
        await until(lambda: served.texts)
        await until(lambda: abs(served.websocket._credit - (2_000 - 1 - 8_194 / 4_096)) < 1e-6)


@pytest.mark.gen_test
async def test_the_budget_comes_back_by_100_frames_per_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(websocket, "time", SimpleNamespace(monotonic=lambda: now))
    async with serving() as served:
        await served.peer.send(frame(PONG) * 1_900)
        await until(lambda: served.pongs == 1_900)
        now += 3
        await served.peer.send(frame(PONG) * 350)
        await until(lambda: served.pongs == 2_250)
        assert not served.websocket.closing
        await served.peer.send(frame(PONG) * 100)
        assert await served.peer.frame() == FLOODED


@pytest.mark.gen_test
@pytest.mark.parametrize("size", [60, 65_536])
async def test_a_peer_at_the_rate_that_is_allowed_goes_on_for_ever(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    now = 1000.0
    monkeypatch.setattr(websocket, "time", SimpleNamespace(monotonic=lambda: now))
    message = frame(TEXT, b"x" * size)
    async with serving() as served:
        # The burst that the rate limit allows, then two minutes of 300 messages per minute.
        await served.peer.send(message * 50)
        await until(lambda: len(served.texts) == 50)
        for _ in range(120):
            now += 1
            served.texts.clear()
            await served.peer.send(message * 5)
            await until(lambda: len(served.texts) == 5 or served.websocket.closing)
        assert not served.websocket.closing


@pytest.mark.gen_test
@pytest.mark.usefixtures("no_refill")
async def test_a_disconnected_flood_knows_why() -> None:
    async with serving(budget=10) as served:
        await served.peer.send(frame(PONG) * 100)
        assert await served.peer.frame() == FLOODED
        assert served.websocket.ended_by == (1008, "Too many messages")
        assert served.closings == 1


# Ends without a close


@pytest.mark.gen_test
async def test_a_reset_ends_it() -> None:
    async with serving() as served:
        served.peer.reset()
        await served.ended()


@pytest.mark.gen_test
async def test_a_half_close_ends_it() -> None:
    async with serving() as served:
        served.peer.finish()
        await served.ended()


@pytest.mark.gen_test
async def test_an_end_inside_a_frame_ends_it() -> None:
    async with serving() as served:
        await served.peer.send(text("half")[:5])
        served.peer.reset()
        await served.ended()
        assert served.texts == []


@pytest.mark.gen_test
async def test_nothing_is_handed_on_after_the_connection_was_aborted() -> None:
    async with serving() as served:
        await served.peer.send(text("abort") + text("after"))
        await served.ended()
        assert served.texts == ["abort"]


@pytest.mark.gen_test
async def test_cancelling_it_ends_the_connection() -> None:
    async with serving() as served:
        await served.peer.send(text("here"))
        await until(lambda: served.texts == ["here"])
        served.run.cancel()
        with pytest.raises(ConnectionResetError):
            await served.peer.rest()


# Protocol errors


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("data", "close"),
    [
        (frame(TEXT, b"x", mask=None), closed(1002, "Frame not masked")),
        (frame(PING, b"x", mask=None), closed(1002, "Frame not masked")),
        (frame(TEXT, b"x", reserved=4), closed(1002, "Reserved bits set")),
        (frame(TEXT, b"x", reserved=2), closed(1002, "Reserved bits set")),
        (frame(TEXT, b"x", reserved=1), closed(1002, "Reserved bits set")),
        *((frame(opcode, b"x"), closed(1002, "Unknown opcode")) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)),
        (frame(PING, b"x" * 126), closed(1002, "Control frame fragmented or too long")),
        (frame(PING, b"x", final=False), closed(1002, "Control frame fragmented or too long")),
        (frame(CONTINUATION, b"x"), closed(1002, "Nothing to continue")),
        (frame(TEXT, b"x", final=False) + text("y"), closed(1002, "Message inside a message")),
        (b"\x81\xff" + b"\xff" * 8, closed(1002, "Frame length out of range")),
        (frame(TEXT, b"\xff"), closed(1007, "Invalid UTF-8")),
        (frame(BINARY, b"\xff"), closed(1007, "Invalid UTF-8")),
        (frame(TEXT, b"\xed\xa0\x80"), closed(1007, "Invalid UTF-8")),
        (frame(TEXT, b"\xc3", final=False) + frame(CONTINUATION, b"x"), closed(1007, "Invalid UTF-8")),
        (frame(TEXT, b"x" * 65_537), closed(1009, "Message too big")),
        (frame(TEXT, b"x" * 65_536, final=False) + frame(CONTINUATION, b"x"), closed(1009, "Message too big")),
    ],
)
async def test_a_protocol_error_ends_with_a_close_code_and_is_not_handed_on(data: bytes, close: Frame) -> None:
    async with serving() as served:
        await served.peer.send(text("before") + data + text("after"))
        assert await served.peer.frame() == close
        assert served.texts == ["before"]


@pytest.mark.gen_test
async def test_a_message_that_is_too_big_is_refused_by_its_header() -> None:
    async with serving() as served:
        await served.peer.send(frame(TEXT, b"x" * 65_537)[:14])
        assert await served.peer.frame() == closed(1009, "Message too big")


# The opening handshake


@pytest.mark.gen_test
async def test_the_accept_value_is_that_of_the_rfc(http_port: int, key: str) -> None:
    with await RawClient.connect(http_port) as client:
        await client.send(handshake(key, nonce="dGhlIHNhbXBsZSBub25jZQ=="))
        assert "Sec-Websocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in await client.response()


@pytest.mark.gen_test
async def test_an_extension_that_is_offered_is_not_taken(stream_url: str, key: str) -> None:
    async with websockets.connect(stream_url, additional_headers={"X-API-Key": key}, compression="deflate") as client:
        assert client.protocol.extensions == []


@pytest.mark.gen_test
@pytest.mark.bridge(compression=True)
@pytest.mark.parametrize(
    ("offers", "answer"),
    [
        ([], None),
        (["x-webkit-deflate-frame"], None),
        (["permessage-deflate; server_no_context_takeover"], None),
        (["permessage-deflate; client_max_window_bits"], "permessage-deflate; client_no_context_takeover"),
        (
            ["permessage-deflate; server_max_window_bits=8, permessage-deflate; server_max_window_bits=10"],
            "permessage-deflate; client_no_context_takeover; server_max_window_bits=10",
        ),
        (
            ["permessage-deflate; unknown", "permessage-deflate; server_max_window_bits=9"],
            "permessage-deflate; client_no_context_takeover; server_max_window_bits=9",
        ),
    ],
)
async def test_the_first_offer_of_compression_that_can_be_accepted_is(
    http_port: int, key: str, offers: list[str], answer: str | None
) -> None:
    with await RawClient.connect(http_port) as client:
        await client.send(handshake(key, *(f"Sec-WebSocket-Extensions: {offer}" for offer in offers)))
        head = await client.response()
        lines = [line for line in head.split("\r\n") if line.lower().startswith("sec-websocket-extensions:")]
        assert lines == ([] if answer is None else [f"Sec-Websocket-Extensions: {answer}"])


@pytest.mark.gen_test
@pytest.mark.bridge(compression=True)
async def test_an_offer_of_compression_that_comes_late_is_answered_like_one_that_comes_at_once(
    http_port: int, key: str
) -> None:
    with await RawClient.connect(http_port) as client:
        request = handshake(key, "Sec-WebSocket-Extensions: permessage-deflate")
        await client.send(request[:20])
        await asyncio.sleep(0.05)
        await client.send(request[20:])
        assert "Sec-Websocket-Extensions: permessage-deflate; client_no_context_takeover" in await client.response()


@pytest.mark.gen_test
async def test_a_subprotocol_that_is_offered_is_not_taken(http_port: int, key: str) -> None:
    with await RawClient.connect(http_port) as client:
        await client.send(handshake(key, "Sec-WebSocket-Protocol: candles, signals"))
        assert "Sec-Websocket-Protocol" not in await client.response()


@pytest.mark.gen_test
@pytest.mark.parametrize("nonce", ["", "x", "!!!!", "AAAAAAAAAAAAAAAAAAAAAA", "AAAA", "A" * 40, "grüße", "AAAA AAAA"])
async def test_a_malformed_handshake_key_is_refused_with_400(http_port: int, key: str, nonce: str) -> None:
    with await RawClient.connect(http_port) as client:
        await client.send(handshake(key, nonce=nonce))
        assert await client.status() == 400


@pytest.mark.gen_test
async def test_messages_that_come_with_the_handshake_are_answered_in_order(http_port: int, key: str) -> None:
    early = text('{"action":"subscribe","channels":["signals:*:*"]}') + text("no JSON") + frame(PING, b"early")
    with await RawClient.open(http_port, key, then=early) as client:
        assert await client.message() == '{"type":"subscribed","channels":["signals:*:*"]}'
        assert await client.message() == '{"type":"error","code":"PARSE_ERROR","message":"Invalid JSON"}'
        assert await client.frame() == Frame(PONG, b"early")

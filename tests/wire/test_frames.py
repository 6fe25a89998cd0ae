"""tornado_bridge.wire.frames, as the client of another project reads them."""

import pytest
import websockets.frames

from tests.support.peer import read_frame
from tornado_bridge.wire import frames
from tornado_bridge.wire.frames import Opcode

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA


# Frames that a server sends


def test_a_text_frame_is_final_and_not_masked() -> None:
    assert frames.text(b"Hello") == b"\x81\x05Hello"


@pytest.mark.parametrize(
    ("size", "header"),
    [
        (0, b"\x81\x00"),
        (125, b"\x81\x7d"),
        (126, b"\x81\x7e\x00\x7e"),
        (65_535, b"\x81\x7e\xff\xff"),
        (65_536, b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
def test_a_length_takes_the_fewest_bytes_that_hold_it(size: int, header: bytes) -> None:
    assert frames.text(b"a" * size) == header + b"a" * size


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 100_000])
def test_another_projects_client_reads_a_text_frame(size: int) -> None:
    assert read_frame(frames.text(b"a" * size)) == websockets.frames.Frame(websockets.frames.Opcode.TEXT, b"a" * size)


@pytest.mark.parametrize("opcode", [websockets.frames.Opcode.TEXT, websockets.frames.Opcode.BINARY])
@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_another_projects_client_reads_a_message_of_either_kind(size: int, opcode: websockets.frames.Opcode) -> None:
    assert read_frame(frames.message(Opcode(opcode), b"a" * size)) == websockets.frames.Frame(opcode, b"a" * size)


def test_the_ping_is_empty() -> None:
    assert frames.PING == b"\x89\x00"


def test_a_pong_carries_the_payload_of_its_ping() -> None:
    assert frames.pong(b"Hello") == b"\x8a\x05Hello"


def test_a_close_frame_carries_code_and_reason() -> None:
    assert frames.close(4001, "API key required") == b"\x88\x12\x0f\xa1API key required"


def test_a_close_frame_may_carry_only_a_code() -> None:
    assert frames.close(1000) == b"\x88\x02\x03\xe8"


def test_a_close_frame_without_a_code_is_empty() -> None:
    assert frames.close(None) == b"\x88\x00"


def test_the_reason_of_a_close_frame_is_utf_8() -> None:
    assert frames.close(1000, "é") == b"\x88\x04\x03\xe8\xc3\xa9"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("NORMAL", 1000),
        ("GOING_AWAY", 1001),
        ("PROTOCOL_ERROR", 1002),
        ("INVALID_DATA", 1007),
        ("POLICY_VIOLATION", 1008),
        ("MESSAGE_TOO_BIG", 1009),
        ("INTERNAL_ERROR", 1011),
        ("UNAUTHORIZED", 4001),
        ("TOO_MANY_CONNECTIONS", 4008),
    ],
)
def test_the_close_codes_are_those_of_the_contract(name: str, code: int) -> None:
    assert frames.CloseCode[name] == code


def test_there_is_no_other_close_code() -> None:
    assert len(frames.CloseCode) == 9


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 100_000])
def test_a_compressed_frame_is_a_text_frame_with_the_first_reserved_bit(size: int) -> None:
    plain, compressed = frames.text(b"a" * size), frames.compressed(b"a" * size)

    assert compressed == bytes((plain[0] | 0x40,)) + plain[1:]

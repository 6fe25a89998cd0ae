"""Opening handshakes that no decent client sends: the bridge's two ways into itself, and websockets' server.

TORNADO_BRIDGE_TEST_HANDSHAKES is how many handshakes each comparison takes.
"""

import asyncio
import contextlib
import dataclasses
import os
import re
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version

import pytest
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.http11 import Request
from websockets.server import ServerProtocol

from tests.abuse.handshakes import Handshakes
from tests.support.raw import RawClient, handshake
from tests.web import test_doorway as doorway
from tests.web.test_doorway import ALLOWED, at_once, later, served
from tornado_bridge.bridge import WebSocketBridge
from tornado_bridge.connections import wrong_keys
from tornado_bridge.web.app import MAX_HEADER_BYTES, STREAM_PATH

HANDSHAKES = int(os.environ.get("TORNADO_BRIDGE_TEST_HANDSHAKES", "300"))
SEED = 20_260_219

# So many connections are open at a time, and the server answers all of them in turns of the test's own loop.
AT_ONCE = 150

# All that comes has come when nothing came to any client in so many turns of 20 ms.
QUIET_TURNS = 8

# The fixture of the other tests that compare the two ways.
by_tornado = doorway.by_tornado


@pytest.fixture(autouse=True)
def free_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answer every wrong key at once: there are many of them, and all come from one address."""
    monkeypatch.setattr(wrong_keys, "FREE_TRIES", 10**9)


async def told(clients: Sequence[RawClient]) -> list[bytes]:
    """Return all that each client is told, without the times, and with the way in which the connection ends."""
    received = [bytearray() for _ in clients]
    quiet = 0

    async def read(client: RawClient, into: bytearray) -> None:
        nonlocal quiet
        try:
            while data := await asyncio.get_running_loop().sock_recv(client.socket, 1 << 16):
                quiet = 0
                into += data
            into += b"<end>"
        except ConnectionResetError:
            into += b"<reset>"
        quiet = 0

    tasks = [asyncio.create_task(read(client, into)) for client, into in zip(clients, received, strict=True)]
    while quiet < QUIET_TURNS:
        quiet += 1
        await asyncio.sleep(0.02)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return [re.sub(rb"\r\nDate: [^\r]+", b"", bytes(data)) for data in received]


async def told_at_once(port: int, requests: Sequence[bytes]) -> list[bytes]:
    with contextlib.ExitStack() as clients:
        return await told([clients.enter_context(at_once(port, data)) for data in requests])


def pieces(requests: list[bytes]) -> Iterator[list[bytes]]:
    for start in range(0, len(requests), AT_ONCE):
        yield requests[start : start + AT_ONCE]


# The two ways


@pytest.mark.gen_test(timeout=600)
@pytest.mark.bridge(max_connections_per_key=1000)
@pytest.mark.parametrize(("seed", "allow_origin", "compression"), [(SEED, (), False), (SEED + 1, (ALLOWED,), True)])
async def test_both_ways_tell_a_client_the_same_whatever_its_handshake(
    bridge: WebSocketBridge,
    key: str,
    by_tornado: list[object],
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    allow_origin: tuple[str, ...],
    compression: bool,
) -> None:
    monkeypatch.setattr(bridge, "compression", compression)
    right_away = 0
    async with served(bridge, *allow_origin) as port:
        for requests in pieces(Handshakes(seed, key=key).take(HANDSHAKES)):
            by_tornado.clear()
            first = await told_at_once(port, requests)
            right_away += len(requests) - len(by_tornado)
            with contextlib.ExitStack() as clients:
                second = await told([clients.enter_context(await later(port, data, by_tornado)) for data in requests])
            assert [row for row in zip(requests, first, second, strict=True) if row[1] != row[2]][:1] == []
    # Otherwise nothing was compared: a refused handshake goes Tornado's way even if it is there at once.
    assert right_away > HANDSHAKES // 5


# Against websockets


class Head:
    """The head of a request, cut at every line break, for the question whether it has a peculiarity."""

    def __init__(self, data: bytes) -> None:
        whole, self.ended, _ = data.partition(b"\r\n\r\n")
        self.size = len(whole) + 4
        self.lines = whole.split(b"\r\n")
        self.start_line = whole.strip(b"\r\n").partition(b"\n")[0].rstrip(b"\r")
        self._headers = [line.partition(b":") for line in re.split(rb"\r?\n", whole)[1:]]

    def values(self, name: bytes) -> list[bytes]:
        return [value.strip(b" \t\r") for found, _, value in self._headers if found.lower() == name.lower()]

    @property
    def target(self) -> bytes:
        return b" ".join(self.start_line.split(b" ")[1:-1])


_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_is_list = re.compile(rb"[ \t]*" + _TOKEN + rb"(?:[ \t]*,[ \t]*(?:" + _TOKEN + rb")?)*[ \t]*").fullmatch
_PARAMETER = _TOKEN + rb"(?:[ \t]*=[ \t]*(?:" + _TOKEN + rb'|"' + _TOKEN + rb'"))?'
_EXTENSION = _TOKEN + rb"(?:[ \t]*;[ \t]*" + _PARAMETER + rb")*"
_are_extensions = re.compile(_EXTENSION + rb"(?:[ \t]*,[ \t]*(?:" + _EXTENSION + rb")?)*").fullmatch
_is_host = re.compile(rb"[^\s,\x80-\xff/?#@]+").fullmatch


@dataclasses.dataclass(frozen=True)
class Difference:
    """A kind of handshake that only one of the two accepts, by `section`."""

    section: str
    name: str
    example: Callable[[str], bytes]
    recognize: Callable[[Head], object]


def with_line(*lines: str) -> Callable[[str], bytes]:
    return lambda key: handshake(key, *lines)


def replaced(old: bytes, new: bytes) -> Callable[[str], bytes]:
    return lambda key: handshake(key).replace(old, new)


THE_BRIDGE_ACCEPTS = (
    Difference(
        "RFC 6455 section 4.2.1: asks for HTTP/1.1. Tornado answers HTTP/1.0 in the same way",
        "HTTP/1.0",
        replaced(b"HTTP/1.1", b"HTTP/1.0"),
        lambda head: head.start_line.endswith(b" HTTP/1.0"),
    ),
    Difference(
        "RFC 9110 section 2.5: a higher minor version is read as the highest one that is known",
        "HTTP/1.2",
        replaced(b"HTTP/1.1", b"HTTP/1.2"),
        lambda head: re.search(rb" HTTP/1\.[2-9]$", head.start_line),
    ),
    Difference(
        "RFC 9112 section 2.2: a lone LF may end a line, and line breaks before the request are skipped",
        "line breaks",
        replaced(b"\r\nUpgrade", b"\nUpgrade"),
        lambda head: any(b"\n" in line for line in head.lines) or head.lines[0][:1] in (b"", b"\r"),
    ),
    Difference(
        "RFC 9110 section 5.4: there is no limit on headers. The bridge bounds their bytes, not their number",
        "more than 128 headers",
        with_line(*("X: x",) * 129),
        lambda head: len(head.lines) > 129,
    ),
    Difference(
        "RFC 9110 section 5.6.1: empty elements of a list are ignored. So is here what is not a token",
        "Connection that is not a list of tokens",
        with_line("Connection: a b"),
        lambda head: not all(map(_is_list, head.values(b"Connection"))),
    ),
    Difference(
        "RFC 6455 section 4.2.2: a server may know no subprotocol. The bridge does not read the header",
        "invalid Sec-WebSocket-Protocol",
        with_line("Sec-WebSocket-Protocol: a b"),
        lambda head: not all(map(_is_list, head.values(b"Sec-WebSocket-Protocol"))),
    ),
    Difference(
        "RFC 6455 section 9.1: asks to refuse. The bridge declines what it cannot read, and goes on uncompressed",
        "invalid Sec-WebSocket-Extensions",
        with_line("Sec-WebSocket-Extensions: ;"),
        lambda head: not all(map(_are_extensions, head.values(b"Sec-WebSocket-Extensions"))),
    ),
    Difference(
        "RFC 6454 section 7.3: forbids it to browsers. The bridge admits any origin, or with --allow-origin no pair",
        "two Origins",
        with_line("Origin: https://a", "Origin: https://b"),
        lambda head: len(head.values(b"Origin")) > 1,
    ),
    Difference(
        "RFC 9110 section 8.6: any number of digits is a length",
        "a body of no bytes",
        with_line("Content-Length: 00"),
        lambda head: set(head.values(b"Content-Length")) - {b"0"},
    ),
    Difference(
        "RFC 9112 section 3.2: a server should refuse an invalid target. Tornado takes any byte in a query",
        "a target that is not ASCII",
        lambda key: handshake(key, target=f"{STREAM_PATH}?\xe9").decode().encode("latin-1"),
        lambda head: not head.start_line.isascii(),
    ),
)

WEBSOCKETS_ACCEPTS = (
    Difference(
        "docs/protocol.md section 1: the stream has one path. websockets leaves paths to its user",
        "another path",
        lambda key: handshake(key, target="/"),
        lambda head: head.target.partition(b"?")[0] != STREAM_PATH.encode(),
    ),
    Difference(
        "RFC 9112 section 3.2: an invalid target is refused. websockets does not look at it",
        "a control character in the target",
        lambda key: handshake(key, target=f"{STREAM_PATH}?\x01"),
        lambda head: re.search(rb"[\x00-\x1f\x7f]", head.target),
    ),
    Difference(
        "RFC 9112 section 3.2: a request without exactly one valid Host is refused. websockets leaves it to its user",
        "no valid Host",
        replaced(b"Host: 127.0.0.1\r\n", b""),
        lambda head: len(head.values(b"Host")) != 1 or not _is_host(head.values(b"Host")[0]),
    ),
    Difference(
        "Fetch Metadata: a browser that says it comes from another site must say from which origin",
        "a browser of another site without an origin",
        with_line("Sec-Fetch-Site: cross-site"),
        lambda head: head.values(b"Sec-Fetch-Site") and not any(head.values(b"Origin")),
    ),
    Difference(
        "RFC 6455 section 10.4: an implementation bounds what it reads. The bridge takes 8 KiB",
        "a head over 8 KiB",
        with_line(*(f"X: {'x' * (MAX_HEADER_BYTES // 2)}",) * 2),
        lambda head: head.size > MAX_HEADER_BYTES,
    ),
)


# An older release takes less: for example no Content-Length of 0, which some devices send.
of_the_tables = pytest.mark.skipif(
    int(version("websockets").partition(".")[0]) < 17, reason="the tables are those of websockets 17"
)


def websockets_accepts(data: bytes) -> bool:
    protocol = ServerProtocol(extensions=[ServerPerMessageDeflateFactory()])
    protocol.receive_data(data)
    request = next(iter(protocol.events_received()), None)
    return isinstance(request, Request) and protocol.accept(request).status_code == 101


@of_the_tables
@pytest.mark.gen_test
async def test_a_difference_from_websockets_is_as_the_tables_say(http_port: int, key: str) -> None:
    for accepted_here, table in ((True, THE_BRIDGE_ACCEPTS), (False, WEBSOCKETS_ACCEPTS)):
        requests = [difference.example(key) for difference in table]
        accepted = [b"HTTP/1.1 101 " in answer for answer in await told_at_once(http_port, requests)]
        for difference, data, here in zip(table, requests, accepted, strict=True):
            assert difference.recognize(Head(data)), difference.name
            assert here == accepted_here, difference.name
            assert websockets_accepts(data) != accepted_here, difference.name


@of_the_tables
@pytest.mark.gen_test(timeout=600)
@pytest.mark.bridge(max_connections_per_key=1000)
async def test_the_bridge_accepts_what_websockets_accepts(bridge: WebSocketBridge, key: str) -> None:
    accepted_by_both = 0
    async with served(bridge) as port:
        for requests in pieces(Handshakes(SEED + 2, key=key).take(HANDSHAKES)):
            for data, answer in zip(requests, await told_at_once(port, requests), strict=True):
                here, there = b"HTTP/1.1 101 " in answer, websockets_accepts(data)
                accepted_by_both += here and there
                if here != there:
                    known = THE_BRIDGE_ACCEPTS if here else WEBSOCKETS_ACCEPTS
                    assert any(difference.recognize(Head(data)) for difference in known), (data, answer)
    assert accepted_by_both > HANDSHAKES // 5


@pytest.mark.parametrize("table", [THE_BRIDGE_ACCEPTS, WEBSOCKETS_ACCEPTS])
def test_the_usual_handshake_has_no_peculiarity(table: tuple[Difference, ...], key: str) -> None:
    head = Head(handshake(key, "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"))
    assert [difference.name for difference in table if difference.recognize(head)] == []

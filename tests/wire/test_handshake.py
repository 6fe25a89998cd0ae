"""tornado_bridge.wire.handshake: which opening handshakes are read, and that they are read as Tornado reads them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tornado.httputil import HTTPHeaders, parse_request_start_line
from tornado.websocket import WebSocketProtocol13

from tests.support.raw import handshake
from tornado_bridge.web.app import STREAM_PATH
from tornado_bridge.wire import handshake as opening
from tornado_bridge.wire.handshake import Opening

USUAL = handshake("secret")
NONCE = "AAAAAAAAAAAAAAAAAAAAAA=="


# What is read


def test_an_opening_handshake_is_read() -> None:
    assert opening.read(USUAL) == Opening(
        size=len(USUAL),
        path="/public/v1/stream",
        key=None,
        headers={
            "host": "127.0.0.1",
            "upgrade": "websocket",
            "connection": "Upgrade",
            "sec-websocket-key": NONCE,
            "sec-websocket-version": "13",
            "x-api-key": "secret",
        },
    )


def test_what_follows_an_opening_handshake_is_no_part_of_it() -> None:
    begun = opening.read(USUAL + b"\x81\x80\0\0\0\0")
    assert begun is not None
    assert begun.size == len(USUAL)


def test_the_key_of_the_query_is_read() -> None:
    begun = opening.read(handshake(None, target=f"{STREAM_PATH}?apiKey=a-B_1.~"))
    assert begun is not None
    assert (begun.path, begun.key) == (STREAM_PATH, "a-B_1.~")


@pytest.mark.parametrize(
    "header",
    [
        "X-Empty:",
        "X-Blank: \t ",
        "X-Inner: a b\tc",
        "X-Padded: \t a \t ",
        "X-Colon: a:b: c",
        "!#$%&'*+-.^_`|~: x",
        "Origin: https://app.example",
        "Sec-WebSocket-Protocol: chat",
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
    ],
)
def test_any_other_header_may_come_along(header: str) -> None:
    begun = opening.read(handshake("secret", header))
    assert begun is not None
    name, _, value = header.partition(":")
    assert begun.headers[name.lower()] == value.strip()


@pytest.mark.parametrize("line", ["Upgrade: WebSocket", "Connection: keep-alive, Upgrade", "Connection: ,upgrade ,x"])
def test_options_are_read_in_any_case_and_in_lists(line: str) -> None:
    name = line.partition(":")[0]
    lines = [line if old.startswith(f"{name}:") else old for old in USUAL.decode().split("\r\n")]
    assert opening.read("\r\n".join(lines).encode()) is not None


@pytest.mark.parametrize("host", ["example.org", "example.org:8080", "10.0.0.1", "[::1]:8080", "under_score"])
def test_any_host_is_read(host: str) -> None:
    assert opening.read(USUAL.replace(b"127.0.0.1", host.encode())) is not None


# What is left to Tornado


@pytest.mark.parametrize("size", range(len(USUAL)))
def test_what_is_not_whole_is_not_read(size: int) -> None:
    assert opening.read(USUAL[:size]) is None


def without(name: str) -> bytes:
    lines = USUAL.decode().split("\r\n")
    return "\r\n".join(line for line in lines if not line.startswith(f"{name}:")).encode()


UNUSUAL = {
    "empty": b"",
    "frames": b"\x81\x80\0\0\0\0",
    "an empty line first": b"\r\n" + USUAL,
    "bare line feeds": USUAL.replace(b"\r\n", b"\n"),
    "bare carriage returns": USUAL.replace(b"\r\n", b"\r"),
    "http 1.0": USUAL.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "http 2": USUAL.replace(b"HTTP/1.1", b"HTTP/2"),
    "post": USUAL.replace(b"GET", b"POST"),
    "head": USUAL.replace(b"GET", b"HEAD"),
    "lower case": USUAL.replace(b"GET", b"get"),
    "absolute form": USUAL.replace(b"/public", b"http://127.0.0.1/public"),
    "other query": handshake("secret", target=f"{STREAM_PATH}?a=b"),
    "more query": handshake(None, target=f"{STREAM_PATH}?apiKey=a&apiKey=b"),
    "empty query": handshake("secret", target=f"{STREAM_PATH}?"),
    "empty key": handshake(None, target=f"{STREAM_PATH}?apiKey="),
    "encoded key": handshake(None, target=f"{STREAM_PATH}?apiKey=%61"),
    "key with plus": handshake(None, target=f"{STREAM_PATH}?apiKey=a+b"),
    "blank in target": handshake("secret", target=f"{STREAM_PATH} x"),
    "no host": without("Host"),
    "empty host": USUAL.replace(b"127.0.0.1", b""),
    "two hosts": handshake("secret", "Host: x"),
    "hosts in one": USUAL.replace(b"127.0.0.1", b"a,b"),
    "bad host": USUAL.replace(b"127.0.0.1", b"a b"),
    "no upgrade": without("Upgrade"),
    "other upgrade": USUAL.replace(b"Upgrade: websocket", b"Upgrade: h2c"),
    "no connection": without("Connection"),
    "connection to close": USUAL.replace(b"Connection: Upgrade", b"Connection: close"),
    "no version": without("Sec-WebSocket-Version"),
    "version 8": handshake("secret", version="8"),
    "no nonce": without("Sec-WebSocket-Key"),
    "short nonce": handshake("secret", nonce="AAAA"),
    "long nonce": handshake("secret", nonce="A" * 23 + "="),
    "no base64": handshake("secret", nonce="?" * 22 + "=="),
    "two keys": handshake("secret", "x-api-key: other"),
    "folded": handshake("secret", "X: a", " b"),
    "no colon": handshake("secret", "X"),
    "no name": handshake("secret", ": x"),
    "blank before colon": handshake("secret", "X : x"),
    "control character": handshake("secret", "X: \x01"),
    "nul": handshake("secret", "X: \0"),
    "delete": handshake("secret", "X: \x7f"),
    "beyond ascii": handshake("secret", "X: \xfc"),
    "length": handshake("secret", "Content-Length: 0"),
    "chunks": handshake("secret", "Transfer-Encoding: chunked"),
    "expectation": handshake("secret", "Expect: 100-continue"),
    "a browser without an origin": handshake("secret", "Sec-Fetch-Site: cross-site"),
}


@pytest.mark.parametrize("data", UNUSUAL.values(), ids=UNUSUAL)
def test_what_is_not_usual_is_not_read(data: bytes) -> None:
    assert opening.read(data) is None


@pytest.mark.parametrize("place", [b"GET", b" /p", b"/v1", b" HTTP", b"ost: 1", b"127.", b"\r\nUp", b"ecret\r\n"])
def test_no_byte_makes_it_read_what_tornado_reads_otherwise(place: bytes) -> None:
    for byte in range(256):
        assert_read_as_tornado_reads(USUAL.replace(place, place[:1] + bytes((byte,)) + place[1:], 1))


PIECES = [
    *(USUAL[i : i + 1] for i in range(0, len(USUAL), 7)),
    *(
        b"\r\n",
        b"\r",
        b"\n",
        b" ",
        b"\t",
        b":",
        b",",
        b"?",
        b"&",
        b"=",
        b"%41",
        b"\0",
        b"\x7f",
        b"\xff",
        b"Host: x\r\n",
    ),
]


@given(st.lists(st.tuples(st.integers(0, len(USUAL)), st.integers(0, 3), st.sampled_from(PIECES)), max_size=4))
def test_what_is_read_is_read_as_tornado_reads_it(changes: list[tuple[int, int, bytes]]) -> None:
    data = USUAL
    for at, removed, piece in changes:
        data = data[:at] + piece + data[at + removed :]
    assert_read_as_tornado_reads(data)


def assert_read_as_tornado_reads(data: bytes) -> None:
    begun = opening.read(data)
    if begun is None:
        return
    head = data[: begun.size]
    assert head.index(b"\r\n\r\n") == begun.size - 4
    start, _, rest = head.decode("latin-1").partition("\r\n")
    line = parse_request_start_line(start)
    query = "" if begun.key is None else f"?apiKey={begun.key}"
    assert (line.method, line.path, line.version) == ("GET", begun.path + query, "HTTP/1.1")
    headers = HTTPHeaders.parse(rest.rstrip("\r\n"))
    assert begun.headers == {name.lower(): value for name, value in headers.get_all()}


# The answer


def test_the_answer_is_the_one_of_the_rfc() -> None:
    # RFC 6455 section 1.3 has this pair.
    answer = opening.answer({"sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="}, server="us", date="today")
    assert answer == (
        b"HTTP/1.1 101 Switching Protocols\r\nServer: us\r\nDate: today\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-Websocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    )


def test_the_answer_accepts_as_tornado_does() -> None:
    accepted = WebSocketProtocol13.compute_accept_value(NONCE).encode()
    assert accepted in opening.answer({"sec-websocket-key": NONCE}, server="us", date="today")


def test_the_answer_says_what_was_agreed_on() -> None:
    headers = {"sec-websocket-key": NONCE}
    answer = opening.answer(headers, server="us", date="today", extensions="permessage-deflate; x=1")
    assert b"\r\nSec-Websocket-Extensions: permessage-deflate; x=1\r\n" in answer


# Who may come, and with which key


@pytest.mark.parametrize(
    ("origin", "allowed", "may"),
    [
        (None, (), True),
        ("https://a", (), True),
        (None, ("https://a",), True),
        ("https://a", ("https://a", "https://b"), True),
        ("https://c", ("https://a", "https://b"), False),
        ("", ("https://a",), False),
    ],
)
def test_an_origin_may_come_where_it_or_any_is_allowed(origin: str | None, allowed: tuple[str, ...], may: bool) -> None:
    assert opening.may_come(origin, allowed) is may


@pytest.mark.parametrize("kind", [dict, HTTPHeaders])
@pytest.mark.parametrize(
    ("headers", "in_query", "key"),
    [
        ({}, None, None),
        ({}, "q", "q"),
        ({"authorization": "Bearer b"}, "q", "b"),
        ({"authorization": "bearer  b "}, "q", "b"),
        ({"authorization": "Bearer"}, "q", ""),
        ({"authorization": "Basic b"}, "q", "q"),
        ({"x-api-key": "x", "authorization": "Bearer b"}, "q", "x"),
        ({"x-api-key": "", "authorization": "Bearer b"}, "q", ""),
    ],
)
def test_the_key_is_the_first_of_three(
    kind: type, headers: dict[str, str], in_query: str | None, key: str | None
) -> None:
    assert opening.api_key(kind(headers), in_query) == key

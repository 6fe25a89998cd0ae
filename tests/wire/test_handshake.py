"""tornado_bridge.wire.handshake: reading a request, deciding about it, and answering."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tornado.httputil import HTTPServerRequest
from tornado.websocket import WebSocketProtocol13

from tests.support.raw import handshake as request
from tornado_bridge.web.app import STREAM_PATH
from tornado_bridge.wire import handshake
from tornado_bridge.wire.handshake import Accepted, Refused

USUAL = request("secret")
NONCE = "AAAAAAAAAAAAAAAAAAAAAA=="


def parsed(data: bytes) -> HTTPServerRequest:
    """Return the request in `data`, which must hold exactly one."""
    found = handshake.read(data)
    assert found is not None
    assert found[1] == len(data)
    return found[0]


# Requests that are read


def test_a_request_is_read_with_its_path_its_query_and_its_headers() -> None:
    read = parsed(request("secret", target=f"{STREAM_PATH}?apiKey=a%2Db&x"))
    assert (read.method, read.path, read.query_arguments) == ("GET", STREAM_PATH, {"apiKey": [b"a-b"], "x": [b""]})
    assert read.headers["x-api-key"] == "secret"


@pytest.mark.parametrize("behind", [b"", b"\x81\x80\0\0\0\0", b"\n\n"])
def test_bytes_behind_the_head_are_not_part_of_it(behind: bytes) -> None:
    found = handshake.read(USUAL + behind)
    assert found is not None
    assert found[1] == len(USUAL)


@pytest.mark.parametrize("size", [0, 1, 4, 40, len(USUAL) - 1])
def test_a_head_that_is_not_whole_is_left_to_the_http_server(size: int) -> None:
    assert handshake.read(USUAL[:size]) is None


@pytest.mark.parametrize(
    "data",
    [
        USUAL.replace(b"GET", b"POST", 1),
        USUAL.replace(b"GET", b"get", 1),
        USUAL.replace(b"HTTP/1.1", b"HTTP/1.0"),
        USUAL.replace(b"HTTP/1.1", b"HTTP/2.0"),
        USUAL.replace(b" HTTP/1.1", b""),
        USUAL.replace(b"Host: 127.0.0.1\r\n", b""),
        USUAL.replace(b"127.0.0.1", b"a b"),
        USUAL.replace(b"\r\nHost", b"\nHost"),
        USUAL.replace(b"Host", b"X: a\n\nHost"),
        b"\r\n" + USUAL,
        request("secret", "Host: other"),
        request("secret", "X : a"),
        request("secret", "X: \x01"),
        request("secret", "Content-Length: 0"),
        request("secret", "Transfer-Encoding: chunked"),
        request("secret", "Expect: 100-continue"),
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
    ],
)
def test_a_request_that_is_unusual_or_invalid_is_left_to_the_http_server(data: bytes) -> None:
    assert handshake.read(data) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_left(data: bytes) -> None:
    for text in (data, b"GET " + data, USUAL[:60] + data + b"\r\n\r\n", USUAL[:-2] + data + b"\r\n\r\n"):
        found = handshake.read(text)
        assert found is None or found[1] <= len(text)


# The decision


def decided(data: bytes, *allow_origin: str, compression: bool = False, full: bool = False) -> Accepted | Refused:
    return handshake.decide(parsed(data), allow_origin=allow_origin, compression=compression, full=full)


def test_the_usual_handshake_is_accepted_with_its_key() -> None:
    assert decided(USUAL) == Accepted(NONCE, "secret")


def test_the_repr_of_an_accepted_handshake_hides_the_key() -> None:
    assert "secret" not in repr(decided(USUAL))


@pytest.mark.parametrize("line", ["Upgrade: WebSocket", "Connection: keep-alive, Upgrade", "Connection: ,upgrade ,x"])
def test_options_are_read_in_any_case_and_in_lists(line: str) -> None:
    name = line.partition(":")[0]
    lines = [line if old.startswith(f"{name}:") else old for old in USUAL.decode().split("\r\n")]
    assert decided("\r\n".join(lines).encode()) == Accepted(NONCE, "secret")


@pytest.mark.parametrize(
    ("data", "refused"),
    [
        (USUAL.replace(b"Upgrade: websocket", b"Upgrade: h2c"), handshake.NOT_A_WEBSOCKET),
        (USUAL.replace(b"Upgrade: websocket", b"X: x"), handshake.NOT_A_WEBSOCKET),
        (USUAL.replace(b"Connection: Upgrade", b"Connection: close"), handshake.NO_CONNECTION_UPGRADE),
        (request("secret", version="8"), handshake.WRONG_VERSION),
        (USUAL.replace(b"Sec-WebSocket-Version", b"X"), handshake.WRONG_VERSION),
        (request("secret", nonce="x"), handshake.INVALID_HEADERS),
        (request("secret", nonce="AAAA"), handshake.INVALID_HEADERS),
        (request("secret", nonce="AAAAAAAAAAAAAAAAAAAAAAA="), handshake.INVALID_HEADERS),
        (request("secret", nonce="AAAAAAAAAAAA\u00e4AAAAAAAAAA=="), handshake.INVALID_HEADERS),
        (USUAL.replace(b"Sec-WebSocket-Key", b"X"), handshake.INVALID_HEADERS),
        (request("secret", "Sec-Fetch-Site: cross-site"), handshake.CROSS_SITE),
        (request("secret", "Sec-Fetch-Site: same-site", "Origin:"), handshake.CROSS_SITE),
    ],
)
def test_an_invalid_handshake_is_refused(data: bytes, refused: Refused) -> None:
    assert decided(data) == refused


@pytest.mark.parametrize("site", ["none", "same-origin"])
def test_a_browser_on_the_servers_own_site_needs_no_origin(site: str) -> None:
    assert decided(request("secret", f"Sec-Fetch-Site: {site}")) == Accepted(NONCE, "secret")


@pytest.mark.parametrize(
    ("origin", "allowed", "admitted"),
    [
        (None, (), True),
        ("https://a", (), True),
        (None, ("https://a",), True),
        ("https://a", ("https://a", "https://b"), True),
        ("https://c", ("https://a", "https://b"), False),
        ("", ("https://a",), False),
    ],
)
def test_an_origin_is_admitted_if_it_or_any_is_allowed(
    origin: str | None, allowed: tuple[str, ...], admitted: bool
) -> None:
    headers = () if origin is None else (f"Origin: {origin}",)
    expected = Accepted(NONCE, "secret") if admitted else handshake.ORIGIN_NOT_ALLOWED
    assert decided(request("secret", *headers), *allowed) == expected


def test_a_full_bridge_refuses() -> None:
    assert decided(USUAL, full=True) == handshake.FULL


def test_compression_is_agreed_on_if_the_bridge_wants_it() -> None:
    offer = request("secret", "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9")
    header = "permessage-deflate; client_no_context_takeover; server_max_window_bits=9"
    assert decided(offer, compression=True) == Accepted(NONCE, "secret", 9, header)
    assert decided(offer) == Accepted(NONCE, "secret")
    assert decided(USUAL, compression=True) == Accepted(NONCE, "secret")


@pytest.mark.parametrize(
    ("headers", "in_query", "key"),
    [
        ((), "", None),
        ((), "?apiKey=q", "q"),
        ((), "?apiKey=q&apiKey=r", "q"),
        ((), "?apiKey", ""),
        ((), "?apiKey=%ff", "\ufffd"),
        (("Authorization: Bearer b",), "?apiKey=q", "b"),
        (("Authorization: bearer  b ",), "?apiKey=q", "b"),
        (("Authorization: Bearer",), "?apiKey=q", ""),
        (("Authorization: Basic b",), "?apiKey=q", "q"),
        (("X-API-Key: x", "Authorization: Bearer b"), "?apiKey=q", "x"),
        (("X-API-Key:", "Authorization: Bearer b"), "?apiKey=q", ""),
    ],
)
def test_the_key_is_the_first_of_three(headers: tuple[str, ...], in_query: str, key: str | None) -> None:
    assert decided(request(None, *headers, target=f"{STREAM_PATH}{in_query}")) == Accepted(NONCE, key)


# The answer


def test_the_answer_is_the_one_of_the_rfc() -> None:
    # The nonce and the accept value are the example of RFC 6455 section 1.3.
    answer = handshake.answer(Accepted("dGhlIHNhbXBsZSBub25jZQ==", None), server="us", date="today")
    assert answer == (
        b"HTTP/1.1 101 Switching Protocols\r\nServer: us\r\nDate: today\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-Websocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    )


def test_the_answer_accepts_as_tornado_does() -> None:
    accepted = WebSocketProtocol13.compute_accept_value(NONCE).encode()
    assert accepted in handshake.answer(Accepted(NONCE, None), server="us", date="today")


def test_the_answer_has_the_agreed_extension() -> None:
    accepted = Accepted(NONCE, None, 12, "permessage-deflate; x=1")
    answer = handshake.answer(accepted, server="us", date="today")
    assert b"\r\nSec-Websocket-Extensions: permessage-deflate; x=1\r\n" in answer

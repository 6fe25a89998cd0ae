"""The opening handshake of RFC 6455 section 4: whether a request becomes a WebSocket, and with what.

Both ways into the bridge ask `decide`: the doorway, with a request that `read` has parsed from the first bytes of a
connection, and the WebSocketHandler, with the request that Tornado has parsed. So a client cannot tell them apart.
"""

import base64
import binascii
import dataclasses
import hashlib
from collections.abc import Collection

from tornado.httputil import HTTPHeaders, HTTPInputError, HTTPServerRequest, parse_request_start_line

from tornado_bridge.wire import deflate

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_NONCE_BYTES = 16
_HEAD_END = b"\r\n\r\n"

# A request with one of these headers may have a body, or waits for an interim answer.
_BODY_HEADERS = ("Content-Length", "Transfer-Encoding", "Expect")


@dataclasses.dataclass(frozen=True, slots=True)
class Accepted:
    """A handshake that succeeds.

    `nonce` is the client's Sec-WebSocket-Key, `key` its API key (None where it sent none). `window` is the window of
    permessage-deflate in bits and `extensions` the header that agrees to it; both are None without compression.
    """

    nonce: str
    key: str | None = dataclasses.field(repr=False)
    window: int | None = None
    extensions: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Refused:
    """A handshake that fails: the HTTP status, the text and the further headers of the answer."""

    status: int
    text: str
    headers: tuple[tuple[str, str], ...] = ()


NOT_A_WEBSOCKET = Refused(426, "This is a WebSocket endpoint.", (("Upgrade", "websocket"), ("Connection", "Upgrade")))
ORIGIN_NOT_ALLOWED = Refused(403, "Origin not allowed.")
FULL = Refused(503, "Too many connections.", (("Retry-After", "10"),))
NO_CONNECTION_UPGRADE = Refused(400, '"Connection" must be "Upgrade".')
CROSS_SITE = Refused(403, "Cross origin websockets not allowed")
WRONG_VERSION = Refused(426, "", (("Sec-WebSocket-Version", "13"),))
INVALID_HEADERS = Refused(400, "Missing/Invalid WebSocket headers")


def read(data: bytes) -> tuple[HTTPServerRequest, int] | None:
    """Return the GET request that `data` begins with, and the size of its head in bytes.

    None where the head is not whole, is invalid, or may be followed by a body. Those requests are for an HTTP server.
    """
    end = data.find(_HEAD_END)
    if end < 0 or not data.startswith(b"GET "):
        return None
    size = end + len(_HEAD_END)
    if data.count(b"\n", 0, size) != data.count(b"\r\n", 0, size):
        # Tornado's server also takes a bare LF for the end of a line, so it may see the end of the head elsewhere.
        return None
    start_line, _, headers = data[: end + 2].decode("latin-1").partition("\r\n")
    try:
        request = HTTPServerRequest(start_line=parse_request_start_line(start_line), headers=HTTPHeaders.parse(headers))
    except HTTPInputError:
        return None
    if request.version != "HTTP/1.1" or any(name in request.headers for name in _BODY_HEADERS):
        return None
    return request, size


def decide(
    request: HTTPServerRequest, *, allow_origin: Collection[str] = (), compression: bool = False, full: bool = False
) -> Accepted | Refused:
    """Decide about the handshake of a GET request to the stream.

    `allow_origin` are the origins of browsers that are admitted, all if it is empty. With `compression` the first
    acceptable offer of permessage-deflate is taken. `full` says that the bridge takes no further connection.
    """
    given = request.headers.get
    origin = given("Origin")
    if given("Upgrade", "").lower() != "websocket":
        return NOT_A_WEBSOCKET
    if allow_origin and origin is not None and origin not in allow_origin:
        return ORIGIN_NOT_ALLOWED
    if full:
        return FULL
    if "upgrade" not in (option.strip() for option in given("Connection", "").lower().split(",")):
        return NO_CONNECTION_UPGRADE
    if given("Sec-Fetch-Site", "none") not in ("none", "same-origin") and not origin:
        # Tornado's own rule: a browser that says it comes from another site must say from which origin.
        return CROSS_SITE
    if given("Sec-WebSocket-Version") != "13":
        return WRONG_VERSION
    nonce = given("Sec-WebSocket-Key", "")
    if not given("Host") or not _is_nonce(nonce):
        return INVALID_HEADERS
    agreement = deflate.agree(given("Sec-WebSocket-Extensions", "")) if compression else None
    if agreement is None:
        return Accepted(nonce, api_key(request))
    return Accepted(nonce, api_key(request), agreement.window, agreement.header)


def api_key(request: HTTPServerRequest) -> str | None:
    """Return the API key of a request: the first of X-API-Key, Authorization and the query that is there."""
    given = request.headers.get("X-API-Key")
    if given is not None:
        return given
    scheme, _, key = request.headers.get("Authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer":
        return key.strip()
    in_query = request.query_arguments.get("apiKey")
    return in_query[0].decode("utf-8", "replace") if in_query else None


def answer(accepted: Accepted, *, server: str, date: str) -> bytes:
    """Return the answer to an accepted handshake, with the headers in the order in which Tornado writes them."""
    digest = hashlib.sha1(accepted.nonce.encode() + _GUID, usedforsecurity=False).digest()
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        f"Server: {server}",
        f"Date: {date}",
        *([] if accepted.extensions is None else [f"Sec-Websocket-Extensions: {accepted.extensions}"]),
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-Websocket-Accept: {base64.b64encode(digest).decode()}",
        "\r\n",
    ]
    return "\r\n".join(lines).encode()


def _is_nonce(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == _NONCE_BYTES
    except (binascii.Error, ValueError):
        return False

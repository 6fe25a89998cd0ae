"""The opening handshake of the usual client, read out of the first bytes of its connection (RFC 6455 section 4)."""

import base64
import dataclasses
import hashlib
import re
from collections.abc import Collection, Mapping

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# No byte can be read in two ways, so a head that does not fit is looked at once.
_head = re.compile(
    rb"GET (/[!->@-~]*)(?:\?apiKey=([0-9A-Za-z._~-]+))? HTTP/1\.1\r\n"
    rb"((?:" + _TOKEN + rb":[ \t]*+(?:[!-~][\t -~]*+)?\r\n)++)\r\n"
).match
_host = re.compile(r"(?:[0-9A-Za-z._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]+)?").fullmatch
_nonce = re.compile("[0-9A-Za-z+/]{22}==").fullmatch

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclasses.dataclass(frozen=True, slots=True)
class Opening:
    """One opening handshake of `size` bytes; the names of `headers` are in lower case, `key` is that of the query."""

    size: int
    path: str
    key: str | None
    headers: dict[str, str]


def read(data: bytes) -> Opening | None:
    """Return the opening handshake that `data` begins with, None where it does not, or not with a usual one.

    Usual is what is whole, breaks no rule, has no body, names no header twice, and no more in its query than a key.
    """
    head = _head(data)
    if head is None:
        return None
    lines = head[3].decode().split("\r\n")[:-1]
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip(" \t")
    if len(headers) < len(lines) or not _asks_for_upgrade(headers):
        return None
    key = None if head[2] is None else head[2].decode()
    return Opening(head.end(), head[1].decode(), key, headers)


def _asks_for_upgrade(headers: dict[str, str]) -> bool:
    given = headers.get
    return (
        given("upgrade", "").lower() == "websocket"
        and "upgrade" in (option.strip() for option in given("connection", "").lower().split(","))
        and given("sec-websocket-version") == "13"
        and _nonce(given("sec-websocket-key", "")) is not None
        and _host(given("host", "")) is not None
        # What says where a browser comes from says it with an origin.
        and ("sec-fetch-site" not in headers or "origin" in headers)
        and not ("content-length" in headers or "transfer-encoding" in headers or "expect" in headers)
    )


def answer(headers: dict[str, str], *, server: str, date: str, extensions: str | None = None) -> bytes:
    """Return the answer to an opening handshake of those headers, which says who answers, when, and what was agreed."""
    digest = hashlib.sha1(headers["sec-websocket-key"].encode() + _GUID, usedforsecurity=False).digest()
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        f"Server: {server}",
        f"Date: {date}",
        *([] if extensions is None else [f"Sec-Websocket-Extensions: {extensions}"]),
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-Websocket-Accept: {base64.b64encode(digest).decode()}",
        "\r\n",
    ]
    return "\r\n".join(lines).encode()


def may_come(origin: str | None, allowed: Collection[str]) -> bool:
    """Tell whether a client of that origin may come; one without is no browser, and none allowed means any."""
    return not allowed or origin is None or origin in allowed


def api_key(headers: Mapping[str, str], in_query: str | None) -> str | None:
    """Return the key of a request, the first of the three places that is there; None where none is."""
    given = headers.get("x-api-key")
    if given is not None:
        return given
    scheme, _, key = headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer":
        return key.strip()
    return in_query

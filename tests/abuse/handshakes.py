"""Opening handshakes by the hundred, out of a seed: right, unusual and wrong."""

import random
from collections.abc import Callable, Sequence

from tests.support.raw import handshake, text
from tornado_bridge.web.app import MAX_HEADER_BYTES, STREAM_PATH

_VALUES = {
    "Host": ("127.0.0.1", "example.org:8080", "[::1]:80", "EXAMPLE.org", "", "a b", "a,b", "x" * 300, "\xe9.org"),
    "Upgrade": ("websocket", "WebSocket", "WEBSOCKET", "websocket, h2c", "h2c", "", "websocket/13", "web socket"),
    "Connection": (
        *("Upgrade", "upgrade", "keep-alive, Upgrade", "Upgrade,close", " , Upgrade ,", "close", "", "Upgrade; x"),
        *("upgrade\tkeep-alive", "Upgrad", "x-upgrade", '"Upgrade"'),
    ),
    "Sec-WebSocket-Version": ("13", "8", "7", "013", "13, 8", "+13", "", "13.0", "0xd", "\xb913"),
    "Sec-WebSocket-Key": (
        *("AAAAAAAAAAAAAAAAAAAAAA==", "dGhlIHNhbXBsZSBub25jZQ==", "AAAAAAAAAAAAAAAAAAAAAB==", "", "x", "A" * 22),
        *("AAAAAAAAAAAAAAAAAAAAAAA=", "AAAA AAAAAAAAAAAAAAAAAA==", "\xe9AAAAAAAAAAAAAAAAAAAAA==", "A" * 400),
    ),
    "Sec-WebSocket-Extensions": (
        *("permessage-deflate", "permessage-deflate; client_max_window_bits", "permessage-deflate; x=1", "x, y; z", ""),
        *('permessage-deflate; server_max_window_bits="10"', "permessage-deflate; server_max_window_bits=8", ";", ",,"),
        *("x-webkit-deflate-frame", "permessage-deflate;", 'permessage-deflate; a="', "permessage-deflate, " * 30),
    ),
    "Sec-WebSocket-Protocol": ("chat", "chat, superchat", "", "a b"),
    "Origin": ("https://app.example", "https://evil.example", "null", "", "https://APP.example"),
    "Sec-Fetch-Site": ("none", "same-origin", "cross-site", "same-site", "", "NONE"),
    "X-API-Key": ("wrong", "", "gr\xfc\xdfe", "a b"),
    "Authorization": ("Bearer wrong", "bearer", "Basic eDp5", "Bearer", "Digest a=b", ""),
    "Content-Length": ("0", "2", "8193", "-1", "+0", "x", "", "0, 0", "00"),
    "Transfer-Encoding": ("chunked", "identity", "", "gzip, chunked", "Chunked"),
    "Expect": ("100-continue", "x", ""),
    "Cookie": ("a=b", "\x80", "a" * 4000),
    "X-Forwarded-For": ("1.2.3.4", ""),
    "Accept-Encoding": ("gzip, deflate, br", ""),
}
_TARGETS = (
    *(STREAM_PATH, f"{STREAM_PATH}?a=b", f"{STREAM_PATH}?", f"{STREAM_PATH}?apiKey=%ff%00", f"{STREAM_PATH}#x", "/"),
    *(f"http://127.0.0.1{STREAM_PATH}", f"//{STREAM_PATH}", f"{STREAM_PATH}/", STREAM_PATH.upper(), "*", "", "/%"),
    *(STREAM_PATH.replace("v1", "%76%31"), f"{STREAM_PATH};x", f"{STREAM_PATH}?{'a=b&' * 150}", "/public/v1/\xe9"),
    *(
        "127.0.0.1:80",
        "?",
        f"{STREAM_PATH}?apiKey=a&apiKey=b",
        f"/public/../public/v1/stream?{STREAM_PATH}",
        "/healthz",
    ),
)
_VERSIONS = ("HTTP/1.0", "HTTP/2.0", "HTTP/1.2", "http/1.1", "HTTP/1.1 ", "HTTP/1.10", "HTTP/01.1", "", "HTTP/1,1")
_METHODS = ("POST", "get", "HEAD", "OPTIONS", "PUT", "", "GET ", "G\xcbT", "CONNECT", "DELETE")
_BREAKS = (
    "\n",
    "\r",
    "\r\n ",
    "\r\n\t",
    "\n\n",
    "\r\r\n",
    "\0",
    "\x0b",
    "\x0c",
    "\x1f",
    "\x7f",
    "\x85",
    "\xa0",
    ":",
    " ",
)
_BEHIND = (text('{"action":"subscribe","channels":["signals:*:*"]}'), b"\x88\x80\0\0\0\0", b"\x81", b"\r\n", b"GET / ")


class Handshakes:
    """Makes handshakes. Most of them have one or two peculiarities, and many are accepted."""

    def __init__(self, seed: int, *, key: str) -> None:
        self._random = random.Random(seed)
        self._key = key
        self._peculiarities: tuple[Callable[[list[str]], None], ...] = (
            *(self._order, self._case, self._case, self._space, self._space, self._value, self._value, self._value),
            *(self._another, self._another, self._without, self._repeated, self._repeated, self._target, self._target),
            *(self._line, self._line, self._many, self._version),
        )

    def take(self, count: int) -> list[bytes]:
        return [self._handshake() for _ in range(count)]

    def _handshake(self) -> bytes:
        lines = handshake(self._key).decode().split("\r\n")[:-2]
        for _ in range(self._random.choice((0, 1, 1, 1, 2, 2, 3))):
            self._random.choice(self._peculiarities)(lines)
        data = "\r\n".join([*lines, "", ""]).encode("latin-1")
        kind = self._random.randrange(12)
        if kind == 0:
            data = self._of_size(data)
        elif kind == 1:
            data = self._damaged(data)
        elif kind == 2:
            data += self._random.choice(_BEHIND)
        return data

    # Peculiarities of the lines. The first one is the request line.

    def _order(self, lines: list[str]) -> None:
        lines[1:] = self._random.sample(lines[1:], len(lines) - 1)

    def _case(self, lines: list[str]) -> None:
        number = self._number(lines)
        name, colon, value = lines[number].partition(":")
        change = self._random.choice((str.upper, str.lower, str.swapcase, str.title))
        lines[number] = f"{change(name)}{colon}{value}"

    def _space(self, lines: list[str]) -> None:
        number = self._number(lines)
        name, _, value = lines[number].partition(":")
        before, after, end = (self._random.choice(("", " ", "\t", " \t ")) for _ in range(3))
        # Blanks in front of the colon are an error, so that they come seldom.
        before = before if self._random.random() < 0.2 else ""
        lines[number] = f"{name}{before}:{after}{value.strip()}{end}"

    def _value(self, lines: list[str]) -> None:
        number = self._number(lines)
        name = lines[number].partition(":")[0]
        known = next((values for header, values in _VALUES.items() if header.lower() == name.lower().strip()), ("x",))
        lines[number] = f"{name}: {self._random.choice(known)}"

    def _another(self, lines: list[str]) -> None:
        name = self._random.choice(list(_VALUES))
        lines.insert(self._random.randrange(1, len(lines) + 1), f"{name}: {self._random.choice(_VALUES[name])}")

    def _without(self, lines: list[str]) -> None:
        if len(lines) > 1:
            del lines[self._number(lines)]

    def _repeated(self, lines: list[str]) -> None:
        lines.insert(self._random.randrange(1, len(lines) + 1), lines[self._number(lines)])

    def _target(self, lines: list[str]) -> None:
        lines[0] = f"GET {self._random.choice(_TARGETS)} HTTP/1.1"

    def _version(self, lines: list[str]) -> None:
        method, version = self._random.choice((("GET", None), (None, "HTTP/1.1")))
        method = method or self._random.choice(_METHODS)
        lines[0] = f"{method} {STREAM_PATH} {version or self._random.choice(_VERSIONS)}"

    def _line(self, lines: list[str]) -> None:
        """Put a control character, a line break or a blank somewhere into a line."""
        number = self._random.randrange(len(lines))
        at = self._random.randrange(len(lines[number]) + 1)
        lines[number] = lines[number][:at] + self._random.choice(_BREAKS) + lines[number][at:]

    def _many(self, lines: list[str]) -> None:
        count = self._random.choice((1, 10, 100, 130, 1000))
        lines[1:1] = [f"X-{number}: {number}"[:60] for number in range(count)]

    def _number(self, lines: Sequence[str]) -> int:
        return self._random.randrange(1, len(lines)) if len(lines) > 1 else 0

    # Peculiarities of the bytes

    def _of_size(self, data: bytes) -> bytes:
        """Fill a head up to about the largest size."""
        size = MAX_HEADER_BYTES + self._random.choice((-1, 0, 0, 1, 2, 100))
        head, _, rest = data.partition(b"\r\n\r\n")
        filling = b"\r\nX-Filling: "
        return head + filling + b"x" * (size - len(head) - len(filling) - 4) + b"\r\n\r\n" + rest

    def _damaged(self, data: bytes) -> bytes:
        for _ in range(self._random.randrange(1, 4)):
            start = self._random.randrange(len(data) + 1)
            new = self._random.randbytes(self._random.randrange(3))
            data = data[:start] + new + data[start + self._random.randrange(3) :]
        return data[: self._random.randrange(len(data) + 1)] if self._random.random() < 0.3 else data

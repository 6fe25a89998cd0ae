"""A client that sends any bytes, and functions with which a test waits."""

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, Self

from tornado_bridge.bridge import WebSocketBridge
from tornado_bridge.web.app import STREAM_PATH

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

# How long a test waits for something that must happen, in seconds; long enough for a machine that is busy.
PATIENCE = 20.0

NOTHING_HELD = {"connections": 0, "places": 0, "cohorts": 0, "heartbeats": 0, "slow": 0, "tasks": 0, "buffered": 0}


async def until(condition: Callable[[], object], within: float = PATIENCE) -> None:
    """Wait until the condition holds; fails after `within` seconds."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"the condition did not hold within {within} s"
        await asyncio.sleep(0.002)


def held(bridge: WebSocketBridge) -> dict[str, int]:
    """Return how many objects a bridge holds for clients."""
    return {
        "connections": len(bridge.connections),
        "places": sum(allowance.live for allowance in bridge.admission._allowances.values()),
        "cohorts": bridge.hub.cohorts,
        "heartbeats": len(bridge.heartbeat) + sum(connection._pings is not None for connection in bridge.connections),
        "slow": len(bridge.slow),
        "tasks": len(bridge._clients) + bridge.refusals.lingering,
        "buffered": bridge.slow_rule.buffered + len(bridge.slow_rule.waiting),
    }


class Frame(NamedTuple):
    """A whole frame as it was received."""

    opcode: int
    payload: bytes


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    final: bool = True,
    reserved: int = 0,
    mask: bytes | None = b"\x11\x22\x33\x44",
) -> bytes:
    """Return the bytes of a frame as a client sends it, valid or not."""
    first = (0x80 if final else 0) | reserved << 4 | opcode
    masked = 0x80 if mask is not None else 0
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", first, masked | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", first, masked | 126, size)
    else:
        head = struct.pack("!BBQ", first, masked | 127, size)
    if mask is None:
        return head + payload
    return head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


def text(message: str) -> bytes:
    return frame(TEXT, message.encode())


def close(code: int | None = None, reason: bytes = b"") -> bytes:
    return frame(CLOSE, b"" if code is None else code.to_bytes(2) + reason)


def closed(code: int | None, reason: str = "") -> Frame:
    """Return the close frame with this code and reason as a client receives it."""
    return Frame(CLOSE, b"" if code is None else code.to_bytes(2) + reason.encode())


def handshake(
    key: str | None,
    *headers: str,
    target: str = STREAM_PATH,
    nonce: str = "AAAAAAAAAAAAAAAAAAAAAA==",
    version: str = "13",
) -> bytes:
    """Return an opening handshake; `headers` are whole lines."""
    lines = [
        f"GET {target} HTTP/1.1",
        "Host: 127.0.0.1",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {nonce}",
        f"Sec-WebSocket-Version: {version}",
        *([] if key is None else [f"X-API-Key: {key}"]),
        *headers,
    ]
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


class RawClient:
    """The client's side of a TCP connection. No wait is unbounded."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.socket = sock
        self._received = bytearray()

    @classmethod
    async def connect(cls, port: int, *, receive_buffer: int | None = None) -> Self:
        """Open a connection; `receive_buffer` limits what the kernel accepts while the client does not read."""
        sock = socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        async with asyncio.timeout(PATIENCE):
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        return cls(sock)

    @classmethod
    async def open(
        cls, port: int, key: str | None, *headers: str, then: bytes = b"", receive_buffer: int | None = None
    ) -> Self:
        """Open a WebSocket; `then` is sent in one piece with the handshake."""
        client = await cls.connect(port, receive_buffer=receive_buffer)
        await client.send(handshake(key, *headers) + then)
        assert await client.status() == 101
        return client

    async def send(self, data: bytes) -> None:
        async with asyncio.timeout(PATIENCE):
            await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def response(self) -> str:
        """Return the head of an HTTP response."""
        while b"\r\n\r\n" not in self._received:
            await self._more()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        return bytes(head).decode()

    async def status(self) -> int:
        return int((await self.response()).split(" ")[1])

    async def frame(self) -> Frame:
        """Return the next frame; raises EOFError if the server has closed the connection."""
        while True:
            found = _first_frame(self._received)
            if found is not None:
                size, received = found
                del self._received[:size]
                return received
            await self._more()

    async def message(self) -> str:
        """Return the next text message; fails for any other frame."""
        received = await self.frame()
        assert received.opcode == TEXT, received
        return received.payload.decode()

    async def first(self) -> bytes:
        """Return the first bytes, empty if the server closes the connection instead."""
        with contextlib.suppress(EOFError):
            return await self.some()
        return b""

    async def rest(self) -> bytes:
        """Return all bytes until the server closes the connection."""
        with contextlib.suppress(EOFError):
            while True:
                await self._more()
        rest, self._received = self._received, bytearray()
        return bytes(rest)

    async def some(self) -> bytes:
        """Return the next bytes; raises EOFError if the server has closed the connection."""
        async with asyncio.timeout(PATIENCE):
            data = await asyncio.get_running_loop().sock_recv(self.socket, 1 << 16)
        if not data:
            raise EOFError
        return data

    async def _more(self) -> None:
        self._received += await self.some()

    async def cut(self, within: float = PATIENCE) -> None:
        """Wait until the server has reset the connection, which it had shut down for sending before."""
        await until(lambda: self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), within)

    def finish(self) -> None:
        """Shut the connection down for sending only."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close the connection with an RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def _first_frame(data: bytearray) -> tuple[int, Frame] | None:
    """Return the size and the content of the first frame in `data`, None if it is incomplete."""
    if len(data) < 2:
        return None
    assert data[0] & 0xF0 == 0x80, "a server's frame is final, and no reserved bit is set"
    assert data[1] < 0x80, "a server's frame has no mask"
    size, start = data[1], 2
    if size >= 126:
        start = 4 if size == 126 else 10
        if len(data) < start:
            return None
        size = int.from_bytes(data[2:start])
    end = start + size
    return (end, Frame(data[0] & 0x0F, bytes(data[start:end]))) if len(data) >= end else None


@contextlib.contextmanager
def tcp_pair(*, send_buffer: int = 16_384, receive_buffer: int = 16_384) -> Iterator[tuple[socket.socket, RawClient]]:
    """Yield both sides of a TCP connection, the server's first; the kernel buffers little for it."""
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as far:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        far.connect(listening.getsockname())
        near, _ = listening.accept()
        with near:
            near.setblocking(False)
            yield near, RawClient(far)

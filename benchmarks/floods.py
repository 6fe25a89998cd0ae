"""The round trip of a healthy client while another client floods, and the growth of the server's memory.

`python -m benchmarks.floods` sends each flood for a few seconds with a good key and with a bad one. The server has one
processor. Redis, the healthy client and the flood share the other one.
"""

import argparse
import os
import socket
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks import systems
from benchmarks.rig.bus import redis_server
from benchmarks.rig.system import Installed, Serving, serving

# Masked frames. The mask is zero, which RFC 6455 allows and which leaves the payload as it is.
TINY_TEXT = bytes((0x81, 0x81, 0, 0, 0, 0)) + b"x"
EMPTY_FRAGMENT = bytes((0x00, 0x80, 0, 0, 0, 0))
FIRST_FRAGMENT = bytes((0x01, 0x80, 0, 0, 0, 0))
PING = bytes((0x89, 0xFD, 0, 0, 0, 0)) + b"p" * 125
SUBSCRIBE = b'{"action":"subscribe","channels":["candles:*:*"]}'
MESSAGE = bytes((0x81, 0x80 | len(SUBSCRIBE), 0, 0, 0, 0)) + SUBSCRIBE

BLOCK = 65_536
PROBE_INTERVAL = 0.005


@dataclass(frozen=True)
class Flood:
    """A frame that is sent without end, the bytes before it, and whether the flooding client reads the answers."""

    name: str
    frame: bytes
    first: bytes = b""
    reads: bool = True


FLOODS = (
    Flood("tiny frames", TINY_TEXT),
    Flood("tiny frames, not reading", TINY_TEXT, reads=False),
    Flood("empty fragments", EMPTY_FRAGMENT, first=FIRST_FRAGMENT),
    Flood("pings", PING),
    Flood("pings, not reading", PING, reads=False),
    Flood("messages past the rate", MESSAGE),
    Flood("messages past the rate, not reading", MESSAGE, reads=False),
)


SHIPPED = Installed(systems.SHIPPED)


def processors() -> tuple[int, int]:
    """Return the processor of the server and that of the rest. A machine with one processor has it for both."""
    available = sorted(os.sched_getaffinity(0))
    return available[0], available[-1]


@dataclass(frozen=True)
class Result:
    """Round trips in seconds, ascending; growth of the resident set in bytes; bytes and connections of the flood."""

    trips: list[float]
    growth: int
    sent: int
    connections: int


def opened(server: Serving, key: str) -> socket.socket:
    """Open a connection and complete the opening handshake. Nothing that follows it has been read."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=5)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(
        b"GET /public/v1/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        b"X-API-Key: " + key.encode() + b"\r\n\r\n"
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(1)
    return connection


class Flooder:
    """A thread that floods, and connects anew whenever the server has closed its connection."""

    def __init__(self, server: Serving, key: str, flood: Flood) -> None:
        self._server = server
        self._key = key
        self._flood = flood
        self._ended = threading.Event()
        self.sent = 0
        self.connections = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """End the flood and wait for its thread."""
        self._ended.set()
        self._thread.join(10)

    def _run(self) -> None:
        block = self._flood.frame * (BLOCK // len(self._flood.frame))
        while not self._ended.is_set():
            try:
                with opened(self._server, self._key) as connection:
                    self.connections += 1
                    connection.sendall(self._flood.first)
                    self._send(connection, block)
            except OSError:
                time.sleep(0.01)

    def _send(self, connection: socket.socket, block: bytes) -> None:
        connection.setblocking(False)
        left = memoryview(block)
        while not self._ended.is_set():
            idle = True
            try:
                sent = connection.send(left)
                self.sent += sent
                left = left[sent:] or memoryview(block)
                idle = False
            except BlockingIOError:
                pass
            if self._flood.reads:
                try:
                    if not connection.recv(BLOCK):
                        return
                    idle = False
                except BlockingIOError:
                    pass
            if idle:
                time.sleep(0.0005)


def resident(pid: int) -> int:
    """Return the size of a process's resident set in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def probe(connection: socket.socket, seconds: float) -> list[float]:
    """Ping for that long, one ping at a time, and return the round trips in ascending order."""
    trips: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        start = time.perf_counter()
        connection.sendall(bytes((0x89, 0x80, 0, 0, 0, 0)))
        answer = connection.recv(2)
        if answer != bytes((0x8A, 0)):
            raise AssertionError(f"expected a pong, got {answer!r}")
        trips.append(time.perf_counter() - start)
        time.sleep(PROBE_INTERVAL)
    return sorted(trips)


def measure(server: Serving, key: str, flood: Flood | None, seconds: float) -> Result:
    """Measure a healthy client beside a flood with that key, or alone."""
    with opened(server, server.key) as healthy:
        before = resident(server.process.pid)
        flooder = None if flood is None else Flooder(server, key, flood)
        try:
            trips = probe(healthy, seconds)
            growth = resident(server.process.pid) - before
        finally:
            if flooder is not None:
                flooder.end()
    sent, connections = (0, 0) if flooder is None else (flooder.sent, flooder.connections)
    return Result(trips, growth, sent, connections)


def row(name: str, result: Result) -> str:
    """Return a result as a row of the table."""
    p50, p99 = (result.trips[int(len(result.trips) * part)] * 1e3 for part in (0.5, 0.99))
    return (
        f"| {name} | {p50:.1f} | {p99:.1f} | {result.trips[-1] * 1e3:.1f} | {result.growth / 2**20:.1f} "
        f"| {result.sent / 2**20:.0f} | {result.connections} |"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.floods", description="Prints a Markdown table.")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each flood (default %(default)s)")
    options = parser.parse_args()
    server_processor, other = processors()
    os.sched_setaffinity(0, {other})
    with (
        tempfile.TemporaryDirectory() as name,
        redis_server(Path(name), other) as port,
        serving(SHIPPED, port, Path(name), server_processor) as server,
    ):
        print("| flood | p50 ms | p99 ms | max ms | growth MiB | sent MiB | connections |")
        print("|---|---|---|---|---|---|---|")
        print(row("none", measure(server, "", None, options.seconds)))
        for flood in FLOODS:
            print(row(flood.name, measure(server, server.key, flood, options.seconds)))
            print(row(f"{flood.name}, bad key", measure(server, "bad", flood, options.seconds)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

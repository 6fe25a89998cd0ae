"""The cost of an opening handshake, with and without the doorway: `python -m benchmarks.handshakes`.

The doorway lets a client in as its connection is accepted, if its request has arrived by then. All other clients take
Tornado's HTTP. Both paths are measured in turns on one server, 64 connections at a time. For the doorway, the server is
stopped while the clients connect and send their requests. For Tornado's HTTP, the requests follow once the server has
accepted all connections. The table has the processor time of the server per handshake.
"""

import argparse
import os
import signal
import socket
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks.rig.bus import redis_server
from benchmarks.rig.processes import ProcessFailed, exit_on_sigterm
from benchmarks.rig.system import Installed, Serving, serving
from benchmarks.rig.turns import two_processors
from benchmarks.systems import BRIDGE

TOGETHER = 64  # fewer than the server's backlog, so that no connection is refused
SETTLE_SECONDS = 0.02  # in which the server ends the work that follows an answer
ANSWER_SECONDS = 10
LISTENING = "0A"  # a state in /proc/net/tcp


def request(server: Serving) -> bytes:
    """Return the opening handshake of a usual client (RFC 6455 section 4.1)."""
    return (
        f"GET /public/v1/stream HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"X-API-Key: {server.key}\r\n\r\n"
    ).encode()


def connect(server: Serving, clients: ExitStack) -> list[socket.socket]:
    """Open TOGETHER connections, and close them at the end of `clients`."""
    address = ("127.0.0.1", server.port)
    return [clients.enter_context(socket.create_connection(address, timeout=ANSWER_SECONDS)) for _ in range(TOGETHER)]


def send(server: Serving, connections: list[socket.socket]) -> None:
    """Send the request of every connection."""
    opening = request(server)
    for connection in connections:
        connection.sendall(opening)


def receive(connections: list[socket.socket]) -> None:
    """Wait until every client is let in. Raises ProcessFailed for any other answer."""
    for connection in connections:
        answer = b""
        while b"\r\n\r\n" not in answer:
            fresh = connection.recv(4096)
            answer += fresh
            if not fresh or not answer.startswith(b"HTTP/1.1 101 "[: len(answer)]):
                raise ProcessFailed(f"the server answered a handshake with {answer[:60]!r}")


def not_accepted(port: int) -> int:
    """Return how many connections the kernel holds that the server has not accepted yet."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, queues, *_ = line.split()
        if state == LISTENING and int(local.partition(":")[2], 16) == port:
            return int(queues.partition(":")[2], 16)
    raise ProcessFailed(f"nothing listens on port {port}")


def with_doorway(server: Serving, clients: ExitStack) -> list[socket.socket]:
    """Send all requests before the server accepts a connection."""
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        connections = connect(server, clients)
        send(server, connections)
    finally:
        os.kill(server.process.pid, signal.SIGCONT)
    return connections


def without_doorway(server: Serving, clients: ExitStack) -> list[socket.socket]:
    """Send all requests once the server has accepted all connections."""
    connections = connect(server, clients)
    deadline = time.monotonic() + ANSWER_SECONDS
    while not_accepted(server.port):
        if time.monotonic() > deadline:
            raise server.process.failed("does not accept connections")
        time.sleep(0.001)
    time.sleep(SETTLE_SECONDS)  # the last one has left the queue, but may still be looked at
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        send(server, connections)
    finally:
        os.kill(server.process.pid, signal.SIGCONT)
    return connections


PATHS = {"with the doorway": with_doorway, "without": without_doorway}


def measure(server: Serving, name: str, batches: int) -> float:
    """Return the server's processor seconds per handshake on one of PATHS."""
    used = 0.0
    for _ in range(batches):
        with ExitStack() as clients:
            before = server.process.cpu_seconds()
            receive(PATHS[name](server, clients))
            time.sleep(SETTLE_SECONDS)
            used += server.process.cpu_seconds() - before
        time.sleep(SETTLE_SECONDS)  # in which the server forgets the clients; not measured
    return used / (batches * TOGETHER)


def table(rounds: dict[str, list[float]]) -> str:
    """Return the medians in microseconds, and the ratio of each path to the first."""
    first = next(iter(rounds.values()))
    lines = ["| handshake | CPU µs, median (least to most) | times |", "|---|---:|---:|"]
    for name, found in rounds.items():
        ratio = statistics.median(one / base for one, base in zip(found, first, strict=True))
        spread = f"{statistics.median(found) * 1e6:.0f} ({min(found) * 1e6:.0f} to {max(found) * 1e6:.0f})"
        lines.append(f"| {name} | {spread} | {ratio:.2f} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.handshakes", description="Prints a Markdown table.")
    parser.add_argument("--rounds", type=int, default=9, help="default %(default)s")
    parser.add_argument("--batches", type=int, default=8, help=f"of {TOGETHER} handshakes per round (%(default)s)")
    options = parser.parse_args()
    exit_on_sigterm()
    try:
        processors = two_processors()
        os.sched_setaffinity(0, {processors.load})
        rounds: dict[str, list[float]] = {name: [] for name in PATHS}
        with (
            tempfile.TemporaryDirectory(prefix="benchmarks-") as name,
            redis_server(Path(name), processors.load) as port,
            serving(Installed(BRIDGE), port, Path(name), processors.server) as server,
        ):
            for path in PATHS:
                measure(server, path, options.batches)  # warm-up
            for _ in range(options.rounds):
                for path, found in rounds.items():
                    found.append(measure(server, path, options.batches))
    except ProcessFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    print(table(rounds))
    return 0


if __name__ == "__main__":
    sys.exit(main())

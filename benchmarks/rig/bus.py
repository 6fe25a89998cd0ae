"""The Redis of a benchmark: a server of its own, and a publisher that writes a burst at once."""

import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.rig.market import Burst
from benchmarks.rig.processes import Process, ProcessFailed

START_SECONDS = 10.0
REPLY_SECONDS = 60.0
REACHED_ONE = b":1\r\n"


@contextmanager
def redis_server(directory: Path, processor: int) -> Iterator[int]:
    """Run redis-server on a free port of 127.0.0.1 and yield the port. Raises ProcessFailed."""
    program = shutil.which("redis-server")
    if program is None:
        raise ProcessFailed("redis-server is not installed")
    port = _free_port()
    argv = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with Process("redis-server", argv, processor=processor, directory=directory) as process:
        _wait_for_port(port, process)
        yield port


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _wait_for_port(port: int, process: Process) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            time.sleep(0.02)
    raise process.failed("does not listen")


class Publisher:
    """A plain connection to Redis.

    Both methods that publish raise ProcessFailed unless each event reached exactly one subscriber.
    """

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=REPLY_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def publish(self, burst: Burst) -> int:
        """Publish in one write and return the epoch microsecond that all events carry."""
        now = _now_us()
        self._socket.sendall(burst.commands(now))
        self._read_replies(len(burst))
        return now

    def publish_in_turn(self, burst: Burst) -> int:
        """Publish each event once the last has its reply. Return the epoch microsecond that the first event carries."""
        began = _now_us()
        for index in range(len(burst)):
            self._socket.sendall(burst.command(index, _now_us() if index else began))
            self._read_replies(1)
        return began

    def _read_replies(self, count: int) -> None:
        replies = b""
        while replies.count(b"\r\n") < count:
            fresh = self._socket.recv(65536)
            if not fresh:
                raise ProcessFailed("redis-server closed the publisher's connection")
            replies += fresh
        if replies != REACHED_ONE * count:
            raise ProcessFailed(f"an event did not reach exactly one subscriber, Redis replied {replies[:40]!r}")

    def close(self) -> None:
        self._socket.close()


def _now_us() -> int:
    return time.time_ns() // 1000

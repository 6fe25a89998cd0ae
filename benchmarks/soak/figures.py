"""What a run is judged by: the account of its events, and what is seen of the server's process from outside."""

import contextlib
import http.client
import os
import select
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

from tests.support.raw import RawClient

PROBE_INTERVAL = 0.1  # seconds
LOG_SECONDS = 10.0  # for a log to end after its process


class Account:
    """Which events were published, which of them count, and which the witness has got. Serials are 0, 1, 2 …"""

    def __init__(self) -> None:
        self._counts = bytearray()
        self._got = bytearray()
        self.repeated = 0
        self.newest = -1

    def publish(self, number: int, *, counted: bool) -> range:
        """Enter so many new events and return their serials."""
        start = len(self._counts)
        self._counts += bytes((counted,)) * number
        self._got += bytes(number)
        return range(start, start + number)

    def receive(self, serial: int) -> None:
        self.repeated += self._got[serial]
        self._got[serial] = 1
        self.newest = max(self.newest, serial)

    @property
    def published(self) -> int:
        return len(self._counts)

    @property
    def counted(self) -> int:
        return self._counts.count(1)

    @property
    def lost(self) -> int:
        """How many events that count have not been received."""
        return self.counted - (int.from_bytes(self._counts) & int.from_bytes(self._got)).bit_count()


@dataclass(frozen=True)
class Sample:
    """What a process takes: `at` in seconds of a monotonic clock, `memory` is the resident set in bytes."""

    at: float
    memory: int
    descriptors: int
    threads: int


def sample(pid: int) -> Sample:
    process = Path(f"/proc/{pid}")
    memory = int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return Sample(time.monotonic(), memory, len(os.listdir(process / "fd")), len(os.listdir(process / "task")))


def slope(samples: Sequence[Sample]) -> float:
    """Return the growth of the memory in bytes per second, by least squares."""
    return statistics.linear_regression([s.at for s in samples], [s.memory for s in samples]).slope


def probe(port: int, pipe: Connection) -> None:
    """Ask for /healthz every 100 ms until told to stop, and send the round trips in seconds. Runs in a process."""
    trips: list[float] = []
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        while not pipe.poll(PROBE_INTERVAL):
            started = time.perf_counter()
            try:
                connection.request("GET", "/healthz")
                connection.getresponse().read()
            except (OSError, http.client.HTTPException):
                connection.close()  # the next request opens it again
            trips.append(time.perf_counter() - started)
    pipe.send(trips)


@contextlib.contextmanager
def drained(stream: IO[bytes] | None) -> Iterator[Counter[str]]:
    """Read a log to its end in a thread, and count its lines with a traceback or an error."""
    assert stream is not None
    counts: Counter[str] = Counter()

    def read() -> None:
        for line in stream:
            counts["lines"] += 1
            counts["tracebacks"] += b"Traceback" in line
            counts["errors"] += b"[error" in line

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    yield counts
    thread.join(LOG_SECONDS)


def is_cut(client: RawClient) -> bool:
    """Tell whether the server has ended a connection, whatever waits to be read from it."""
    poll = select.poll()
    poll.register(client.socket, select.POLLRDHUP)
    return bool(poll.poll(0))

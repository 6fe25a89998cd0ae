"""The load generator seen from the driver: built, told what to do, its report read."""

import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.rig.processes import Process, ProcessFailed, ProcessSilent
from benchmarks.systems import KEY_VARIABLE

SOURCES = Path(__file__).with_name("load_generator")
OPEN_SECONDS = 120.0
REPORT_SECONDS = 10.0
LIFETIME_SECONDS = 600


@dataclass(frozen=True)
class Report:
    """What the clients saw, warm-up included; from `measured_deliveries` on since `measure`."""

    deliveries: int
    lost: int
    duplicated: int
    misordered: int
    altered: int
    foreign: int
    closed: int
    close_code: int
    protocol_errors: int
    deflated: int
    measured_deliveries: int
    compressed: int  # of those
    wire_bytes: int
    p50_us: int
    p99_us: int
    max_us: int

    @property
    def faults(self) -> list[str]:
        """What makes the run void, in words; empty if every event reached every client once and in order."""
        counts = {
            "lost": self.lost,
            "duplicated": self.duplicated,
            "out of order": self.misordered,
            "not the same for all clients": self.altered,
            "unknown frames": self.foreign,
            "protocol errors": self.protocol_errors,
            f"clients closed (code {self.close_code})": self.closed,
        }
        return [f"{count} {what}" for what, count in counts.items() if count]


class Load:
    """The clients of one server."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._closed = False
        self.sample = ""  # the text of the first event that came

    def open(self, clients: int) -> float:
        """Connects and subscribes clients until there are so many; returns how long it took in seconds."""
        self._process.send_line(f"open {clients}")
        words = self._read_line(OPEN_SECONDS).split()
        if words[:2] != ["opened", str(clients)]:
            raise self._process.failed(f"said {' '.join(words)!r}")
        return float(words[2])

    def close(self) -> None:
        """Closes all clients, with the closing handshake."""
        self._process.send_line("close")
        line = self._read_line(OPEN_SECONDS)
        if line != "closed all":
            raise self._process.failed(f"said {line!r}")

    def measure(self) -> None:
        """Forgets the latencies and the bytes so far."""
        self._process.send_line("measure")

    def cpu_seconds(self) -> float:
        return self._process.cpu_seconds()

    def expect(self, events: int) -> None:
        """Tells how many events will have been published; goes before the publishing."""
        self._process.send_line(f"expect {events}")

    def wait(self, events: int, seconds: float) -> bool:
        """Waits until every client has its share of the events; whether they had within `seconds`."""
        try:
            line = self._read_line(seconds)
        except ProcessSilent:
            return False
        if self._closed:
            return False
        if line != f"received {events}":
            raise self._process.failed(f"said {line!r}")
        return True

    def finish(self) -> Report:
        self._process.end_input()
        line = self._read_line(REPORT_SECONDS)
        while not line.startswith("report "):
            line = self._read_line(REPORT_SECONDS)
        return Report(**json.loads(line.removeprefix("report ")))

    def _read_line(self, seconds: float) -> str:
        line = self._process.read_line(seconds)
        if line.startswith("sample "):
            self.sample = line.removeprefix("sample ")
            line = self._process.read_line(seconds)
        if line == "closed":
            self._closed = True
        return line


def build(directory: Path, *, deflate: bool = False) -> Path:
    """Compiles the load generator into `directory`; with permessage-deflate it needs zlib."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise ProcessFailed("cc is not installed")
    program = directory / ("load-deflate" if deflate else "load")
    argv = [compiler, "-O2", "-Wall", "-Wextra", "-o", str(program)]
    argv += ["-DWITH_DEFLATE"] if deflate else []
    argv += sorted(str(source) for source in SOURCES.glob("*.c") if deflate or source.stem != "deflate")
    argv += ["-lz"] if deflate else []
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        if deflate and "zlib.h" in done.stderr:
            raise ProcessFailed("zlib.h is not installed, so the load generator cannot inflate")
        raise ProcessFailed(f"cc failed\n{done.stderr}".rstrip())
    return program


@contextmanager
def generating(
    program: Path,
    *,
    port: int,
    key: str,
    clients: int,
    channels: Sequence[str],
    sets: Sequence[Sequence[str]],
    directory: Path,
    processor: int,
    deaf: int = 0,
    dialect: str = "plain",
    deflate: bool = False,
) -> Iterator[Load]:
    """Runs the load generator until the end of the block, for LIFETIME_SECONDS at most, no client open yet.

    Event e is on channel e modulo their number. Client i subscribes to sets[i modulo their number]; `deaf` clients
    subscribe and then never read.
    """
    files = {"channels": directory / "channels", "sets": directory / "sets"}
    files["channels"].write_text("".join(f"{channel}\n" for channel in channels))
    files["sets"].write_text("".join(f"{' '.join(subscriptions)}\n" for subscriptions in sets))
    argv = [str(program), "--port", str(port), "--clients", str(clients), "--deaf", str(deaf)]
    argv += ["--dialect", dialect, "--timeout", str(LIFETIME_SECONDS)]
    for name, file in files.items():
        argv += [f"--{name}", str(file)]
    argv += ["--deflate"] if deflate else []
    with Process("load", argv, processor=processor, environment={KEY_VARIABLE: key}) as process:
        yield Load(process)

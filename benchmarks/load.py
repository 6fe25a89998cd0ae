"""The load generator `load.c` seen from the driver: built, told what to expect, its report read."""

import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import Process, ProcessFailed, ProcessSilent
from benchmarks.systems import KEY_VARIABLE, Serving

SOURCE = Path(__file__).with_name("load.c")
READY_SECONDS = 120.0
REPORT_SECONDS = 10.0


@dataclass(frozen=True)
class Report:
    """What the clients saw, warm-up included; processor time and latencies since `measure`."""

    deliveries: int
    lost: int
    duplicated: int
    misordered: int
    foreign: int
    closed: int
    close_code: int
    protocol_errors: int
    cpu_seconds: float
    p50_ms: int
    p99_ms: int
    max_ms: int

    @property
    def faults(self) -> list[str]:
        """What makes the run void, in words; empty if every event reached every client once and in order."""
        counts = {
            "lost": self.lost,
            "duplicated": self.duplicated,
            "out of order": self.misordered,
            "unknown frames": self.foreign,
            "protocol errors": self.protocol_errors,
            f"clients closed (code {self.close_code})": self.closed,
        }
        return [f"{count} {what}" for what, count in counts.items() if count]


class Load:
    """Clients of one server, all of them connected and subscribed."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._lines: list[str] = []
        self.sample = ""  # the text of event 0 as the first client got it

    def measure(self) -> None:
        """Forgets the latencies and the processor time so far."""
        self._process.send_line("measure")

    def expect(self, events: int) -> None:
        """Tells how many events will have been published; goes before the publishing."""
        self._process.send_line(f"expect {events}")

    def wait(self, events: int, seconds: float) -> bool:
        """Waits until every client has as many events as expected; whether they had within `seconds`."""
        try:
            line = self._read_line(seconds)
        except ProcessSilent:
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
        return line


def build(directory: Path) -> Path:
    """Compiles the load generator into `directory`."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise ProcessFailed("cc is not installed")
    program = directory / "load"
    argv = [compiler, "-O2", "-Wall", "-Wextra", "-o", str(program), str(SOURCE)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise ProcessFailed(f"cc failed\n{done.stderr}".rstrip())
    return program


@contextmanager
def connected(
    program: Path,
    server: Serving,
    *,
    clients: int,
    channels: Sequence[str],
    max_events: int,
    timeout: int,
    directory: Path,
    processor: int,
) -> Iterator[Load]:
    """Runs the load generator until the end of the block, for `timeout` seconds at most; yields it ready."""
    file = directory / "channels"
    file.write_text("".join(f"{channel}\n" for channel in channels))
    argv = [str(program), "--port", str(server.port), "--clients", str(clients), "--channels", str(file)]
    argv += ["--max-events", str(max_events), "--timeout", str(timeout)]
    with Process("load", argv, processor=processor, environment={KEY_VARIABLE: server.key}) as process:
        line = process.read_line(READY_SECONDS)
        if line != "ready":
            raise process.failed(f"said {line!r}")
        yield Load(process)

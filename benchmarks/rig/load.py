"""The load generator, seen from the driver: building it, commanding it, reading its report."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.rig import c_programs
from benchmarks.rig.processes import Process, ProcessFailed, ProcessSilent
from benchmarks.rig.system import KEY_VARIABLE

SOURCES = Path(__file__).with_name("load_generator")
OPEN_SECONDS = 120.0
REPORT_SECONDS = 10.0
LIFETIME_SECONDS = 600


@dataclass(frozen=True)
class Report:
    """Counts of what the clients received. The fields from `measured_deliveries` on do not count the warm-up."""

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
    compressed: int  # of the measured deliveries
    wire_bytes: int
    p50_us: int
    p99_us: int
    max_us: int

    @property
    def faults(self) -> list[str]:
        """The reasons that make the run void, in words. Empty if every event reached every client once and in order."""
        counts = {
            "lost": self.lost,
            "duplicated": self.duplicated,
            "out of order": self.misordered,
            "not the same for all clients": self.altered,
            "unknown frames": self.foreign,
            "protocol errors": self.protocol_errors,
            f"clients closed (code {self.close_code})": self.closed,
        }
        return [f"{count} {fault}" for fault, count in counts.items() if count]


class Load:
    """The clients of one server. Its methods raise ProcessFailed when the load generator fails."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._closed = False
        self.sample = ""  # the text of the first event that arrived

    def open(self, clients: int) -> float:
        """Connect and subscribe clients until that many are open. Return the seconds that it took."""
        self._process.send_line(f"open {clients}")
        words = self._read_line(OPEN_SECONDS).split()
        if words[:2] != ["opened", str(clients)]:
            raise self._process.failed(f"said {' '.join(words)!r}")
        return float(words[2])

    def close(self) -> None:
        """Close all clients with the closing handshake."""
        self._process.send_line("close")
        line = self._read_line(OPEN_SECONDS)
        if line != "closed all":
            raise self._process.failed(f"said {line!r}")

    def measure(self) -> None:
        """Forget the latencies and bytes so far."""
        self._process.send_line("measure")

    def cpu_seconds(self) -> float:
        return self._process.cpu_seconds()

    def expect(self, events: int) -> None:
        """Announce how many events will have been published. Must precede the publishing."""
        self._process.send_line(f"expect {events}")

    def wait(self, events: int, seconds: float) -> bool:
        """Wait until every client has its share of the events. Return False after `seconds`."""
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
        """End the load generator and return its report."""
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
    """Compile the load generator into `directory`. With `deflate` it needs zlib. Raises ProcessFailed."""
    if not deflate:
        sources = [source for source in SOURCES.glob("*.c") if source.stem != "deflate"]
        return c_programs.build(directory / "load", sorted(sources))
    if not c_programs.has_zlib():
        raise ProcessFailed("zlib is not installed, so the load generator cannot inflate")
    return c_programs.build(directory / "load-deflate", sorted(SOURCES.glob("*.c")), "-DWITH_DEFLATE", "-lz")


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
    """Run the load generator until the end of the block, at most LIFETIME_SECONDS, with all clients still closed.

    Event e is on channel e modulo their number. Client i subscribes to sets[i modulo their number]. `deaf` clients
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

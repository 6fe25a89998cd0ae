"""Measurements as data: what one run found, written to and read from JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.rig.workloads import WORKLOADS, Kind, Workload

FILE = "results.json"


@dataclass(frozen=True)
class Measurement:
    """What one system did with one workload once; times in seconds, of what was measured alone, without warm-up."""

    workload: str
    clients: int  # that were asked for
    deflate: bool
    system: str
    turn: int
    faults: tuple[str, ...]
    amount: int  # of what the workload counts: deliveries, events, handshakes or connections
    server_cpu: float
    load_cpu: float
    under_way: float  # from the publishing of a burst to its last delivery, or from the first handshake to the last
    elapsed: float
    other_cpu: float  # what others took of the server's processor
    bursts: int = 0
    late: int = 0  # bursts that left after their time, since the one before was under way
    p50_us: int = 0
    p99_us: int = 0
    max_us: int = 0
    compressed: int = 0  # deliveries
    wire_bytes: int = 0  # of the frames delivered
    growth: int = 0  # bytes

    @property
    def kind(self) -> Kind:
        return WORKLOADS[self.workload].kind

    @property
    def figure(self) -> float:
        """What the workload is ranked by, in the unit of its kind (see FIGURES); the less the better."""
        if self.kind is Kind.IDLE:
            return self.growth / self.amount
        return self.server_cpu / self.amount * 1e6

    @property
    def rate(self) -> float:
        """Handshakes a second of wall time."""
        return self.amount / self.under_way

    @property
    def server_busy(self) -> float:
        return self.server_cpu / self.under_way

    @property
    def load_busy(self) -> float:
        return self.load_cpu / self.under_way

    @property
    def disturbed(self) -> float:
        return self.other_cpu / self.elapsed

    @property
    def bytes_a_delivery(self) -> float:
        return self.wire_bytes / self.amount


@dataclass(frozen=True)
class Contest:
    """One table: a workload with so many clients, with or without compression."""

    workload: str
    clients: int
    deflate: bool = False

    @property
    def record(self) -> Workload:
        return WORKLOADS[self.workload]


@dataclass
class Results:
    """Everything that a command measured, and on what."""

    machine: Mapping[str, Any]
    command: str = ""
    extent: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0  # how long all of it took
    measurements: list[Measurement] = field(default_factory=list)
    unavailable: dict[str, str] = field(default_factory=dict)  # system or contest to reason

    def contests(self) -> list[Contest]:
        """In the order measured; what is only measured beside another has no table of its own."""
        found = {Contest(one.workload, one.clients, one.deflate): None for one in self.measurements}
        beside = {
            Contest(contest.record.baseline, contest.clients, contest.deflate)
            for contest in found
            if contest.record.baseline
        }
        return [contest for contest in found if contest not in beside]

    def of(self, contest: Contest) -> dict[str, list[Measurement]]:
        """The rounds of each system."""
        found: dict[str, list[Measurement]] = {}
        for one in self.measurements:
            if Contest(one.workload, one.clients, one.deflate) == contest:
                found.setdefault(one.system, []).append(one)
        return found

    def write(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / FILE).write_text(json.dumps(asdict(self), indent=1) + "\n")


def read(directory: Path) -> Results:
    """The results that a command has left in a directory."""
    fields = json.loads((directory / FILE).read_text())
    fields["measurements"] = [_measurement(one) for one in fields["measurements"]]
    return Results(**fields)


def _measurement(fields: Mapping[str, Any]) -> Measurement:
    return Measurement(**{**fields, "faults": tuple(fields["faults"])})


def void(results: Sequence[Measurement]) -> bool:
    """Whether a system has lost or reordered something in any round, and so has no rank."""
    return any(one.faults for one in results)

"""Measurements as data: the figures of one run, and the order in which they were measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.rig.workloads import WORKLOADS, Kind, Workload


@dataclass(frozen=True)
class Measurement:
    """The figures of one system under one workload, without the warm-up. Times are in seconds."""

    workload: str
    clients: int  # as asked for; fewer are connected where some are absent
    deflate: bool
    system: str
    turn: int
    faults: tuple[str, ...]
    amount: int  # deliveries, events, handshakes or connections, as the kind of workload counts
    server_cpu: float
    load_cpu: float
    under_way: float  # from the publishing of a burst to its last delivery, or from the first handshake to the last
    elapsed: float
    other_cpu: float  # that other processes took of the server's processor
    bursts: int = 0
    late: int = 0  # bursts that left after their time, because the burst before was under way
    p50_us: int = 0
    p99_us: int = 0
    max_us: int = 0
    compressed: int = 0  # deliveries
    wire_bytes: int = 0  # of the frames delivered
    growth: int = 0  # of the server's memory, in bytes

    @property
    def kind(self) -> Kind:
        return WORKLOADS[self.workload].kind

    @property
    def figure(self) -> float:
        """The figure that ranks systems; less is better. Bytes per connection, or µs per unit of the kind."""
        if self.kind is Kind.IDLE:
            return self.growth / self.amount
        return self.server_cpu / self.amount * 1e6

    @property
    def rate(self) -> float:
        """Handshakes per second of wall time."""
        return self.amount / self.under_way

    @property
    def server_busy(self) -> float:
        return self.server_cpu / self.under_way

    @property
    def load_busy(self) -> float:
        return self.load_cpu / self.under_way

    @property
    def disturbed(self) -> float:
        """The share of the server's processor that other processes took."""
        return self.other_cpu / self.elapsed

    @property
    def bytes_per_delivery(self) -> float:
        return self.wire_bytes / self.amount


@dataclass(frozen=True)
class Scenario:
    """A workload with a number of clients, with or without compression. It makes one table."""

    workload: str
    clients: int
    deflate: bool = False

    @property
    def record(self) -> Workload:
        return WORKLOADS[self.workload]

    @property
    def baseline(self) -> "Scenario | None":
        """The scenario that is measured beside this one for comparison."""
        name = self.record.baseline
        return Scenario(name, self.clients, self.deflate) if name else None


@dataclass
class Results:
    """The measurements of one command, and the machine that it ran on."""

    machine: Mapping[str, Any]
    command: str = ""
    extent: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0  # that the whole run took
    measurements: list[Measurement] = field(default_factory=list)
    unavailable: dict[str, str] = field(default_factory=dict)  # system or scenario, and the reason

    def scenarios(self) -> list[Scenario]:
        """The scenarios in the order measured. Baselines are left out, as they have no table of their own."""
        found = {Scenario(one.workload, one.clients, one.deflate): None for one in self.measurements}
        baselines = {scenario.baseline for scenario in found}
        return [scenario for scenario in found if scenario not in baselines]

    def of(self, scenario: Scenario) -> dict[str, list[Measurement]]:
        """The rounds of each system."""
        found: dict[str, list[Measurement]] = {}
        for one in self.measurements:
            if Scenario(one.workload, one.clients, one.deflate) == scenario:
                found.setdefault(one.system, []).append(one)
        return found


def void(results: Sequence[Measurement]) -> bool:
    """Whether a system lost or reordered messages in any round, and so has no rank."""
    return any(one.faults for one in results)

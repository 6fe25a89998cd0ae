"""Which systems meet in which scenario, and how long a full run should take."""

from collections.abc import Sequence

from benchmarks.rig.measure import LEAST_BURSTS, WARMUP_SECONDS, Extent
from benchmarks.rig.records import Scenario
from benchmarks.rig.system import System
from benchmarks.rig.workloads import WORKLOADS, Kind, deliveries

CLIENTS = (50, 500, 2000)
WITH_COMPRESSION = ("burst", "mixed", "paced")
COMPRESSION_CLIENTS = 500
COMPRESSING = ("tornado_bridge", "c_joined", "ws", "uws")  # the design, its limit, and two usual choices

# These serve the estimate alone.
START_SECONDS = 1.2  # until a server listens, and until it has ended
CONNECT_SECONDS = 0.0004  # per client
DELIVERY_SECONDS = {"write_message": 40e-6, "ws": 9e-6, "c_single": 6e-6, "socket_io": 15e-6}
OTHER_DELIVERY_SECONDS = 1e-6
DEFLATED_DELIVERY_SECONDS = {"ws": 80e-6}


def scenarios(clients: Sequence[int] = CLIENTS) -> list[Scenario]:
    """Every workload with each number of clients, then some with compression."""
    baselines = {workload.baseline for workload in WORKLOADS.values()}
    plain = [
        Scenario(workload.name, number)
        for workload in WORKLOADS.values()
        if workload.name not in baselines
        for number in workload.numbers(clients)
    ]
    return [*plain, *(Scenario(name, COMPRESSION_CLIENTS, deflate=True) for name in WITH_COMPRESSION)]


def takes_part(system: System, scenario: Scenario) -> bool:
    """Whether the system can be measured in that scenario, and is meant to be."""
    if scenario.deflate and system.compression is None:
        return False
    workloads = not system.workloads or scenario.workload in system.workloads
    clients = not system.clients or scenario.clients in system.clients
    return workloads and clients


def measured(system: System, scenario: Scenario) -> bool:
    """Whether a full run measures the system in that scenario."""
    return takes_part(system, scenario) and (not scenario.deflate or system.name in COMPRESSING)


def expected_seconds(systems: Sequence[System], planned: Sequence[Scenario], extent: Extent) -> float:
    """Estimate how long a full run takes."""
    return extent.rounds * sum(
        _seconds(system.name, scenario, extent)
        for scenario in planned
        for system in systems
        if measured(system, scenario)
    )


def _seconds(system: str, scenario: Scenario, extent: Extent) -> float:
    workload = scenario.record
    seconds = START_SECONDS + workload.connected(scenario.clients) * CONNECT_SECONDS
    if workload.kind is Kind.IDLE:
        return seconds + 1
    cost = DELIVERY_SECONDS.get(system, OTHER_DELIVERY_SECONDS)
    if scenario.deflate:
        cost = DEFLATED_DELIVERY_SECONDS.get(system, cost)
    burst = cost * deliveries(workload, scenario.clients, workload.burst) if workload.kind is Kind.BURSTS else 0.0
    warmup = max(extent.warmup, min(WARMUP_SECONDS, workload.least_warmup * burst), burst)
    seconds += warmup + max(extent.seconds, workload.least_seconds, LEAST_BURSTS * burst)
    return seconds * (2 if workload.baseline else 1)

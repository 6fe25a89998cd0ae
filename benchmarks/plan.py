"""What a full run measures, and how long that should take."""

from collections.abc import Sequence

from benchmarks.rig.measure import LEAST_BURSTS, WARMUP_SECONDS, Extent
from benchmarks.rig.records import Contest
from benchmarks.rig.turns import takes_part
from benchmarks.rig.workloads import WORKLOADS, Kind, deliveries
from benchmarks.systems import System

CLIENTS = (50, 500, 2000)
WITH_COMPRESSION = ("burst", "mixed", "paced")
COMPRESSION_CLIENTS = 500
COMPRESSING = ("tornado_bridge", "c_joined", "ws", "uws")  # the design, its limit, and what people pick

# Of the estimate alone.
START_SECONDS = 1.2  # until a server listens, and until it has ended
CONNECT_SECONDS = 0.0004  # a client
DELIVERY_SECONDS = {"write_message": 40e-6, "ws": 9e-6, "c_single": 6e-6, "socket_io": 15e-6}
OTHER_DELIVERY_SECONDS = 1e-6
DEFLATED_DELIVERY_SECONDS = {"ws": 80e-6}


def contests(clients: Sequence[int] = CLIENTS) -> list[Contest]:
    """Every workload with each number of clients, then some with compression."""
    beside = {workload.baseline for workload in WORKLOADS.values()}
    plain = [
        Contest(workload.name, number)
        for workload in WORKLOADS.values()
        if workload.name not in beside
        for number in workload.numbers(clients)
    ]
    return [*plain, *(Contest(name, COMPRESSION_CLIENTS, deflate=True) for name in WITH_COMPRESSION)]


def measured(system: System, contest: Contest) -> bool:
    """Whether a full run measures the system in that contest."""
    return takes_part(system, contest) and (not contest.deflate or system.name in COMPRESSING)


def expected_seconds(systems: Sequence[System], planned: Sequence[Contest], extent: Extent) -> float:
    return extent.rounds * sum(
        _seconds(system.name, contest, extent) for contest in planned for system in systems if measured(system, contest)
    )


def _seconds(system: str, contest: Contest, extent: Extent) -> float:
    workload = contest.record
    seconds = START_SECONDS + workload.connected(contest.clients) * CONNECT_SECONDS
    if workload.kind is Kind.IDLE:
        return seconds + 1
    cost = DELIVERY_SECONDS.get(system, OTHER_DELIVERY_SECONDS)
    if contest.deflate:
        cost = DEFLATED_DELIVERY_SECONDS.get(system, cost)
    burst = cost * deliveries(workload, contest.clients, workload.burst) if workload.kind is Kind.BURSTS else 0.0
    warmup = max(extent.warmup, min(WARMUP_SECONDS, workload.least_warmup * burst), burst)
    seconds += warmup + max(extent.seconds, workload.least_seconds, LEAST_BURSTS * burst)
    return seconds * (2 if workload.baseline else 1)

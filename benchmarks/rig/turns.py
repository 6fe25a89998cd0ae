"""Many measurements in turns: A B A B, each with processes of its own."""

import resource
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.rig import load
from benchmarks.rig.bus import redis_server
from benchmarks.rig.measure import Extent, Processors, Rig, measure
from benchmarks.rig.processes import ProcessFailed
from benchmarks.rig.records import Contest, Measurement, Results
from benchmarks.rig.workloads import Kind
from benchmarks.systems import Installed, Places, System

Say = Callable[[str], None]
SPARE_FILES = 200
UNITS = {
    Kind.BURSTS: "µs a delivery",
    Kind.INGEST: "µs an event",
    Kind.CONNECT: "µs a handshake",
    Kind.IDLE: "bytes a connection",
}


def make_ready(systems: Sequence[System], cache: Path, results: Results, say: Say) -> list[Installed]:
    """Builds and installs what the systems need; those that cannot be had are named in the results."""
    outcomes: dict[Callable[[Path], Places], Places | str] = {}
    ready: list[Installed] = []
    for system in systems:
        if system.install not in outcomes:
            outcomes[system.install] = _installed(system, cache)
        outcome = outcomes[system.install]
        if isinstance(outcome, str):
            results.unavailable[system.name] = outcome
            say(f"{system.name} cannot be measured: {outcome}")
        else:
            ready.append(Installed(system, outcome))
    return ready


def _installed(system: System, cache: Path) -> Places | str:
    """Where the system's parts are, or why they cannot be had."""
    try:
        return system.install(cache)
    except (ProcessFailed, OSError) as failure:
        return str(failure).splitlines()[0]


@contextmanager
def rig(processors: Processors, extent: Extent, *, deflate: bool) -> Iterator[Rig]:
    """Builds the load generator and runs Redis until the end of the block."""
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as name:
        directory = Path(name)
        plain = load.build(directory)
        inflating = load.build(directory, deflate=True) if deflate else None
        with redis_server(directory, processors.load) as redis_port:
            yield Rig(processors, redis_port, plain, inflating, extent)


def compete(contest: Contest, systems: Sequence[Installed], rig: Rig, results: Results, say: Say) -> None:
    """Measures the systems in turns; one that fails or loses something has no next round."""
    refused: set[str] = set()
    contests = [contest]
    if contest.record.baseline:
        contests.insert(0, Contest(contest.record.baseline, contest.clients, contest.deflate))
    for turn in range(1, rig.extent.rounds + 1):
        for installed in systems:
            if installed.system.name in refused:
                continue
            for one in contests:
                measurement = _measured(installed, one, turn, rig)
                results.measurements.append(measurement)
                say(progress(measurement))
                if measurement.faults:
                    refused.add(installed.system.name)
                    break


def takes_part(system: System, contest: Contest) -> bool:
    """Whether a contest is for the system."""
    if contest.deflate and system.compression is None:
        return False
    workloads = not system.only or contest.workload in system.only
    clients = not system.only_clients or contest.clients in system.only_clients
    return workloads and clients


def _measured(installed: Installed, contest: Contest, turn: int, rig: Rig) -> Measurement:
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as name:
        try:
            return measure(installed, contest, turn, rig, Path(name))
        except ProcessFailed as failure:
            what, *written = str(failure).splitlines()
            faults = ("; ".join([what, *written[-1:]]),)
    return Measurement(
        workload=contest.workload,
        clients=contest.clients,
        deflate=contest.deflate,
        system=installed.system.name,
        turn=turn,
        faults=faults,
        amount=1,
        server_cpu=0.0,
        load_cpu=0.0,
        under_way=1.0,
        elapsed=1.0,
        other_cpu=0.0,
    )


def progress(one: Measurement) -> str:
    deflate = " with compression" if one.deflate else ""
    where = f"{one.workload}{deflate}, {one.clients} clients, round {one.turn}, {one.system}"
    if one.faults:
        return f"{where}: {one.faults[0]}"
    latency = f", p99 {one.p99_us / 1000:.3g} ms" if one.kind is Kind.BURSTS else ""
    return f"{where}: {one.figure:.3g} {UNITS[one.kind]}{latency}"


def room_for(clients: int) -> bool:
    """Whether a process may have so many files open; raises the limit as far as it goes."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard == resource.RLIM_INFINITY or clients + SPARE_FILES <= hard

"""A run: systems are measured in turns, A B A B, each time with processes of their own."""

import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from benchmarks.rig import load
from benchmarks.rig.bus import redis_server
from benchmarks.rig.machine import describe
from benchmarks.rig.measure import Extent, Processors, Rig, measure
from benchmarks.rig.processes import ProcessFailed
from benchmarks.rig.records import Measurement, Results, Scenario
from benchmarks.rig.system import Install, Installed, Places, System
from benchmarks.rig.workloads import Kind

SPARE_FILES = 200
UNITS = {
    Kind.BURSTS: "µs per delivery",
    Kind.INGEST: "µs per event",
    Kind.CONNECT: "µs per handshake",
    Kind.IDLE: "bytes per connection",
}

TakesPart = Callable[[System, Scenario], bool]


def run(
    scenarios: Sequence[Scenario],
    systems: Sequence[System],
    takes_part: TakesPart,
    extent: Extent,
    *,
    command: str,
    cache: Path,
    keep: Callable[[Results], None] = lambda results: None,
) -> Results:
    """Measure the systems that take part in each scenario; the progress goes to stderr.

    `cache` is the directory for what the systems need. `keep` gets the results after each scenario. Raises
    ProcessFailed where the machine has a single processor, or where redis-server or the C compiler is missing.
    """
    began = time.monotonic()
    processors = two_processors()
    os.sched_setaffinity(0, {processors.load})
    results = Results(machine={}, command=command, extent=asdict(extent))
    wanted = [system for system in systems if any(takes_part(system, scenario) for scenario in scenarios)]
    ready = _make_ready(wanted, cache, results)
    results.machine = describe(processors.server, processors.load, ready)
    with _rig(processors, extent, deflate=any(scenario.deflate for scenario in scenarios)) as rig:
        for scenario in scenarios:
            if not _room_for(scenario.clients):
                results.unavailable[f"{scenario.workload} with {scenario.clients} clients"] = (
                    "too few files may be open"
                )
                continue
            _measure_in_turns(scenario, [one for one in ready if takes_part(one.system, scenario)], rig, results)
            results.seconds = time.monotonic() - began
            keep(results)
    return results


def two_processors() -> Processors:
    """Return a processor for the server and another for the rest. Raises ProcessFailed where there is only one."""
    available = sorted(os.sched_getaffinity(0))
    if len(available) < 2:
        raise ProcessFailed("the server and the load generator need a processor each")
    return Processors(server=available[0], load=available[1])


def say(line: str) -> None:
    """Print a line of progress."""
    print(line, file=sys.stderr, flush=True)


def _make_ready(systems: Sequence[System], cache: Path, results: Results) -> list[Installed]:
    """Build and install the systems. Those that lack something are named in the results."""
    outcomes: dict[Install, Places | str] = {}
    ready: list[Installed] = []
    for system in systems:
        if system.install not in outcomes:
            outcomes[system.install] = _install(system, cache)
        outcome = outcomes[system.install]
        if isinstance(outcome, str):
            results.unavailable[system.name] = outcome
            say(f"{system.name} cannot be measured: {outcome}")
        else:
            ready.append(Installed(system, outcome))
    return ready


def _install(system: System, cache: Path) -> Places | str:
    """Return where the parts of the system are, or why it cannot be installed."""
    try:
        return system.install(cache)
    except (ProcessFailed, OSError) as failure:
        return str(failure).splitlines()[0]


@contextmanager
def _rig(processors: Processors, extent: Extent, *, deflate: bool) -> Iterator[Rig]:
    """Build the load generator and run Redis until the end of the block."""
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as name:
        directory = Path(name)
        plain = load.build(directory)
        inflating = load.build(directory, deflate=True) if deflate else None
        with redis_server(directory, processors.load) as redis_port:
            yield Rig(processors, redis_port, plain, inflating, extent)


def _measure_in_turns(scenario: Scenario, systems: Sequence[Installed], rig: Rig, results: Results) -> None:
    """Measure the systems round by round. A system that fails or loses a message has no further round."""
    refused: set[str] = set()
    scenarios = [scenario] if scenario.baseline is None else [scenario.baseline, scenario]
    for turn in range(1, rig.extent.rounds + 1):
        for installed in systems:
            if installed.system.name in refused:
                continue
            for one in scenarios:
                measurement = _measured(installed, one, turn, rig)
                results.measurements.append(measurement)
                say(progress(measurement))
                if measurement.faults:
                    refused.add(installed.system.name)
                    break


def _measured(installed: Installed, scenario: Scenario, turn: int, rig: Rig) -> Measurement:
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as name:
        try:
            return measure(installed, scenario, turn, rig, Path(name))
        except ProcessFailed as failure:
            reason, *written = str(failure).splitlines()
            faults = ("; ".join([reason, *written[-1:]]),)
    return Measurement(
        workload=scenario.workload,
        clients=scenario.clients,
        deflate=scenario.deflate,
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
    """Return a measurement as a line."""
    deflate = " with compression" if one.deflate else ""
    where = f"{one.workload}{deflate}, {one.clients} clients, round {one.turn}, {one.system}"
    if one.faults:
        return f"{where}: {one.faults[0]}"
    latency = f", p99 {one.p99_us / 1000:.3g} ms" if one.kind is Kind.BURSTS else ""
    return f"{where}: {one.figure:.3g} {UNITS[one.kind]}{latency}"


def _room_for(clients: int) -> bool:
    """Raise the limit of open files as far as it goes, and return whether that many clients fit."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard == resource.RLIM_INFINITY or clients + SPARE_FILES <= hard

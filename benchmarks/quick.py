"""Guards the shape of the server by ratios to other servers, measured in the same run: `python -m benchmarks quick`.

The limits catch a send per client and event, or a frame made per client. They are no test of speed and leave room for a
busy machine.
"""

import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.rig import turns
from benchmarks.rig.measure import Extent
from benchmarks.rig.records import Results, Scenario
from benchmarks.rig.system import System
from benchmarks.rig.table import markdown, ratios
from benchmarks.systems import BRIDGE, C_JOINED, C_SINGLE, WRITE_MESSAGE

COMMAND = "python -m benchmarks quick"
EXTENT = Extent(rounds=3, seconds=0.5, warmup=0.3)
SYSTEMS = (BRIDGE, C_JOINED, C_SINGLE, WRITE_MESSAGE)


@dataclass(frozen=True)
class Limit:
    """`system` may take at most `most` times the processor time of `other`, by the median of the rounds."""

    scenario: Scenario
    system: str
    other: str
    most: float


LIMITS = (
    Limit(Scenario("burst", 50), "tornado_bridge", "c_joined", 5.0),
    Limit(Scenario("burst", 500), "tornado_bridge", "c_joined", 3.0),
    Limit(Scenario("lone", 500), "tornado_bridge", "c_single", 2.5),
    Limit(Scenario("burst", 50), "tornado_bridge", "write_message", 1 / 20),
    Limit(Scenario("burst", 500), "tornado_bridge", "write_message", 1 / 80),
)
SCENARIOS = tuple(dict.fromkeys(limit.scenario for limit in LIMITS))


def run() -> int:
    """Measure and print a table. Return 1 past a limit, or in CI where the machine lacks something."""
    lacking = missing()
    if lacking:
        turns.say(f"not measured: it needs {' and '.join(lacking)}")
        return 1 if "CI" in os.environ else 0
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as name:
        results = turns.run(SCENARIOS, SYSTEMS, needed, EXTENT, command=COMMAND, cache=Path(name))
    print(markdown(results))
    found = failures(results)
    for sentence in found:
        print(sentence, file=sys.stderr)
    return 1 if found else 0


def missing() -> list[str]:
    """Name what the machine lacks."""
    lacking = [program for program in ("cc", "redis-server") if shutil.which(program) is None]
    return [*lacking, *(["a second processor"] if len(os.sched_getaffinity(0)) < 2 else [])]


def needed(system: System, scenario: Scenario) -> bool:
    """Whether a limit needs the system in that scenario."""
    return any(limit.scenario == scenario and system.name in (limit.system, limit.other) for limit in LIMITS)


def failures(results: Results, limits: Sequence[Limit] = LIMITS) -> list[str]:
    """Return a sentence for each limit that was passed or could not be checked."""
    return [sentence for limit in limits if (sentence := _failure(results, limit))]


def _failure(results: Results, limit: Limit) -> str:
    where = f"{limit.scenario.workload} with {limit.scenario.clients} clients"
    found = results.of(limit.scenario)
    rounds, base = found.get(limit.system), found.get(limit.other)
    compared = ratios(rounds, base, lambda one: one.figure) if rounds and base else []
    if not compared:
        return f"{where}: {limit.system} could not be compared with {limit.other}."
    ratio = statistics.median(compared)
    if ratio <= limit.most:
        return ""
    return f"{where}: {limit.system} takes {ratio:.3g} times what {limit.other} takes, the limit is {limit.most:.3g}."

"""The quick mode: whether the server still has its shape, by ratios to others measured in the same run.

A guard against sending per client and event, or making frames per client, not a speed test: the limits leave room for
a busy machine.
"""

import os
import shutil
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.rig.measure import Extent
from benchmarks.rig.records import Contest, Results
from benchmarks.rig.table import ratios
from benchmarks.systems import System

EXTENT = Extent(rounds=3, seconds=0.5, warmup=0.3)


@dataclass(frozen=True)
class Limit:
    """`system` takes at most so many times the processor time of `other`, by the median of the rounds."""

    contest: Contest
    system: str
    other: str
    most: float


LIMITS = (
    Limit(Contest("burst", 50), "tornado_bridge", "c_joined", 5.0),
    Limit(Contest("burst", 500), "tornado_bridge", "c_joined", 3.0),
    Limit(Contest("lone", 500), "tornado_bridge", "c_single", 2.5),
    Limit(Contest("burst", 50), "tornado_bridge", "write_message", 1 / 20),
    Limit(Contest("burst", 500), "tornado_bridge", "write_message", 1 / 80),
)
CONTESTS = tuple(dict.fromkeys(limit.contest for limit in LIMITS))


def missing() -> list[str]:
    """What this machine lacks for it, in words."""
    lacking = [program for program in ("cc", "redis-server") if shutil.which(program) is None]
    return [*lacking, *(["a second processor"] if len(os.sched_getaffinity(0)) < 2 else [])]


def measured(system: System, contest: Contest) -> bool:
    """Whether a limit needs the system in that contest."""
    return any(limit.contest == contest and system.name in (limit.system, limit.other) for limit in LIMITS)


def failures(results: Results, limits: Sequence[Limit] = LIMITS) -> list[str]:
    """One sentence for each limit that was passed or could not be checked."""
    return [sentence for limit in limits if (sentence := _failure(results, limit))]


def _failure(results: Results, limit: Limit) -> str:
    where = f"{limit.contest.workload} with {limit.contest.clients} clients"
    found = results.of(limit.contest)
    rounds, base = found.get(limit.system), found.get(limit.other)
    compared = ratios(rounds, base, lambda one: one.figure) if rounds and base else []
    if not compared:
        return f"{where}: {limit.system} could not be compared with {limit.other}."
    ratio = statistics.median(compared)
    if ratio <= limit.most:
        return ""
    return f"{where}: {limit.system} takes {ratio:.3g} times what {limit.other} takes, the limit is {limit.most:.3g}."

"""How the server's cost grows: fitted to what was measured.

A burst costs so much for its turn of the loop, for each event, each cohort that has any of it, each send and each
delivery. The five are the ones, none below zero, that come closest to the measured costs, in proportion to these.
"""

import functools
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.rig.records import Contest, Measurement, Results, void
from benchmarks.rig.workloads import Kind, matched

SYSTEM = "tornado_bridge"
# What is published once a second finds the processor's caches cold, and costs more than the same work in turn.
FITTED = ("burst", "mixed", "zipf", "lone", "ingest")
CAUSES = ("turn", "event", "cohort", "send", "delivery")


@dataclass(frozen=True)
class Point:
    """One contest: how often each cause was there in a burst, and how many microseconds the burst took."""

    contest: Contest
    counts: tuple[float, ...]
    cost: float


@dataclass(frozen=True)
class Growth:
    """Microseconds of each cause, and what they were fitted to."""

    costs: tuple[float, ...]
    points: Sequence[Point]

    def of(self, counts: Sequence[float]) -> float:
        """Microseconds of a burst of so many turns, events, cohorts, sends and deliveries."""
        return sum(cost * count for cost, count in zip(self.costs, counts, strict=True))


def fit(results: Results) -> Growth | None:
    """The growth of the server's cost; None where too little was measured to tell the causes apart."""
    points = [point for contest in results.contests() if (point := _point(results, contest)) is not None]
    if len(points) <= len(CAUSES):
        return None
    return Growth(_least_squares(points), points)


def _point(results: Results, contest: Contest) -> Point | None:
    rounds = results.of(contest).get(SYSTEM, [])
    if contest.deflate or contest.workload not in FITTED or not rounds or void(rounds):
        return None
    return Point(contest, _counts(contest), statistics.median(map(_cost, rounds)))


def _cost(one: Measurement) -> float:
    return one.server_cpu / one.bursts * 1e6


@functools.cache
def _counts(contest: Contest) -> tuple[float, ...]:
    """What a burst consists of, on average, from what the clients subscribe to."""
    workload = contest.record
    listed = workload.instruments
    share = workload.burst / len(listed)
    # Events of a burst that each set of subscriptions covers.
    covered = [len(matched(chosen, listed)) * share for chosen in workload.sets(listed, contest.clients)]
    clients = contest.clients if workload.kind is Kind.BURSTS else 1
    due = [covered[client % len(covered)] for client in range(clients)]
    cohorts = sum(min(1.0, events) for events in covered)
    return 1.0, float(workload.burst), cohorts, sum(min(1.0, events) for events in due), sum(due)


def _least_squares(points: Sequence[Point]) -> tuple[float, ...]:
    """Leave out the cause that came out lowest, below zero, until there is none."""
    kept = list(range(len(CAUSES)))
    while True:
        rows = [[point.counts[cause] / point.cost for cause in kept] for point in points]
        solution = _solve(
            [[sum(row[i] * row[j] for row in rows) for j in range(len(kept))] for i in range(len(kept))],
            [sum(row[i] for row in rows) for i in range(len(kept))],
        )
        lowest = min(range(len(kept)), key=solution.__getitem__)
        if solution[lowest] >= 0:
            found = dict(zip(kept, solution, strict=True))
            return tuple(found.get(cause, 0.0) for cause in range(len(CAUSES)))
        del kept[lowest]


def _solve(matrix: list[list[float]], right: list[float]) -> list[float]:
    """Gauss's elimination, with the largest pivot first."""
    size = len(right)
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for column in range(size):
        pivot = max(range(column, size), key=lambda row: abs(rows[row][column]))
        rows[column], rows[pivot] = rows[pivot], rows[column]
        for row in range(size):
            if row != column:
                factor = rows[row][column] / rows[column][column]
                rows[row] = [mine - factor * its for mine, its in zip(rows[row], rows[column], strict=True)]
    return [row[-1] / row[column] for column, row in enumerate(rows)]


def markdown(growth: Growth, row: Callable[[Sequence[str]], str]) -> str:
    """The fitted costs, and how far each contest is from them."""
    lines = [
        "### How the cost grows",
        "",
        row(("cause", "µs of the server's processor")),
        row(("---", "---:")),
        *(row((cause, f"{cost:.2f}")) for cause, cost in zip(CAUSES, growth.costs, strict=True)),
        "",
        row(("contest", "µs a burst, measured", "fitted", "ratio")),
        row(("---", "---:", "---:", "---:")),
    ]
    for point in growth.points:
        fitted = growth.of(point.counts)
        where = f"{point.contest.workload}, {point.contest.clients} clients"
        lines.append(row((where, f"{point.cost:,.0f}", f"{fitted:,.0f}", f"{fitted / point.cost:.2f}")))
    return "\n".join(lines)

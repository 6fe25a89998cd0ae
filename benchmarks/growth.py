"""How the server's cost grows: the cost of each cause, fitted to the measured bursts.

A burst costs a turn of the loop, and so much for each event, each cohort with any of its events, each send and each
delivery. The fitted costs are those, none below zero, whose sums are closest to the measured costs in proportion.
"""

import functools
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.rig.records import Measurement, Results, Scenario, void
from benchmarks.rig.workloads import Kind, matched

SYSTEM = "tornado_bridge"
# Workloads that publish once per second are left out: the processor's caches are cold, and the same work costs more.
FITTED = ("burst", "mixed", "zipf", "lone", "ingest")
CAUSES = ("turn", "event", "cohort", "send", "delivery")


@dataclass(frozen=True)
class Point:
    """One scenario: the number of each cause in a burst, and the microseconds that the burst took."""

    scenario: Scenario
    counts: tuple[float, ...]
    cost: float


@dataclass(frozen=True)
class Growth:
    """The microseconds of each cause, and the points that they were fitted to."""

    costs: tuple[float, ...]
    points: Sequence[Point]

    def of(self, counts: Sequence[float]) -> float:
        """Return the microseconds of a burst with so many turns, events, cohorts, sends and deliveries."""
        return sum(cost * count for cost, count in zip(self.costs, counts, strict=True))


def fit(results: Results) -> Growth | None:
    """Fit the growth of the server's cost. None where too few scenarios were measured to separate the causes."""
    points = [point for scenario in results.scenarios() if (point := _point(results, scenario)) is not None]
    if len(points) <= len(CAUSES):
        return None
    return Growth(_least_squares(points), points)


def _point(results: Results, scenario: Scenario) -> Point | None:
    rounds = results.of(scenario).get(SYSTEM, [])
    if scenario.deflate or scenario.workload not in FITTED or not rounds or void(rounds):
        return None
    return Point(scenario, _counts(scenario), statistics.median(map(_cost, rounds)))


def _cost(one: Measurement) -> float:
    return one.server_cpu / one.bursts * 1e6


@functools.cache
def _counts(scenario: Scenario) -> tuple[float, ...]:
    """Return how many of each cause a burst has on average, computed from the clients' subscriptions."""
    workload = scenario.record
    listed = workload.instruments
    share = workload.burst / len(listed)
    # Events of a burst that each set of subscriptions covers.
    covered = [len(matched(chosen, listed)) * share for chosen in workload.sets(listed, scenario.clients)]
    clients = scenario.clients if workload.kind is Kind.BURSTS else 1
    due = [covered[client % len(covered)] for client in range(clients)]
    cohorts = sum(min(1.0, events) for events in covered)
    return 1.0, float(workload.burst), cohorts, sum(min(1.0, events) for events in due), sum(due)


def _least_squares(points: Sequence[Point]) -> tuple[float, ...]:
    """Fit all causes, and again without the lowest one as long as that is below zero."""
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
    """Solve the equations by Gauss's elimination, with the largest pivot first."""
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
    """Return the fitted costs as a table, and another that compares them with each scenario."""
    lines = [
        "### How the cost grows",
        "",
        row(("cause", "µs of the server's processor")),
        row(("---", "---:")),
        *(row((cause, f"{cost:.2f}")) for cause, cost in zip(CAUSES, growth.costs, strict=True)),
        "",
        row(("scenario", "µs per burst, measured", "fitted", "ratio")),
        row(("---", "---:", "---:", "---:")),
    ]
    for point in growth.points:
        fitted = growth.of(point.counts)
        where = f"{point.scenario.workload}, {point.scenario.clients} clients"
        lines.append(row((where, f"{point.cost:,.0f}", f"{fitted:,.0f}", f"{fitted / point.cost:.2f}")))
    return "\n".join(lines)

"""benchmarks.contest.plot: which systems stand in a plot, and in which order."""

from benchmarks.contest import plot
from tests.support.measurements import measured, results


def test_a_plot_has_the_systems_by_cost_without_those_that_lose_messages() -> None:
    found = results(
        *(
            measured(system, cost, clients=clients)
            for clients in (50, 500)
            for system, cost in (("ws", 9.0), ("c", 0.1))
        ),
        measured("gorilla", 4.0),
        measured("uws", faults=("1 lost",)),
    )
    assert list(plot.marks(plot.PLOTS[0], found)) == ["c", "gorilla", "ws"]

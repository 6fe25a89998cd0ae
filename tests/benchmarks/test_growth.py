"""benchmarks.growth: the causes of the server's cost, fitted to measurements."""

import pytest

from benchmarks import growth
from benchmarks.rig.records import Contest, Measurement, Results

COSTS = (120.0, 9.5, 2.5, 6.0, 0.1)

CONTESTS = [
    *(Contest(workload, clients) for workload in ("burst", "mixed", "zipf", "lone") for clients in (50, 200, 500)),
    Contest("ingest", 1),
]


def measured(contest: Contest, cost: float, **changes: object) -> Measurement:
    fields: dict[str, object] = {
        "workload": contest.workload,
        "clients": contest.clients,
        "deflate": contest.deflate,
        "system": growth.SYSTEM,
        "turn": 0,
        "faults": (),
        "amount": 1,
        "server_cpu": cost * 10 / 1e6,
        "load_cpu": 0.0,
        "under_way": 1.0,
        "elapsed": 1.0,
        "other_cpu": 0.0,
        "bursts": 10,
    }
    return Measurement(**{**fields, **changes})  # type: ignore[arg-type]


def results(costs: tuple[float, ...] = COSTS) -> Results:
    return Results(
        machine={},
        measurements=[
            measured(contest, sum(cost * count for cost, count in zip(costs, growth._counts(contest), strict=True)))
            for contest in CONTESTS
        ],
    )


def test_the_costs_of_all_causes_are_found() -> None:
    found = growth.fit(results())
    assert found is not None
    assert found.costs == pytest.approx(COSTS, rel=1e-3)


def test_a_cause_that_costs_nothing_is_never_below_zero() -> None:
    found = growth.fit(results((300.0, 9.5, 0.0, 6.0, 0.0)))
    assert found is not None
    assert min(found.costs) >= 0
    assert found.costs == pytest.approx((300.0, 9.5, 0.0, 6.0, 0.0), rel=1e-3, abs=1e-3)


@pytest.mark.parametrize(
    ("contest", "counts"),
    [
        (Contest("burst", 500), (1, 50, 1, 500, 25_000)),
        (Contest("mixed", 500), (1, 500, 500, 500, 10_000)),
        (Contest("lone", 500), (1, 1, 1, 500, 500)),
        (Contest("ingest", 1), (1, 5000, 1, 1, 10)),
    ],
)
def test_what_a_burst_consists_of(contest: Contest, counts: tuple[float, ...]) -> None:
    assert growth._counts(contest) == pytest.approx(counts)


@pytest.mark.parametrize(
    "changes", [{"system": "ws"}, {"deflate": True}, {"faults": ("1 lost",)}, {"workload": "slow"}]
)
def test_others_and_what_is_void_are_left_out(changes: dict[str, object]) -> None:
    known = results()
    known.measurements.append(measured(Contest("burst", 10_000), 1e9, **changes))
    found = growth.fit(known)
    assert found is not None
    assert found.costs == pytest.approx(COSTS, rel=1e-3)


def test_too_little_to_tell_the_causes_apart_is_not_fitted() -> None:
    few = Results(machine={}, measurements=results().measurements[: len(growth.CAUSES)])
    assert growth.fit(few) is None


def test_the_table_has_every_cause_and_every_contest() -> None:
    found = growth.fit(results())
    assert found is not None
    lines = growth.markdown(found, " | ".join).splitlines()
    assert "send | 6.00" in lines
    assert sum(line.endswith("| 1.00") for line in lines) == len(CONTESTS)

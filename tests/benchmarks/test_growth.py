"""benchmarks.growth: the causes of the server's cost, fitted to measurements."""

import pytest

from benchmarks import growth
from benchmarks.rig.records import Measurement, Results, Scenario

COSTS = (120.0, 9.5, 2.5, 6.0, 0.1)

SCENARIOS = [
    *(Scenario(workload, clients) for workload in ("burst", "mixed", "zipf", "lone") for clients in (50, 200, 500)),
    Scenario("ingest", 1),
]


def measured(scenario: Scenario, cost: float, **changes: object) -> Measurement:
    fields: dict[str, object] = {
        "workload": scenario.workload,
        "clients": scenario.clients,
        "deflate": scenario.deflate,
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
            measured(scenario, sum(cost * count for cost, count in zip(costs, growth._counts(scenario), strict=True)))
            for scenario in SCENARIOS
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
    ("scenario", "counts"),
    [
        (Scenario("burst", 500), (1, 50, 1, 500, 25_000)),
        (Scenario("mixed", 500), (1, 500, 500, 500, 10_000)),
        (Scenario("lone", 500), (1, 1, 1, 500, 500)),
        (Scenario("ingest", 1), (1, 5000, 1, 1, 10)),
    ],
)
def test_the_causes_in_a_burst_are_counted(scenario: Scenario, counts: tuple[float, ...]) -> None:
    assert growth._counts(scenario) == pytest.approx(counts)


@pytest.mark.parametrize(
    "changes", [{"system": "ws"}, {"deflate": True}, {"faults": ("1 lost",)}, {"workload": "slow"}]
)
def test_other_systems_and_void_rounds_are_left_out(changes: dict[str, object]) -> None:
    known = results()
    known.measurements.append(measured(Scenario("burst", 10_000), 1e9, **changes))
    found = growth.fit(known)
    assert found is not None
    assert found.costs == pytest.approx(COSTS, rel=1e-3)


def test_too_few_scenarios_are_not_fitted() -> None:
    few = Results(machine={}, measurements=results().measurements[: len(growth.CAUSES)])
    assert growth.fit(few) is None


def test_the_table_has_every_cause_and_every_scenario() -> None:
    found = growth.fit(results())
    assert found is not None
    lines = growth.markdown(found, " | ".join).splitlines()
    assert "send | 6.00" in lines
    assert sum(line.endswith("| 1.00") for line in lines) == len(SCENARIOS)

"""benchmarks.contest.plan: the scenarios of a full run, and who takes part in them."""

import pytest

from benchmarks.contest import plan
from benchmarks.contest.systems import SYSTEMS
from benchmarks.rig.measure import Extent
from benchmarks.rig.records import Scenario
from benchmarks.rig.workloads import WORKLOADS, Kind


def test_a_full_run_is_planned_for_less_than_an_hour() -> None:
    assert plan.expected_seconds(SYSTEMS, plan.scenarios(), Extent(rounds=3, seconds=1.0)) < 3_600


def test_a_full_run_has_every_workload_with_each_number_of_clients() -> None:
    planned = {(scenario.workload, scenario.clients) for scenario in plan.scenarios() if not scenario.deflate}
    for workload in WORKLOADS.values():
        if workload.name != "slow_baseline":
            numbers = (1,) if workload.kind is Kind.INGEST else (50, 500, 2_000)
            assert {(workload.name, number) for number in numbers} <= planned


@pytest.mark.parametrize(
    ("scenario", "absent"),
    [
        (Scenario("burst", 500), set()),
        (Scenario("lone", 500), set()),
        (Scenario("burst", 50), {"socket_io", "websockets", "aiohttp", "starlette", "picows", "gorilla"}),
        (Scenario("mixed", 500), {"socket_io", "websockets", "aiohttp", "starlette", "picows", "gorilla"}),
    ],
)
def test_some_systems_are_measured_with_five_hundred_clients_only(scenario: Scenario, absent: set[str]) -> None:
    assert {system.name for system in SYSTEMS if not plan.measured(system, scenario)} == absent

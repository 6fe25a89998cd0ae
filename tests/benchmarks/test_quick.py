"""benchmarks.quick: which systems it measures, and when it fails."""

from dataclasses import replace

from benchmarks import quick
from benchmarks.rig.records import Results, Scenario
from tests.support.measurements import measured, results


def quick_results(**costs: float) -> Results:
    usual = {"tornado_bridge": 0.2, "c_joined": 0.15, "write_message": 40.0, "c_single": 0.18}
    return results(
        *(
            measured(system, cost, workload=scenario.workload, clients=scenario.clients)
            for scenario in quick.SCENARIOS
            for system, cost in {**usual, **costs}.items()
        )
    )


def test_a_server_within_its_limits_passes() -> None:
    assert quick.failures(quick_results()) == []


def test_each_limit_that_is_passed_is_one_sentence() -> None:
    limits = [quick.Limit(Scenario("lone", 500), "tornado_bridge", "c_single", 2.0)]
    assert quick.failures(quick_results(tornado_bridge=0.45), limits) == [
        "lone with 500 clients: tornado_bridge takes 2.5 times what c_single takes, the limit is 2."
    ]


def test_sending_per_client_and_event_fails() -> None:
    assert quick.failures(quick_results(tornado_bridge=5.0))


def test_a_system_that_could_not_be_measured_fails() -> None:
    found = quick_results()
    found.measurements = [one for one in found.measurements if one.system != "c_joined"]
    assert quick.failures(found)[0] == "burst with 50 clients: tornado_bridge could not be compared with c_joined."


def test_lost_messages_fail() -> None:
    found = quick_results()
    found.measurements = [replace(one, faults=("1 lost",)) for one in found.measurements]
    assert len(quick.failures(found)) == len(quick.LIMITS)


def test_only_the_systems_of_a_limit_are_measured() -> None:
    systems = {system.name for system in quick.SYSTEMS if quick.needed(system, Scenario("lone", 500))}
    assert systems == {"tornado_bridge", "c_single"}

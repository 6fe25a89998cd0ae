"""benchmarks.rig.table: ranks, ratios and notes."""

import pytest

from benchmarks.rig.records import Measurement
from benchmarks.rig.table import markdown, ratios
from tests.support.measurements import measured, results, row


def test_systems_are_ranked_by_the_median_of_their_rounds() -> None:
    rounds = [measured("ws", cost, turn=turn) for turn, cost in enumerate((9.0, 1.0, 8.0), 1)]
    text = markdown(results(*rounds, *(measured("tornado_bridge", 2.0, turn=turn) for turn in (1, 2, 3))))
    assert text.index("| tornado_bridge |") < text.index("| ws |")
    assert row(text, "ws")[1:3] == ["8 (1 to 9)", "4 (0.5 to 4.5)"]


def test_a_system_that_loses_messages_has_no_rank() -> None:
    text = markdown(results(measured("c_joined", 0.1, faults=("3 lost",)), measured("tornado_bridge")))
    assert text.index("| tornado_bridge |") < text.index("| c_joined |")
    assert row(text, "c_joined")[1:] == ["not ranked", *["–"] * 6]
    assert "- c_joined, round 1: 3 lost" in text


def test_nothing_is_compared_with_a_system_that_loses_messages() -> None:
    text = markdown(results(measured("tornado_bridge", faults=("1 lost",)), measured("ws")))
    assert row(text, "ws")[2] == "–"


def test_a_load_generator_that_was_the_bottleneck_is_noted() -> None:
    note = "- ws: the load generator was the bottleneck (the latencies are its own)"
    assert (note in markdown(results(measured("ws", load_cpu=1.9)))) is True
    assert (note in markdown(results(measured("ws", load_cpu=1.7)))) is False


def test_bursts_that_left_late_are_noted() -> None:
    text = markdown(results(measured("ws", workload="paced", late=2, bursts=6)))
    assert "- ws: 2 of 6 bursts left late, because the burst before was under way" in text


def test_a_system_that_could_not_be_installed_is_named_with_the_reason() -> None:
    found = results(measured("ws"))
    found.unavailable["gorilla"] = "go is not installed"
    assert "- gorilla was not measured: go is not installed" in markdown(found)


def test_slow_clients_are_compared_with_the_same_run_without_them() -> None:
    text = markdown(
        results(
            measured("tornado_bridge", 2.0, workload="slow_baseline", p99_us=4_000),
            measured("tornado_bridge", 2.2, workload="slow", p99_us=5_000),
        )
    )
    assert row(text, "tornado_bridge")[3:5] == ["1.1 (1.1 to 1.1)", "1.25 (1.25 to 1.25)"]
    assert "slow_baseline" not in text


@pytest.mark.parametrize(
    ("measurement", "cells"),
    [
        (measured("ws", workload="ingest", amount=100_000), ["10.0 (10.0 to 10.0)", "100,000 (100,000 to 100,000)"]),
        (measured("ws", workload="connect", amount=5_000), ["200 (200 to 200)", "2,500 (2,500 to 2,500)"]),
        (measured("ws", workload="idle", amount=500, growth=3_500_000), ["7 (7 to 7)"]),
    ],
)
def test_each_kind_of_workload_has_its_own_figures(measurement: Measurement, cells: list[str]) -> None:
    found = row(markdown(results(measurement)), "ws")
    assert [found[1], *found[3:4]][: len(cells)] == cells


def test_compression_shows_the_bytes_per_message() -> None:
    text = markdown(results(measured("ws", deflate=True, wire_bytes=54_300_000, compressed=250_000)))
    assert "with compression" in text
    assert row(text, "ws")[6] == "54.3"
    assert "- ws: 25% of the messages were compressed" in text


def test_ratios_are_taken_round_by_round() -> None:
    rounds = [measured("ws", cost) for cost in (2.0, 4.0)]
    base = [measured("tornado_bridge", cost) for cost in (1.0, 4.0)]
    assert ratios(rounds, base, lambda one: one.figure) == [2.0, 1.0]

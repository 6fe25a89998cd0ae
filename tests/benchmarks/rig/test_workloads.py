"""benchmarks.rig.workloads: the subscriptions of the clients, and the deliveries that are due."""

from collections import Counter

import pytest

from benchmarks.rig.market import instruments
from benchmarks.rig.workloads import WORKLOADS, deliveries, is_deaf, matched

LISTED = instruments(3, ("1m", "1h"))


@pytest.mark.parametrize(
    ("subscriptions", "numbers"),
    [
        (("candles:C001-USD:1h",), [3]),
        (("candles:*:1m",), [0, 2, 4]),
        (("candles:C001-USD:*", "candles:C001-USD:1h"), [2, 3]),
        (("candles:*:*",), [0, 1, 2, 3, 4, 5]),
        (("candles:C009-USD:1m",), []),
        ((), []),
    ],
)
def test_a_set_matches_each_channel_once(subscriptions: tuple[str, ...], numbers: list[int]) -> None:
    assert matched([subscriptions], LISTED) == [numbers]


def test_all_clients_share_the_fifty_channels_of_a_burst() -> None:
    workload = WORKLOADS["burst"]
    assert workload.sets(workload.instruments, 7) == [tuple(one.channel for one in workload.instruments)]


def test_each_client_has_twenty_of_five_hundred_channels_in_the_mixed_workload() -> None:
    workload = WORKLOADS["mixed"]
    sets = workload.sets(workload.instruments, 300)
    assert {len(numbers) for numbers in matched(sets, workload.instruments)} == {20}
    assert len({frozenset(one) for one in sets}) == 300


def test_sets_are_the_same_in_every_run() -> None:
    for workload in WORKLOADS.values():
        assert workload.sets(workload.instruments, 50) == workload.sets(workload.instruments, 50)


def test_a_fifth_of_the_zipf_clients_has_a_wildcard() -> None:
    workload = WORKLOADS["zipf"]
    sets = workload.sets(workload.instruments, 500)
    assert [sum("*" in one for one in subscriptions) for subscriptions in sets] == [1, 0, 0, 0, 0] * 100


def test_zipf_clients_have_five_to_thirty_subscriptions_and_some_channels_are_popular() -> None:
    workload = WORKLOADS["zipf"]
    sets = workload.sets(workload.instruments, 500)
    assert {len(one) for one in sets} == set(range(5, 31))
    popularity = [count for _, count in Counter(channel for one in sets for channel in one).most_common()]
    assert popularity[0] > 400 > 40 > popularity[100]


@pytest.mark.parametrize(
    ("name", "clients", "events", "due"),
    [
        ("burst", 500, 50, 25_000),
        ("burst", 500, 51, 25_500),
        ("lone", 50, 1, 50),
        ("mixed", 500, 500, 10_000),
        ("mixed", 500, 1_000, 20_000),
        ("slow", 500, 50, 22_500),
        ("slow_baseline", 500, 50, 22_500),
        ("slow", 50, 50, 2_250),
        ("ingest", 1, 5_000, 10),
        ("ingest", 1, 499, 0),
        ("ingest", 1, 500, 1),
        ("connect", 500, 0, 0),
    ],
)
def test_the_deliveries_that_are_due(name: str, clients: int, events: int, due: int) -> None:
    assert deliveries(WORKLOADS[name], clients, events) == due


def test_the_deaf_are_spread_evenly() -> None:
    assert [client for client in range(50) if is_deaf(client, 50, 5)] == [9, 19, 29, 39, 49]

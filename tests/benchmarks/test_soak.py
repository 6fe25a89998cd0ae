"""benchmarks.soak: how a long run under load and faults is planned and judged, and a run of a few seconds."""

import asyncio
import subprocess
import sys
from collections import Counter
from multiprocessing import Pipe
from typing import Any

import pytest

from benchmarks.soak import __main__ as soak
from benchmarks.soak import figures
from benchmarks.soak.figures import Account, Sample
from benchmarks.soak.load import FAULTS, Soak, event
from tests.support import oracle
from tests.support.raw import tcp_pair, until
from tests.support.servers import LogLines


def samples(*memory: int) -> list[Sample]:
    return [Sample(float(second), size, descriptors=10, threads=2) for second, size in enumerate(memory)]


# The account of events


def test_an_event_that_counts_and_does_not_come_is_lost() -> None:
    account = Account()
    for serial in account.publish(3, counted=True):
        if serial != 1:
            account.receive(serial)
    assert (account.published, account.counted, account.lost, account.newest) == (3, 3, 1, 2)


def test_an_event_of_a_fault_may_come_or_not() -> None:
    account = Account()
    for serial in account.publish(4, counted=False)[::2]:
        account.receive(serial)
    assert (account.published, account.counted, account.lost) == (4, 0, 0)


def test_an_event_that_comes_twice_is_repeated() -> None:
    account = Account()
    for serial in (*account.publish(2, counted=True), 1):
        account.receive(serial)
    assert (account.lost, account.repeated) == (0, 1)


def test_every_event_of_a_run_is_valid_and_shows_its_serial() -> None:
    source, payload = event(1_234_567)
    envelope = oracle.expected(source, payload.encode())
    assert envelope is not None
    assert envelope["channel"] == "candles:S17-USD:1m"
    assert envelope["data"]["volume"] == "1234567"  # type: ignore[index]


# What is seen from outside


def test_the_slope_is_that_of_the_line_through_all_samples() -> None:
    assert figures.slope(samples(100, 300, 200, 400)) == 80


def test_a_sample_counts_what_the_process_holds() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"running\n")
        process.stdin.flush()
        process.stdout.readline()
        found = figures.sample(process.pid)
    assert found.memory > 100_000
    assert (found.threads, found.descriptors) == (1, 3)


@pytest.mark.gen_test
async def test_a_connection_is_cut_once_the_server_ends_it_whatever_is_unread() -> None:
    with tcp_pair() as (server, client):
        server.sendall(b"unread")
        assert not figures.is_cut(client)
        server.close()
        await until(lambda: figures.is_cut(client))


@pytest.mark.gen_test
async def test_the_probe_measures_until_it_is_told_to_stop(
    http_port: int, log_lines: LogLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "PROBE_INTERVAL", 0.01)
    here, there = Pipe()
    probing = asyncio.create_task(asyncio.to_thread(figures.probe, http_port, there))
    await until(lambda: [line for line in log_lines.all() if line.get("path") == "/healthz"])
    here.send(None)
    await probing
    trips = here.recv()
    assert trips
    assert all(0 < trip < 5 for trip in trips)
    here.close()
    there.close()


def test_a_log_is_read_while_the_server_runs_and_its_tracebacks_are_counted() -> None:
    script = r"import sys; sys.stderr.write('[error    ] x\n' * 9000 + 'Traceback (most recent call last):\n')"
    with (
        subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE) as process,
        figures.drained(process.stderr) as counts,
    ):
        assert process.wait(10) == 0
    assert counts == {"lines": 9_001, "errors": 9_000, "tracebacks": 1}


# Plans


def test_a_short_run_has_two_faults() -> None:
    assert soak.plan(60) == soak.Plan(seconds=40, warm_up=20, pause=10, faults=("redis killed", "keys rewritten"))


def test_a_long_run_has_a_fault_per_minute_and_every_kind_of_them() -> None:
    planned = soak.plan(1_800)
    assert (planned.seconds, planned.warm_up, planned.pause, len(planned.faults)) == (1_770, 30, 60, 29)
    assert set(planned.faults) == FAULTS.keys()


# The report


def judged(**changes: Any) -> dict[str, bool | None]:
    """Return the verdicts on a run without a fault, but for what a test changes."""
    found: dict[str, Any] = {
        "memory": (50 << 20, 51 << 20, 52 << 20),
        "left": 10,
        "received": 3,
        "tracebacks": 0,
        "fault": 1.0,
        **changes,
    }
    account = Account()
    for serial in account.publish(3, counted=True)[: found["received"]]:
        account.receive(serial)
    run = Soak.__new__(Soak)
    run.account, run.outcomes, run.faults = account, Counter(), [("redis killed", found["fault"])]
    run.samples = samples(*found["memory"])
    run.before, run.after = run.samples[0], Sample(9.0, 0, found["left"], 2)
    rows = soak.report(run, [0.001] * 100, Counter(tracebacks=found["tracebacks"]))
    return {row.name: row.passed for row in rows if row.passed is not None}


def test_a_run_within_its_limits_passes() -> None:
    assert set(judged().values()) == {True}


@pytest.mark.parametrize(
    ("changes", "exceeded"),
    [
        ({"memory": (50 << 20, 55 << 20, 60 << 20)}, "slope of the memory"),
        ({"left": 15}, "descriptors left"),
        ({"received": 2}, "events lost"),
        ({"tracebacks": 1}, "tracebacks in the log"),
        ({"fault": 30.0}, "fault: redis killed"),
    ],
)
def test_a_run_fails_by_each_of_its_limits(changes: dict[str, Any], exceeded: str) -> None:
    assert [name for name, passed in judged(**changes).items() if not passed] == [exceeded]


def test_the_table_shows_every_figure_with_its_verdict() -> None:
    rows = [soak.Row("a", "1"), soak.Row("b", "2", "3", True), soak.Row("c", "4", "3", False)]
    assert soak.table(rows).splitlines() == [
        "| figure | value | limit | |",
        "|---|---|---|---|",
        "| a | 1 |  |  |",
        "| b | 2 | 3 | kept |",
        "| c | 4 | 3 | EXCEEDED |",
    ]


# A run


@pytest.mark.slow
def test_a_run_of_a_few_seconds_loses_nothing_and_leaves_nothing(redis_binary: str) -> None:
    rows = {row.name: row for row in soak.run(soak.Plan(3, warm_up=1, pause=1, faults=("redis killed",)))}
    assert [row for row in rows.values() if row.passed is False] == []
    published, counted = map(int, rows["events published, counted"].value.split(", "))
    assert published >= counted > 2_000
    assert int(rows["client: abrupt: reset"].value) > 5

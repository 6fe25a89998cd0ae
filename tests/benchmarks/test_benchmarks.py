"""The benchmarks: who gets what, what is counted, what the tables say, and when the quick mode fails."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.sync.server import ServerConnection, serve

from benchmarks import plan, plot, quick
from benchmarks.rig import load, records
from benchmarks.rig.market import MICROSECONDS, MILLISECONDS, Market, instruments
from benchmarks.rig.measure import Extent
from benchmarks.rig.processes import Process
from benchmarks.rig.records import Contest, Measurement, Results
from benchmarks.rig.table import markdown, ratios
from benchmarks.rig.workloads import WORKLOADS, Kind, deliveries, is_deaf, matched
from benchmarks.systems import SYSTEMS

LISTED = instruments(3, ("1m", "1h"))
MOMENT_US = 1_708_264_800_123_456

MACHINE = {
    "processor": "a processor",
    "processors": 2,
    "memory_gib": 4.0,
    "kernel": "Linux 6",
    "server_on": 0,
    "load_on": 1,
    "tools": {"cc": "cc 12"},
    "versions": {"tornado_bridge": "Python 3.11.7"},
}

EXTENT = {"rounds": 3, "seconds": 1.5, "warmup": 0.3}


def measured(system: str, cost: float = 1.0, **fields: Any) -> Measurement:
    """Return a measurement of `cost` microseconds a delivery."""
    usual: dict[str, Any] = {
        "workload": "burst",
        "clients": 500,
        "deflate": False,
        "system": system,
        "turn": 1,
        "faults": (),
        "amount": 1_000_000,
        "server_cpu": cost,
        "load_cpu": 0.4,
        "under_way": 2.0,
        "elapsed": 2.0,
        "other_cpu": 0.0,
        "bursts": 40,
        "p50_us": 2_000,
        "p99_us": 8_000,
        "max_us": 9_000,
    }
    return Measurement(**{**usual, **fields})


def results(*measurements: Measurement) -> Results:
    return Results(machine=MACHINE, command="python -m benchmarks burst", extent=EXTENT, measurements=[*measurements])


def row(text: str, system: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {system} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


# --- events


def test_every_symbol_is_listed_in_every_timeframe() -> None:
    assert [one.channel for one in instruments(2, ("1m", "1h"))] == [
        "candles:C000-USD:1m",
        "candles:C000-USD:1h",
        "candles:C001-USD:1m",
        "candles:C001-USD:1h",
    ]


def test_events_are_on_the_channels_in_turn() -> None:
    candles = Market(LISTED).next_burst(8).candles
    assert [(candle.number, candle.instrument) for candle in candles] == list(enumerate([*LISTED, *LISTED[:2]]))


def test_the_command_of_an_event_publishes_its_payload_on_its_source_channel() -> None:
    burst = Market(LISTED).next_burst(1)
    channel = b"channel:exchange:1:candle:close:C000-USD:1m"
    payload = burst.candles[0].payload.replace(MILLISECONDS, "1708264800123").replace(MICROSECONDS, "456").encode()
    assert burst.command(0, MOMENT_US) == (
        b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(channel), channel, len(payload), payload)
    )


def test_the_commands_of_a_burst_are_those_of_its_events() -> None:
    burst = Market(LISTED).next_burst(3)
    assert burst.commands(MOMENT_US) == b"".join(burst.command(index, MOMENT_US) for index in range(3))


def test_the_envelope_has_what_was_published() -> None:
    for candle in Market(LISTED).next_burst(200).candles:
        text = candle.payload.replace(MILLISECONDS, "1708264800123").replace(MICROSECONDS, "456")
        told = json.loads(candle.envelope(MOMENT_US))
        assert told["data"]["timestamp"] == "2024-02-18T14:00:00.123Z"
        number, high = json.loads(text, parse_float=str)["volume"], told["data"]["high"]
        assert (told["data"]["volume"], number.partition(".")[0]) == (number, str(candle.number))
        assert high.startswith("42456.")


# --- who gets what


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


def test_everybody_has_the_same_fifty_channels_of_a_burst() -> None:
    workload = WORKLOADS["burst"]
    assert workload.sets(workload.instruments, 7) == [tuple(one.channel for one in workload.instruments)]


def test_everybody_has_twenty_channels_of_five_hundred_in_the_mixed_workload() -> None:
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
def test_so_many_deliveries_are_due(name: str, clients: int, events: int, due: int) -> None:
    assert deliveries(WORKLOADS[name], clients, events) == due


def test_the_deaf_are_spread_evenly() -> None:
    assert [client for client in range(50) if is_deaf(client, 50, 5)] == [9, 19, 29, 39, 49]


# --- the load generator


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("cc") is None:
        pytest.skip("cc is not installed")
    return load.build(tmp_path_factory.mktemp("load"))


def test_the_load_generator_compiles_without_a_warning(tmp_path: Path) -> None:
    if shutil.which("cc") is None:
        pytest.skip("cc is not installed")
    sources = [str(source) for source in load.SOURCES.glob("*.c") if source.stem != "deflate"]
    argv = ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(tmp_path / "load"), *sources]
    assert subprocess.run(argv, capture_output=True, timeout=60, check=False).stderr == b""


def test_the_load_generator_names_what_it_wants(program: Path) -> None:
    done = subprocess.run([program, "--port", "1"], capture_output=True, text=True, timeout=10, check=False)
    assert (done.returncode, done.stderr) == (
        1,
        "load: wanted: --port P --clients N --channels FILE --sets FILE --timeout SECONDS\n",
    )


class Speaker:
    """A server that grants every subscription and then says what it is told to."""

    def __init__(self) -> None:
        self._connections: list[ServerConnection] = []
        self._server = serve(self._converse, "127.0.0.1", 0, compression=None)
        self.port: int = self._server.socket.getsockname()[1]
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def _converse(self, connection: ServerConnection) -> None:
        self._connections.append(connection)
        with suppress(ConnectionClosedError):  # the load generator ends without a closing handshake
            for message in connection:
                answer = {"type": "subscribed", "channels": json.loads(message)["channels"]}
                connection.send(json.dumps(answer, separators=(",", ":")))

    def say(self, texts: Sequence[str]) -> None:
        for connection in self._connections:
            for text in texts:
                connection.send(text)

    def end(self) -> None:
        self._server.shutdown()
        for connection in self._connections:
            connection.close()
        self._thread.join(10)


@pytest.fixture
def speaker() -> Iterator[Speaker]:
    speaker = Speaker()
    yield speaker
    speaker.end()


Edit = Callable[[list[str]], list[str]]


def reported(
    program: Path, speaker: Speaker, directory: Path, edit: Edit, sets: Sequence[Sequence[str]]
) -> load.Report:
    """Return what two clients report of twelve events, edited on their way."""
    market = Market(LISTED)
    texts = [candle.envelope(time.time_ns() // 1000) for candle in market.next_burst(12).candles]
    processor = min(os.sched_getaffinity(0))
    with load.generating(
        program,
        port=speaker.port,
        key="key",
        clients=2,
        channels=market.channels,
        sets=sets,
        directory=directory,
        processor=processor,
    ) as clients:
        clients.open(2)
        clients.expect(12)
        speaker.say(edit(texts))
        clients.wait(12, 0.5)
        return clients.finish()


EVERYTHING = [["candles:*:*"]]


def test_a_run_without_faults_has_none(program: Path, speaker: Speaker, tmp_path: Path) -> None:
    report = reported(program, speaker, tmp_path, list, EVERYTHING)
    assert (report.deliveries, report.faults) == (24, [])
    assert 0 < report.p50_us <= report.p99_us <= report.max_us < 10_000_000


def test_a_client_is_due_the_events_of_its_own_set(program: Path, speaker: Speaker, tmp_path: Path) -> None:
    hours = [["candles:*:1h", "candles:C001-USD:*", "candles:C002-USD:1h"]]

    def without_other_minutes(texts: list[str]) -> list[str]:
        return [text for text in texts if ":1h" in text or "C001" in text]

    report = reported(program, speaker, tmp_path, without_other_minutes, hours)
    assert (report.deliveries, report.faults) == (16, [])


@pytest.mark.parametrize(
    ("edit", "faults"),
    [
        (lambda texts: texts[:-1], ["2 lost"]),
        (lambda texts: texts[1:], ["2 lost"]),
        (lambda texts: texts[:3] + texts[5:], ["4 lost"]),
        (lambda texts: [texts[0], *texts], ["2 duplicated"]),
        (lambda texts: [*texts, texts[4]], ["2 duplicated"]),
        (lambda texts: [texts[1], texts[0], *texts[2:]], ["2 out of order"]),
        (lambda texts: [*texts[2:], *texts[:2]], ["4 out of order"]),
        (lambda texts: ["{}", *texts], ["2 unknown frames"]),
        (lambda texts: [*texts, texts[0].replace("C000", "C001")], ["2 unknown frames"]),
        (
            lambda texts: [texts[0].replace('"open":"4', '"open":"5'), *texts],
            ["2 duplicated", "2 not the same for all clients"],
        ),
    ],
)
def test_what_goes_wrong_is_counted(
    program: Path, speaker: Speaker, tmp_path: Path, edit: Edit, faults: list[str]
) -> None:
    assert reported(program, speaker, tmp_path, edit, EVERYTHING).faults == faults


def test_an_event_that_was_not_subscribed_to_is_counted(program: Path, speaker: Speaker, tmp_path: Path) -> None:
    report = reported(program, speaker, tmp_path, list, [["candles:*:1h"]])
    assert (report.deliveries, report.faults) == (12, ["12 unknown frames"])


def test_a_client_that_the_server_closes_is_counted(program: Path, speaker: Speaker, tmp_path: Path) -> None:
    def close(texts: list[str]) -> list[str]:
        for connection in speaker._connections:
            connection.close(4001)
        return []

    report = reported(program, speaker, tmp_path, close, EVERYTHING)
    assert report.faults == ["24 lost", "2 clients closed (code 4001)"]


# --- processes

BUSY = "import time\nwhile time.process_time() < 0.3: pass\n"
PARENT = f"""
import subprocess, sys, threading
child = subprocess.Popen([sys.executable, "-c", {BUSY + "print('done', flush=True); input()"!r}], stdin=subprocess.PIPE)
thread = threading.Thread(target=child.wait)
thread.start()
memory = bytearray(b"x" * (8 << 20))
input()
child.communicate(b"\\n")
"""


def test_the_cost_of_a_process_is_that_of_its_children_too() -> None:
    with Process("parent", [sys.executable, "-c", PARENT], processor=min(os.sched_getaffinity(0))) as process:
        assert process.read_line(20) == "done"
        assert 0.3 <= process.cpu_seconds() < 2
        assert process.memory_bytes() > 8 << 20
        process.send_line("")


# --- what the tables say


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


def test_a_load_generator_that_was_the_bottleneck_is_told() -> None:
    note = "- ws: the load generator was the bottleneck (the latencies are its own)"
    assert (note in markdown(results(measured("ws", load_cpu=1.9)))) is True
    assert (note in markdown(results(measured("ws", load_cpu=1.7)))) is False


def test_bursts_that_left_late_are_told() -> None:
    text = markdown(results(measured("ws", workload="paced", late=2, bursts=6)))
    assert "- ws: 2 of 6 bursts left late, since the one before was under way" in text


def test_a_system_that_cannot_be_installed_is_told() -> None:
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


def test_compression_tells_the_bytes_of_a_message() -> None:
    text = markdown(results(measured("ws", deflate=True, wire_bytes=54_300_000, compressed=250_000)))
    assert "with compression" in text
    assert row(text, "ws")[6] == "54.3"
    assert "- ws: 25% of the messages came compressed" in text


def test_ratios_are_taken_round_by_round() -> None:
    rounds = [measured("ws", cost) for cost in (2.0, 4.0)]
    base = [measured("tornado_bridge", cost) for cost in (1.0, 4.0)]
    assert ratios(rounds, base, lambda one: one.figure) == [2.0, 1.0]


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    found = results(measured("ws", faults=("1 lost",)), measured("tornado_bridge"))
    found.unavailable["uws"] = "npm is not installed"
    found.write(tmp_path)
    assert records.read(tmp_path) == found


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


# --- the quick mode and the full one


def quick_results(**costs: float) -> Results:
    usual = {"tornado_bridge": 0.2, "c_joined": 0.15, "write_message": 40.0, "c_single": 0.18}
    return results(
        *(
            measured(system, cost, workload=contest.workload, clients=contest.clients)
            for contest in quick.CONTESTS
            for system, cost in {**usual, **costs}.items()
        )
    )


def test_the_quick_mode_has_nothing_to_say_of_a_server_in_shape() -> None:
    assert quick.failures(quick_results()) == []


def test_the_quick_mode_tells_each_limit_that_is_passed() -> None:
    limits = [quick.Limit(Contest("lone", 500), "tornado_bridge", "c_single", 2.0)]
    assert quick.failures(quick_results(tornado_bridge=0.45), limits) == [
        "lone with 500 clients: tornado_bridge takes 2.5 times what c_single takes, the limit is 2."
    ]


def test_sending_per_client_and_event_passes_a_limit() -> None:
    assert quick.failures(quick_results(tornado_bridge=5.0))


def test_the_quick_mode_fails_if_a_system_could_not_be_measured() -> None:
    found = quick_results()
    found.measurements = [one for one in found.measurements if one.system != "c_joined"]
    assert quick.failures(found)[0] == "burst with 50 clients: tornado_bridge could not be compared with c_joined."


def test_the_quick_mode_fails_if_the_bridge_loses_messages() -> None:
    found = quick_results()
    found.measurements = [replace(one, faults=("1 lost",)) for one in found.measurements]
    assert len(quick.failures(found)) == len(quick.LIMITS)


def test_the_quick_mode_measures_what_its_limits_need() -> None:
    systems = {system.name for system in SYSTEMS if quick.measured(system, Contest("lone", 500))}
    assert systems == {"tornado_bridge", "c_single"}


def test_a_full_run_is_planned_for_less_than_an_hour() -> None:
    assert plan.expected_seconds(SYSTEMS, plan.contests(), Extent(rounds=3, seconds=1.0)) < 3_600


def test_a_full_run_has_every_workload_with_each_number_of_clients() -> None:
    planned = {(contest.workload, contest.clients) for contest in plan.contests() if not contest.deflate}
    for workload in WORKLOADS.values():
        if workload.name != "slow_baseline":
            numbers = (1,) if workload.kind is Kind.INGEST else (50, 500, 2_000)
            assert {(workload.name, number) for number in numbers} <= planned


@pytest.mark.parametrize(
    ("contest", "absent"),
    [
        (Contest("burst", 500), set()),
        (Contest("lone", 500), set()),
        (Contest("burst", 50), {"socket_io", "websockets", "aiohttp", "starlette", "picows", "gorilla"}),
        (Contest("mixed", 500), {"socket_io", "websockets", "aiohttp", "starlette", "picows", "gorilla"}),
    ],
)
def test_some_peers_are_measured_with_five_hundred_clients_alone(contest: Contest, absent: set[str]) -> None:
    assert {system.name for system in SYSTEMS if not plan.measured(system, contest)} == absent

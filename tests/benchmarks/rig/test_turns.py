"""benchmarks.rig.turns: whole runs of the bridge and its references, with real processes."""

import os
import resource
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import quick
from benchmarks.rig import turns
from benchmarks.rig.measure import Extent
from benchmarks.rig.processes import ProcessFailed
from benchmarks.rig.records import Results, Scenario
from benchmarks.rig.system import Places, System
from benchmarks.systems import C_JOINED, C_SINGLE
from tests.support.measurements import measured

SMALL = Scenario("burst", 5)


@pytest.fixture(autouse=True)
def _process_as_before(redis_binary: str) -> Iterator[None]:
    """Undo that a run binds this process to one processor and raises its limit of open files."""
    if shutil.which("cc") is None or len(os.sched_getaffinity(0)) < 2:
        pytest.skip("a run needs cc and two processors")
    processors, files = os.sched_getaffinity(0), resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    os.sched_setaffinity(0, processors)
    resource.setrlimit(resource.RLIMIT_NOFILE, files)


def run(systems: Sequence[System], cache: Path, *, rounds: int) -> Results:
    extent = Extent(rounds, seconds=0.05, warmup=0.05)
    return turns.run([SMALL], systems, lambda system, scenario: True, extent, command="", cache=cache)


def cannot_be_installed(directory: Path) -> Places:
    raise ProcessFailed("its compiler is not installed\nand this is the second line")


def test_the_bridge_and_its_references_deliver_every_event_byte_by_byte(tmp_path: Path) -> None:
    found = run(quick.SYSTEMS, tmp_path, rounds=1)
    assert [(one.system, one.faults) for one in found.measurements] == [
        ("tornado_bridge", ()),
        ("c_joined", ()),
        ("c_single", ()),
        ("write_message", ()),
    ]
    assert {one.bursts >= 3 and one.amount == one.bursts * 50 * 5 for one in found.measurements} == {True}


def test_a_system_that_ends_at_once_is_void_and_has_no_second_round(tmp_path: Path) -> None:
    broken = System("broken", "a server that ends", ("false",), versions=lambda places: "1")
    found = run([broken, C_JOINED], tmp_path, rounds=2)
    assert [(one.system, one.turn, one.faults) for one in found.measurements] == [
        ("broken", 1, ("broken ended with 1",)),
        ("c_joined", 1, ()),
        ("c_joined", 2, ()),
    ]


def test_a_system_that_cannot_be_installed_is_named_with_the_reason(tmp_path: Path) -> None:
    found = run([replace(C_SINGLE, install=cannot_be_installed), C_JOINED], tmp_path, rounds=1)
    assert found.unavailable == {"c_single": "its compiler is not installed"}
    assert {one.system for one in found.measurements} == {"c_joined"}


def test_the_progress_of_a_measurement_is_one_line() -> None:
    assert turns.progress(measured("ws", 9.0)) == "burst, 500 clients, round 1, ws: 9 µs per delivery, p99 8 ms"


def test_the_progress_of_a_void_measurement_is_its_first_fault() -> None:
    assert turns.progress(measured("ws", deflate=True, faults=("3 lost", "1 duplicated"))) == (
        "burst with compression, 500 clients, round 1, ws: 3 lost"
    )

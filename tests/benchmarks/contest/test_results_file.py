"""benchmarks.contest.results_file: raw results, one line per record."""

import json
from pathlib import Path

from benchmarks.contest import results_file
from benchmarks.rig.records import Results
from tests.support.measurements import measured, results


def found() -> Results:
    known = results(measured("ws", faults=("1 lost",)), measured("tornado_bridge"))
    known.unavailable["uws"] = "npm is not installed"
    return known


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    results_file.write(found(), tmp_path)
    assert results_file.read(tmp_path) == found()


def test_the_first_line_is_the_run_and_each_other_line_a_measurement(tmp_path: Path) -> None:
    results_file.write(found(), tmp_path)
    run, *measurements = map(json.loads, (tmp_path / "results.jsonl").read_text().splitlines())
    assert (run["command"], run["unavailable"]) == (
        "python -m benchmarks.contest burst",
        {"uws": "npm is not installed"},
    )
    assert [(one["system"], one["faults"]) for one in measurements] == [("ws", ["1 lost"]), ("tornado_bridge", [])]

"""Raw results as a file of JSON lines: the first holds the run, each other one a measurement."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.rig.records import Measurement, Results

FILE = "results.jsonl"


def write(results: Results, directory: Path) -> None:
    """Write the results to FILE in a directory, which is made where it is missing."""
    directory.mkdir(parents=True, exist_ok=True)
    run = asdict(results)
    measurements = run.pop("measurements")
    lines = [json.dumps(record, ensure_ascii=False) for record in (run, *measurements)]
    (directory / FILE).write_text("".join(f"{line}\n" for line in lines))


def read(directory: Path) -> Results:
    """Read the results from FILE in a directory."""
    run, *measurements = map(json.loads, (directory / FILE).read_text().splitlines())
    return Results(**run, measurements=[_measurement(fields) for fields in measurements])


def _measurement(fields: Mapping[str, Any]) -> Measurement:
    return Measurement(**{**fields, "faults": tuple(fields["faults"])})

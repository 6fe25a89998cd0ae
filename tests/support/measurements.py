"""Measurements for the tests of the benchmarks."""

from typing import Any

from benchmarks.rig.records import Measurement, Results

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
    """Return a measurement of `cost` microseconds per delivery."""
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
    return Results(
        machine=MACHINE, command="python -m benchmarks.contest burst", extent=EXTENT, measurements=[*measurements]
    )


def row(text: str, system: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {system} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]

"""Results as plots. They need matplotlib, which the extra `benchmark` installs."""

import importlib
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.rig.records import Measurement, Results, void

FORMATS = ("svg", "png")
MARKERS = "osD^v"
WIDTH = 8.0  # inches
HEIGHT = 1.6
HEIGHT_PER_SYSTEM = 0.34


@dataclass(frozen=True)
class Plot:
    """A figure of one workload: a row per system, a mark per number of clients, the least at the top."""

    workload: str
    label: str
    figure: Callable[[Measurement], float]


PLOTS = (
    Plot("burst", "CPU seconds of the server per million deliveries (log scale)", lambda one: one.figure),
    Plot(
        "paced",
        "p99 from publish to receipt in ms, 50 events once per second (log scale)",
        lambda one: one.p99_us / 1000,
    ),
)

Marks = dict[str, dict[int, list[float]]]


def marks(plot: Plot, results: Results) -> Marks:
    """Return the rounds of each system and number of clients, the cheapest system first. Void rounds are left out."""
    found: Marks = {}
    for scenario in results.scenarios():
        if scenario.workload == plot.workload and not scenario.deflate:
            for system, rounds in results.of(scenario).items():
                if not void(rounds):
                    found.setdefault(system, {})[scenario.clients] = [plot.figure(one) for one in rounds]
    common = max((len(by_clients) for by_clients in found.values()), default=0)
    widest = {clients for by_clients in found.values() if len(by_clients) == common for clients in by_clients}

    def rank(system: str) -> float:
        medians = {clients: statistics.median(values) for clients, values in found[system].items()}
        return statistics.median([medians[clients] for clients in sorted(widest & medians.keys())] or medians.values())

    return {system: found[system] for system in sorted(found, key=rank)}


def draw(results: Results, directory: Path) -> list[Path]:
    """Write WORKLOAD.svg and WORKLOAD.png for each plot with results. Raises ModuleNotFoundError without matplotlib."""
    matplotlib = importlib.import_module("matplotlib")
    matplotlib.use("agg")
    pyplot = importlib.import_module("matplotlib.pyplot")
    written: list[Path] = []
    for plot in PLOTS:
        found = marks(plot, results)
        if found:
            figure = _figure(pyplot, plot, found)
            for suffix in FORMATS:
                written.append(directory / f"{plot.workload}.{suffix}")
                figure.savefig(written[-1], dpi=150, metadata={"Date": None} if suffix == "svg" else None)
            pyplot.close(figure)
    return written


def _figure(pyplot: Any, plot: Plot, found: Marks) -> Any:
    figure, axes = pyplot.subplots(figsize=(WIDTH, HEIGHT + HEIGHT_PER_SYSTEM * len(found)), layout="constrained")
    numbers = sorted({clients for by_clients in found.values() for clients in by_clients})
    systems = list(found)
    for number, marker in zip(numbers, MARKERS, strict=False):
        rows = [row for row, system in enumerate(systems) if number in found[system]]
        values = [found[systems[row]][number] for row in rows]
        medians = [statistics.median(rounds) for rounds in values]
        below = [median - min(rounds) for median, rounds in zip(medians, values, strict=True)]
        above = [max(rounds) - median for median, rounds in zip(medians, values, strict=True)]
        axes.errorbar(
            medians, rows, xerr=(below, above), fmt=marker, markersize=6, capsize=2, label=f"{number:,} clients"
        )
    axes.set_yticks(range(len(systems)), systems)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel(plot.label)
    axes.grid(axis="x", which="both", alpha=0.3)
    axes.legend(loc="best", fontsize="small")
    return figure

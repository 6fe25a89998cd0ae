"""Measurements as a Markdown table."""

import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

from benchmarks.measure import Extent, Measurement, Processors, Workload

SATURATED = 0.9  # a load generator busier than this while bursts are under way was the bottleneck
DISTURBED = 0.05

HEAD = (
    "system",
    "CPU s per million deliveries",
    "times the first",
    "p50 / p99 / max ms",
    "server busy",
    "load generator busy",
    "bursts",
    "server CPU s",
)


def markdown(
    workload: Workload, extent: Extent, processors: Processors, measured: Sequence[Sequence[Measurement]]
) -> str:
    """The table with its heading and notes; costs and ratios as median (min to max) of the rounds."""
    notes = [note for results in measured for note in _notes(results)]
    lines = [
        f"### {workload.name}: {workload.burst} events at once, {extent.clients} clients on the same "
        f"{workload.channels} channels",
        "",
        _row(HEAD),
        _row("---" if column == 0 else "---:" for column in range(len(HEAD))),
        *(_row(_cells(results, measured[0])) for results in measured),
        "",
        f"Median (min to max) of {extent.rounds} rounds, systems in turns. CPU: user and system time of the "
        f"server. A burst leaves {workload.pause * 1000:g} ms after all clients have the one before. "
        "Busy: share of the time in which a burst was under way. "
        f"Server on processor {processors.server}; load generator, Redis and publisher on {processors.load}.",
        "",
        _machine(),
        *(["", *(f"- {note}" for note in notes)] if notes else []),
    ]
    return "\n".join(lines)


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(results: Sequence[Measurement], first: Sequence[Measurement]) -> list[str]:
    if any(result.faults for result in results):
        cost, ratio = "void", "–"
    else:
        cost = _spread([result.cost for result in results])
        ratio = _spread([result.cost / base.cost for result, base in zip(results, first, strict=True)])
    if any(base.faults for base in first):
        ratio = "–"
    reports = [result.report for result in results]
    latencies = (
        statistics.median(report.p50_ms for report in reports),
        statistics.median(report.p99_ms for report in reports),
        max(report.max_ms for report in reports),
    )
    return [
        results[0].system,
        cost,
        ratio,
        " / ".join(f"{ms:g}" for ms in latencies),
        f"{statistics.median(result.server_busy for result in results):.0%}",
        f"{statistics.median(result.load_busy for result in results):.0%}",
        str(sum(result.bursts for result in results)),
        f"{sum(result.server_cpu for result in results):.2f}",
    ]


def _spread(values: Sequence[float]) -> str:
    return f"{_digits(statistics.median(values))} ({_digits(min(values))} to {_digits(max(values))})"


def _digits(value: float) -> str:
    """Three significant digits, never in exponent form."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def _notes(results: Sequence[Measurement]) -> Iterable[str]:
    name = results[0].system
    for turn, result in enumerate(results, 1):
        for fault in result.faults:
            yield f"{name}, round {turn}: {fault}"
    if any(result.load_busy > SATURATED for result in results):
        yield f"{name}: the load generator was the bottleneck (the latencies are its own)"
    disturbed = max(result.disturbed for result in results)
    if disturbed > DISTURBED:
        yield f"{name}: others took {disturbed:.0%} of the server's processor in the worst round"


def _machine() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("tornado", "redis", "hiredis"))
    kernel, python = platform.release(), platform.python_version()
    return f"{_processor()} ({os.cpu_count()}), Linux {kernel}, Python {python}, {packages}."


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()

"""Results as Markdown tables."""

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.rig.records import Measurement, Results, Scenario, void
from benchmarks.rig.workloads import Kind

SATURATED = 0.9  # a load generator busier than this while bursts are under way was the bottleneck
DISTURBED = 0.05
BASE = "tornado_bridge"  # the ratios are to this system, where it was measured

Rounds = Sequence[Measurement]


@dataclass(frozen=True)
class Column:
    head: str
    cell: Callable[[Rounds], str]


def markdown(results: Results, *sections: str) -> str:
    """Return a table with its notes for each scenario, then `sections`, then a description of the run."""
    tables = [line for scenario in results.scenarios() for line in _table(scenario, results)]
    return "\n".join([*tables, *sections, *_about(results)])


def row(cells: Iterable[str]) -> str:
    """Return a row of a table."""
    return f"| {' | '.join(cells)} |"


def _table(scenario: Scenario, results: Results) -> Iterator[str]:
    found = results.of(scenario)
    base = found.get(BASE) or next(iter(found.values()))
    beside = {} if scenario.baseline is None else results.of(scenario.baseline)
    columns = _columns(scenario, base, beside)
    ranked = sorted(
        (rounds for rounds in found.values() if not void(rounds)),
        key=lambda rounds: statistics.median(one.figure for one in rounds),
    )
    yield _heading(scenario)
    yield ""
    yield row(["system", *(column.head for column in columns)])
    yield row(["---", *("---:" for _ in columns)])
    for rounds in ranked:
        yield row([rounds[0].system, *(column.cell(rounds) for column in columns)])
    for name, rounds in found.items():
        if void(rounds):
            yield row([name, "not ranked", *("–" for _ in columns[1:])])
    notes = [note for rounds in found.values() for note in _notes(rounds)]
    yield ""
    for note in notes:
        yield f"- {note}"
    if notes:
        yield ""


def _heading(scenario: Scenario) -> str:
    workload = scenario.record
    clients = "" if workload.clients else f", {scenario.clients} clients"
    deflate = ", with compression" if scenario.deflate else ""
    return f"### {workload.name}{clients}{deflate}: {workload.title}"


def _columns(scenario: Scenario, base: Rounds, beside: Mapping[str, Rounds]) -> list[Column]:
    ratio = Column(f"times {base[0].system}", lambda rounds: _ratios(rounds, base, lambda one: one.figure))
    kind = scenario.record.kind
    if kind is Kind.CONNECT:
        return [
            Column("CPU µs per handshake", lambda rounds: _spread([one.figure for one in rounds])),
            ratio,
            Column("handshakes per second", lambda rounds: _spread([one.rate for one in rounds])),
            *_BUSY,
        ]
    if kind is Kind.IDLE:
        return [Column("KB per connection", lambda rounds: _spread([one.figure / 1000 for one in rounds])), ratio]
    if kind is Kind.INGEST:
        return [
            Column("CPU µs per event", lambda rounds: _spread([one.figure for one in rounds])),
            ratio,
            Column("events per second and core", lambda rounds: _spread([1e6 / one.figure for one in rounds])),
            *_BUSY,
        ]
    columns = [Column("CPU s per million deliveries", lambda rounds: _spread([one.figure for one in rounds])), ratio]
    if beside:
        columns += [
            Column("times the same without the slow", lambda rounds: _against(rounds, beside, lambda one: one.figure)),
            Column("p99, times likewise", lambda rounds: _against(rounds, beside, lambda one: one.p99_us)),
        ]
    columns += [
        Column("p50 ms", lambda rounds: _milliseconds([one.p50_us for one in rounds])),
        Column("p99 ms", lambda rounds: _spread([one.p99_us / 1000 for one in rounds])),
        Column("max ms", lambda rounds: _digits(max(one.max_us for one in rounds) / 1000)),
    ]
    if scenario.deflate:
        columns.append(
            Column(
                "bytes per message",
                lambda rounds: _digits(statistics.median(one.bytes_per_delivery for one in rounds)),
            )
        )
    return [*columns, *_BUSY]


_BUSY = (
    Column("server busy", lambda rounds: f"{statistics.median(one.server_busy for one in rounds):.0%}"),
    Column("load generator busy", lambda rounds: f"{statistics.median(one.load_busy for one in rounds):.0%}"),
)


def ratios(rounds: Rounds, base: Rounds, figure: Callable[[Measurement], float]) -> list[float]:
    """Return each round's figure over that of the base in the same round. Empty if one of the two is void."""
    if void(rounds) or void(base) or not all(figure(one) for one in base):
        return []
    return [figure(one) / figure(other) for one, other in zip(rounds, base, strict=False)]


def _ratios(rounds: Rounds, base: Rounds, figure: Callable[[Measurement], float]) -> str:
    found = ratios(rounds, base, figure)
    return _spread(found) if found else "–"


def _against(rounds: Rounds, beside: Mapping[str, Rounds], figure: Callable[[Measurement], float]) -> str:
    base = beside.get(rounds[0].system)
    return _ratios(rounds, base, figure) if base else "–"


def _milliseconds(microseconds: Sequence[int]) -> str:
    return _digits(statistics.median(microseconds) / 1000)


def _spread(values: Sequence[float]) -> str:
    return f"{_digits(statistics.median(values))} ({_digits(min(values))} to {_digits(max(values))})"


def _digits(value: float) -> str:
    """Return three significant digits, never in exponent form."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def _notes(rounds: Rounds) -> Iterator[str]:
    name = rounds[0].system
    for one in rounds:
        for fault in one.faults:
            yield f"{name}, round {one.turn}: {fault}"
    if void(rounds):
        return
    if any(one.load_busy > SATURATED for one in rounds) and rounds[0].kind is not Kind.IDLE:
        yield f"{name}: the load generator was the bottleneck (the latencies are its own)"
    if rounds[0].deflate and rounds[0].kind is Kind.BURSTS:
        compressed = sum(one.compressed for one in rounds) / sum(one.amount for one in rounds)
        if compressed < 1:
            yield f"{name}: {compressed:.0%} of the messages were compressed"
    late = sum(one.late for one in rounds)
    if late:
        bursts = sum(one.bursts for one in rounds)
        yield f"{name}: {late} of {bursts} bursts left late, because the burst before was under way"
    disturbed = max(one.disturbed for one in rounds)
    if disturbed > DISTURBED:
        yield f"{name}: other processes took {disturbed:.0%} of the server's processor in the worst round"


def _about(results: Results) -> Iterator[str]:
    machine, extent = results.machine, results.extent
    yield (
        f"Figures are medians (least to most) of {extent['rounds']} rounds. The systems took turns, each time as a new "
        f"process, and were measured for at least {extent['seconds']:g} s after {extent['warmup']:g} s of warm-up. CPU "
        "is user and system time of the server's processes. Latency runs from the moment of publication to receipt. "
        "Busy is the share of the time while a burst was under way. The server ran on processor "
        f"{machine['server_on']}; the load generator, Redis and the publisher on {machine['load_on']}."
    )
    yield ""
    for name, reason in results.unavailable.items():
        yield f"- {name} was not measured: {reason}"
    for name, versions in machine["versions"].items():
        yield f"- {name}: {versions}"
    for name, versions in machine["tools"].items():
        yield f"- {name}: {versions}"
    yield (
        f"- machine: {machine['processor']} ({machine['processors']}), {machine['memory_gib']:g} GiB, "
        f"{machine['kernel']}; `{results.command}` took {results.seconds / 60:.1f} minutes"
    )

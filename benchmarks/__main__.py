"""The command line of the benchmarks: `python -m benchmarks burst mixed --clients 50 500`."""

import argparse
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType

from benchmarks import plan, plot, quick
from benchmarks.rig import records
from benchmarks.rig.machine import describe
from benchmarks.rig.measure import Extent, Processors
from benchmarks.rig.processes import ProcessFailed
from benchmarks.rig.records import Contest, Results
from benchmarks.rig.table import markdown
from benchmarks.rig.turns import compete, make_ready, rig, room_for, takes_part
from benchmarks.rig.workloads import WORKLOADS
from benchmarks.systems import SYSTEMS, System

CACHE = Path("~/.cache/tornado-bridge-benchmarks")
MEASURE = "measure"  # the command that need not be written

TakesPart = Callable[[System, Contest], bool]


def main() -> int:
    words = sys.argv[1:]
    options = _parser().parse_args([MEASURE, *words] if words and words[0] in WORKLOADS else words)
    signal.signal(signal.SIGTERM, _end)
    try:
        return int(options.run(options))
    except ProcessFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _measure(options: argparse.Namespace) -> int:
    contests = [
        Contest(name, clients, options.deflate)
        for name in options.workload
        for clients in WORKLOADS[name].numbers(options.clients)
    ]
    named = [replace(system, only=(), only_clients=()) for system in SYSTEMS if system.name in options.system]
    results = _run(contests, named or SYSTEMS, takes_part, Extent(options.rounds, options.seconds), options)
    return 1 if any(one.faults for one in results.measurements) else 0


def _full(options: argparse.Namespace) -> int:
    contests = plan.contests(options.clients)
    extent = Extent(options.rounds, options.seconds)
    _say(f"a full run should take {plan.expected_seconds(SYSTEMS, contests, extent) / 60:.0f} minutes")
    results = _run(contests, SYSTEMS, plan.measured, extent, options)
    _say(f"it took {results.seconds / 60:.0f} minutes")
    return 0


def _quick(options: argparse.Namespace) -> int:
    missing = quick.missing()
    if missing:
        _say(f"not measured: it takes {' and '.join(missing)}")
        return 1 if "CI" in os.environ else 0
    results = _run(quick.CONTESTS, SYSTEMS, quick.measured, quick.EXTENT, options)
    failures = quick.failures(results)
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


def _report(options: argparse.Namespace) -> int:
    _present(records.read(options.output), options.output)
    return 0


def _run(
    contests: Sequence[Contest],
    systems: Sequence[System],
    takes_part: TakesPart,
    extent: Extent,
    options: argparse.Namespace,
) -> Results:
    """Measures, writes what there is after each contest, and presents all at the end."""
    began = time.monotonic()
    processors = _processors()
    os.sched_setaffinity(0, {processors.load})
    command = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])
    results = Results(machine={}, command=command, extent=asdict(extent))
    wanted = [system for system in systems if any(takes_part(system, contest) for contest in contests)]
    ready = make_ready(wanted, options.cache.expanduser(), results, _say)
    results.machine = describe(processors, ready)
    with rig(processors, extent, deflate=any(contest.deflate for contest in contests)) as shared:
        for contest in contests:
            taking_part = [installed for installed in ready if takes_part(installed.system, contest)]
            if not room_for(contest.clients):
                results.unavailable[f"{contest.workload} with {contest.clients} clients"] = "too few files may be open"
                continue
            compete(contest, taking_part, shared, results, _say)
            results.seconds = time.monotonic() - began
            if options.output:
                results.write(options.output)
    _present(results, options.output)
    return results


def _present(results: Results, directory: Path | None) -> None:
    text = markdown(results)
    print(text)
    if directory:
        (directory / "results.md").write_text(text + "\n")
        try:
            plot.draw(results, directory)
        except ModuleNotFoundError:
            _say("matplotlib is not installed, so there is no plot")


def _processors() -> Processors:
    available = sorted(os.sched_getaffinity(0))
    if len(available) < 2:
        raise ProcessFailed("the server and the load generator need a processor each")
    return Processors(server=available[0], load=available[1])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures the server beside others. Prints Markdown tables, progress on stderr.",
        epilog="The word measure may be left out.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    measure = commands.add_parser(MEASURE, help="workloads of one's choice")
    measure.set_defaults(run=_measure)
    workloads = ", ".join(WORKLOADS)
    measure.add_argument("workload", nargs="+", choices=list(WORKLOADS), metavar="WORKLOAD", help=workloads)
    measure.add_argument("--deflate", action="store_true", help="the clients offer permessage-deflate")
    names = [system.name for system in SYSTEMS]
    measure.add_argument("--system", nargs="+", choices=names, default=[], metavar="NAME", help=", ".join(names))
    full = commands.add_parser("full", help="everything, in under an hour")
    full.set_defaults(run=_full)
    for command, clients, seconds in ((measure, [500], 1.5), (full, list(plan.CLIENTS), 1.0)):
        command.add_argument("--clients", type=_positive, nargs="+", default=clients, metavar="N")
        command.add_argument("--rounds", type=_positive, default=3)
        command.add_argument("--seconds", type=float, default=seconds, help="a measurement, at least (%(default)s)")
    guard = commands.add_parser("quick", help="ratios to others, in under two minutes; exit status 1 past a limit")
    guard.set_defaults(run=_quick)
    for command in (measure, full, guard):
        command.add_argument("--cache", type=Path, default=CACHE, metavar="DIR", help="of what is built (%(default)s)")
        command.add_argument(
            "--output",
            type=Path,
            metavar="DIR",
            required=command is full,
            help=f"for results.md, {records.FILE} and the plots",
        )
    report = commands.add_parser("report", help="the tables and plots once more")
    report.set_defaults(run=_report)
    report.add_argument("output", type=Path, metavar="DIR", help=f"with a {records.FILE}")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _end(signal_number: int, frame: FrameType | None) -> None:
    """Lets the children be ended on the way out."""
    raise SystemExit(128 + signal_number)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

"""The command line of the contest: `python -m benchmarks.contest burst mixed --clients 50 500`."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.contest import plan, report, results_file
from benchmarks.contest.systems import SYSTEMS
from benchmarks.rig import turns
from benchmarks.rig.measure import Extent
from benchmarks.rig.processes import ProcessFailed, exit_on_sigterm
from benchmarks.rig.records import Results, Scenario
from benchmarks.rig.system import System
from benchmarks.rig.workloads import WORKLOADS

CACHE = Path("~/.cache/tornado-bridge-benchmarks")
MEASURE = "measure"  # the command that may be left out


def main() -> int:
    words = sys.argv[1:]
    options = _parser().parse_args([MEASURE, *words] if words and words[0] in WORKLOADS else words)
    exit_on_sigterm()
    try:
        return int(options.run(options))
    except ProcessFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _measure(options: argparse.Namespace) -> int:
    scenarios = [
        Scenario(name, clients, options.deflate)
        for name in options.workload
        for clients in WORKLOADS[name].numbers(options.clients)
    ]
    named = [replace(system, workloads=(), clients=()) for system in SYSTEMS if system.name in options.system]
    results = _run(scenarios, named or SYSTEMS, plan.takes_part, options)
    return 1 if any(one.faults for one in results.measurements) else 0


def _full(options: argparse.Namespace) -> int:
    scenarios = plan.scenarios(options.clients)
    turns.say(f"a full run should take {plan.expected_seconds(SYSTEMS, scenarios, _extent(options)) / 60:.0f} minutes")
    results = _run(scenarios, SYSTEMS, plan.measured, options)
    turns.say(f"it took {results.seconds / 60:.0f} minutes")
    return 0


def _report(options: argparse.Namespace) -> int:
    report.present(results_file.read(options.output), options.output)
    return 0


def _run(
    scenarios: Sequence[Scenario],
    systems: Sequence[System],
    takes_part: turns.TakesPart,
    options: argparse.Namespace,
) -> Results:
    """Measures, keeps the results after each scenario, and presents all of them at the end."""

    def keep(results: Results) -> None:
        if options.output:
            results_file.write(results, options.output)

    results = turns.run(
        scenarios,
        systems,
        takes_part,
        _extent(options),
        command=shlex.join(["python", "-m", "benchmarks.contest", *sys.argv[1:]]),
        cache=options.cache.expanduser(),
        keep=keep,
    )
    report.present(results, options.output)
    return results


def _extent(options: argparse.Namespace) -> Extent:
    return Extent(options.rounds, options.seconds)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.contest",
        description="Measures the bridge beside other servers. Tables go to stdout as Markdown, progress to stderr.",
        epilog=f"The word {MEASURE} may be left out.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    measure = commands.add_parser(MEASURE, help="the workloads that are named")
    measure.set_defaults(run=_measure)
    workloads = ", ".join(WORKLOADS)
    measure.add_argument("workload", nargs="+", choices=list(WORKLOADS), metavar="WORKLOAD", help=workloads)
    measure.add_argument("--deflate", action="store_true", help="clients offer permessage-deflate")
    names = [system.name for system in SYSTEMS]
    measure.add_argument("--system", nargs="+", choices=names, default=[], metavar="NAME", help=", ".join(names))
    full = commands.add_parser("full", help="everything, in under an hour")
    full.set_defaults(run=_full)
    for command, clients, seconds in ((measure, [500], 1.5), (full, list(plan.CLIENTS), 1.0)):
        command.add_argument("--clients", type=_positive, nargs="+", default=clients, metavar="N")
        command.add_argument("--rounds", type=_positive, default=3)
        command.add_argument(
            "--seconds", type=float, default=seconds, help="shortest time of a measurement (default %(default)s)"
        )
        command.add_argument(
            "--cache", type=Path, default=CACHE, metavar="DIR", help="for built servers (default %(default)s)"
        )
        command.add_argument(
            "--output",
            type=Path,
            metavar="DIR",
            required=command is full,
            help=f"for {report.FILE}, {results_file.FILE} and the plots",
        )
    again = commands.add_parser("report", help="the tables and plots of an earlier run")
    again.set_defaults(run=_report)
    again.add_argument("output", type=Path, metavar="DIR", help=f"with a {results_file.FILE}")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


if __name__ == "__main__":
    sys.exit(main())

"""The command line of the benchmarks: `python -m benchmarks burst`."""

import argparse
import os
import resource
import signal
import sys
from types import FrameType

from benchmarks.measure import WORKLOADS, Extent, Processors, measure_in_turns
from benchmarks.processes import ProcessFailed
from benchmarks.systems import SYSTEMS
from benchmarks.table import markdown


def main() -> int:
    options = _parser().parse_args()
    workload = next(workload for workload in WORKLOADS if workload.name == options.workload)
    systems = [system for system in SYSTEMS if not options.system or system.name in options.system]
    extent = Extent(options.clients, options.rounds, options.bursts, options.seconds, options.warmup)
    available = sorted(os.sched_getaffinity(0))
    if len(available) < 2:
        print("the server and the load generator need a processor each", file=sys.stderr)
        return 1
    processors = Processors(server=available[0], load=available[1])
    os.sched_setaffinity(0, {processors.load})
    _raise_file_limit()
    signal.signal(signal.SIGTERM, _end)
    try:
        measured = measure_in_turns(systems, workload, extent, processors, _say)
    except ProcessFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    print(markdown(workload, extent, processors, measured))
    return 1 if any(result.faults for results in measured for result in results) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Prints a Markdown table.")
    parser.add_argument("workload", choices=[workload.name for workload in WORKLOADS])
    parser.add_argument("--clients", type=_positive, default=500)
    parser.add_argument("--rounds", type=_positive, default=3)
    parser.add_argument("--bursts", type=_positive, default=1000, help="at most, a round (%(default)s)")
    parser.add_argument("--seconds", type=float, default=8.0, help="at most, a round (%(default)s)")
    parser.add_argument("--warmup", type=_positive, default=3, help="bursts before that (%(default)s)")
    parser.add_argument(
        "--system",
        action="append",
        choices=[system.name for system in SYSTEMS],
        help="only this one; repeatable (default: all)",
    )
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _raise_file_limit() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _end(signal_number: int, frame: FrameType | None) -> None:
    """Lets the children be ended on the way out."""
    raise SystemExit(128 + signal_number)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

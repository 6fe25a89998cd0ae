"""Guards the start of the command line: `tornado-bridge --help` against a bare `import click`.

`python -m benchmarks.startup` runs the two in turns and prints the median of the ratios of their processor time. The
exit status is 1 past MOST. Processor time is compared because other processes disturb it less than wall time.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from benchmarks.rig.processes import ProcessFailed, own_environment

MOST = 3.0
SECONDS = 60.0
HELP = (str(Path(sysconfig.get_path("scripts")) / "tornado-bridge"), "--help")
BARE = (sys.executable, "-c", "import click")


def cpu_seconds(argv: Sequence[str]) -> float:
    """Run a program and return its user and system time. Raises ProcessFailed when it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        done = subprocess.run(argv, env=own_environment(), capture_output=True, text=True, timeout=SECONDS, check=False)
    except OSError as error:
        raise ProcessFailed(f"{argv[0]} did not start: {error.strerror}") from None
    if done.returncode:
        raise ProcessFailed(f"{argv[0]} ended with {done.returncode}\n{done.stderr}".rstrip())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(rounds: int) -> list[tuple[float, float]]:
    """Return the seconds of HELP and of BARE for each round, after one round that fills the caches."""
    return [(cpu_seconds(HELP), cpu_seconds(BARE)) for _ in range(rounds + 1)][1:]


def median_ratio(rounds: Sequence[tuple[float, float]]) -> float:
    """Return the median of each round's first number over its second."""
    return statistics.median(first / second for first, second in rounds)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.startup",
        description=f"Compares tornado-bridge --help with import click. The exit status is 1 above {MOST:g} times.",
    )
    parser.add_argument("--rounds", type=int, default=15, help="default %(default)s")
    options = parser.parse_args()
    try:
        rounds = measure(options.rounds)
    except ProcessFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    helps, bares = zip(*rounds, strict=True)
    ratio = median_ratio(rounds)
    print(
        f"tornado-bridge --help takes {ratio:.2f} times the processor time of import click "
        f"({statistics.median(helps) * 1000:.0f} and {statistics.median(bares) * 1000:.0f} ms, "
        f"medians of {len(rounds)} rounds); the limit is {MOST:g}."
    )
    return 1 if ratio > MOST else 0


if __name__ == "__main__":
    sys.exit(main())

"""How many instructions a burst takes between Redis and the sockets: a guard that no busy machine disturbs.

`python -m benchmarks.instructions` counts them with callgrind, which runs the bursts of `in_process` on a processor of
its own making: the counts of two runs differ by less than 1 in 100. Exit status 1 where one of them passes its limit.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.in_process import BURSTS, CASES, EVENTS, FEW, FEW_SETS, MANY, MANY_SETS, MARK, NOBODY, OWN_EVENTS, Case
from benchmarks.rig.processes import ProcessFailed, own_environment

ROOT = Path(__file__).parents[1]
SECONDS = 600.0
PROFILE = "callgrind.out"


@dataclass(frozen=True)
class Figure:
    """The instructions of one part of the work, by user code and libraries; the kernel's are not counted.

    `most` is 1.6 times what the dearest of Python 3.11, 3.12 and 3.13 took: other versions, and builds with other
    options, stay below it.
    """

    name: str
    instructions: float
    most: float


def figures(counts: Mapping[Case, int]) -> list[Figure]:
    """What the counts of the cases come to; what clients cost is the slope from few of them to many."""
    client = (counts[MANY] - counts[FEW]) / (BURSTS * (MANY.clients - FEW.clients))
    cohort = (counts[MANY_SETS] - counts[FEW_SETS]) / (BURSTS * (MANY_SETS.own - FEW_SETS.own))
    return [
        Figure("an event, without clients", counts[NOBODY] / (BURSTS * EVENTS), 116_000),
        Figure(f"a client more in a cohort, for {EVENTS} events", client, 2_500),
        Figure(f"a cohort of one client more, for {OWN_EVENTS} events", cohort, 32_000),
    ]


def failures(found: Sequence[Figure]) -> list[str]:
    """One sentence for each limit that was passed."""
    return [
        f"{one.name.capitalize()} takes {one.instructions:,.0f} instructions, the limit is {one.most:,.0f}."
        for one in found
        if one.instructions > one.most
    ]


def table(found: Sequence[Figure]) -> str:
    """The figures in Markdown."""
    rows = [f"| {one.name} | {one.instructions:,.0f} | {one.most:,.0f} |" for one in found]
    return "\n".join(["| what | instructions | limit |", "|---|---|---|", *rows])


def counts(profiles: Sequence[str]) -> dict[Case, int]:
    """The instructions of each case from the profiles that callgrind wrote: at each mark, and at the end.

    A case's own is the one between its two marks. Raises ProcessFailed where there are more or fewer.
    """
    if len(profiles) != 2 * len(CASES) + 1:
        raise ProcessFailed(f"callgrind saw {len(profiles) - 1} calls of {MARK}, not {2 * len(CASES)}")
    return {case: total(profile) for case, profile in zip(CASES, profiles[1::2], strict=True)}


def total(profile: str) -> int:
    """The instructions of one profile; raises ProcessFailed where it is none."""
    found = re.search(r"^totals: (\d+)$", profile, re.MULTILINE)
    if found is None:
        raise ProcessFailed("callgrind has written a profile without its total")
    return int(found[1])


def count(directory: Path) -> list[str]:
    """Run the bursts under callgrind and returns its profiles, in their order; raises ProcessFailed."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise ProcessFailed("valgrind is not installed; it is in the Debian package valgrind")
    argv = [
        valgrind,
        "--tool=callgrind",
        "--vgdb=no",
        f"--callgrind-out-file={directory / PROFILE}",
        f"--dump-before={MARK}",
        sys.executable,
        "-m",
        "benchmarks.in_process",
    ]
    # Texts are hashed with a seed of their own in each process; where they stand in a table would depend on it.
    environment = {**own_environment(), "PYTHONHASHSEED": "0"}
    try:
        done = subprocess.run(
            argv,
            env=environment,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ProcessFailed(f"the bursts were not over within {SECONDS:g} s") from None
    if done.returncode:
        said = [line for line in done.stdout.splitlines() if line and not line.startswith("==")]
        raise ProcessFailed(f"the bursts failed: {said[-1] if said else f'exit status {done.returncode}'}")
    numbered = sorted(directory.glob(f"{PROFILE}.*"), key=lambda path: int(path.suffix[1:]))
    return [path.read_text(errors="replace") for path in [*numbered, directory / PROFILE]]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.instructions",
        description="Counts the instructions of a burst with callgrind; exit status 1 past a limit.",
    )
    parser.add_argument("--profile", type=Path, metavar="FILE", help="of the events, for callgrind_annotate")
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="benchmarks-") as name:
            profiles = count(Path(name))
        found = figures(counts(profiles))
    except ProcessFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    if options.profile:
        options.profile.write_text(profiles[1])
    print(table(found))
    passed = failures(found)
    for sentence in passed:
        print(sentence, file=sys.stderr)
    return 1 if passed else 0


if __name__ == "__main__":
    sys.exit(main())

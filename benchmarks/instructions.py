"""Guards the instructions that a burst takes between Redis and the sockets: `python -m benchmarks.instructions`.

callgrind counts them, on a processor of its own making: a busy machine changes nothing, and two runs differ by less
than 1 %. The command exits with 1 when a count is more than 10 % above its line in COUNTED.

The counts belong to a Python version, and less so to its build and to the versions of msgspec, hiredis and Tornado. To
renew them, or to hold the guard on a machine with another build, run the command with each Python and replace the
version's line in COUNTED by the line that it prints.
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
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"

NAMES = (
    "an event, without clients",
    f"a client more in a cohort, for {EVENTS} events",
    f"a cohort of one client more, for {OWN_EVENTS} events",
)
# In the order of NAMES. Counted with CPython 3.11.7, 3.12.1 and 3.13.0, built without profile-guided optimization.
COUNTED: Mapping[str, tuple[float, ...]] = {
    "3.11": (63_923, 1_162, 16_371),
    "3.12": (69_005, 1_537, 19_822),
    "3.13": (68_196, 1_474, 18_470),
}
ROOM = 1.1


@dataclass(frozen=True)
class Figure:
    """The instructions of one part of the work, in user space, and the most that it may take."""

    name: str
    instructions: float
    most: float


def figures(counts: Mapping[Case, int], counted: Sequence[float]) -> list[Figure]:
    """Return the figures of the counts of all cases. The cost of clients is the slope from few of them to many."""
    event = counts[NOBODY] / (BURSTS * EVENTS)
    client = (counts[MANY] - counts[FEW]) / (BURSTS * (MANY.clients - FEW.clients))
    cohort = (counts[MANY_SETS] - counts[FEW_SETS]) / (BURSTS * (MANY_SETS.own - FEW_SETS.own))
    return [
        Figure(name, instructions, ROOM * known)
        for name, instructions, known in zip(NAMES, (event, client, cohort), counted, strict=True)
    ]


def failures(found: Sequence[Figure]) -> list[str]:
    """Return a sentence for each limit that was passed."""
    return [
        f"{one.name.capitalize()} takes {one.instructions:,.0f} instructions, the limit is {one.most:,.0f}."
        for one in found
        if one.instructions > one.most
    ]


def table(found: Sequence[Figure]) -> str:
    """Return the figures in Markdown."""
    rows = [f"| {one.name} | {one.instructions:,.0f} | {one.most:,.0f} |" for one in found]
    return "\n".join(["| work | instructions | limit |", "|---|---:|---:|", *rows])


def line(found: Sequence[Figure]) -> str:
    """Return the figures as a line of COUNTED."""
    return f'"{VERSION}": ({", ".join(f"{one.instructions:_.0f}" for one in found)}),'


def counts(profiles: Sequence[str]) -> dict[Case, int]:
    """Return the instructions of each case from the profiles that callgrind wrote at each mark and at the end.

    The profile of a case is the one between its two marks. Raises ProcessFailed for any other number of profiles.
    """
    if len(profiles) != 2 * len(CASES) + 1:
        raise ProcessFailed(f"callgrind saw {len(profiles) - 1} calls of {MARK}, not {2 * len(CASES)}")
    return {case: total(profile) for case, profile in zip(CASES, profiles[1::2], strict=True)}


def total(profile: str) -> int:
    """Return the instructions of one profile. Raises ProcessFailed for a profile without a total."""
    found = re.search(r"^totals: (\d+)$", profile, re.MULTILINE)
    if found is None:
        raise ProcessFailed("callgrind has written a profile without its total")
    return int(found[1])


def count(directory: Path) -> list[str]:
    """Run the bursts under callgrind and return its profiles in order. Raises ProcessFailed."""
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
    # Without a fixed seed, the places of texts in hash tables would differ from run to run.
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
        description="Counts the instructions of a burst with callgrind. The exit status is 1 past a limit.",
    )
    parser.add_argument("--profile", type=Path, metavar="FILE", help="profile of the events, for callgrind_annotate")
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="benchmarks-") as name:
            profiles = count(Path(name))
        # Without a line for this version every limit is 0, so the command fails and prints the line to add.
        found = figures(counts(profiles), COUNTED.get(VERSION, (0, 0, 0)))
    except ProcessFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    if options.profile:
        options.profile.write_text(profiles[1])
    print(table(found))
    print(f"\nThe line for COUNTED in benchmarks/instructions.py:\n\n    {line(found)}")
    passed = failures(found)
    for sentence in passed:
        print(sentence, file=sys.stderr)
    return 1 if passed else 0


if __name__ == "__main__":
    sys.exit(main())

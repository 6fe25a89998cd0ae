"""benchmarks.instructions: the figures and their limits, and that its bursts reach every client."""

import ast
import subprocess
import sys
from dataclasses import replace

import pytest

from benchmarks import instructions
from benchmarks.in_process import CASES, FEW, FEW_SETS, MANY, MANY_SETS, NOBODY, Case
from benchmarks.instructions import COUNTED, counts, failures, figures, line, table
from benchmarks.rig.processes import ProcessFailed

# Of two bursts of 50 events: 60,000 per event, 500 per client, 20,000 per cohort.
COUNTS = {
    NOBODY: 6_000_000,
    FEW: 6_200_000,
    MANY: 6_200_000 + 2 * 450 * 500,
    FEW_SETS: 6_500_000,
    MANY_SETS: 6_500_000 + 2 * 200 * 20_000,
}


KNOWN = (58_000, 490, 19_000)


def profile(total: int) -> str:
    """Return a shortened profile of callgrind."""
    return f"version: 1\nevents: Ir\nsummary: {total}\n\nfn=(1) relay\n+3 {total}\n\ntotals: {total}\n"


def profiles(found: dict[Case, int]) -> list[str]:
    """Return the profiles of a whole run: one before each case, that of the case, and one at the end."""
    return [profile(total) for case in CASES for total in (999, found[case])] + [profile(7)]


def test_an_event_is_a_share_of_the_bursts_without_clients_and_clients_are_slopes() -> None:
    assert [one.instructions for one in figures(COUNTS, KNOWN)] == [60_000, 500, 20_000]


def test_only_the_profile_between_the_marks_of_a_case_is_counted() -> None:
    assert counts(profiles(COUNTS)) == COUNTS


@pytest.mark.parametrize("missing", [1, 2])
def test_a_missing_mark_fails(missing: int) -> None:
    seen = len(CASES) * 2 - missing
    with pytest.raises(ProcessFailed, match=f"callgrind saw {seen} calls of getppid, not {len(CASES) * 2}"):
        counts(profiles(COUNTS)[:-missing])


def test_a_profile_without_its_total_fails() -> None:
    with pytest.raises(ProcessFailed, match="without its total"):
        counts([*profiles(COUNTS)[:1], "version: 1\n", *profiles(COUNTS)[2:]])


def test_a_limit_is_a_tenth_above_the_known_count() -> None:
    assert [one.most for one in figures(COUNTS, KNOWN)] == pytest.approx([63_800, 539, 20_900])


def test_each_supported_python_has_a_line_of_counts() -> None:
    assert [(version, len(known)) for version, known in COUNTED.items()] == [("3.11", 3), ("3.12", 3), ("3.13", 3)]


def test_the_line_that_renews_the_counts_is_python() -> None:
    (known,) = ast.literal_eval("{" + line(figures(COUNTS, KNOWN)) + "}").values()
    assert known == (60_000, 500, 20_000)


def test_figures_at_their_limits_pass() -> None:
    assert failures([replace(one, instructions=one.most) for one in figures(COUNTS, KNOWN)]) == []


def test_a_python_without_counts_fails() -> None:
    assert len(failures(figures(COUNTS, (0, 0, 0)))) == 3


def test_each_figure_past_its_limit_is_one_sentence() -> None:
    event, _, cohort = figures(COUNTS, KNOWN)

    assert failures([replace(event, instructions=200_000, most=120_000), replace(cohort, most=10_000)]) == [
        "An event, without clients takes 200,000 instructions, the limit is 120,000.",
        "A cohort of one client more, for 20 events takes 20,000 instructions, the limit is 10,000.",
    ]


def test_the_table_has_a_row_for_each_figure() -> None:
    event = replace(figures(COUNTS, KNOWN)[0], most=120_000)

    assert table([event]).splitlines()[2:] == ["| an event, without clients | 60,000 | 120,000 |"]


def test_without_valgrind_the_package_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["instructions"])
    monkeypatch.setenv("PATH", "")

    assert instructions.main() == 1
    assert capsys.readouterr().err == "valgrind is not installed; it is in the Debian package valgrind\n"


def test_every_event_reaches_every_client_that_subscribes_to_it() -> None:
    argv = [sys.executable, "-m", "benchmarks.in_process"]
    done = subprocess.run(argv, cwd=instructions.ROOT, capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

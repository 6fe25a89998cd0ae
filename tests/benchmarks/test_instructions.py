"""The guard that counts instructions: what the counts come to, when it fails, and that each burst is whole."""

import subprocess
import sys
from dataclasses import replace

import pytest

from benchmarks import instructions
from benchmarks.in_process import CASES, FEW, FEW_SETS, MANY, MANY_SETS, NOBODY, Case
from benchmarks.instructions import counts, failures, figures, table
from benchmarks.rig.processes import ProcessFailed

# Of two bursts of 50 events: 60,000 an event, 500 a client, 20,000 a cohort.
COUNTS = {
    NOBODY: 6_000_000,
    FEW: 6_200_000,
    MANY: 6_200_000 + 2 * 450 * 500,
    FEW_SETS: 6_500_000,
    MANY_SETS: 6_500_000 + 2 * 200 * 20_000,
}


def profile(total: int) -> str:
    """Return what callgrind writes at a mark, shortened."""
    return f"version: 1\nevents: Ir\nsummary: {total}\n\nfn=(1) relay\n+3 {total}\n\ntotals: {total}\n"


def profiles(found: dict[Case, int]) -> list[str]:
    """Return those of a whole run: what is before each case, its own, and the end."""
    return [profile(total) for case in CASES for total in (999, found[case])] + [profile(7)]


def test_an_event_is_a_share_of_the_bursts_without_clients_and_clients_are_slopes() -> None:
    assert [one.instructions for one in figures(COUNTS)] == [60_000, 500, 20_000]


def test_what_stands_before_and_behind_the_marks_of_a_case_is_not_counted() -> None:
    assert counts(profiles(COUNTS)) == COUNTS


@pytest.mark.parametrize("missing", [1, 2])
def test_a_mark_that_was_not_seen_is_told(missing: int) -> None:
    seen = len(CASES) * 2 - missing
    with pytest.raises(ProcessFailed, match=f"callgrind saw {seen} calls of getppid, not {len(CASES) * 2}"):
        counts(profiles(COUNTS)[:-missing])


def test_a_profile_that_was_cut_short_is_told() -> None:
    with pytest.raises(ProcessFailed, match="without its total"):
        counts([*profiles(COUNTS)[:1], "version: 1\n", *profiles(COUNTS)[2:]])


def test_figures_at_their_limits_pass() -> None:
    assert failures([replace(one, instructions=one.most) for one in figures(COUNTS)]) == []


def test_each_figure_past_its_limit_is_one_sentence() -> None:
    event, _, cohort = figures(COUNTS)

    assert failures([replace(event, instructions=200_000, most=120_000), replace(cohort, most=10_000)]) == [
        "An event, without clients takes 200,000 instructions, the limit is 120,000.",
        "A cohort of one client more, for 20 events takes 20,000 instructions, the limit is 10,000.",
    ]


def test_the_table_has_a_row_for_each_figure() -> None:
    event = replace(figures(COUNTS)[0], most=120_000)

    assert table([event]).splitlines()[2:] == ["| an event, without clients | 60,000 | 120,000 |"]


def test_without_valgrind_the_package_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["instructions"])
    monkeypatch.setenv("PATH", "")

    assert instructions.main() == 1
    assert capsys.readouterr().err == "valgrind is not installed; it is in the Debian package valgrind\n"


def test_every_event_reaches_every_client_it_is_for() -> None:
    argv = [sys.executable, "-m", "benchmarks.in_process"]
    done = subprocess.run(argv, cwd=instructions.ROOT, capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

"""benchmarks.startup: the two programs run, and their ratio is the median of the rounds."""

import sys

import pytest

from benchmarks import startup
from benchmarks.rig.processes import ProcessFailed


def test_both_programs_run_and_take_processor_time() -> None:
    ((help_seconds, bare_seconds),) = startup.measure(rounds=1)
    assert min(help_seconds, bare_seconds) > 0


def test_the_ratio_is_the_median_of_the_rounds_and_not_the_ratio_of_the_medians() -> None:
    assert startup.median_ratio([(1.0, 1.0), (4.0, 2.0), (9.0, 1.0)]) == 2.0


def test_a_program_that_fails_is_named_with_its_error() -> None:
    argv = [sys.executable, "-c", "import sys; sys.exit('it cannot')"]
    with pytest.raises(ProcessFailed) as failure:
        startup.cpu_seconds(argv)
    assert str(failure.value) == f"{sys.executable} ended with 1\nit cannot"


def test_a_program_that_is_not_installed_is_named() -> None:
    with pytest.raises(ProcessFailed, match=r"\A/nowhere/tornado-bridge did not start: No such file or directory\Z"):
        startup.cpu_seconds(["/nowhere/tornado-bridge"])

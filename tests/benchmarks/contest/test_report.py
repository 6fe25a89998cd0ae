"""benchmarks.contest.report: the tables of a whole run, and those that stand in the docs."""

from pathlib import Path

import pytest

from benchmarks.contest import report, results_file
from tests.support.measurements import measured, results

DOCS = Path(__file__).parents[3] / "docs" / "performance"


def test_too_few_scenarios_have_tables_without_a_growth() -> None:
    text = report.markdown(results(measured("tornado_bridge")))
    assert ("### burst, 500 clients" in text, "### How the cost grows" in text) == (True, False)


def test_the_tables_in_the_docs_are_those_of_the_raw_results() -> None:
    if not (DOCS / results_file.FILE).exists():
        pytest.skip("the raw results are in the repository only")
    assert (DOCS / "results.md").read_text() == report.markdown(results_file.read(DOCS)) + "\n"

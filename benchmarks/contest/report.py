"""The report of a contest: all tables, how the bridge's cost grows, and the plots."""

from pathlib import Path

from benchmarks import growth
from benchmarks.contest import plot
from benchmarks.rig import table
from benchmarks.rig.records import Results
from benchmarks.rig.turns import say

FILE = "results.md"


def markdown(results: Results) -> str:
    """Return the tables, with the growth where enough was measured to fit it."""
    grown = growth.fit(results)
    return table.markdown(results) if grown is None else table.markdown(results, growth.markdown(grown, table.row), "")


def present(results: Results, directory: Path | None) -> None:
    """Print the report, and write it with its plots to the directory, where one is given."""
    text = markdown(results)
    print(text)
    if directory:
        (directory / FILE).write_text(text + "\n")
        try:
            plot.draw(results, directory)
        except ModuleNotFoundError:
            say("matplotlib is not installed, so there is no plot")

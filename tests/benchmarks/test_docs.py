"""docs/performance.md and the help of `python -m benchmarks`, held against the commands that exist."""

import re
from pathlib import Path

import pytest

from benchmarks.__main__ import EPILOG

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs" / "performance.md", *sorted((ROOT / "docs" / "performance").glob("*.md"))]
# Every module that runs by itself, but for the one that is run under callgrind.
COMMANDS = {
    f"benchmarks.{path.stem}"
    for path in (ROOT / "benchmarks").glob("*.py")
    if "__main__" in path.read_text(encoding="utf-8") and path.stem not in ("__main__", "in_process")
}


def commands_of(text: str) -> set[str]:
    return set(re.findall(r"python -m (benchmarks\.\w+)", text))


def test_the_page_lists_every_command_and_no_other() -> None:
    table = PAGES[0].read_text(encoding="utf-8").partition("| command |")[2].partition("\n\n")[0]
    assert commands_of(table) == COMMANDS


def test_the_help_lists_every_command_and_the_contest() -> None:
    assert commands_of(EPILOG) == COMMANDS | {"benchmarks.contest"}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_a_command_of_a_page_exists(page: Path) -> None:
    assert commands_of(page.read_text(encoding="utf-8")) <= COMMANDS | {"benchmarks.contest"}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target

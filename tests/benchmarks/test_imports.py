"""The order of the benchmarks' folders: the contest imports the guards and the rig, and never the other way."""

import ast
from pathlib import Path

import pytest

import benchmarks

ROOT = Path(benchmarks.__file__).parent
GUARDS = sorted(path for path in ROOT.rglob("*.py") if not path.is_relative_to(ROOT / "contest"))


def imported(module: Path) -> set[str]:
    """Return the full names of the modules of the benchmarks that a module may import."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return {name for name in names if name.startswith("benchmarks.")}


@pytest.mark.parametrize("module", GUARDS, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_contest_imports_the_contest(module: Path) -> None:
    assert {name for name in imported(module) if name.startswith("benchmarks.contest")} == set()


@pytest.mark.parametrize("module", sorted((ROOT / "rig").rglob("*.py")), ids=lambda path: path.stem)
def test_the_rig_imports_only_itself(module: Path) -> None:
    assert {name for name in imported(module) if not name.startswith("benchmarks.rig.")} == set()

"""What setup.py says of itself, held against the files that go by it."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def requirements() -> list[str]:
    """Return the install_requires of setup.py."""
    for node in ast.walk(ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.keyword) and node.arg == "install_requires":
            return [str(requirement) for requirement in ast.literal_eval(node.value)]
    raise AssertionError("setup.py has no install_requires")


def test_the_lowest_versions_are_those_that_setup_py_admits() -> None:
    lines = (ROOT / "tests" / "lowest.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.replace("==", ">=") for line in lines if not line.startswith("#")]
    assert pins == requirements()


def test_every_requirement_has_a_lowest_version() -> None:
    assert [text for text in requirements() if not re.fullmatch(r"[A-Za-z0-9_-]+>=[0-9.]+", text)] == []

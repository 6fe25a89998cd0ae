"""setup.py and MANIFEST.in, held against the files that depend on them."""

import ast
import configparser
import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from tornado_bridge.cli import skeleton

ROOT = Path(__file__).parents[2]
EXAMPLE = (ROOT / "examples" / "tornado-bridge-trades" / "pyproject.toml").read_text(encoding="utf-8")
TOX_INI = ROOT / "tox.ini"
MANIFEST = (ROOT / "MANIFEST.in").read_text(encoding="utf-8")
DATA = [
    path.relative_to(ROOT)
    for path in sorted((ROOT / "tornado_bridge").rglob("*"))
    if path.is_file() and path.suffix not in {".py", ".pyc"}
]


def argument(name: str) -> Any:
    """Return a literal argument of setup()."""
    for node in ast.walk(ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.keyword) and node.arg == name:
            return ast.literal_eval(node.value)
    raise AssertionError(f"setup.py has no {name}")


def requirements() -> list[str]:
    return [str(requirement) for requirement in argument("install_requires")]


def project(text: str) -> list[str]:
    """Return the requirements of a pyproject.toml, the optional ones too."""
    table = tomllib.loads(text)["project"]
    optional = table.get("optional-dependencies", {}).values()
    return [*table["dependencies"], *(requirement for group in optional for requirement in group)]


def named(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9_-]", requirement)[0]


def environments() -> list[str]:
    """Return the default environments of tox."""
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(TOX_INI, encoding="utf-8")
    return settings["tox"]["env_list"].split(", ")


def test_the_lowest_versions_are_those_that_setup_py_admits() -> None:
    lines = (ROOT / "tests" / "lowest.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.replace("==", ">=") for line in lines if not line.startswith("#")]
    assert pins == requirements()


def test_every_requirement_has_a_lowest_version() -> None:
    assert [text for text in requirements() if not re.fullmatch(r"[A-Za-z0-9_-]+>=[0-9.]+", text)] == []


@pytest.mark.parametrize("text", [skeleton.files("orders")["pyproject.toml"], EXAMPLE], ids=["skeleton", "example"])
def test_a_plugin_asks_for_the_versions_that_the_bridge_asks_for(text: str) -> None:
    ours = {named(requirement): requirement for requirement in requirements()}
    theirs = {named(requirement): requirement for requirement in project(text)}
    assert "msgspec" in theirs
    assert {name: theirs[name] for name in theirs.keys() & ours.keys()} == {
        name: ours[name] for name in theirs.keys() & ours.keys()
    }


@pytest.mark.parametrize("path", DATA, ids=str)
def test_a_data_file_of_the_package_is_in_the_wheel(path: Path) -> None:
    patterns = argument("package_data").get(".".join(path.parent.parts), [])
    assert any(fnmatch(path.name, pattern) for pattern in patterns)


@pytest.mark.parametrize("path", [path for path in DATA if path.suffix == ".template"], ids=str)
def test_a_template_is_in_the_source_distribution(path: Path) -> None:
    assert f"recursive-include {path.parent} *{path.suffix}\n" in MANIFEST


def test_no_template_can_be_taken_for_a_module() -> None:
    folder = ROOT / "tornado_bridge" / "cli" / "skeleton"
    assert [path.name for path in folder.glob("*.py")] == ["__init__.py"]


def test_every_python_of_the_classifiers_has_an_environment_of_tox() -> None:
    pythons = re.findall(r"Python :: 3[.](\d+)", " ".join(argument("classifiers")))
    assert [name for name in environments() if re.fullmatch(r"py\d+", name)] == [f"py3{minor}" for minor in pythons]


def test_the_benchmark_waits_for_every_other_environment() -> None:
    depends = re.findall(r"^depends = (.+)$", TOX_INI.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert [names.split(", ") for names in depends] == [[name for name in environments() if name != "benchmark"]]

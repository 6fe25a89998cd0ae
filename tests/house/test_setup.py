"""setup.py, compared with the files that repeat parts of it."""

import ast
import configparser
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOX_INI = ROOT / "tox.ini"


def argument(name: str) -> list[str]:
    """Return the list that setup.py passes as an argument of that name."""
    for node in ast.walk(ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.keyword) and node.arg == name:
            return [str(item) for item in ast.literal_eval(node.value)]
    raise AssertionError(f"setup.py has no {name}")


def requirements() -> list[str]:
    return argument("install_requires")


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


def test_every_python_of_the_classifiers_has_an_environment_of_tox() -> None:
    pythons = re.findall(r"Python :: 3[.](\d+)", " ".join(argument("classifiers")))
    assert [name for name in environments() if re.fullmatch(r"py\d+", name)] == [f"py3{minor}" for minor in pythons]


def test_the_benchmark_waits_for_every_other_environment() -> None:
    depends = re.findall(r"^depends = (.+)$", TOX_INI.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert [names.split(", ") for names in depends] == [[name for name in environments() if name != "benchmark"]]

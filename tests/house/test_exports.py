"""The public names, held against the tables of the documents."""

import ast
import importlib.metadata
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tornado_bridge
from tests.house.test_docs import section
from tornado_bridge import testing
from tornado_bridge.testing import fixtures

ROOT = Path(__file__).parents[2]
PLUGINS = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
EMBEDDING = (ROOT / "docs" / "embedding.md").read_text(encoding="utf-8")


def tables(text: str) -> dict[str, list[str]]:
    """Return the code words of the first column of each table in a text, by the heading of that column."""
    found: dict[str, list[str]] = {}
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        heading, _, *rows = (line.split("|")[1].strip() for line in table.splitlines())
        found[heading.strip("`")] = [word for row in rows for word in re.findall(r"`([^`]+)`", row)]
    return found


FOR_AUTHORS = tables(section(PLUGINS, "The public names"))["name"]
WIRE_FORMATS = tables(section(PLUGINS, "The public names"))["tornado_bridge.values"]
FOR_EMBEDDERS = tables(section(EMBEDDING, "The public names"))["name"]
FOR_TESTS = tables(section(PLUGINS, "The public names of `tornado_bridge.testing`"))["name"]
FIXTURES = [
    node.name
    for node in ast.parse(Path(fixtures.__file__).read_text(encoding="utf-8")).body
    if isinstance(node, ast.FunctionDef) and "pytest.fixture" in map(ast.unparse, node.decorator_list)
]


def loaded(statement: str) -> set[str]:
    """Return the top-level modules that a new interpreter has loaded after a statement."""
    script = f"import sys\n{statement}\nprint(*(name for name in sys.modules if '.' not in name))"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30)
    return set(ended.stdout.split())


def test_the_public_names_are_documented_and_no_others() -> None:
    assert sorted(FOR_AUTHORS + FOR_EMBEDDERS) == sorted(tornado_bridge.__all__)


def test_the_names_for_tests_and_the_fixtures_are_documented_and_no_others() -> None:
    assert sorted(FOR_TESTS) == sorted([*testing.__all__, *FIXTURES])


@pytest.mark.parametrize("name", tornado_bridge.__all__)
def test_a_public_name_explains_itself(name: str) -> None:
    assert inspect.getdoc(getattr(tornado_bridge, name))


@pytest.mark.parametrize("name", testing.__all__)
def test_a_name_for_tests_explains_itself(name: str) -> None:
    assert inspect.getdoc(getattr(testing, name))


@pytest.mark.parametrize("function", WIRE_FORMATS)
def test_a_documented_wire_format_has_the_documented_parameters(function: str) -> None:
    name, call, _ = function.partition("(")
    found = getattr(tornado_bridge.values, name)
    parameters = inspect.signature(found).parameters.values() if call else ()
    written = (f"*{p.name}" if p.kind is p.VAR_POSITIONAL else p.name for p in parameters)
    assert function == (f"{name}({', '.join(written)})" if call else name)


def test_a_star_import_gives_the_public_names() -> None:
    namespace: dict[str, object] = {}
    exec("from tornado_bridge import *", namespace)
    assert namespace.keys() - {"__builtins__"} == set(tornado_bridge.__all__)


def test_a_type_checker_sees_the_public_names() -> None:
    tree = ast.parse(Path(tornado_bridge.__file__).read_text(encoding="utf-8"))
    (checked,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    names = {alias.name for node in checked.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert names == set(tornado_bridge.__all__)


def test_the_public_names_are_listed_before_they_are_loaded() -> None:
    script = "import tornado_bridge\nprint(*dir(tornado_bridge))"
    listed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30)
    assert {*tornado_bridge.__all__, "__version__"} <= set(listed.stdout.split())


def test_the_version_is_that_of_the_distribution() -> None:
    assert tornado_bridge.__version__ == importlib.metadata.version("tornado_bridge")


def test_another_name_is_refused_as_by_any_module() -> None:
    with pytest.raises(AttributeError, match=r"^module 'tornado_bridge' has no attribute 'Bridge'$"):
        tornado_bridge.Bridge  # type: ignore[attr-defined]  # noqa: B018


def test_the_package_alone_loads_nothing_else() -> None:
    libraries = {"asyncio", "click", "jsonschema", "msgspec", "pluggy", "pydantic", "redis", "structlog", "tornado"}
    assert loaded("import tornado_bridge") & libraries == set()


def test_the_names_for_plugin_authors_load_no_server() -> None:
    libraries = {"asyncio", "click", "prometheus_client", "pydantic", "redis", "structlog", "tornado"}
    found = loaded(f"from tornado_bridge import {', '.join(FOR_AUTHORS)}")
    assert "msgspec" in found
    assert found & libraries == set()


def test_a_plugin_without_schema_files_loads_no_validator() -> None:
    names = [name for name in FOR_AUTHORS if name != "load_schema"]
    assert {"jsonschema", "jsonschema_rs"} & loaded(f"from tornado_bridge import {', '.join(names)}") == set()

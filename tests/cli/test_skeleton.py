"""tornado_bridge.cli.skeleton: a distribution that works untouched, and the names that it may have."""

import os
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import pytest

import tornado_bridge
from tornado_bridge.cli import skeleton
from tornado_bridge.errors import ConfigurationError
from tornado_bridge.registry import Registry


def refusal(name: str, directory: Path) -> str:
    with pytest.raises(ConfigurationError) as raised:
        skeleton.write(name, directory)
    return str(raised.value)


def module_of(name: str) -> types.ModuleType:
    """The package of a skeleton, run from its text."""
    word = name.replace("-", "_")
    module = types.ModuleType(f"tornado_bridge_{word}")
    exec(skeleton.files(name)[f"tornado_bridge_{word}/__init__.py"], module.__dict__)
    return module


def test_a_skeleton_is_a_distribution_with_tests_and_a_readme(tmp_path: Path) -> None:
    place = skeleton.write("order-books", tmp_path)
    assert place == tmp_path / "tornado-bridge-order-books"
    assert sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()) == [
        ".gitignore",
        "README.md",
        "pyproject.toml",
        "tests/test_order_books.py",
        "tornado_bridge_order_books/__init__.py",
        "tornado_bridge_order_books/py.typed",
    ]


def test_the_text_of_every_file_is_what_is_written(tmp_path: Path) -> None:
    place = skeleton.write("orders", tmp_path)
    assert {path: (place / path).read_text() for path in skeleton.files("orders")} == skeleton.files("orders")


def test_no_placeholder_is_left() -> None:
    assert not [path for path, text in skeleton.files("orders").items() if "$" in text.replace("}$", "")]


def test_the_distribution_offers_the_plugin_by_its_name() -> None:
    project = tomllib.loads(skeleton.files("order-books")["pyproject.toml"])["project"]
    assert (project["name"], project["entry-points"]) == (
        "tornado-bridge-order-books",
        {"tornado_bridge": {"order-books": "tornado_bridge_order_books"}},
    )


def test_the_distribution_asks_for_this_major_version() -> None:
    version = tornado_bridge.__version__
    project = tomllib.loads(skeleton.files("orders")["pyproject.toml"])["project"]
    until = int(version.split(".")[0]) + 1
    assert project["dependencies"] == ["msgspec>=0.22", f"tornado_bridge>={version},<{until}"]


@pytest.mark.parametrize("name", ["orders", "order-books", "l2-order-books", "a", "z" * 40])
def test_the_plugin_is_admitted_beside_the_built_in_ones(name: str) -> None:
    registry = Registry(["candle", "signals", module_of(name)])
    assert registry.grammar.admits(f"{name.replace('-', '_')}:BTC-USD")


def test_the_transformer_is_ten_lines() -> None:
    package = skeleton.files("orders")["tornado_bridge_orders/__init__.py"]
    assert len(package.partition("def transform")[2].splitlines()) <= 10


def test_the_suite_is_five_lines() -> None:
    tests = skeleton.files("orders")["tests/test_orders.py"]
    assert "\n\n\nclass TestOrders(PluginSuite):\n    plugin = tornado_bridge_orders\n\n\n" in tests


@pytest.mark.slow
@pytest.mark.parametrize("name", ["orders", "l2-order-books"])
def test_the_tests_pass_untouched(name: str, tmp_path: Path) -> None:
    place = skeleton.write(name, tmp_path)
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert " passed" in ended.stdout


@pytest.mark.parametrize(
    "name", ["", "-", "a-", "-a", "a--b", "1a", "A", "a_b", "a b", "a.b", "a/b", "é", "a\n", "..", "z" * 41]
)
def test_a_name_of_another_form_is_refused(name: str, tmp_path: Path) -> None:
    assert refusal(name, tmp_path) == (
        "NAME: expected at most 40 lower-case letters and digits with single hyphens between them, starting with a "
        f"letter, got {name!r}"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_long_name_is_not_repeated_whole(tmp_path: Path) -> None:
    assert refusal("z" * 5_000, tmp_path).endswith(f"got '{'z' * 62}…")


def test_the_name_of_an_installed_plugin_is_refused(tmp_path: Path) -> None:
    assert refusal("candle", tmp_path) == (
        f"NAME: a plugin 'candle' is already installed, from tornado_bridge {tornado_bridge.__version__}"
    )


def test_the_name_may_be_that_of_the_distribution(tmp_path: Path) -> None:
    assert skeleton.write("tornado-bridge-orders", tmp_path) == tmp_path / "tornado-bridge-orders"


def test_a_directory_that_exists_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "tornado-bridge-orders").mkdir()
    (tmp_path / "tornado-bridge-orders" / "README.md").write_text("mine")
    assert refusal("orders", tmp_path) == f"{tmp_path}/tornado-bridge-orders already exists"
    assert [path.read_text() for path in tmp_path.rglob("*.*")] == ["mine"]


def test_a_directory_of_directories_is_made(tmp_path: Path) -> None:
    assert (skeleton.write("orders", tmp_path / "a" / "b") / "pyproject.toml").is_file()


@pytest.mark.parametrize(("directory", "reason"), [("file", "Not a directory"), ("a\0b", "invalid path")])
def test_a_place_where_nothing_can_be_written_is_refused(directory: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    place = tmp_path / directory / "tornado-bridge-orders"
    assert refusal("orders", tmp_path / directory) == f"{place} cannot be written ({reason})"

"""tornado_bridge.cli.plugins: what `tornado-bridge plugins` and `plugins new` take, print and end with."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.test_discovery import FILE
from tornado_bridge import cli


class Outcome(NamedTuple):
    status: object
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run `tornado-bridge plugins` in this process."""

    def run(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["tornado-bridge", "plugins", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return Outcome(ended.value.code, *capsys.readouterr())

    return run


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "quotes.py").write_text(FILE)
    return tmp_path


def listed(out: str) -> list[list[str]]:
    return [re.split("  +", line) for line in out.splitlines()[1:]]


def test_the_plugins_that_are_chosen_are_listed(command: Command) -> None:
    status, out, err = command("--plugins", "signals")
    assert (status, err, [row[0] for row in listed(out)]) == (0, "", ["signals"])


def test_no_plugin_that_is_chosen_is_a_list_without_rows(command: Command) -> None:
    assert command("--plugins", "") == (0, "NAME  VERSION  DISTRIBUTION  EVENT TYPES  HOOKS\n", "")


def test_single_files_are_listed_by_their_path(command: Command, files: Path) -> None:
    # A file has no version, so its row begins with two blank columns.
    assert command("--plugins", "quotes", "--plugins-dir", str(files), "--json").status == 0
    rows = listed(command("--plugins", "quotes", "--plugins-dir", str(files)).out)
    assert rows == [["quotes", str(files / "quotes.py"), "quote", "register_event_types transform"]]


def test_single_files_stand_beside_what_is_installed(command: Command, files: Path) -> None:
    assert [row[0] for row in listed(command("--plugins-dir", str(files)).out)] == ["candle", "quotes", "signals"]


def test_json_says_what_a_single_file_reads_and_emits(command: Command, files: Path) -> None:
    (plugin,) = json.loads(command("--json", "--plugins", "quotes", "--plugins-dir", str(files)).out)
    (event_type,) = plugin["event_types"]
    emits = event_type.pop("emits")
    assert emits["properties"]["data"]["required"] == ["price"]
    assert (plugin["distribution"], plugin["version"], event_type) == (
        str(files / "quotes.py"),
        "",
        {
            "name": "quote",
            "source": "channel:exchange:{exchange_id}:quotes:{symbol}",
            "channel": "quotes:{symbol}",
            "reads": ["price"],
        },
    )


def test_a_plugin_that_cannot_be_loaded_ends_the_list_with_two_and_a_sentence(command: Command, files: Path) -> None:
    (files / "quotes.py").write_text("import nothing_of_that_name")
    assert command("--plugins-dir", str(files)) == (
        2,
        "",
        f"tornado-bridge: plugin 'quotes' of {files}/quotes.py: cannot be loaded: "
        "No module named 'nothing_of_that_name' (ModuleNotFoundError)\n",
    )


def test_a_new_plugin_is_written_and_its_place_printed(command: Command, tmp_path: Path) -> None:
    place = tmp_path / "tornado-bridge-orders"
    assert command("new", "orders", "--directory", str(tmp_path)) == (0, f"{place}\n", "")
    assert (place / "tornado_bridge_orders" / "__init__.py").is_file()


def test_a_new_plugin_is_written_here_unless_told_else(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command("new", "orders").out == "tornado-bridge-orders\n"
    assert (tmp_path / "tornado-bridge-orders" / "pyproject.toml").is_file()


def test_a_new_plugin_needs_none_of_those_that_are_there(command: Command, tmp_path: Path) -> None:
    assert command("--plugins", "nonsense", "new", "orders", "--directory", str(tmp_path)).status == 0


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "Orders",
            "NAME: expected at most 40 lower-case letters and digits, with single hyphens between them and a letter "
            "first, got 'Orders'",
        ),
        ("", "NAME: expected at most 40 lower-case letters and digits, with single hyphens between them and a letter "
            "first, got ''"),
    ],
)  # fmt: skip
def test_a_name_that_cannot_be_used_ends_with_two_and_a_sentence(
    name: str, sentence: str, command: Command, tmp_path: Path
) -> None:
    assert command("new", name, "--directory", str(tmp_path)) == (2, "", f"tornado-bridge: {sentence}\n")
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_there_ends_with_two_and_a_sentence(command: Command, tmp_path: Path) -> None:
    place = tmp_path / "tornado-bridge-orders"
    place.mkdir()
    assert command("new", "orders", "--directory", str(tmp_path)) == (
        2,
        "",
        f"tornado-bridge: {place} exists already\n",
    )
    assert list(place.iterdir()) == []

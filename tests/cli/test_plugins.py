"""tornado_bridge.cli.plugins: what `tornado-bridge plugins` and `plugins new` take, print and end with."""

import functools
import importlib.metadata
import json
import re
from pathlib import Path

import pytest

from tests.support.commands import Command

VERSION = importlib.metadata.version("tornado_bridge")


@pytest.fixture
def plugins(command: Command) -> Command:
    """Run `tornado-bridge plugins` in this process."""
    return functools.partial(command, "plugins")


def listed(out: str) -> list[list[str]]:
    return [re.split("  +", line) for line in out.splitlines()[1:]]


def test_the_plugins_are_a_table(plugins: Command) -> None:
    status, out, err = plugins()
    assert (status, err) == (0, "")
    assert [re.split("  +", line) for line in out.splitlines()] == [
        ["NAME", "VERSION", "DISTRIBUTION", "EVENT TYPES", "HOOKS"],
        ["candle", VERSION, "tornado_bridge", "candle_close", "register_event_types transform"],
        ["signals", VERSION, "tornado_bridge", "trade_signal", "register_event_types transform"],
    ]


def test_the_plugins_are_json(plugins: Command) -> None:
    status, out, err = plugins("--json")
    assert (status, err) == (0, "")
    candle, signals = json.loads(out)
    emits = candle["event_types"][0].pop("emits")
    assert emits["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert candle == {
        "name": "candle",
        "version": VERSION,
        "distribution": "tornado_bridge",
        "event_types": [
            {
                "name": "candle_close",
                "source": "channel:exchange:{exchange_id}:candle:close:{symbol}:{timeframe}",
                "channel": "candles:{symbol}:{timeframe}",
                "reads": ["timestamp", "open", "high", "low", "close", "volume"],
            }
        ],
        "hooks": ["register_event_types", "transform"],
    }
    assert signals["name"] == "signals"


def test_the_plugins_that_are_chosen_are_listed(plugins: Command) -> None:
    status, out, err = plugins("--plugins", "signals")
    assert (status, err, [row[0] for row in listed(out)]) == (0, "", ["signals"])


def test_no_plugin_that_is_chosen_is_a_list_without_rows(plugins: Command) -> None:
    assert plugins("--plugins", "") == (0, "NAME  VERSION  DISTRIBUTION  EVENT TYPES  HOOKS\n", "")


def test_single_files_are_listed_by_their_path(plugins: Command, quotes: Path) -> None:
    # A file has no version, so its row begins with two blank columns.
    assert plugins("--plugins", "quotes", "--plugins-dir", str(quotes), "--json").status == 0
    rows = listed(plugins("--plugins", "quotes", "--plugins-dir", str(quotes)).out)
    assert rows == [["quotes", str(quotes / "quotes.py"), "quote", "register_event_types transform"]]


def test_single_files_stand_beside_what_is_installed(plugins: Command, quotes: Path) -> None:
    assert [row[0] for row in listed(plugins("--plugins-dir", str(quotes)).out)] == ["candle", "quotes", "signals"]


def test_json_has_what_a_single_file_reads_and_emits(plugins: Command, quotes: Path) -> None:
    (plugin,) = json.loads(plugins("--json", "--plugins", "quotes", "--plugins-dir", str(quotes)).out)
    (event_type,) = plugin["event_types"]
    emits = event_type.pop("emits")
    assert emits["properties"]["data"]["required"] == ["price"]
    assert (plugin["distribution"], plugin["version"], event_type) == (
        str(quotes / "quotes.py"),
        "",
        {
            "name": "quote",
            "source": "channel:exchange:{exchange_id}:quotes:{symbol}",
            "channel": "quotes:{symbol}",
            "reads": ["price"],
        },
    )


def test_a_plugin_that_cannot_be_loaded_ends_the_list_with_two_and_a_sentence(plugins: Command, quotes: Path) -> None:
    (quotes / "quotes.py").write_text("import nothing_of_that_name")
    assert plugins("--plugins-dir", str(quotes)) == (
        2,
        "",
        f"tornado-bridge: plugin 'quotes' of {quotes}/quotes.py: cannot be loaded: "
        "No module named 'nothing_of_that_name' (ModuleNotFoundError)\n",
    )


def test_a_new_plugin_is_written_and_its_place_printed(plugins: Command, tmp_path: Path) -> None:
    place = tmp_path / "tornado-bridge-orders"
    assert plugins("new", "orders", "--directory", str(tmp_path)) == (0, f"{place}\n", "")
    assert (place / "tornado_bridge_orders" / "__init__.py").is_file()


def test_a_new_plugin_is_written_to_the_current_directory_by_default(
    plugins: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert plugins("new", "orders").out == "tornado-bridge-orders\n"
    assert (tmp_path / "tornado-bridge-orders" / "pyproject.toml").is_file()


def test_a_new_plugin_needs_no_other_plugin(plugins: Command, tmp_path: Path) -> None:
    assert plugins("--plugins", "nonsense", "new", "orders", "--directory", str(tmp_path)).status == 0


@pytest.mark.parametrize("name", ["Orders", ""])
def test_a_name_that_cannot_be_used_ends_with_two_and_a_sentence(name: str, plugins: Command, tmp_path: Path) -> None:
    assert plugins("new", name, "--directory", str(tmp_path)) == (
        2,
        "",
        "tornado-bridge: NAME: expected at most 40 lower-case letters and digits with single hyphens between them, "
        f"starting with a letter, got {name!r}\n",
    )
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_exists_ends_with_two_and_a_sentence(plugins: Command, tmp_path: Path) -> None:
    place = tmp_path / "tornado-bridge-orders"
    place.mkdir()
    assert plugins("new", "orders", "--directory", str(tmp_path)) == (
        2,
        "",
        f"tornado-bridge: {place} already exists\n",
    )
    assert list(place.iterdir()) == []


UNUSABLE = [
    (
        "plugins --plugins candles",
        "--plugins on the command line: no installed distribution offers a plugin 'candles' (installed: "
        "candle, signals)",
    ),
    (
        "plugins --plugins-dir /proc/nonexistent",
        "--plugins-dir on the command line: expected a directory that can be read, got /proc/nonexistent",
    ),
]


@pytest.mark.parametrize(("line", "sentence"), UNUSABLE)
def test_unusable_arguments_end_with_two_and_one_sentence(line: str, sentence: str, command: Command) -> None:
    assert command(*line.split()) == (2, "", f"tornado-bridge: {sentence}\n")

"""tornado_bridge.discovery: the plugins that are available, of which only the chosen ones are imported."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import tornado_bridge
from tests.support.servers import bridge_process, serving
from tornado_bridge.discovery import Candidate, choose, installed, single_files
from tornado_bridge.errors import ConfigurationError, PluginError
from tornado_bridge.key_file import KeyFile
from tornado_bridge.registry import Registry

# Tells on disk that it was imported.
TELLING = """
import pathlib
pathlib.Path({witness!r}).touch()
raise RuntimeError("imported")
"""

# A whole plugin, with annotations that msgspec looks up by the module's name.
FILE = """
from __future__ import annotations

import msgspec
from tornado_bridge import Envelope, EventType, envelope_schema, hookimpl, values


class Payload(msgspec.Struct):
    price: msgspec.Raw


EVENT_TYPE = EventType(
    name="quote",
    source="channel:exchange:{exchange_id}:quotes:{symbol}",
    channel="quotes:{symbol}",
    reads=Payload,
    emits=envelope_schema("quote", "^quotes:[A-Za-z0-9_.-]{1,64}$", {"price": values.DECIMAL}),
)


@hookimpl
def register_event_types():
    return [EVENT_TYPE]


@hookimpl
def transform(event):
    return Envelope(event.channel, {"price": values.decimal(event.payload.price, "price")})
"""


def candidate(name: str, distribution: str = "orders", version: str = "1.2") -> Candidate:
    return Candidate(name, distribution, version, lambda: None)


def put_distribution(directory: Path, name: str, source: str) -> None:
    """Put a distribution with one plugin of that name into a directory of Python's path."""
    (directory / f"{name}_of_the_tests.py").write_text(source)
    info = directory / f"{name}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[tornado_bridge]\n{name} = {name}_of_the_tests\n")


@pytest.fixture
def telling(tmp_path: Path) -> Path:
    """A directory with a distribution `telling` whose plugin, if imported, leaves `tmp_path / "imported"`."""
    directory = tmp_path / "site"
    directory.mkdir()
    put_distribution(directory, "telling", TELLING.format(witness=str(tmp_path / "imported")))
    return directory


# Installed distributions


def test_the_built_in_plugins_have_entry_points() -> None:
    found = {offered.name: (offered.distribution, offered.version) for offered in installed()}
    ours = ("tornado_bridge", tornado_bridge.__version__)
    assert (found["candle"], found["signals"]) == (ours, ours)


def test_an_available_plugin_is_not_imported(telling: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(telling)
    assert "telling" in {offered.name for offered in installed()}
    assert not (tmp_path / "imported").exists()


def test_a_plugin_that_is_not_chosen_is_not_imported(
    telling: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(telling)
    Registry(choose(["candle"], installed()))
    assert not (tmp_path / "imported").exists()


def test_a_chosen_plugin_is_imported(telling: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(telling)
    with pytest.raises(PluginError, match=r"^plugin 'telling' of telling 1\.2: cannot be loaded: imported"):
        Registry(choose(["candle", "telling"], installed()))
    assert (tmp_path / "imported").exists()


def test_a_server_does_not_import_an_entry_point_that_is_not_on_its_list(telling: Path, tmp_path: Path) -> None:
    environment = {"PYTHONPATH": str(telling)}
    with serving(tmp_path, "embedded://127.0.0.1:0", "--plugins", "candle", environment=environment) as (server, *_):
        assert server.stop()[0] == 0
    assert not (tmp_path / "imported").exists()


def test_a_server_does_import_an_entry_point_unless_it_has_a_list(telling: Path, tmp_path: Path) -> None:
    KeyFile(tmp_path / "keys.toml").create("tests")
    command = ["serve", "--exchange", "1:coinbase", "--api-keys", str(tmp_path / "keys.toml"), "--port", "0"]
    with bridge_process(*command, environment={"PYTHONPATH": str(telling)}) as server:
        assert server.finish() == (
            2,
            "",
            "tornado-bridge: plugin 'telling' of telling 1.2: cannot be loaded: imported (RuntimeError)\n",
        )
    assert (tmp_path / "imported").exists()


def test_a_traceback_of_a_plugin_that_fails_is_printed_on_demand(telling: Path) -> None:
    with bridge_process("--debug", "plugins", environment={"PYTHONPATH": str(telling)}) as listing:
        status, out, err = listing.finish()
    assert (status, out) == (2, "")
    assert f'File "{telling}/telling_of_the_tests.py", line 4, in <module>' in err
    assert err.splitlines()[-1].startswith("tornado-bridge: plugin 'telling' of telling 1.2: cannot be loaded")


# Single files


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., Path]:
    """Write a file into a directory of plugins, and return the directory."""

    def write(name: str, source: str = FILE, directory: str = "files") -> Path:
        (tmp_path / directory).mkdir(exist_ok=True)
        (tmp_path / directory / name).write_text(source)
        return tmp_path / directory

    return write


def test_a_file_is_a_plugin_named_by_its_stem(put: Callable[..., Path]) -> None:
    directory = put("quotes.py")
    assert single_files(directory) == [Candidate("quotes", str(directory / "quotes.py"), "", lambda: None)]


def test_files_are_in_the_order_of_their_names(put: Callable[..., Path]) -> None:
    put("b.py")
    put("c.py")
    assert [offered.name for offered in single_files(put("a.py"))] == ["a", "b", "c"]


@pytest.mark.parametrize("name", ["_shared.py", "__init__.py", "notes.txt", "quotes.pyc", "py"])
def test_a_file_of_another_name_is_not_a_plugin(name: str, put: Callable[..., Path]) -> None:
    assert single_files(put(name)) == []


def test_a_file_is_named_by_its_whole_path(put: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    directory = put("quotes.py")
    monkeypatch.chdir(directory.parent)
    assert [offered.origin for offered in single_files(Path("files"))] == [str(directory / "quotes.py")]


def test_a_file_that_is_not_chosen_is_not_imported(put: Callable[..., Path], tmp_path: Path) -> None:
    directory = put("telling.py", TELLING.format(witness=str(tmp_path / "imported")))
    Registry(choose(["candle"], [*installed(), *single_files(directory)]))
    assert not (tmp_path / "imported").exists()


def test_a_file_becomes_a_plugin(put: Callable[..., Path]) -> None:
    directory = put("quotes.py")
    (plugin,) = Registry(single_files(directory)).plugins
    assert (plugin.name, plugin.distribution, plugin.version) == ("quotes", str(directory / "quotes.py"), "")


def test_a_file_does_not_hide_a_module(put: Callable[..., Path]) -> None:
    Registry(single_files(put("json.py")))
    assert "EVENT_TYPE" not in vars(sys.modules["json"])


def test_two_files_of_one_name_live_in_one_process(put: Callable[..., Path]) -> None:
    (one,) = Registry(single_files(put("quotes.py", directory="one"))).plugins
    (two,) = Registry(single_files(put("quotes.py", FILE.replace("quote", "offer"), directory="two"))).plugins
    assert [plugin.event_types[0].name for plugin in (one, two)] == ["quote", "offer"]


def test_a_file_is_read_anew_by_each_registry(put: Callable[..., Path]) -> None:
    Registry(single_files(put("quotes.py")))
    (plugin,) = Registry(single_files(put("quotes.py", FILE.replace("quote", "another_offer")))).plugins
    assert plugin.event_types[0].name == "another_offer"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import nothing_of_that_name", "cannot be loaded: No module named 'nothing_of_that_name' "),
        ("(", "cannot be loaded: '(' was never closed "),
        ("", "implements no transform hook"),
        (
            FILE.replace("values.DECIMAL", '{"type": "string"}'),
            "the schema of 'quote' is open at $.data.price: a text without an enum needs a maxLength of at most 1024",
        ),
    ],
)
def test_a_file_that_is_refused_is_named_with_the_reason(source: str, reason: str, put: Callable[..., Path]) -> None:
    directory = put("quotes.py", source)
    with pytest.raises(PluginError) as raised:
        Registry(single_files(directory))
    assert str(raised.value).startswith(f"plugin 'quotes' of {directory}/quotes.py: {reason}")


@pytest.mark.parametrize("name", ["missing", "file", "a\0b"])
def test_a_directory_that_cannot_be_read_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError) as raised:
        single_files(tmp_path / name)
    assert str(raised.value) == f"expected a directory that can be read, got {tmp_path / name}"


# The choice


def names(chosen: list[Candidate]) -> list[str]:
    return [found.name for found in chosen]


def test_all_are_chosen_unless_some_are_named() -> None:
    assert names(choose(None, [candidate("b"), candidate("a")])) == ["a", "b"]


def test_those_that_are_named_are_chosen_once_in_that_order() -> None:
    offered = [candidate("a"), candidate("b"), candidate("c")]
    assert names(choose(["c", "a", "c"], offered)) == ["c", "a"]


def test_the_choice_may_be_empty() -> None:
    assert choose([], [candidate("a")]) == []


@pytest.mark.parametrize(("offered", "known"), [([candidate("b"), candidate("a")], "a, b"), ([], "none")])
def test_a_name_without_a_candidate_is_refused(offered: list[Candidate], known: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        choose(["x"], offered)
    assert str(raised.value) == f"no installed distribution offers a plugin 'x' (installed: {known})"


def test_a_name_without_a_candidate_among_files_either_is_refused() -> None:
    with pytest.raises(ConfigurationError) as raised:
        choose(["x"], [candidate("b"), candidate("a", "/etc/plugins/a.py", "")])
    assert str(raised.value) == ("neither an installed distribution nor a file offers a plugin 'x' (offered: a, b)")


@pytest.mark.parametrize("chosen", [None, ["a"]])
def test_a_name_that_is_offered_twice_is_refused(chosen: list[str] | None) -> None:
    with pytest.raises(PluginError) as raised:
        choose(chosen, [candidate("a"), candidate("a", "/etc/plugins/a.py", "")])
    assert str(raised.value) == "plugin 'a' of /etc/plugins/a.py: orders 1.2 offers a plugin of that name too"


def test_a_name_that_is_offered_twice_does_no_harm_unless_chosen() -> None:
    assert names(choose(["b"], [candidate("a"), candidate("a"), candidate("b")])) == ["b"]

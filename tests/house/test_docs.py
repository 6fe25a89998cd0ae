"""What the documents say, held against the code."""

import inspect
import re
import types
from pathlib import Path

import pytest

import tornado_bridge
from tornado_bridge import Event, EventType, hookspecs
from tornado_bridge.bridge import WebSocketBridge
from tornado_bridge.cli import skeleton
from tornado_bridge.connections.dialogue import ErrorCode
from tornado_bridge.keys import FixedKeys, KeyRing
from tornado_bridge.registry import Registry
from tornado_bridge.server.settings import Settings
from tornado_bridge.web import metrics
from tornado_bridge.wire.frames import CloseCode

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
PLUGINS = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
TEST_COMMAND = "pip install tox && tox --parallel 2 --parallel-live"
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def section(text: str, title: str) -> str:
    """Return the part of a document under a heading of the second level."""
    return re.split(r"^## ", text.partition(f"## {title}\n")[2], flags=re.MULTILINE)[0]


def first_column(table: str) -> set[str]:
    """Return every code word of the first column of the tables in a text."""
    return {
        word
        for line in table.splitlines()
        if line.startswith("| `") or re.match(r"\| \d", line)
        for word in re.findall(r"[\w]+", line.split("|")[1])
    }


def python_blocks(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


def test_the_readme_opens_with_the_two_commands() -> None:
    commands = re.findall(r"^    (.+)$", README, flags=re.MULTILINE)
    assert commands[:2] == [
        "pip install . && tornado-bridge demo",
        "pip install tox && tox --parallel 2 --parallel-live",
    ]


def test_ci_calls_the_test_command_of_the_readme() -> None:
    assert (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()[
        -1
    ] == "pip install tox && tox --parallel 2 --parallel-live"


def test_the_transformer_of_the_readme_is_one_that_the_registry_admits() -> None:
    module = type(inspect)("readme_plugin")
    exec(compile(python_blocks(README)[0], "README.md", "exec"), module.__dict__)
    registry = Registry([module])
    assert [event_type.name for plugin in registry.plugins for event_type in plugin.event_types] == ["trade"]
    assert registry.grammar.admits("trades:BTC")


def test_the_embedding_of_the_readme_compiles() -> None:
    compile(python_blocks(README)[1], "README.md", "exec", flags=0x2000)  # ast.PyCF_ALLOW_TOP_LEVEL_AWAIT


def test_every_setting_is_documented_and_no_other() -> None:
    assert first_column(section(OPERATIONS, "Settings")) == set(Settings.model_fields)


def test_every_close_code_is_documented_and_no_other() -> None:
    codes = first_column(section(OPERATIONS, "Close codes"))
    assert codes == {str(int(code)) for code in CloseCode if code is not CloseCode.NORMAL}


def test_every_error_code_is_documented_and_no_other() -> None:
    assert first_column(section(OPERATIONS, "Error codes")) == {code.value for code in ErrorCode}


@pytest.mark.gen_test
async def test_every_metric_is_documented_and_no_other() -> None:
    bridge = WebSocketBridge(
        redis_url="redis://127.0.0.1:1/0", exchange_id=1, exchange_name="x", keys=FixedKeys(KeyRing.single("k", "v"))
    )
    exposed = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in metrics.BridgeCollector(bridge).collect()
    }
    documented = {word for word in first_column(section(OPERATIONS, "Metrics")) if word.startswith("tornado_bridge_")}
    assert documented == exposed


def test_every_hook_is_documented_with_its_arguments_and_no_other() -> None:
    hooks = {
        f"{name}({', '.join(inspect.signature(hook).parameters)})"
        for name, hook in inspect.getmembers(hookspecs, inspect.isfunction)
        if hasattr(hook, f"{hookspecs.PROJECT}_spec")
    }
    assert set(re.findall(r"^### `(.+)`$", PLUGINS, flags=re.MULTILINE)) == hooks


def test_the_changelog_opens_with_the_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## (\S+)", changelog, flags=re.MULTILINE)[1] == tornado_bridge.__version__  # type: ignore[index]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_of_a_document_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (document.parent / target).exists(), target


# The tutorial: what `plugins new orders` writes, which test_skeleton.py and tox install and run.

SKELETON = skeleton.files("orders")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.mark.parametrize("block", [*blocks(TUTORIAL, "python"), *blocks(TUTORIAL, "toml")])
def test_the_code_of_the_tutorial_is_that_of_the_skeleton(block: str) -> None:
    assert [path for path, text in SKELETON.items() if block in text]


def test_the_tutorial_begins_with_ten_lines_of_plugin() -> None:
    assert len(blocks(TUTORIAL, "python")[0].splitlines()) == 10


@pytest.mark.parametrize("command", "".join(blocks(TUTORIAL, "sh")).splitlines()[2:])
def test_a_command_of_the_tutorial_is_one_of_the_skeleton_s_readme(command: str) -> None:
    assert f"    {command}\n" in SKELETON["README.md"]


def test_the_tutorial_makes_the_skeleton_that_it_shows(tmp_path: Path) -> None:
    make, go_there = "".join(blocks(TUTORIAL, "sh")).splitlines()[:2]
    assert make == "tornado-bridge plugins new orders"
    assert go_there == f"cd {skeleton.write('orders', tmp_path).name}"


def test_the_event_of_the_tutorial_becomes_its_envelope() -> None:
    module = types.ModuleType("tornado_bridge_orders")
    exec(SKELETON["tornado_bridge_orders/__init__.py"], module.__dict__)
    source, payload = re.findall(r"publish (\S+) '(.+)'", TUTORIAL)[0]
    relayed = texts_of(module, source, payload)
    assert relayed == [block.rstrip() for block in blocks(TUTORIAL, "json")]


def texts_of(plugin: object, source: str, payload: str) -> list[str]:
    (route,) = Registry([plugin]).routes("1")
    parameters = route.match(source)
    assert parameters is not None
    event = Event(
        type=route.event_type.name,
        source=source,
        parameters=parameters,
        channel=route.event_type.channel_of(parameters),
        payload=route.decode(payload),
        exchange="coinbase",
    )
    return [route.firewall.check(route.plugin.transform(event=event)).text.decode()]


@pytest.mark.parametrize("block", blocks(PLUGINS, "python"))
def test_the_code_of_the_plugins_reference_is_that_of_the_skeleton(block: str) -> None:
    assert [path for path, text in SKELETON.items() if block in text]


# The compatibility promise: what a release of this major version may add to, and take nothing from.


def test_the_arguments_of_the_hooks_begin_with_those_of_the_first_release() -> None:
    promised = {"register_event_types": [], "transform": ["event"]}
    found = {name: list(inspect.signature(getattr(hookspecs, name)).parameters) for name in promised}
    assert {name: found[name][: len(arguments)] for name, arguments in promised.items()} == promised


def test_the_fields_of_an_event_type_begin_with_those_of_the_first_release() -> None:
    promised = ["name", "source", "channel", "reads", "emits", "parameters", "publishes", "derives"]
    assert list(inspect.signature(EventType).parameters)[: len(promised)] == promised


def test_an_event_has_the_fields_of_the_first_release() -> None:
    promised = {"type", "source", "parameters", "channel", "payload", "exchange"}
    assert promised <= set(Event.__struct_fields__)

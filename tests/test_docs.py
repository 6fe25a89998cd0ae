"""What the documents say, held against the code."""

import inspect
import re
from pathlib import Path

import pytest

import tornado_bridge
from tornado_bridge import hookspecs, metrics
from tornado_bridge.bridge import WebSocketBridge
from tornado_bridge.frames import CloseCode
from tornado_bridge.keys import FixedKeys, KeyRing
from tornado_bridge.protocol import ErrorCode
from tornado_bridge.registry import Registry
from tornado_bridge.settings import Settings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
PLUGINS = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
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
    assert commands[:2] == ["pip install . && tornado-bridge demo", "pip install tox && tox"]


def test_ci_calls_the_test_command_of_the_readme() -> None:
    assert (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()[-1] == "pip install tox && tox"


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


def test_every_module_stands_in_the_architecture_and_no_other() -> None:
    table = section(ARCHITECTURE, "The modules")
    documented = {word for line in table.splitlines() for word in re.findall(r"`(\w+)`", (line + "||").split("|")[1])}
    modules = {path.stem for path in (ROOT / "tornado_bridge").glob("*.py") if not path.stem.startswith("__")}
    assert documented == modules


def test_the_changelog_opens_with_the_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## (\S+)", changelog, flags=re.MULTILINE)[1] == tornado_bridge.__version__  # type: ignore[index]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_of_a_document_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (document.parent / target).exists(), target

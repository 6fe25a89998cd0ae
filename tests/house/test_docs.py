"""The documents, held against the code."""

import dataclasses
import inspect
import json
import re
import shlex
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import yaml

import tornado_bridge
from tests.house.test_architecture import FLOOR, FLOORS, MODULES, room
from tornado_bridge import Event, EventType, hookspecs, load_schema, values
from tornado_bridge.bridge import DEFAULT_LIMITS, WebSocketBridge
from tornado_bridge.cli import skeleton
from tornado_bridge.connections import websocket, wrong_keys
from tornado_bridge.connections.dialogue import ErrorCode
from tornado_bridge.connections.refusals import MAX_LINGERING
from tornado_bridge.keys import FixedKeys, KeyRing
from tornado_bridge.redaction.validation import Validator
from tornado_bridge.registry import Registry
from tornado_bridge.server import descriptors
from tornado_bridge.server.settings import Settings
from tornado_bridge.testing.bridge_client import BridgeClient
from tornado_bridge.web import app, listener, metrics
from tornado_bridge.wire.frames import CloseCode

ROOT = Path(__file__).parents[2]


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


README = page("README.md")
ARCHITECTURE = page("docs/architecture.md")
CONTRIBUTING = page("CONTRIBUTING.md")
EMBEDDING = page("docs/embedding.md")
OPERATIONS = page("docs/operations.md")
PLUGINS = page("docs/plugins.md")
PROTOCOL = page("docs/protocol.md")
TUTORIAL = page("docs/tutorial.md")
DOCUMENTS = sorted(path.relative_to(ROOT).as_posix() for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
TEST_COMMAND = "pip install tox && tox --parallel 2 --parallel-live"


def section(text: str, title: str) -> str:
    """Return the part of a document under a heading of the second or third level."""
    found = re.search(rf"^##+ {re.escape(title)}\n(.*?)(?=^##+ |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[1]


def rows(table: str) -> list[list[str]]:
    """Return the cells of all tables in a text, without their heads."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    heads = {i for i, line in enumerate(lines) if line.startswith("|---")}
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for i, line in enumerate(lines) if not {i, i + 1} & heads
    ]


def first_column(table: str) -> set[str]:
    """Return every code word of the first column of the tables in a text."""
    return {word for cells in rows(table) for word in re.findall(r"\w+", cells[0])}


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


# README.md


def test_the_readme_opens_with_the_two_commands() -> None:
    commands = re.findall(r"^    (.+)$", README, flags=re.MULTILINE)
    assert commands[:2] == ["pip install . && tornado-bridge demo", TEST_COMMAND]


def test_ci_calls_the_test_command_of_the_readme() -> None:
    assert page(".ci/run").splitlines()[-1] == TEST_COMMAND


def test_the_workflow_calls_ci_on_the_pythons_of_tox() -> None:
    steps = yaml.safe_load(page(".github/workflows/ci.yml"))["jobs"]["tests"]["steps"]
    pythons = next(step["with"]["python-version"].split() for step in steps if "with" in step)
    environments = re.search(r"^env_list = (.+)$", page("tox.ini"), flags=re.MULTILINE)
    assert environments is not None
    assert [f"py{version.replace('.', '')}" for version in pythons] == re.findall(r"py\d+", environments[1])
    assert steps[-1] == {"run": ".ci/run"}


def test_the_transformer_of_the_readme_is_one_that_the_registry_admits() -> None:
    module = types.ModuleType("readme_plugin")
    exec(compile(blocks(README, "python")[0], "README.md", "exec"), module.__dict__)
    registry = Registry([module])
    assert [event_type.name for plugin in registry.plugins for event_type in plugin.event_types] == ["trade"]
    assert registry.grammar.admits("trades:BTC")


@pytest.mark.parametrize("text", re.findall(r"^    [→←] (.+)$", README, flags=re.MULTILINE))
def test_a_message_of_the_readme_is_valid_under_its_schema(text: str) -> None:
    message = json.loads(text)
    assert Validator(load_schema(message.get("type", "client_message"))).first_error(message) is None


def test_the_limits_of_the_readme_are_the_defaults() -> None:
    limits = DEFAULT_LIMITS
    assert {cells[0]: cells[1] for cells in rows(section(README, "The limits"))} == {
        "each key": f"{limits.max_connections_per_key} connections, {limits.rate_limit:.0f} messages per minute",
        "each connection": f"{limits.max_subscriptions} subscriptions, client messages of 64 KiB, "
        f"a ping every {limits.ping_interval:.0f} s",
        "a slow client": f"envelopes are skipped above {limits.skip_bytes // 1024} KiB of buffer; it is disconnected "
        f"above {limits.abort_bytes // 1024} KiB, or after {limits.slow_timeout:.0f} s above "
        f"{limits.skip_bytes // 1024} KiB",
        "each process": f"{limits.max_connections:,} connections, one exchange",
    }


def test_the_figures_of_the_readme_are_those_of_the_measurements() -> None:
    performance = page("docs/performance.md") + page("docs/performance/results.md")
    figures = [cells[1].split()[0] for cells in rows(section(README, "Measured"))]
    assert figures
    assert [figure for figure in figures if figure not in performance] == []


# The settings, codes, metrics and paths of the server


def test_every_setting_is_documented_and_no_other() -> None:
    assert [cells[0].strip("`") for cells in rows(section(OPERATIONS, "Settings"))] == list(Settings.model_fields)


@pytest.mark.parametrize(("name", "default"), [cells[:2] for cells in rows(section(OPERATIONS, "Settings"))])
def test_a_default_is_that_of_the_settings(name: str, default: str) -> None:
    name = name.strip("`")
    assert default.strip("`").split()[0].replace(",", "") == _as_documented(name, Settings.model_fields[name])


def _as_documented(name: str, field: Any) -> str:
    if field.is_required():
        return "required"
    if field.default is None:
        return "all" if "tuple" in str(field.annotation) else "none"
    if field.default == ():
        return "any" if name == "allow_origin" else "none"
    if isinstance(field.default, bool):
        return str(field.default).lower()
    return f"{field.default:g}" if isinstance(field.default, float) else str(field.default)


def test_every_limit_of_a_bridge_is_a_setting() -> None:
    assert {field.name for field in dataclasses.fields(DEFAULT_LIMITS)} <= Settings.model_fields.keys()


def test_every_close_code_is_documented_and_no_other() -> None:
    codes = {cells[0] for cells in rows(section(PROTOCOL, "Close codes"))}
    assert codes == {str(int(code)) for code in CloseCode if code is not CloseCode.NORMAL}


def test_every_close_code_says_whether_to_come_back() -> None:
    answers = [cells[3] for cells in rows(section(PROTOCOL, "Close codes"))]
    assert [answer for answer in answers if not answer.startswith(("yes", "no", "later"))] == []


def test_every_error_code_is_documented_and_no_other() -> None:
    assert first_column(section(PROTOCOL, "Errors")) == {code.value for code in ErrorCode}


def bridge_that_never_starts() -> WebSocketBridge:
    return WebSocketBridge(
        redis_url="redis://127.0.0.1:1/0", exchange_id=1, exchange_name="x", keys=FixedKeys(KeyRing.single("k", "v"))
    )


@pytest.mark.gen_test
async def test_every_metric_is_documented_and_no_other() -> None:
    exposed = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in metrics.BridgeCollector(bridge_that_never_starts()).collect()
    }
    assert {cells[0].strip("`") for cells in rows(section(OPERATIONS, "Metrics"))} == exposed


@pytest.mark.gen_test
async def test_every_path_is_documented_and_no_other() -> None:
    documented = re.findall(r"`(/[^`]+)`", "".join(cells[0] for cells in rows(section(OPERATIONS, "HTTP endpoints"))))
    assert set(documented) == {path for path, *_ in app.routes(bridge_that_never_starts())}


def number(text: str) -> int:
    return int(text.split()[0].replace(",", ""))


def test_the_connections_under_a_limit_of_open_files_are_those_that_are_fitted() -> None:
    table = [list(map(number, cells)) for cells in rows(section(OPERATIONS, "Strangers"))]
    assert table
    assert [[limit, *descriptors.fit(10_000, 1_000, limit)] for limit, *_ in table] == table
    assert descriptors.fit(10_000, 1_000, table[-1][0] - 1) != (10_000, 1_000)


def test_the_numbers_about_strangers_are_those_of_the_code() -> None:
    text = " ".join(section(OPERATIONS, "Strangers").split())
    for clause in (
        f"may try {wrong_keys.FREE_TRIES} wrong keys per minute",
        f"comes {wrong_keys.DELAY:.0f} s late. If {wrong_keys.MAX_WAITING} such answers",
        f"may send {websocket.FLOOD_BURST:,.0f} frames at once, and {websocket.FLOOD_RATE:.0f} per second",
        f"Each {websocket._FLOOD_BYTES // 1024} KiB, as sent",
        f"keeps {descriptors.RESERVE} descriptors for itself, and one for each of up to {MAX_LINGERING:,} refused",
        f"accepts nothing for {listener.PAUSE} s",
    ):
        assert clause in text


def test_a_log_line_that_is_documented_exists() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tornado_bridge").rglob("*.py"))
    lines = [cells[0].strip("`") for cells in rows(section(OPERATIONS, "Logs"))]
    assert lines
    assert [line for line in lines if f'"{line}"' not in code] == []


# The hooks and the public names


def test_every_hook_is_documented_with_its_arguments_and_no_other() -> None:
    hooks = {
        f"{name}({', '.join(inspect.signature(hook).parameters)})"
        for name, hook in inspect.getmembers(hookspecs, inspect.isfunction)
        if hasattr(hook, f"{hookspecs.PROJECT}_spec")
    }
    assert set(re.findall(r"^### `(.+)`$", PLUGINS, flags=re.MULTILINE)) == hooks


def test_every_field_of_an_event_type_is_documented_and_no_other() -> None:
    assert first_column(section(PLUGINS, "Event types")) == set(inspect.signature(EventType).parameters)


def test_every_function_of_values_is_documented_with_its_arguments_and_no_other() -> None:
    functions = {
        f"{name}({', '.join(map(_parameter, inspect.signature(function).parameters.values()))})"
        for name, function in inspect.getmembers(values, inspect.isfunction)
        if function.__module__ == values.__name__ and not name.startswith("_")
    }
    assert set(re.findall(r"^\| `(\w+\(.*?\))`", section(PLUGINS, "The public names"), flags=re.MULTILINE)) == functions


def _parameter(parameter: inspect.Parameter) -> str:
    return f"*{parameter.name}" if parameter.kind is parameter.VAR_POSITIONAL else parameter.name


def test_the_application_of_the_embedding_page_uses_public_names_alone() -> None:
    program = "".join(blocks(EMBEDDING, "python"))
    compile(program, "embedding.md", "exec")
    modules = set(re.findall(r"^from (tornado_bridge\S*) import", program, flags=re.MULTILINE))
    imported = re.findall(r"^from tornado_bridge import (.+)$", program, flags=re.MULTILINE)
    assert modules == {"tornado_bridge"}
    assert {name for names in imported for name in names.split(", ")} <= first_column(
        section(EMBEDDING, "The public names")
    )


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


# The tutorial: what `plugins new orders` writes, which test_skeleton.py and tox install and run.

SKELETON = skeleton.files("orders")


@pytest.mark.parametrize("block", [*blocks(TUTORIAL, "python"), *blocks(TUTORIAL, "toml")])
def test_the_code_of_the_tutorial_is_that_of_the_skeleton(block: str) -> None:
    assert [path for path, text in SKELETON.items() if block in text]


@pytest.mark.parametrize("block", [*blocks(PLUGINS, "python"), *blocks(PLUGINS, "toml")])
def test_the_code_of_the_plugins_reference_is_that_of_the_skeleton(block: str) -> None:
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
    plugin = types.ModuleType("tornado_bridge_orders")
    exec(SKELETON["tornado_bridge_orders/__init__.py"], plugin.__dict__)
    source, payload = re.findall(r"publish (\S+) '(.+)'", TUTORIAL)[0]
    with BridgeClient([plugin]) as client:
        client.publish(source, payload)
        assert [client.receive()] == [json.loads(block) for block in blocks(TUTORIAL, "json")]


# The architecture


def test_the_order_of_imports_is_that_of_the_test() -> None:
    there = {room(module) for module in MODULES}
    lines = [set(line.split()) for line in blocks(ARCHITECTURE, "text")[0].splitlines()]
    assert [line & there for line in lines] == [floor & there for floor in FLOORS]
    assert set().union(*lines) <= FLOOR.keys()


def test_every_package_and_module_of_the_root_is_described() -> None:
    there = {room(module) for module in MODULES} & FLOOR.keys()
    assert there <= first_column(section(ARCHITECTURE, "The packages")) <= FLOOR.keys()


# CONTRIBUTING.md


def test_a_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^(\w+):", page("Makefile"), flags=re.MULTILINE))
    assert set(re.findall(r"\bmake (\w+)[`\n]", CONTRIBUTING)) <= targets


def test_the_install_target_installs_what_tox_needs_for_types_and_lint() -> None:
    recipe = re.search(r"^install:.*\n\t.* pip install (.+)$", page("Makefile"), flags=re.MULTILINE)
    assert recipe is not None
    environments = re.findall(r"\[testenv:(?:types|lint)\]\n(.*?)\n\n", page("tox.ini"), flags=re.DOTALL)
    needed = {name for text in environments for name in re.findall(r"([\w-]+)>=", text)}
    assert needed <= set(shlex.split(recipe[1]))


def test_the_command_for_one_test_runs() -> None:
    command = re.search(r"^    python (-m pytest tests/\S+)$", CONTRIBUTING, flags=re.MULTILINE)
    assert command is not None
    run = subprocess.run([sys.executable, *command[1].split()], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout


# All documents


def test_the_newest_release_of_the_changelog_is_the_version() -> None:
    releases = re.findall(r"^## \[(\d\S*)\] - (\S+)$", page("CHANGELOG.md"), flags=re.MULTILINE)
    version, date = releases[0]
    assert version == tornado_bridge.__version__
    assert re.fullmatch(r"unreleased|\d{4}-\d\d-\d\d", date)


def test_the_changelog_groups_its_lines_in_the_usual_way() -> None:
    groups = set(re.findall(r"^### (.+)$", page("CHANGELOG.md"), flags=re.MULTILINE))
    assert groups <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def anchors(text: str) -> set[str]:
    """Return the anchors of a document's headings, as a renderer of Markdown makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_of_a_document_leads_somewhere(document: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page(document)):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        leads_to = (ROOT / document).parent / path if path else ROOT / document
        assert leads_to.exists(), target
        if anchor:
            assert anchor in anchors(leads_to.read_text(encoding="utf-8")), target


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_path_that_a_document_names_is_there(document: str) -> None:
    named = re.findall(r"`((?:tornado_bridge|tests|benchmarks|plugins|schemas)/[\w/.]*)`", page(document))
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_sdist_has_every_document() -> None:
    included = re.findall(r"\S+", page("MANIFEST.in"))
    # setuptools adds README.md by itself.
    assert {name for name in DOCUMENTS if "/" not in name and name != "README.md"} <= set(included)

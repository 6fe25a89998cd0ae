"""tornado_bridge.cli: the commands, their help and version, misuse, and how a run ends."""

import importlib
import importlib.metadata
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import Command, program
from tests.support.servers import bridge_process
from tornado_bridge import cli
from tornado_bridge.cli import serve as serve_command
from tornado_bridge.errors import BridgeError, ConfigurationError

MAIN = str(Path(cli.__file__).parents[1] / "__main__.py")
VERSION = importlib.metadata.version("tornado_bridge")

COMMANDS = [
    (),
    ("serve",),
    ("demo",),
    ("keys",),
    ("keys", "create"),
    ("keys", "list"),
    ("keys", "revoke"),
    ("tail",),
    ("plugins",),
    ("plugins", "new"),
    ("asyncapi",),
    ("audit",),
]


# Help and version


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_has_a_version(words: tuple[str, ...], command: Command) -> None:
    assert command(*words, "--version") == (0, f"tornado-bridge, version {VERSION}\n", "")


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_explains_itself(words: tuple[str, ...], command: Command) -> None:
    status, out, err = command(*words, "--help")
    assert (status, err) == (0, "")
    assert out.startswith(f"Usage: {' '.join(('tornado-bridge', *words))} ")


@pytest.mark.parametrize("words", COMMANDS)
def test_every_help_lists_help_and_version(words: tuple[str, ...], command: Command) -> None:
    out = command(*words, "--help").out
    assert re.search(r"^  --help +Show this message and exit.$", out, re.MULTILINE)
    assert re.search(r"^  --version +Show the version and exit.$", out, re.MULTILINE)


def test_the_help_lists_every_command(command: Command) -> None:
    listed = re.findall(r"^  ([a-z]+)  ", command("--help").out, re.MULTILINE)
    assert listed == ["asyncapi", "audit", "demo", "keys", "plugins", "serve", "tail"]


HEAVY = ("jsonschema", "msgspec", "prometheus_client", "pydantic", "redis", "structlog", "tornado")


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_import_no_command(option: str) -> None:
    script = (
        "import sys\n"
        "from tornado_bridge.cli import main\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    print(*sorted(module.partition('.')[0] for module in sys.modules), file=sys.stderr)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, option], capture_output=True, text=True, timeout=30)
    assert ended.returncode == 0
    assert "click" in ended.stderr.split()
    assert [module for module in HEAVY if module in ended.stderr.split()] == []


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_the_sentence_of_a_command_is_the_first_of_its_help(name: str) -> None:
    command = importlib.import_module(f"tornado_bridge.cli.{name}").command
    assert (command.name, command.get_short_help_str(limit=200)) == (name, cli.COMMANDS[name])


def test_every_command_of_the_folder_is_listed() -> None:
    modules = {path.stem for path in Path(cli.__file__).parent.glob("*.py") if "\ndef command(" in path.read_text()}
    assert modules == cli.COMMANDS.keys()


# Misuse

MISUSES = [
    ("", "Missing command (see tornado-bridge --help)"),
    ("keys", "Missing command (see tornado-bridge keys --help)"),
    ("server", "No such command 'server', did you mean 'serve'? (see tornado-bridge --help)"),
    ("nonsense", "No such command 'nonsense' (see tornado-bridge --help)"),
    ("keys drop", "No such command 'drop' (see tornado-bridge keys --help)"),
    ("--bogus", "No such option '--bogus' (see tornado-bridge --help)"),
    ("--quiet", "No such option '--quiet' (see tornado-bridge --help)"),
    ("serve --prot 1", "No such option '--prot', did you mean '--port'? (see tornado-bridge serve --help)"),
    ("serve --pot 1", "No such option '--pot', did you mean '--port'? (see tornado-bridge serve --help)"),
    ("serve -p 1", "No such option '-p' (see tornado-bridge serve --help)"),
    ("serve --port", "Option '--port' requires an argument (see tornado-bridge --help)"),
    ("serve coinbase", "Got unexpected extra argument (coinbase) (see tornado-bridge serve --help)"),
    ("demo now", "Got unexpected extra argument (now) (see tornado-bridge demo --help)"),
    ("keys create", "Missing argument 'NAME' (see tornado-bridge keys create --help)"),
    ("keys create a", "Missing option '--api-keys' (see tornado-bridge keys create --help)"),
    ("keys list", "Missing option '--api-keys' (see tornado-bridge keys list --help)"),
    ("keys revoke --api-keys K", "Missing argument 'NAME' (see tornado-bridge keys revoke --help)"),
    (
        "keys create a --api-keys K --max-connections 0",
        "Invalid value for '--max-connections': 0 is not in the range x>=1 (see tornado-bridge keys create --help)",
    ),
    ("tail", "Missing argument 'CHANNEL...' (see tornado-bridge tail --help)"),
    ("tail candles:*:*", "Missing option '--url' (see tornado-bridge tail --help)"),
    ("plugins all", "No such command 'all' (see tornado-bridge plugins --help)"),
    ("asyncapi all", "Got unexpected extra argument (all) (see tornado-bridge asyncapi --help)"),
    ("plugins --jsn", "No such option '--jsn', did you mean '--json'? (see tornado-bridge plugins --help)"),
    ("serve --bogus", "No such option '--bogus' (see tornado-bridge serve --help)"),
    ("audit --case 3", "No such option '--case', did you mean '--cases'? (see tornado-bridge audit --help)"),
    (
        "keys list --api-key K",
        "No such option '--api-key', did you mean '--api-keys'? (see tornado-bridge keys list --help)",
    ),
    ("keys revke a", "No such command 'revke', did you mean 'revoke'? (see tornado-bridge keys --help)"),
]


@pytest.mark.parametrize(("line", "sentence"), MISUSES)
def test_misuse_ends_with_two_and_one_sentence(line: str, sentence: str, command: Command) -> None:
    assert command(*line.split()) == (2, "", f"tornado-bridge: {sentence}\n")


def test_misuse_ends_a_process_without_a_traceback() -> None:
    with bridge_process("serve", "--port", "http") as process:
        assert process.finish() == (
            2,
            "",
            "tornado-bridge: --port on the command line: expected a port from 0 to 65535, got 'http'\n",
        )


# The end of a run

SERVE = ("serve", "--exchange", "1:coinbase", "--api-keys", "keys.toml")


def failing(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    async def serve(*_: object) -> None:
        raise error

    monkeypatch.setattr(serve_command.process, "serve", serve)
    monkeypatch.setattr(serve_command.logs, "configure", lambda *_: None)


def test_settings_that_the_server_refuses_end_with_two(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(ConfigurationError("--port by default: it is taken"), monkeypatch)
    assert command(*SERVE) == (2, "", "tornado-bridge: --port by default: it is taken\n")


def test_a_traceback_is_printed_on_demand(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(ConfigurationError("--port by default: it is taken"), monkeypatch)
    status, out, err = command("--debug", *SERVE)
    assert (status, out) == (2, "")
    assert err.startswith("Traceback (most recent call last):\n")
    assert err.endswith(
        "ConfigurationError: --port by default: it is taken\ntornado-bridge: --port by default: it is taken\n"
    )


def test_a_failure_while_running_ends_with_one(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(BridgeError("the bridge has failed"), monkeypatch)
    assert command(*SERVE) == (1, "", "tornado-bridge: the bridge has failed\n")


def test_an_error_of_the_system_ends_with_one(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(OSError(24, "Too many open files"), monkeypatch)
    assert command(*SERVE)[::2] == (1, "tornado-bridge: failed: Too many open files\n")


def test_an_error_of_the_system_needs_no_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(OSError(24, "Too many open files"), monkeypatch)
    monkeypatch.setattr(sys, "argv", ["tornado-bridge", *SERVE])
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1


def test_an_interrupt_before_the_server_stands_ends_with_130(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(KeyboardInterrupt(), monkeypatch)
    assert command(*SERVE).status == 130


def test_an_output_that_takes_nothing_leaves_a_process_no_traceback() -> None:
    ended = program(["--help"], ">/dev/full")
    assert (ended.returncode, ended.stderr) == (1, "tornado-bridge: failed: No space left on device\n")


def test_it_runs_as_a_module(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["tornado_bridge", "--version"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(MAIN, run_name="__main__")
    assert (ended.value.code, capsys.readouterr().out) == (0, f"tornado-bridge, version {VERSION}\n")


def test_importing_the_module_runs_nothing() -> None:
    assert runpy.run_path(MAIN, run_name="imported")["main"] is cli.main

"""tornado_bridge.cli: what the commands take, print and end with."""

import contextlib
import importlib.metadata
import io
import json
import os
import re
import runpy
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import websockets
from websockets.sync.client import ClientConnection, connect

from tests.server.test_settings import EXAMPLES
from tests.support.servers import CANDLE_SOURCE, BridgeProcess, RedisServer, bridge_process, serving
from tornado_bridge import cli
from tornado_bridge.errors import BridgeError, ConfigurationError
from tornado_bridge.keys import KeyFile
from tornado_bridge.server.settings import Settings

CANDLE = '{"timestamp":1708264800000,"open":1,"high":2,"low":0.50,"close":1.5,"volume":3,"macdV":77.5}'
CANDLE_TEXT = "O 1 H 2 L 0.5 C 1.5 V 3 2024-02-18T14:00:00.000Z"
ENVELOPE = (
    '{"type":"candle_close","channel":"candles:BTC-USD:1h","data":{"timestamp":"2024-02-18T14:00:00.000Z",'
    '"open":"1","high":"2","low":"0.5","close":"1.5","volume":"3"}}'
)
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


class Outcome(NamedTuple):
    status: object
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def _no_settings_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("TORNADO_BRIDGE_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command line in this process."""

    def run(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["tornado-bridge", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return Outcome(ended.value.code, *capsys.readouterr())

    return run


class Served(NamedTuple):
    settings: list[Settings]
    logs: list[tuple[str, str]]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    """What reaches a server that stops at once, and the log."""
    found = Served([], [])

    async def serve(settings: Settings, on_listening: Callable[[str], None]) -> None:
        found.settings.append(settings)
        on_listening("http://127.0.0.1:8765")

    monkeypatch.setattr(cli.process, "serve", serve)
    monkeypatch.setattr(cli.logs, "configure", lambda level, form: found.logs.append((level, form)))
    return found


def failing(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    async def serve(*_: object) -> None:
        raise error

    monkeypatch.setattr(cli.process, "serve", serve)
    monkeypatch.setattr(cli.logs, "configure", lambda *_: None)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys.toml"
    KeyFile(path).create("first")
    return path


SERVE = ("serve", "--exchange", "1:coinbase", "--api-keys", "keys.toml")


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


def groups(text: str) -> dict[str, dict[str, str]]:
    """Return the options of a help by their group, each with what is said of it."""
    found: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        if heading := re.fullmatch(r"([A-Z][A-Za-z ]+):", line):
            said = found[heading[1]] = {}
        elif found and (record := re.fullmatch(r"  (--[a-z-]+)(?: [A-Z]+)?(?: +(.*))?", line)):
            name, said[record[1]] = record[1], record[2] or ""
        elif found and line:
            said[name] = f"{said[name]} {line.strip()}".strip()
    return {heading: {name: " ".join(text.split()) for name, text in said.items()} for heading, said in found.items()}


def test_the_help_of_serve_groups_the_settings(command: Command) -> None:
    assert {heading: list(options) for heading, options in groups(command("serve", "--help").out).items()} == {
        "Server": ["--host", "--port", "--metrics-port", "--event-loop", "--exchange"],
        "Redis": ["--redis-url", "--redis-password-file"],
        "Plugins": ["--plugins", "--plugins-dir"],
        "Clients": [
            "--api-keys",
            "--allow-origin",
            "--max-connections",
            "--max-handshakes",
            "--max-connections-per-key",
            "--max-subscriptions",
            "--rate-limit",
            "--rate-burst",
            "--compression",
            "--ping-interval",
        ],
        "Slow clients": ["--skip-bytes", "--abort-bytes", "--slow-timeout"],
        "Logging": ["--log-level", "--log-format"],
        "Other": ["--version", "--config", "--help"],
    }


def test_the_help_of_serve_lists_every_setting_but_the_password(command: Command) -> None:
    listed = {name for options in groups(command("serve", "--help").out).values() for name in options}
    settings = {f"--{name.replace('_', '-')}" for name in Settings.model_fields}
    assert listed - {"--config", "--help", "--version"} == settings - {"--redis-password"}


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("--host", "127.0.0.1"),
        ("--port", "8765"),
        ("--redis-url", "redis://127.0.0.1:6379/0"),
        ("--max-connections", "10000"),
        ("--max-handshakes", "1000"),
        ("--max-connections-per-key", "5"),
        ("--max-subscriptions", "200"),
        ("--rate-limit", "300.0 a minute"),
        ("--rate-burst", "50"),
        ("--ping-interval", "30.0 s"),
        ("--skip-bytes", "65536 bytes"),
        ("--abort-bytes", "262144 bytes"),
        ("--slow-timeout", "30.0 s"),
        ("--log-level", "info"),
        ("--log-format", "text"),
    ],
)
def test_the_help_of_serve_has_each_default_with_its_unit(name: str, default: str, command: Command) -> None:
    options = {name: text for said in groups(command("serve", "--help").out).values() for name, text in said.items()}
    assert options[name].endswith(f". [default: {default}]")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("--exchange", "Required."),
        ("--api-keys", "Required."),
        ("--metrics-port", "none unless given."),
        ("--allow-origin", "any unless given."),
    ],
)
def test_the_help_of_serve_says_what_holds_without_a_default(name: str, said: str, command: Command) -> None:
    options = {name: text for said in groups(command("serve", "--help").out).values() for name, text in said.items()}
    assert options[name].endswith(said)


def test_the_help_of_serve_says_where_the_password_comes_from(command: Command) -> None:
    text = " ".join(command("serve", "--help").out.replace("password-\n", "password-").split())
    assert "TORNADO_BRIDGE_REDIS_PASSWORD, or --redis-password- file." in text


def test_the_help_of_tail_says_that_others_see_the_option_s_key(command: Command) -> None:
    text = " ".join(command("tail", "--help").out.split())
    assert "visible to every user of the machine: rather set TORNADO_BRIDGE_API_KEY." in text


# Serve


@pytest.mark.parametrize("name", sorted(EXAMPLES.keys() - {"redis_password"}))
def test_an_option_of_serve_reaches_the_server(name: str, command: Command, served: Served) -> None:
    text, _, value = EXAMPLES[name]
    parts = text.split() if name == "allow_origin" else [text]
    words = [word for part in parts for word in (f"--{name.replace('_', '-')}", part)]
    assert command(*SERVE, *words).status == 0
    assert getattr(served.settings[0], name) == value


@pytest.mark.parametrize(
    ("words", "compression"),
    [
        ((), False),
        (("--compression",), True),
        (("--compression", "--port", "0"), True),
        (("--compression", "false"), False),
        (("--compression=false",), False),
    ],
)
def test_compression_needs_no_value(
    words: tuple[str, ...], compression: bool, command: Command, served: Served
) -> None:
    assert command(*SERVE, *words).status == 0
    assert served.settings[0].compression is compression


def test_an_option_takes_compression_back(command: Command, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORNADO_BRIDGE_COMPRESSION", "true")
    assert command(*SERVE, "--compression=false").status == 0
    assert served.settings[0].compression is False


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_environment_of_serve_reaches_the_server(
    name: str, command: Command, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, text in {"exchange": "1:coinbase", "api_keys": "keys.toml", name: EXAMPLES[name][0]}.items():
        monkeypatch.setenv(f"TORNADO_BRIDGE_{key.upper()}", text)
    assert command("serve").status == 0
    assert getattr(served.settings[0], name) == EXAMPLES[name][2]


@pytest.mark.parametrize("name", sorted(EXAMPLES.keys() - {"redis_password"}))
def test_the_file_of_serve_reaches_the_server(name: str, command: Command, served: Served, tmp_path: Path) -> None:
    lines = {"exchange": '"1:coinbase"', "api_keys": '"keys.toml"', name: EXAMPLES[name][1]}
    path = tmp_path / "settings.toml"
    path.write_text("".join(f"{key} = {value}\n" for key, value in lines.items()))
    assert command("serve", "--config", str(path)).status == 0
    assert getattr(served.settings[0], name) == EXAMPLES[name][2]


def test_the_file_of_serve_may_be_named_in_the_environment(
    command: Command, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "settings.toml").write_text("port = 4711")
    monkeypatch.setenv("TORNADO_BRIDGE_CONFIG", str(tmp_path / "settings.toml"))
    command(*SERVE)
    assert served.settings[0].port == 4711


def test_an_option_of_serve_beats_environment_and_file(
    command: Command, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "settings.toml").write_text("port = 3")
    monkeypatch.setenv("TORNADO_BRIDGE_PORT", "2")
    command(*SERVE, "--port", "1", "--config", str(tmp_path / "settings.toml"))
    assert served.settings[0].port == 1


def test_serve_prints_where_it_listens_and_nothing_else(command: Command, served: Served) -> None:
    assert command(*SERVE) == (0, "listening on http://127.0.0.1:8765\n", "")


def test_serve_logs_as_it_is_told(command: Command, served: Served) -> None:
    command(*SERVE, "--log-level", "error", "--log-format", "json")
    assert served.logs == [("error", "json")]


# What cannot be used

SEE_SERVE = "(see tornado-bridge serve --help)"

MISUSES: list[tuple[str, str]] = [
    ("", "Missing command (see tornado-bridge --help)"),
    ("keys", "Missing command (see tornado-bridge keys --help)"),
    ("server", "No such command 'server': perhaps 'serve' (see tornado-bridge --help)"),
    ("nonsense", "No such command 'nonsense' (see tornado-bridge --help)"),
    ("keys drop", "No such command 'drop' (see tornado-bridge keys --help)"),
    ("--quiet", "No such option '--quiet' (see tornado-bridge --help)"),
    ("serve --prot 1", f"No such option '--prot': perhaps '--host', '--port' {SEE_SERVE}"),
    ("serve --pot 1", f"No such option '--pot': perhaps '--host', '--port' {SEE_SERVE}"),
    ("serve -p 1", f"No such option '-p' {SEE_SERVE}"),
    ("serve --port", "Option '--port' requires an argument (see tornado-bridge --help)"),
    ("serve coinbase", f"Got unexpected extra argument (coinbase) {SEE_SERVE}"),
    (
        "serve --api-keys K",
        "--exchange is required, on the command line, in the environment (TORNADO_BRIDGE_EXCHANGE) or in the --config "
        "file: expected ID:NAME, such as 1:coinbase",
    ),
    (
        "serve --exchange 1:a",
        "--api-keys is required, on the command line, in the environment (TORNADO_BRIDGE_API_KEYS) or in the --config "
        "file: expected the path of a file",
    ),
    ("serve --port http", "--port on the command line: expected a port from 0 to 65535, got 'http'"),
    (
        "serve --exchange 1:a --api-keys K --ping-interval nan",
        "--ping-interval on the command line: expected a number above 0, got 'nan'",
    ),
    (
        "serve --exchange 1:a --api-keys K --slow-timeout=-3",
        "--slow-timeout on the command line: expected a number above 0, got '-3'",
    ),
    (
        "serve --exchange 1:a --api-keys K --skip-bytes 9 --abort-bytes 8",
        "--abort-bytes on the command line: expected no fewer bytes than --skip-bytes on the command line",
    ),
    ("serve --config /nonexistent", "--config: /nonexistent cannot be read (No such file or directory)"),
    ("serve --config /", "--config: / cannot be read (Is a directory)"),
    ("demo --port 99999", "--port on the command line: expected a port from 0 to 65535, got '99999'"),
    ("demo --port http", "--port on the command line: expected a port from 0 to 65535, got 'http'"),
    ("demo --host=", "--host on the command line: expected an address or a host name, got ''"),
    ("demo now", "Got unexpected extra argument (now) (see tornado-bridge demo --help)"),
    ("keys create", "Missing argument 'NAME' (see tornado-bridge keys create --help)"),
    ("keys create a", "Missing option '--api-keys' (see tornado-bridge keys create --help)"),
    ("keys list", "Missing option '--api-keys' (see tornado-bridge keys list --help)"),
    ("keys revoke --api-keys K", "Missing argument 'NAME' (see tornado-bridge keys revoke --help)"),
    (
        "keys create a --api-keys K --max-connections 0",
        "Invalid value for '--max-connections': 0 is not in the range x>=1 (see tornado-bridge keys create --help)",
    ),
    ("keys create a --api-keys K --channels candle", "--channels: 'candle' is a channel of no installed plugin"),
    ("keys create a --api-keys K --channels=", "--channels: '' is a channel of no installed plugin"),
    (
        "keys create a --api-keys /nonexistent/K",
        "API key file /nonexistent/K cannot be written: No such file or directory",
    ),
    ("keys list --api-keys /nonexistent", "API key file /nonexistent cannot be read: No such file or directory"),
    ("keys revoke a --api-keys /nonexistent", "API key file /nonexistent cannot be read: No such file or directory"),
    ("tail", "Missing argument 'CHANNEL...' (see tornado-bridge tail --help)"),
    ("tail candles:*:*", "Missing option '--url' (see tornado-bridge tail --help)"),
    ("tail --url ws://h c", "an API key is required: expected in TORNADO_BRIDGE_API_KEY or by --api-key-file"),
    (
        "tail --url http://h c --api-key k",
        "the URL must have the form ws://HOST:PORT/PATH or wss://HOST:PORT/PATH",
    ),
    ("tail --url ws://h c --api-key k\N{SNOWMAN}", "the API key must be printable ASCII"),
    (
        "tail --url ws://h c --api-key-file /nonexistent",
        "--api-key-file: expected a readable file that holds an API key, got /nonexistent",
    ),
    ("plugins all", "No such command 'all' (see tornado-bridge plugins --help)"),
    (
        "plugins --plugins candles",
        "--plugins on the command line: no installed distribution offers a plugin 'candles' "
        "(installed: candle, signals)",
    ),
    (
        "plugins --plugins-dir /nonexistent",
        "--plugins-dir on the command line: expected a directory that can be read, got /nonexistent",
    ),
    ("audit candles", "there is no plugin 'candles' among those that are loaded"),
    (
        "audit candle --cases 1 --markdown /nonexistent/report",
        "--markdown: /nonexistent/report cannot be written: No such file or directory",
    ),
    ("asyncapi all", "Got unexpected extra argument (all) (see tornado-bridge asyncapi --help)"),
    ("plugins --jsn", "No such option '--jsn': perhaps '--json' (see tornado-bridge plugins --help)"),
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


@pytest.mark.parametrize("word", ["--redis-password", "--redis-password=hunter2"])
def test_a_password_on_the_command_line_is_refused_untold(word: str, command: Command) -> None:
    status, out, err = command(*SERVE, word, "hunter2")
    assert (status, out) == (2, "")
    assert err.startswith("tornado-bridge: No such option '--redis-password'")
    assert "hunter2" not in err


def test_the_sentence_of_unusable_settings_names_the_variable(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORNADO_BRIDGE_RATE_BURST", "lots")
    assert command(*SERVE).err == (
        "tornado-bridge: --rate-burst in the environment (TORNADO_BRIDGE_RATE_BURST): "
        "expected a whole number from 1 to 2147483647, got 'lots'\n"
    )


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


def test_an_interrupt_before_the_server_stands_ends_with_130(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(KeyboardInterrupt(), monkeypatch)
    assert command(*SERVE).status == 130


def test_an_output_that_takes_nothing_ends_with_one_and_a_sentence(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert command("plugins")[::2] == (1, "tornado-bridge: failed: No space left on device\n")


def test_an_output_that_takes_nothing_leaves_a_process_no_traceback() -> None:
    with open("/dev/full", "wb") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "tornado_bridge", "--help"], stdout=full, stderr=subprocess.PIPE, timeout=15
        )
    assert (ended.returncode, ended.stderr) == (1, b"tornado-bridge: failed: No space left on device\n")


def test_it_runs_as_a_module(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["tornado_bridge", "--version"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(MAIN, run_name="__main__")
    assert (ended.value.code, capsys.readouterr().out) == (0, f"tornado-bridge, version {VERSION}\n")


def test_importing_the_module_runs_nothing() -> None:
    assert runpy.run_path(MAIN, run_name="imported")["main"] is cli.main


# Demo


def test_demo_takes_what_was_given_and_logs_warnings(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []

    async def demo(options: dict[str, str], say: Callable[[str], object]) -> None:
        given.append(options)
        say("key     k")

    monkeypatch.setattr(cli.demonstration, "demo", demo)
    monkeypatch.setattr(cli.logs, "configure", lambda *how: given.append(how))
    assert command("demo", "--port", "0") == (0, "key     k\n", "")
    assert given == [("warning", "text"), {"port": "0"}]


# Keys


def test_creating_a_key_prints_it_alone(command: Command, tmp_path: Path) -> None:
    status, out, err = command("keys", "create", "acme", "--api-keys", str(tmp_path / "keys.toml"))
    assert (status, err) == (0, "")
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}\n", out)


def test_the_key_file_opens_to_its_owner_alone(command: Command, tmp_path: Path) -> None:
    command("keys", "create", "acme", "--api-keys", str(tmp_path / "keys.toml"))
    assert stat.S_IMODE((tmp_path / "keys.toml").stat().st_mode) == 0o600


def test_the_key_file_does_not_hold_the_key(command: Command, tmp_path: Path) -> None:
    key = command("keys", "create", "acme", "--api-keys", str(tmp_path / "keys.toml")).out.strip()
    assert key not in (tmp_path / "keys.toml").read_text()


def test_the_key_file_may_be_named_in_the_environment(
    command: Command, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORNADO_BRIDGE_API_KEYS", str(keys))
    assert command("keys", "create", "acme").status == 0
    assert [key.name for key in KeyFile(keys).read()] == ["first", "acme"]


def test_a_key_may_be_limited(command: Command, keys: Path) -> None:
    limits = ("--max-connections", "2", "--channels", "candles:*:1h", "--channels", "signals:BTC-USD:*")
    command("keys", "create", "acme", "--api-keys", str(keys), *limits)
    key = KeyFile(keys).read()[1]
    assert (key.max_connections, key.channels) == (2, ("candles:*:1h", "signals:BTC-USD:*"))


def test_a_name_that_is_taken_is_refused(command: Command, keys: Path) -> None:
    assert command("keys", "create", "first", "--api-keys", str(keys)) == (
        2,
        "",
        f"tornado-bridge: API key file {keys} has a key first already (a revoked one keeps its name)\n",
    )


def test_a_key_file_that_others_can_read_is_refused(command: Command, keys: Path) -> None:
    keys.chmod(0o644)
    assert command("keys", "list", "--api-keys", str(keys)) == (
        2,
        "",
        f"tornado-bridge: API key file {keys} has mode 0644, so others can use it: chmod 600 it\n",
    )


def test_the_list_shows_every_key_and_no_secret(command: Command, keys: Path) -> None:
    file = KeyFile(keys)
    file.create("acme", max_connections=2, channels=("candles:*:*", "signals:*:1h"))
    file.revoke("first")
    status, out, err = command("keys", "list", "--api-keys", str(keys))
    assert (status, err) == (0, "")
    today = f"{file.read()[0].created:%Y-%m-%d}"
    assert [line.split("  ") for line in re.sub("   +", "  ", out).splitlines()] == [
        ["ID", "NAME", "CREATED", "STATE", "CONNECTIONS", "CHANNELS"],
        ["1", "first", today, f"revoked {today}", "default", "all"],
        ["2", "acme", today, "active", "2", "candles:*:* signals:*:1h"],
    ]


def test_revoking_says_so_on_stderr(command: Command, keys: Path) -> None:
    assert command("keys", "revoke", "first", "--api-keys", str(keys)) == (0, "", "revoked first\n")
    assert not KeyFile(keys).read()[0].active


def test_revoking_an_unknown_key_is_refused(command: Command, keys: Path) -> None:
    assert command("keys", "revoke", "acme", "--api-keys", str(keys)) == (
        2,
        "",
        f"tornado-bridge: API key file {keys} has no active key of that name\n",
    )


# Plugins


def test_the_plugins_are_a_table(command: Command) -> None:
    status, out, err = command("plugins")
    assert (status, err) == (0, "")
    assert [re.split("  +", line) for line in out.splitlines()] == [
        ["NAME", "VERSION", "DISTRIBUTION", "EVENT TYPES", "HOOKS"],
        ["candle", VERSION, "tornado_bridge", "candle_close", "register_event_types transform"],
        ["signals", VERSION, "tornado_bridge", "trade_signal", "register_event_types transform"],
    ]


def test_the_plugins_are_json(command: Command) -> None:
    status, out, err = command("plugins", "--json")
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


# AsyncAPI


def test_the_asyncapi_document_is_json(command: Command) -> None:
    status, out, err = command("asyncapi")
    assert (status, err, json.loads(out)["asyncapi"]) == (0, "", "3.1.0")


def test_the_asyncapi_document_is_yaml_on_demand(command: Command) -> None:
    status, out, err = command("asyncapi", "--yaml")
    assert (status, err, out.splitlines()[0]) == (0, "", "asyncapi: 3.1.0")


# Audit


def test_the_audit_of_a_plugin_is_a_text(command: Command) -> None:
    status, out, err = command("audit", "candle", "--cases", "20")
    assert (status, err) == (0, "")
    assert "candle_close" in out


def test_the_audit_is_json_on_demand(command: Command) -> None:
    status, out, err = command("audit", "candle", "--cases", "20", "--json")
    assert (status, err) == (0, "")
    assert isinstance(json.loads(out), dict)


def test_the_audit_is_a_report_in_the_place_of_the_text(command: Command) -> None:
    status, out, err = command("audit", "candle", "--cases", "20", "--markdown", "-")
    assert (status, err) == (0, "")
    assert out.startswith("# ")


def test_the_audit_is_a_report_beside_the_text(command: Command, tmp_path: Path) -> None:
    status, out, err = command("audit", "candle", "--cases", "20", "--markdown", str(tmp_path / "report.md"))
    assert (status, err) == (0, "")
    assert "candle_close" in out
    assert (tmp_path / "report.md").read_text().startswith("# ")


LEAKY = """
import msgspec
from tornado_bridge import Envelope, EventType, envelope_schema, hookimpl

class Reads(msgspec.Struct):
    secret: bool

TYPE = EventType(
    name="leak",
    source="leaks:{symbol}",
    channel="leaks:{symbol}",
    parameters={"symbol": "[A-Z]{3}"},
    reads=Reads,
    emits=envelope_schema("leak", "^leaks:[A-Z]{3}$", {"flag": {"type": "boolean"}}),
)

@hookimpl
def register_event_types():
    return [TYPE]

@hookimpl
def transform(event):
    return Envelope(event.channel, {"flag": event.payload.secret})
"""


def test_an_audit_with_a_finding_ends_with_one(command: Command, tmp_path: Path) -> None:
    (tmp_path / "leaky.py").write_text(LEAKY)
    status, out, err = command("audit", "leaky", "--plugins-dir", str(tmp_path))
    assert (status, err) == (1, "")
    assert "finding: flag changes with secret, which is not declared\n\n1 finding" in out


# Tail

TAIL = ("tail", "--url", "ws://127.0.0.1:1/public/v1/stream", "candles:*:*")


@pytest.fixture
def tailed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What reaches a tail that ends at once with 1."""
    found: list[tuple[Any, ...]] = []

    def run(url: str, key: str, channels: tuple[str, ...], *, as_json: bool, colour: bool) -> int:
        found.append((url, key, channels, as_json, colour))
        return 1

    monkeypatch.setattr(cli.tail, "run", run)
    return found


def test_tail_follows_with_the_key_of_the_environment(
    command: Command, tailed: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORNADO_BRIDGE_API_KEY", "from-the-environment")
    command(*TAIL, "signals:*:1h")
    assert tailed == [
        (
            "ws://127.0.0.1:1/public/v1/stream",
            "from-the-environment",
            ("candles:*:*", "signals:*:1h"),
            False,
            False,
        )
    ]


def test_tail_follows_with_the_key_of_a_file(
    command: Command, tailed: list[tuple[Any, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORNADO_BRIDGE_API_KEY", "from-the-environment")
    (tmp_path / "key").write_text("from-the-file\n")
    command(*TAIL, "--api-key-file", str(tmp_path / "key"))
    assert tailed[0][1] == "from-the-file"


def test_tail_follows_with_the_key_of_the_option(
    command: Command, tailed: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("from-the-file\n")
    command(*TAIL, "--api-key-file", str(tmp_path / "key"), "--api-key", "from-the-option")
    assert tailed[0][1] == "from-the-option"


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff"])
def test_a_key_file_of_tail_without_a_key_is_refused(content: bytes, command: Command, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    assert command(*TAIL, "--api-key-file", str(path)) == (
        2,
        "",
        f"tornado-bridge: --api-key-file: expected a readable file that holds an API key, got {path}\n",
    )


def test_an_empty_key_in_the_environment_is_none(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORNADO_BRIDGE_API_KEY", "")
    assert command(*TAIL)[::2] == (
        2,
        "tornado-bridge: an API key is required: expected in TORNADO_BRIDGE_API_KEY or by --api-key-file\n",
    )


def test_tail_prints_json_on_demand(command: Command, tailed: list[tuple[Any, ...]]) -> None:
    command(*TAIL, "--api-key", "k", "--json")
    assert tailed[0][3] is True


def test_tail_ends_with_its_status(command: Command, tailed: list[tuple[Any, ...]]) -> None:
    assert command(*TAIL, "--api-key", "k").status == 1


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("variables", "colour"), [({}, True), ({"NO_COLOR": ""}, False)])
def test_a_terminal_gets_colour_unless_it_is_not_wanted(
    variables: dict[str, str],
    colour: bool,
    command: Command,
    tailed: list[tuple[Any, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", Terminal())
    command(*TAIL, "--api-key", "k")
    assert tailed[0][4] is colour


# A server, and who uses the command line beside it


class Running(NamedTuple):
    """A server on the tests' Redis, for an exchange of its own."""

    process: BridgeProcess
    url: str
    key: str
    keys: Path
    redis: RedisServer

    def publish(self) -> None:
        source = CANDLE_SOURCE.replace("exchange:1", "exchange:cli").format(symbol="BTC-USD", timeframe="1h")
        self.redis.publish((source, CANDLE))


@pytest.fixture(scope="module")
def running(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("serving")
    options = ("--exchange", "cli:coinbase", "--max-connections-per-key", "50")
    with serving(directory, redis_server.url, *options) as (process, url, key):
        yield Running(process, url, key, directory / "keys.toml", redis_server)


def close_code(client: ClientConnection, within: float) -> tuple[int, str]:
    with pytest.raises(websockets.ConnectionClosed) as closed:
        client.recv(timeout=within)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, closed.value.rcvd.reason


def admitted(running: Running, key: str) -> bool:
    """Whether a client with that key is served."""
    with connect(running.url, additional_headers={"X-API-Key": key}) as client:
        try:
            client.send('{"action":"subscribe","channels":["candles:*:*"]}')
            return str(client.recv(timeout=5)).startswith('{"type":"subscribed"')
        except websockets.ConnectionClosed:
            return False


def test_a_running_server_takes_a_new_key_within_two_seconds(running: Running, command: Command) -> None:
    key = command("keys", "create", "newcomer", "--api-keys", str(running.keys)).out.strip()
    created = time.monotonic()
    while not admitted(running, key):
        assert time.monotonic() < created + 2
        time.sleep(0.05)


@pytest.mark.slow
def test_a_running_server_closes_a_revoked_key_within_two_seconds(running: Running, command: Command) -> None:
    key = command("keys", "create", "leaver", "--api-keys", str(running.keys)).out.strip()
    deadline = time.monotonic() + 10
    while not admitted(running, key):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with connect(running.url, additional_headers={"X-API-Key": key}) as client:
        client.send('{"action":"subscribe","channels":["candles:*:*"]}')
        client.recv(timeout=5)
        command("keys", "revoke", "leaver", "--api-keys", str(running.keys))
        assert close_code(client, within=2) == (4001, "API key revoked")


@contextlib.contextmanager
def tailing(running: Running, *options: str, environment: dict[str, str] | None = None) -> Iterator[BridgeProcess]:
    """Run tail as a process until it follows its channel."""
    words = ("tail", "--url", running.url, "candles:BTC-USD:1h", *options)
    with bridge_process(*words, environment=environment) as process:
        assert process.error_line().startswith("tail: following ")
        yield process


def test_tail_prints_what_happens_with_the_key_of_the_environment(running: Running) -> None:
    with tailing(running, environment={"TORNADO_BRIDGE_API_KEY": running.key}) as process:
        running.publish()
        assert re.fullmatch(rf"\d\d:\d\d:\d\d\.\d\d\dZ candles:BTC-USD:1h {re.escape(CANDLE_TEXT)}", process.line())


def test_tail_prints_envelopes_as_they_come_with_the_key_of_a_file(running: Running, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{running.key}\n")
    with tailing(running, "--api-key-file", str(tmp_path / "key"), "--json") as process:
        running.publish()
        assert process.line() == ENVELOPE


def test_tail_prints_what_happens_with_the_key_of_the_option(running: Running) -> None:
    with tailing(running, "--api-key", running.key) as process:
        running.publish()
        assert process.line().endswith(CANDLE_TEXT)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_tail_with_zero_and_no_words(number: signal.Signals, running: Running) -> None:
    with tailing(running, "--api-key", running.key) as process:
        assert process.stop(number) == (0, "", "")


def test_a_closed_pipe_ends_tail_with_zero_and_no_words(running: Running) -> None:
    with tailing(running, "--api-key", running.key) as process:
        assert process.process.stdout is not None
        process.process.stdout.close()
        deadline = time.monotonic() + 10
        while process.process.poll() is None:
            assert time.monotonic() < deadline
            running.publish()
            time.sleep(0.05)
        assert process.process.stderr is not None
        assert (process.process.returncode, process.process.stderr.read()) == (0, b"")


def test_a_key_that_is_refused_ends_tail_with_one_and_a_sentence_without_it(running: Running) -> None:
    with bridge_process("tail", "--url", running.url, "candles:*:*", "--api-key", "not-a-key") as process:
        assert process.finish() == (1, "", f"tail: {running.url} closed: 4001 Invalid API key\n")


def test_the_key_of_the_environment_is_in_no_argument_of_tail(running: Running) -> None:
    with tailing(running, environment={"TORNADO_BRIDGE_API_KEY": running.key}) as process:
        assert running.key.encode() not in Path(f"/proc/{process.process.pid}/cmdline").read_bytes()

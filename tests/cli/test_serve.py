"""tornado_bridge.cli.serve: the help of the settings, and how options, environment and file reach the server."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.server.test_settings import EXAMPLES
from tests.support.commands import Command
from tornado_bridge.cli import serve
from tornado_bridge.server.settings import Settings


class Served(NamedTuple):
    settings: list[Settings]
    logs: list[tuple[str, str]]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    """What reaches a server that stops at once, and the log."""
    found = Served([], [])

    async def noted(settings: Settings, on_listening: Callable[[str], None]) -> None:
        found.settings.append(settings)
        on_listening("http://127.0.0.1:8765")

    monkeypatch.setattr(serve.process, "serve", noted)
    monkeypatch.setattr(serve.logs, "configure", lambda level, form: found.logs.append((level, form)))
    return found


SERVE = ("serve", "--exchange", "1:coinbase", "--api-keys", "keys.toml")


# Help and version


def groups(text: str) -> dict[str, dict[str, str]]:
    """Return the options of a help by their group, each with its text."""
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
        "Server": ["--host", "--port", "--metrics-port", "--metrics-host", "--event-loop", "--exchange"],
        "Redis": ["--redis-url", "--redis-password-file"],
        "Plugins": ["--plugins", "--plugins-dir"],
        "Clients": [
            "--api-keys",
            "--allow-origin",
            "--trusted-proxy",
            "--max-connections",
            "--max-handshakes",
            "--max-connections-per-key",
            "--max-subscriptions",
            "--rate-limit",
            "--rate-burst",
            "--compression",
            "--ping-interval",
        ],
        "Slow clients": ["--skip-bytes", "--abort-bytes", "--slow-timeout", "--max-buffered-bytes"],
        "Logging": ["--log-level", "--log-format", "--log-addresses"],
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
        ("--metrics-host", "127.0.0.1"),
        ("--redis-url", "redis://127.0.0.1:6379/0"),
        ("--max-connections", "10000"),
        ("--max-handshakes", "1000"),
        ("--max-connections-per-key", "5"),
        ("--max-subscriptions", "200"),
        ("--rate-limit", "300.0 per minute"),
        ("--rate-burst", "50"),
        ("--ping-interval", "30.0 s"),
        ("--skip-bytes", "65536 bytes"),
        ("--abort-bytes", "262144 bytes"),
        ("--slow-timeout", "30.0 s"),
        ("--max-buffered-bytes", "67108864 bytes"),
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
        ("--metrics-port", "Without this option there are no metrics."),
        ("--allow-origin", "Without it pages of any origin may connect."),
        ("--trusted-proxy", "Without it the header is ignored."),
    ],
)
def test_the_help_of_serve_explains_settings_without_a_default(name: str, said: str, command: Command) -> None:
    options = {name: text for said in groups(command("serve", "--help").out).values() for name, text in said.items()}
    assert options[name].endswith(said)


def test_the_help_of_serve_says_where_the_password_comes_from(command: Command) -> None:
    text = " ".join(command("serve", "--help").out.split())
    assert "set TORNADO_BRIDGE_REDIS_PASSWORD or use --redis-password-file." in text


# Serve


@pytest.mark.parametrize("name", sorted(EXAMPLES.keys() - {"redis_password"}))
def test_an_option_of_serve_reaches_the_server(name: str, command: Command, served: Served) -> None:
    text, _, value = EXAMPLES[name]
    parts = text.split() if name in ("allow_origin", "trusted_proxy") else [text]
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


def test_serve_logs_as_its_settings_say(command: Command, served: Served) -> None:
    command(*SERVE, "--log-level", "error", "--log-format", "json")
    assert served.logs == [("error", "json")]


# Unusable settings


@pytest.mark.parametrize("word", ["--redis-password", "--redis-password=hunter2"])
def test_a_password_on_the_command_line_is_refused_and_not_repeated(word: str, command: Command) -> None:
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


UNUSABLE = [
    (
        "serve --api-keys K",
        "--exchange is required, on the command line, in the environment (TORNADO_BRIDGE_EXCHANGE) or in the "
        "--config file: expected ID:NAME, such as 1:coinbase",
    ),
    (
        "serve --exchange 1:a",
        "--api-keys is required, on the command line, in the environment (TORNADO_BRIDGE_API_KEYS) or in the "
        "--config file: expected the path of a file",
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
    ("serve --config /proc/nonexistent", "--config: /proc/nonexistent cannot be read (No such file or directory)"),
    ("serve --config /", "--config: / cannot be read (Is a directory)"),
]


@pytest.mark.parametrize(("line", "sentence"), UNUSABLE)
def test_unusable_arguments_end_with_two_and_one_sentence(line: str, sentence: str, command: Command) -> None:
    assert command(*line.split()) == (2, "", f"tornado-bridge: {sentence}\n")

"""tornado_bridge.cli.keys: creating, rotating, listing and revoking API keys."""

import io
import re
import stat
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import websockets
from websockets.sync.client import ClientConnection, connect

from tests.support.commands import Command, Running, program
from tornado_bridge.key_file import KeyFile
from tornado_bridge.keys import KeyRing


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys.toml"
    KeyFile(path).create("first")
    return path


def test_creating_a_key_prints_it_alone(command: Command, tmp_path: Path) -> None:
    status, out, err = command("keys", "create", "acme", "--api-keys", str(tmp_path / "keys.toml"))
    assert (status, err) == (0, "")
    assert re.fullmatch(r"tb_[A-Za-z0-9_-]{43}\n", out)


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


@pytest.mark.parametrize(
    ("text", "expires"),
    [
        ("9999-01-31", datetime(9999, 1, 31, tzinfo=UTC)),
        ("9999-01-31T12:00", datetime(9999, 1, 31, 12, tzinfo=UTC)),
        ("9999-01-31T12:00:30Z", datetime(9999, 1, 31, 12, 0, 30, tzinfo=UTC)),
        ("9999-01-31 12:00+02:00", datetime(9999, 1, 31, 10, tzinfo=UTC)),
    ],
)
def test_a_key_may_expire_at_a_time(text: str, expires: datetime, command: Command, keys: Path) -> None:
    assert command("keys", "create", "acme", "--api-keys", str(keys), "--expires", text).status == 0
    assert KeyFile(keys).read()[1].expires == expires


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("90m", timedelta(minutes=90)),
        ("12h", timedelta(hours=12)),
        ("30d", timedelta(days=30)),
        ("8w", timedelta(weeks=8)),
    ],
)
def test_a_key_may_expire_after_a_span_of_time(text: str, span: timedelta, command: Command, keys: Path) -> None:
    command("keys", "create", "acme", "--api-keys", str(keys), "--expires", text)
    key = KeyFile(keys).read()[1]
    assert key.expires is not None
    assert abs(key.expires - key.created - span) < timedelta(seconds=30)


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "1.5d", "30y", "soon", "2027-13-01", "999999999w", "1900-01-0"])
@pytest.mark.parametrize("subcommand", ["create", "rotate"])
def test_a_time_of_another_form_is_refused(subcommand: str, text: str, command: Command, keys: Path) -> None:
    before = keys.read_text()
    assert command("keys", subcommand, "first", "--api-keys", str(keys), f"--expires={text}") == (
        2,
        "",
        "tornado-bridge: --expires: expected a date or time such as 2027-01-31 or 2027-01-31T12:00Z, or a time from "
        f"now such as 12h, 30d or 8w, got {text!r}\n",
    )
    assert keys.read_text() == before


def test_a_time_that_has_passed_is_refused(command: Command, keys: Path) -> None:
    assert command("keys", "create", "acme", "--api-keys", str(keys), "--expires", "2020-01-01") == (
        2,
        "",
        f"tornado-bridge: API key file {keys} refuses such a key: it would have expired already\n",
    )


def test_rotating_a_key_prints_the_new_one_alone(command: Command, keys: Path) -> None:
    status, out, err = command("keys", "rotate", "first", "--api-keys", str(keys), "--expires", "9999-01-31")
    assert (status, err) == (0, "")
    found = KeyRing(KeyFile(keys).read()).find(out.removesuffix("\n"))
    assert found is not None
    assert (found.id, found.name, found.expires) == (2, "first", datetime(9999, 1, 31, tzinfo=UTC))


def test_rotating_an_unknown_key_is_refused(command: Command, keys: Path) -> None:
    assert command("keys", "rotate", "acme", "--api-keys", str(keys)) == (
        2,
        "",
        f"tornado-bridge: API key file {keys} has no active key of that name\n",
    )


def test_a_rotation_that_cannot_be_printed_is_taken_back(keys: Path) -> None:
    before = KeyFile(keys).read()
    ended = program(["keys", "rotate", "first", "--api-keys", str(keys)], ">/dev/full")
    assert ended.returncode == 1
    assert KeyFile(keys).read() == before


def test_no_key_is_rotated_for_a_closed_output(keys: Path) -> None:
    before = keys.read_text()
    assert program(["keys", "rotate", "first", "--api-keys", str(keys)], ">&-").returncode == 1
    assert keys.read_text() == before


def test_the_list_says_which_keys_expire(command: Command, keys: Path) -> None:
    file = KeyFile(keys)
    file.create("later", expires=datetime(9999, 1, 31, tzinfo=UTC))
    file.create("past", expires=datetime(9998, 1, 31, tzinfo=UTC))
    keys.write_text(keys.read_text().replace("9998-01-31", "2020-01-31"))
    lines = command("keys", "list", "--api-keys", str(keys)).out.splitlines()
    assert [re.split("  +", line)[3] for line in lines[1:]] == ["active", "expires 9999-01-31", "expired 2020-01-31"]


def test_a_key_that_cannot_be_printed_is_taken_back(keys: Path) -> None:
    ended = program(["keys", "create", "acme", "--api-keys", str(keys)], ">/dev/full")
    assert (ended.returncode, ended.stderr) == (
        1,
        "tornado-bridge: cannot write to standard output: No space left on device\n",
    )
    assert [key.name for key in KeyFile(keys).read()] == ["first"]


def test_the_name_of_a_key_that_was_taken_back_is_free(
    command: Command, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open("/dev/full", "w") as full, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", full)
        assert command("keys", "create", "acme", "--api-keys", str(keys)).status == 1
    assert command("keys", "create", "acme", "--api-keys", str(keys)).status == 0
    assert [(key.id, key.name) for key in KeyFile(keys).read()] == [(1, "first"), (3, "acme")]


def test_no_key_is_created_for_a_closed_output(keys: Path) -> None:
    ended = program(["keys", "create", "acme", "--api-keys", str(keys)], ">&-")
    assert (ended.returncode, ended.stderr) == (
        1,
        "tornado-bridge: cannot write to standard output: Bad file descriptor\n",
    )
    assert [key.name for key in KeyFile(keys).read()] == ["first"]


def test_a_key_is_taken_back_if_its_printing_is_interrupted(
    command: Command, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(io.StringIO):
        def write(self, text: str) -> int:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", Interrupted())
        assert command("keys", "create", "acme", "--api-keys", str(keys)).status == 130
    assert [key.name for key in KeyFile(keys).read()] == ["first"]


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
    assert KeyFile(keys).read()[0].revoked is not None


def test_revoking_an_unknown_key_is_refused(command: Command, keys: Path) -> None:
    assert command("keys", "revoke", "acme", "--api-keys", str(keys)) == (
        2,
        "",
        f"tornado-bridge: API key file {keys} has no active key of that name\n",
    )


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


UNUSABLE = [
    ("keys create a --api-keys K --channels candle", "--channels: no installed plugin has a channel 'candle'"),
    ("keys create a --api-keys K --channels=", "--channels: no installed plugin has a channel ''"),
    (
        "keys create a --api-keys /proc/nonexistent/K",
        "API key file /proc/nonexistent/K cannot be written: No such file or directory",
    ),
    (
        "keys list --api-keys /proc/nonexistent",
        "API key file /proc/nonexistent cannot be read: No such file or directory",
    ),
    (
        "keys revoke a --api-keys /proc/nonexistent",
        "API key file /proc/nonexistent cannot be read: No such file or directory",
    ),
]


@pytest.mark.parametrize(("line", "sentence"), UNUSABLE)
def test_unusable_arguments_end_with_two_and_one_sentence(line: str, sentence: str, command: Command) -> None:
    assert command(*line.split()) == (2, "", f"tornado-bridge: {sentence}\n")

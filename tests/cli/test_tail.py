"""tornado_bridge.cli.tail: its options, its streams, and the signals that end it."""

import contextlib
import fcntl
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.server import ServerConnection

from tests.support.commands import Command, Running, program
from tests.support.scripted_server import CANDLE, CANDLE_TEXT, CHANNEL, KEY, answering, grant, saying, serving, upgrade
from tests.support.servers import BridgeProcess, bridge_process
from tornado_bridge.cli import following, tail
from tornado_bridge.cli.tail import run

PUBLISHED_TEXT = "O 1 H 2 L 0.5 C 1.5 V 3 2024-02-18T14:00:00.000Z"
ENVELOPE = (
    '{"type":"candle_close","channel":"candles:BTC-USD:1h","data":{"timestamp":"2024-02-18T14:00:00.000Z",'
    '"open":"1","high":"2","low":"0.5","close":"1.5","volume":"3"}}'
)


TAIL = ("tail", "--url", "ws://127.0.0.1:1/public/v1/stream", "candles:*:*")


@pytest.fixture
def tailed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What reaches a tail that ends at once with 1."""
    found: list[tuple[Any, ...]] = []

    def run(url: str, key: str, channels: tuple[str, ...], *, as_json: bool, colour: bool) -> int:
        found.append((url, key, channels, as_json, colour))
        return 1

    monkeypatch.setattr(tail, "run", run)
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
        f"tornado-bridge: --api-key-file: expected a readable file with an API key, got {path}\n",
    )


def test_an_empty_key_in_the_environment_does_not_count(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORNADO_BRIDGE_API_KEY", "")
    assert command(*TAIL)[::2] == (
        2,
        "tornado-bridge: an API key is required: set TORNADO_BRIDGE_API_KEY or use --api-key-file\n",
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
def test_a_terminal_gets_colour_unless_it_is_turned_off(
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


def test_the_help_of_tail_warns_that_others_see_the_option_s_key(command: Command) -> None:
    text = " ".join(command("tail", "--help").out.split())
    assert "Every user of this machine can see it: prefer TORNADO_BRIDGE_API_KEY." in text


# The process


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "delay", lambda tries, chance: 0.01)


def test_running_gives_the_status(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(saying(CANDLE)) as stream:
        status = run(stream.url, KEY, [CHANNEL], as_json=True)

    out, err = capsys.readouterr()
    assert (status, out) == (1, json.dumps(CANDLE) + "\n")
    assert err.splitlines()[-1] == f"tail: {stream.url} closed: 4001"


def test_running_writes_to_an_output_of_any_kind() -> None:
    with serving(saying(CANDLE)) as stream, contextlib.redirect_stdout(io.StringIO()) as out:
        run(stream.url, KEY, [CHANNEL], colour=True)

    assert "\x1b[32mO 42350.5" in out.getvalue()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_zero_and_its_handlers_come_back(number: signal.Signals) -> None:
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]

    def script(connection: ServerConnection) -> None:
        grant(connection)
        os.kill(os.getpid(), number)
        connection.recv(timeout=10)

    with serving(script) as stream:
        assert run(stream.url, KEY, [CHANNEL]) == 0

    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


def wait_until_blocked(pipe: int) -> None:
    """Wait until a writer has filled a pipe and gets no further."""
    deadline, size, still = time.monotonic() + 20, 0, 0
    while still < 20 and time.monotonic() < deadline:
        before, size = size, int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)
        still = still + 1 if size == before > 16_384 else 0
        time.sleep(0.01)


def test_a_signal_ends_it_even_while_a_write_blocks() -> None:
    reader, writer = os.pipe()

    def script(connection: ServerConnection) -> None:
        grant(connection)
        for _ in range(200):
            connection.send(json.dumps({"type": "x", "data": {"a": "x" * 1_000}}))
        wait_until_blocked(reader)
        os.kill(os.getpid(), signal.SIGTERM)

    with (
        open(reader, "rb"),
        open(writer, "w", encoding="utf-8") as out,
        serving(script) as stream,
        contextlib.redirect_stdout(out),
    ):
        assert run(stream.url, KEY, [CHANNEL]) == 0


PROGRAM = (
    "import os, sys\n"
    "from tornado_bridge.cli.tail import run\n"
    "sys.exit(run(sys.argv[1], os.environ['KEY'], sys.argv[2:], as_json=bool(os.environ.get('JSON'))))\n"
)


@contextlib.contextmanager
def process(url: str, *, out: int = subprocess.PIPE, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, url, CHANNEL],
        env={**os.environ, "KEY": KEY, **environment},
        stdout=out,
        stderr=subprocess.PIPE,
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_following_process_without_a_traceback(number: signal.Signals) -> None:
    codes: list[int | None] = []

    def script(connection: ServerConnection) -> None:
        grant(connection)
        connection.send(json.dumps(CANDLE))
        try:
            connection.recv(timeout=30)
        finally:
            codes.append(connection.close_code)

    with serving(script) as stream, process(stream.url) as child:
        assert child.stdout is not None
        assert CANDLE_TEXT.encode() in child.stdout.readline()

        child.send_signal(number)
        child.send_signal(number)
        out, err = child.communicate(timeout=20)

    assert (child.returncode, out) == (0, b"")
    assert err.decode() == f"tail: following {stream.url}, channels: 1\n"
    assert codes == [1000]


def test_a_signal_ends_a_process_that_waits_for_its_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        url = f"ws://127.0.0.1:{reserved.getsockname()[1]}/x"
    with process(url) as child:
        assert child.stderr is not None
        assert child.stderr.readline().decode() == f"tail: cannot reach {url}: Connection refused; trying again\n"

        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=20)

    assert (child.returncode, out, err) == (0, b"", b"")


def test_a_signal_ends_a_process_in_the_middle_of_a_handshake() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as mute,
        process(f"ws://127.0.0.1:{mute.getsockname()[1]}/x") as child,
    ):
        client, _ = mute.accept()
        with client:
            assert client.recv(65_536).startswith(b"GET /x")

            child.send_signal(signal.SIGTERM)
            out, err = child.communicate(timeout=20)

    assert (child.returncode, out, err) == (0, b"", b"")


def test_a_closed_pipe_ends_the_process_quietly() -> None:
    closed = threading.Event()

    def script(connection: ServerConnection) -> None:
        grant(connection)
        connection.send(json.dumps(CANDLE))
        closed.wait(20)
        while True:
            connection.send(json.dumps(CANDLE))

    with serving(script) as stream, process(stream.url) as child:
        assert child.stdout is not None
        assert CANDLE_TEXT.encode() in child.stdout.readline()

        child.stdout.close()
        closed.set()

        assert child.wait(timeout=20) == 0
        assert child.stderr is not None
        assert child.stderr.read().decode() == f"tail: following {stream.url}, channels: 1\n"


def test_a_full_device_ends_the_process_with_one_and_a_sentence() -> None:
    with (
        serving(saying(CANDLE, code=1000)) as stream,
        open("/dev/full", "wb") as full,
        process(stream.url, out=full.fileno()) as child,
    ):
        _, err = child.communicate(timeout=20)

    assert child.returncode == 1
    assert err.decode().splitlines()[1:] == ["tail: cannot write: No space left on device"]


def test_json_is_utf_8_in_any_locale() -> None:
    text = '{"type":"x","channel":"ü€"}'
    with serving(saying(text)) as stream, process(stream.url, JSON="1", PYTHONIOENCODING="ascii") as child:
        out, _ = child.communicate(timeout=20)

    assert out == text.encode() + b"\n"


def test_a_character_that_the_locale_lacks_is_escaped() -> None:
    text = '{"type":"x","channel":"ü€"}'
    with serving(saying(text)) as stream, process(stream.url, PYTHONIOENCODING="latin-1") as child:
        out, _ = child.communicate(timeout=20)

    assert out.endswith(b"Z \xfc\\u20ac type=x\n")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"-ERR unknown command\r\n", "Stream closed"),
        (b"", "Stream closed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "Non-websocket response"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", ""),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", ""),
        (upgrade(b"Sec-WebSocket-Key: another"), ""),
    ],
)
def test_a_strange_answer_is_reported_in_one_line_and_tried_again(answer: bytes, said: str) -> None:
    asked = threading.Semaphore(0)

    def noted(_: bytes) -> bytes:
        asked.release()
        return answer

    with answering(noted) as url, process(url) as child:
        assert asked.acquire(timeout=20)
        assert asked.acquire(timeout=20)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=20)

    assert (child.returncode, out) == (0, b"")
    assert re.fullmatch(rf"tail: cannot reach {re.escape(url)}: [^\n]*{said}[^\n]*; trying again\n", err.decode())


def test_a_process_without_standard_error_prints_its_sentences_nowhere() -> None:
    with serving(saying(CANDLE)) as stream:
        ended = program(["tail", "--url", stream.url, "--api-key", KEY, CHANNEL], "2>&-")

    assert (ended.returncode, ended.stderr) == (1, "")
    assert re.fullmatch(rf"\S+ {CHANNEL} {re.escape(CANDLE_TEXT)}\n", ended.stdout)


# Beside a real server


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
        assert re.fullmatch(rf"\d\d:\d\d:\d\d\.\d\d\dZ candles:BTC-USD:1h {re.escape(PUBLISHED_TEXT)}", process.line())


def test_tail_prints_envelopes_as_they_come_with_the_key_of_a_file(running: Running, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{running.key}\n")
    with tailing(running, "--api-key-file", str(tmp_path / "key"), "--json") as process:
        running.publish()
        assert process.line() == ENVELOPE


def test_tail_prints_what_happens_with_the_key_of_the_option(running: Running) -> None:
    with tailing(running, "--api-key", running.key) as process:
        running.publish()
        assert process.line().endswith(PUBLISHED_TEXT)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_tail_with_zero_in_silence(number: signal.Signals, running: Running) -> None:
    with tailing(running, "--api-key", running.key) as process:
        assert process.stop(number) == (0, "", "")


def test_a_closed_pipe_ends_tail_with_zero_in_silence(running: Running) -> None:
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


UNUSABLE = [
    ("tail --url ws://h c", "an API key is required: set TORNADO_BRIDGE_API_KEY or use --api-key-file"),
    ("tail --url http://h c --api-key k", "the URL must have the form ws://HOST:PORT/PATH or wss://HOST:PORT/PATH"),
    ("tail --url ws://h c --api-key k\N{SNOWMAN}", "the API key must be printable ASCII"),
    (
        "tail --url ws://h c --api-key-file /proc/nonexistent",
        "--api-key-file: expected a readable file with an API key, got /proc/nonexistent",
    ),
]


@pytest.mark.parametrize(("line", "sentence"), UNUSABLE)
def test_unusable_arguments_end_with_two_and_one_sentence(line: str, sentence: str, command: Command) -> None:
    assert command(*line.split()) == (2, "", f"tornado-bridge: {sentence}\n")

"""tornado_bridge.cli.demo: what reaches the demonstration, and what it prints."""

from collections.abc import Callable

import pytest

from tests.support.commands import Command, program
from tornado_bridge.cli import demo


def test_demo_passes_its_options_on_and_logs_warnings(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []

    async def run(options: dict[str, str], say: Callable[[str], object]) -> None:
        given.append(options)
        say("key     k")

    monkeypatch.setattr(demo.demo, "demo", run)
    monkeypatch.setattr(demo.logs, "configure", lambda *how: given.append(how))
    assert command("demo", "--port", "0") == (0, "key     k\n", "")
    assert given == [("warning", "text"), {"port": "0"}]


def test_a_demo_whose_key_cannot_be_printed_ends_with_one_and_a_sentence() -> None:
    ended = program(["demo", "--port", "0"], ">/dev/full")
    assert (ended.returncode, ended.stderr) == (
        1,
        "tornado-bridge: cannot write to standard output: No space left on device\n",
    )


UNUSABLE = [
    ("demo --port 99999", "--port on the command line: expected a port from 0 to 65535, got '99999'"),
    ("demo --port http", "--port on the command line: expected a port from 0 to 65535, got 'http'"),
    ("demo --host=", "--host on the command line: expected an address or a host name, got ''"),
]


@pytest.mark.parametrize(("line", "sentence"), UNUSABLE)
def test_unusable_arguments_end_with_two_and_one_sentence(line: str, sentence: str, command: Command) -> None:
    assert command(*line.split()) == (2, "", f"tornado-bridge: {sentence}\n")

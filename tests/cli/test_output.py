"""tornado_bridge.cli.output: a result that cannot be printed is one sentence, in a process too."""

import sys

import pytest

from tests.support.commands import program
from tornado_bridge.cli import output
from tornado_bridge.errors import BridgeError


def test_a_result_is_printed_with_a_newline(capsys: pytest.CaptureFixture[str]) -> None:
    output.write("a key")
    assert capsys.readouterr() == ("a key\n", "")


def test_a_result_that_ends_with_a_newline_gets_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    output.write("a document\n", newline=False)
    assert capsys.readouterr() == ("a document\n", "")


def test_an_output_that_takes_nothing_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(BridgeError, match=r"^cannot write to standard output: No space left on device$"):
            output.write("a key")


def test_a_closed_output_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(BridgeError, match=r"^cannot write to standard output: Bad file descriptor$"):
        output.require()


def test_discarding_needs_no_open_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    output.discard()


@pytest.mark.parametrize("command", ["plugins", "asyncapi", "tail --url ws://127.0.0.1:1/x --api-key k c"])
def test_a_process_with_a_closed_output_ends_with_one_and_a_sentence(command: str) -> None:
    ended = program(command.split(), ">&-")
    assert (ended.returncode, ended.stderr) == (
        1,
        "tornado-bridge: cannot write to standard output: Bad file descriptor\n",
    )

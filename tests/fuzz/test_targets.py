"""The fuzz targets on their corpus and on inputs of hypothesis, and faults that each of them must notice."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings

from tests.fuzz import inputs, targets
from tests.fuzz.__main__ import NAMES, with_hypothesis
from tests.support.pipeline import text_of
from tornado_bridge import InvalidEvent, values
from tornado_bridge.connections import dialogue
from tornado_bridge.connections.dialogue import ErrorCode
from tornado_bridge.wire import deflate
from tornado_bridge.wire.reader import FrameReader, Received

SEEDS = [pytest.param(name, path, id=f"{name}/{path.name}") for name in NAMES for path in targets.corpus(name)]


@pytest.mark.parametrize(("name", "path"), SEEDS)
def test_the_contract_holds_for_a_file_of_the_corpus(name: str, path: Path) -> None:
    targets.TARGETS[name](path.read_bytes())


@settings(max_examples=800, deadline=None)
@given(inputs.inputs(targets.corpus("client_message")))
def test_the_contract_holds_for_any_client_message(data: bytes) -> None:
    targets.client_message(data)


@settings(max_examples=800, deadline=None)
@given(inputs.inputs(targets.corpus("event_payload")))
def test_the_contract_holds_for_any_event(data: bytes) -> None:
    targets.event_payload(data)


@settings(max_examples=800, deadline=None)
@given(inputs.inputs(targets.corpus("client_frames")))
def test_the_contract_holds_for_any_stream_of_frames(data: bytes) -> None:
    targets.client_frames(data)


def test_every_target_can_be_run_by_its_name() -> None:
    assert tuple(targets.TARGETS) == NAMES


# What the corpus shows


def test_the_messages_of_the_corpus_meet_every_answer() -> None:
    kinds: set[str] = set()
    for path in targets.corpus("client_message"):
        text = path.read_bytes().decode(errors="replace")
        for burst in (0, 1):
            allowance = targets.allowance(burst)
            for sent in targets.dialogue().answer(text, allowance, targets.HELD).replies:
                reply = msgspec.json.decode(text_of(sent))
                kinds.add(reply.get("code", reply["type"]))
    assert kinds == {*ErrorCode, "subscribed", "unsubscribed"}


def test_the_frames_of_the_corpus_meet_every_error() -> None:
    refusals: set[tuple[int, str] | None] = set()
    for path in targets.corpus("client_frames"):
        compressed, stream = targets.stream_of(path.read_bytes())
        refusals.add(targets.read([stream], compressed=compressed)[1])
    assert refusals == {*targets.REASONS, None}


# Faults that a target must notice


def fails_on_its_corpus(name: str) -> bool:
    for path in targets.corpus(name):
        try:
            targets.TARGETS[name](path.read_bytes())
        except AssertionError:
            return True
    return False


def test_an_answer_that_repeats_a_long_text_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialogue, "excerpt", lambda text: text)
    assert fails_on_its_corpus("client_message")


def test_nesting_without_a_bound_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tornado_bridge.connections.strict_json.MAX_DEPTH", 33)
    assert fails_on_its_corpus("client_message")


def test_a_number_that_goes_through_a_float_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def through_a_float(payload: Any, *members: str) -> list[str]:
        return [str(float(text)) for text in decimals(payload, *members)]

    decimals = values.decimals
    monkeypatch.setattr(values, "decimals", through_a_float)
    assert fails_on_its_corpus("event_payload")


def test_a_log_line_that_quotes_a_payload_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def quoting(payload: Any, *members: str) -> list[str]:
        raise InvalidEvent(f"open is {bytes(payload.open)!r}")

    targets.known_causes()
    monkeypatch.setattr(values, "decimals", quoting)
    assert fails_on_its_corpus("event_payload")


def test_a_plugin_that_sends_a_member_of_the_payload_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "epoch_timestamp", lambda raw, _: bytes(raw).decode())
    assert fails_on_its_corpus("event_payload")


def test_a_reader_that_forgets_what_a_piece_leaves_over_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgetful(FrameReader):
        def feed(self, data: bytes) -> Iterator[Received]:
            yield from FrameReader.feed(self, data)
            if len(self._buffer) == 3:
                self._buffer = b""

    monkeypatch.setattr(targets, "FrameReader", Forgetful)
    assert fails_on_its_corpus("client_frames")


def test_a_message_without_a_bound_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    inflate = deflate.inflate
    monkeypatch.setattr(deflate, "inflate", lambda payload, _: inflate(payload, 1 << 20))
    assert fails_on_its_corpus("client_frames")


# Without atheris


def test_a_run_says_how_many_inputs_it_has_tried() -> None:
    tried, failing = inputs.run(targets.client_frames, targets.corpus("client_frames"), seconds=0)
    assert (tried, failing) == (500, None)


def test_a_run_ends_with_the_smallest_input_that_fails(capsys: pytest.CaptureFixture[str]) -> None:
    def target(data: bytes) -> None:
        assert b"signals" not in data

    _, failing = inputs.run(target, targets.corpus("client_message"), seconds=60)
    assert failing is not None
    assert b"signals" in failing
    assert "AssertionError" in capsys.readouterr().err


def test_an_input_that_fails_is_written_to_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def target(data: bytes) -> None:
        raise ValueError("always")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(targets.TARGETS, "client_frames", target)
    assert with_hypothesis("client_frames", seconds=0) == 1
    [failing] = tmp_path.iterdir()
    assert failing.name in capsys.readouterr().out
    with pytest.raises(ValueError, match="always"):
        target(failing.read_bytes())

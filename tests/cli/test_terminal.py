"""tornado_bridge.cli.terminal: the line of an envelope, and writing lines."""

import datetime
import io
import json
import re
import subprocess
import sys
from typing import Any

import pytest

from tests.support.scripted_server import CANDLE, CANDLE_TEXT, SIGNAL
from tornado_bridge.cli.terminal import Terminal, envelope_line, printable

NOON = datetime.datetime(2026, 2, 19, 12, 0, 1, 234_999, tzinfo=datetime.UTC)


def test_a_candle_is_a_line_with_its_prices_and_its_time() -> None:
    assert envelope_line(CANDLE, NOON) == f"12:00:01.234Z candles:BTC-USD:1h {CANDLE_TEXT}"


def test_a_signal_is_a_line_of_words() -> None:
    assert envelope_line(SIGNAL, NOON) == "12:00:01.234Z signals:BTC-USD:15m bullish strong at 42350.5"


def test_another_type_is_printed_member_by_member() -> None:
    envelope = {"type": "funding", "channel": "funding:X", "data": {"rate": "0.01", "next": 8, "tags": ["ä"]}}

    assert envelope_line(envelope, NOON) == '12:00:01.234Z funding:X rate=0.01 next=8 tags=["\\u00e4"]'


def test_a_candle_that_lacks_a_member_is_printed_member_by_member() -> None:
    envelope = {"type": "candle_close", "channel": "candles:X", "data": {"open": "1", "close": "2"}}

    assert envelope_line(envelope, NOON) == "12:00:01.234Z candles:X open=1 close=2"


@pytest.mark.parametrize("data", [{}, {"data": None}, {"data": [1]}])
def test_a_message_without_data_is_printed_member_by_member(data: dict[str, object]) -> None:
    rest = "".join(f" data={json.dumps(value)}" for value in data.values())

    assert envelope_line({"type": "unsubscribed", **data}, NOON) == f"12:00:01.234Z - type=unsubscribed{rest}"


def test_a_type_that_is_not_text_is_ignored() -> None:
    assert envelope_line({"type": ["x"], "channel": 7, "data": {"a": 1}}, NOON) == "12:00:01.234Z 7 a=1"


def test_a_value_that_is_nested_too_deeply_is_left_out() -> None:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]

    assert envelope_line({"data": {"a": nested, "b": 1}}, NOON) == "12:00:01.234Z - a=(nested too deeply) b=1"


def test_control_characters_of_the_server_reach_no_terminal() -> None:
    envelope = {"type": "x", "channel": "a\x1b[2J", "data": {"k\x07": "v\r\n\x9b31m\u202e"}}

    line = envelope_line(envelope, NOON, colour=False)

    assert line == r"12:00:01.234Z a\x1b[2J k\x07=v\r\n\x9b31m\u202e"


def test_printable_text_is_left_alone() -> None:
    assert printable("Größe 42350.5 €, 日本") == "Größe 42350.5 €, 日本"


@pytest.mark.parametrize(
    ("envelope", "tone"),
    [
        (CANDLE, "\x1b[32m"),
        ({**CANDLE, "data": {**CANDLE["data"], "close": "42350.4"}}, "\x1b[31m"),
        ({**CANDLE, "data": {**CANDLE["data"], "close": "none"}}, ""),
        ({**CANDLE, "data": {**CANDLE["data"], "close": None}}, ""),
        (SIGNAL, "\x1b[32m"),
        ({**SIGNAL, "data": {**SIGNAL["data"], "direction": "bearish"}}, "\x1b[31m"),
        ({"type": "x", "channel": "x:y", "data": {"a": "1"}}, ""),
    ],
)
def test_the_colour_shows_up_or_down(envelope: dict[str, Any], tone: str) -> None:
    _, channel, text = envelope_line(envelope, NOON).split(" ", 2)

    line = envelope_line(envelope, NOON, colour=True)

    assert line == f"\x1b[2m12:00:01.234Z\x1b[0m {channel} {tone}{text}\x1b[0m"


# The streams


def test_an_envelope_is_a_line_on_out() -> None:
    out, err = io.StringIO(), io.StringIO()
    Terminal(out, err).show(CANDLE, json.dumps(CANDLE))
    assert re.fullmatch(rf"\d\d:\d\d:\d\d\.\d{{3}}Z candles:BTC-USD:1h {re.escape(CANDLE_TEXT)}\n", out.getvalue())
    assert err.getvalue() == ""


def test_json_is_the_text_that_came_on_one_line() -> None:
    out = io.StringIO()
    Terminal(out, None, as_json=True).show({"a": 1}, '{"a":\r\n1.0}')
    assert out.getvalue() == '{"a":  1.0}\n'


def test_a_sentence_is_a_line_on_err_without_control_characters() -> None:
    out, err = io.StringIO(), io.StringIO()
    Terminal(out, err).say("a\x1b[2Jb")
    assert (out.getvalue(), err.getvalue()) == ("", "tail: a\\x1b[2Jb\n")


def test_a_sentence_is_dropped_if_standard_error_is_closed(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal(io.StringIO(), None).say("following")
    assert capsys.readouterr() == ("", "")


def test_a_terminal_is_writing_during_a_write_alone() -> None:
    class Watched(io.StringIO):
        def write(self, text: str) -> int:
            seen.append(terminal.writing)
            return super().write(text)

    seen: list[bool] = []
    terminal = Terminal(Watched(), None)
    terminal.show(CANDLE, "")
    assert set(seen) == {True}
    assert not terminal.writing


def test_a_line_that_cannot_be_written_is_not_tried_again_at_exit() -> None:
    script = (
        "import sys\n"
        "from tornado_bridge.cli.terminal import Terminal\n"
        "try:\n"
        "    Terminal(sys.stdout, sys.stderr).show({}, '{}')\n"
        "except OSError as error:\n"
        "    print(error.strerror, file=sys.stderr)\n"
    )
    with open("/dev/full", "wb") as full:
        ended = subprocess.run([sys.executable, "-c", script], stdout=full, stderr=subprocess.PIPE, timeout=30)
    assert (ended.returncode, ended.stderr) == (0, b"No space left on device\n")

"""Prints envelopes and sentences as lines on a terminal."""

import datetime
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TextIO

from tornado_bridge.excerpts import printable

_FORMS = {
    "candle_close": "O {open} H {high} L {low} C {close} V {volume} {timestamp}",
    "trade_signal": "{direction} {strength} at {price}",
}
_GREEN, _RED, _DIM, _RESET = "\x1b[32m", "\x1b[31m", "\x1b[2m", "\x1b[0m"


def envelope_line(envelope: Mapping[str, Any], received: datetime.datetime, *, colour: bool = False) -> str:
    """Return an envelope of any type as one line; `received` is in UTC."""
    time = f"{received:%H:%M:%S}.{received.microsecond // 1000:03}Z"
    channel = printable(str(envelope.get("channel", "-")))
    data = envelope.get("data")
    if not isinstance(data, dict):
        data = {name: value for name, value in envelope.items() if name != "channel"}
    try:
        text = _FORMS[envelope["type"]].format_map(data)
    except (KeyError, TypeError):
        text = " ".join(f"{name}={_plain(value)}" for name, value in data.items())
    dim, tone, reset = (_DIM, _tone(data), _RESET) if colour else ("", "", "")
    return f"{dim}{time}{reset} {channel} {tone}{printable(text)}{reset}"


def _plain(value: object) -> str:
    try:
        return value if isinstance(value, str) else json.dumps(value)
    except RecursionError:
        return "(nested too deeply)"


def _tone(data: Mapping[str, Any]) -> str:
    if "direction" in data:
        return _RED if data["direction"] == "bearish" else _GREEN
    try:
        return _GREEN if float(data["close"]) >= float(data["open"]) else _RED
    except (KeyError, TypeError, ValueError):
        return ""


@dataclass(slots=True)
class Terminal:
    """Prints envelopes to `out` and sentences about the connection to `err`.

    `err` is None if standard error is closed: sentences are then dropped. `writing` is true during a write, which
    blocks while the reader of a pipe does not read.
    """

    out: TextIO
    err: TextIO | None
    as_json: bool = False
    colour: bool = False
    writing: bool = False

    def show(self, envelope: Mapping[str, Any], text: str) -> None:
        """Print an envelope; `text` is the JSON that it was parsed from. Raises OSError if it cannot be written."""
        # JSON allows line breaks only between tokens, where a space means the same.
        line = text.translate({10: " ", 13: " "})
        if not self.as_json:
            line = envelope_line(envelope, datetime.datetime.now(datetime.UTC), colour=self.colour)
        self._print(line, self.out)

    def say(self, sentence: str) -> None:
        """Print a sentence for the user. Raises OSError if it cannot be written."""
        if self.err is not None:
            self._print(f"tail: {printable(sentence)}", self.err)

    def _print(self, line: str, stream: TextIO) -> None:
        self.writing = True
        try:
            print(line, file=stream, flush=True)
        except (OSError, KeyboardInterrupt):
            # The line is still in the stream's buffer, and the interpreter would try to write it again at exit.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
            raise
        finally:
            self.writing = False

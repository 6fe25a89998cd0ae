"""tornado_bridge.cli.audit: the forms of the report, and the exit status."""

import json
from pathlib import Path

import pytest

from tests.audit.test_report import CLEAN, LEAKY, report
from tests.support.commands import Command
from tornado_bridge.cli.audit import as_text


def test_the_text_is_a_table_an_event_type_and_a_conclusion() -> None:
    assert as_text(report(CLEAN)).splitlines() == [
        "quote: plugin quotes of acme-quotes 1.2",
        "from quotes:{symbol} to quotes:{symbol}",
        "40 events: 3 invalid, 37 relayed",
        "",
        "OUTPUT   INPUT     DECLARED   OUTPUTS  INPUTS",
        "channel  {symbol}  published  12       12",
        "kind     none      constant   1        0",
        "level    score     derived    3        30",
        "",
        "no finding: nothing was seen to come out but what is declared.",
    ]


def test_the_text_says_what_was_found() -> None:
    assert as_text(report(LEAKY)).splitlines()[-5:] == [
        "declared, not seen: side ← score",
        "finding: note changes with a|b, which is not declared",
        "finding: another",
        "",
        "2 findings: more may come out than is declared.",
    ]


def test_the_text_of_no_event_says_so() -> None:
    assert as_text(report(LEAKY)).splitlines()[2] == "0 events: none"


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


LEAKY_PLUGIN = """
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
    (tmp_path / "leaky.py").write_text(LEAKY_PLUGIN)
    status, out, err = command("audit", "leaky", "--plugins-dir", str(tmp_path))
    assert (status, err) == (1, "")
    assert "finding: flag changes with secret, which is not declared\n\n1 finding" in out


UNUSABLE = [
    ("audit candles", "PLUGIN: no plugin named 'candles' is loaded"),
    (
        "audit candle --cases 1 --markdown /proc/nonexistent/report",
        "--markdown: /proc/nonexistent/report cannot be written: No such file or directory",
    ),
]


@pytest.mark.parametrize(("line", "sentence"), UNUSABLE)
def test_unusable_arguments_end_with_two_and_one_sentence(line: str, sentence: str, command: Command) -> None:
    assert command(*line.split()) == (2, "", f"tornado-bridge: {sentence}\n")

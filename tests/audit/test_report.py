"""tornado_bridge.audit.report: the report as JSON and as a document."""

import json

import pytest

from tornado_bridge.audit.auditor import Flow, Report, TypeAudit
from tornado_bridge.audit.report import as_json, as_markdown, conclusion

CLEAN = TypeAudit(
    plugin="quotes",
    distribution="acme-quotes",
    version="1.2",
    event_type="quote",
    source="quotes:{symbol}",
    channel="quotes:{symbol}",
    reads=("price", "score"),
    cases=40,
    outcomes={"invalid": 3, "relayed": 37},
    flows=(Flow("channel", "{symbol}", "published", 12, 12), Flow("level", "score", "derived", 3, 30)),
    constant=("kind",),
    unseen=(),
    findings=(),
)
LEAKY = TypeAudit(
    plugin="trades",
    distribution="the application",
    version="",
    event_type="trade",
    source="trades",
    channel="trades",
    reads=("a|b",),
    cases=0,
    outcomes={},
    flows=(Flow("note", "a|b", "undeclared", 9, 9),),
    constant=(),
    unseen=("side ← score",),
    findings=("note changes with a|b, which is not declared", "another"),
)


def report(*audits: TypeAudit) -> Report:
    return Report("0.1.0", "3.11.7", "2026-02-19T12:00:00+00:00", 7, 40, audits)


def test_the_json_holds_everything() -> None:
    whole = json.loads(as_json(report(CLEAN, LEAKY)))
    assert (whole["findings"], whole["seed"], whole["audits"][0]["flows"][1], whole["audits"][1]["unseen"]) == (
        2,
        7,
        {"output": "level", "input": "score", "declared": "derived", "outputs": 3, "inputs": 30},
        ["side ← score"],
    )


@pytest.mark.parametrize(
    "line",
    [
        "- Conclusion: no finding: nothing was seen to come out but what is declared.",
        "- Date: 2026-02-19T12:00:00+00:00",
        "- Versions: tornado_bridge 0.1.0, Python 3.11.7",
        "- Seed 7, 40 cases an event type: the same command gives the same report",
        "## quote",
        "- Plugin: quotes of acme-quotes 1.2",
        "- Source: `quotes:{symbol}`",
        "- Channel: `quotes:{symbol}`",
        "- Reads: `price`, `score`",
        "- Cases: 40 events: 3 invalid, 37 relayed",
        "- Findings: none",
        "| channel | {symbol} | published | 12 | 12 |",
        "| kind | none | constant | 1 | 0 |",
    ],
)
def test_the_document_says_what_is_signed_for(line: str) -> None:
    assert line in as_markdown(report(CLEAN)).splitlines()


@pytest.mark.parametrize(
    "line",
    [
        "- Conclusion: 2 findings: more may come out than is declared.",
        "- Plugin: trades of the application",
        "- Declared, not seen: side ← score",
        "- **Finding**: note changes with a|b, which is not declared",
        "| note | a\\|b | undeclared | 9 | 9 |",
    ],
)
def test_the_document_says_what_was_found(line: str) -> None:
    assert line in as_markdown(report(LEAKY)).splitlines()


def test_one_finding_is_one() -> None:
    alone = TypeAudit(**{**LEAKY.__dict__, "findings": ("another",)})
    assert conclusion(report(alone)) == "1 finding: more may come out than is declared."

"""The audit's report, as JSON for programs and as a Markdown document for the records."""

import dataclasses
import json

from tornado_bridge.audit.auditor import Report, TypeAudit
from tornado_bridge.discovery import origin


def as_json(report: Report) -> str:
    """Return the report as JSON, `findings` being their number."""
    return json.dumps({**dataclasses.asdict(report), "findings": report.findings}, indent=2, ensure_ascii=False)


def as_markdown(report: Report) -> str:
    """Return the report as a document that can be filed."""
    head = [
        "# What leaves the bridge, and of what it tells",
        "",
        f"- Conclusion: {conclusion(report)}",
        f"- Date: {report.date}",
        f"- Versions: tornado_bridge {report.version}, Python {report.python}",
        f"- Seed {report.seed}, {report.cases} cases an event type: the same command gives the same report",
        "",
        "Events were generated from what each event type reads, with marked values and names around it, and were run",
        "through the relay, the plugin, the egress firewall and the encoder. Then one value at a time was changed. A",
        "row of a table is an output that was seen to change with an input, with the most different values that were",
        "seen of it in one event, and of how many of the input. What is not in a table was not seen to come out.",
    ]
    return "\n".join([*head, *(line for audit in report.audits for line in _section(audit))]) + "\n"


def _section(audit: TypeAudit) -> list[str]:
    return [
        "",
        f"## {audit.event_type}",
        "",
        f"- Plugin: {audit.plugin} of {origin(audit.distribution, audit.version)}",
        f"- Source: `{audit.source}`",
        f"- Channel: `{audit.channel}`",
        f"- Reads: {', '.join(f'`{member}`' for member in audit.reads)}",
        f"- Cases: {cases(audit)}",
        *(f"- Declared, not seen: {pair}" for pair in audit.unseen),
        *(f"- **Finding**: {finding}" for finding in audit.findings or ()),
        *(["- Findings: none"] if not audit.findings else []),
        "",
        "| output | input | declared as | values of the output | of the input |",
        "|---|---|---|---|---|",
        *(f"| {' | '.join(map(_cell, row))} |" for row in rows(audit)),
    ]


def _cell(text: str) -> str:
    # A name may hold what ends a cell.
    return text.replace("|", "\\|")


def rows(audit: TypeAudit) -> list[tuple[str, str, str, str, str]]:
    """Return output, input, declaration, and the number of values of both, for each output that was seen."""
    moved = [(flow.output, flow.input, flow.declared, str(flow.outputs), str(flow.inputs)) for flow in audit.flows]
    return sorted([*moved, *((output, "none", "constant", "1", "0") for output in audit.constant)])


def cases(audit: TypeAudit) -> str:
    """Return how many events were tried, by their outcome."""
    return f"{audit.cases} events: {', '.join(f'{count} {kind}' for kind, count in audit.outcomes.items()) or 'none'}"


def conclusion(report: Report) -> str:
    """Return the sentence that sums up the findings."""
    if report.findings:
        return f"{report.findings} finding{'s' if report.findings > 1 else ''}: more may come out than is declared."
    return "no finding: nothing was seen to come out but what is declared."

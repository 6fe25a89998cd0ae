"""The command `tornado-bridge audit`."""

import datetime
import sys
from collections.abc import Callable

import click

import tornado_bridge
from tornado_bridge.audit import auditor, report
from tornado_bridge.audit.auditor import Report, TypeAudit
from tornado_bridge.audit.generation import EXCHANGE_ID
from tornado_bridge.cli import output, tables
from tornado_bridge.cli.options import version_option
from tornado_bridge.cli.setting_options import chooses_plugins
from tornado_bridge.discovery import origin
from tornado_bridge.errors import ConfigurationError
from tornado_bridge.registry import Registry

_HEADING = ("OUTPUT", "INPUT", "DECLARED", "OUTPUTS", "INPUTS")

# The exit status after a finding.
FOUND = 1


@click.command("audit")
@click.argument("names", nargs=-1, metavar="[PLUGIN]...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--markdown", metavar="FILE", help="Write a report to FILE. With - it is printed instead of the table.")
@click.option(
    "--cases",
    type=click.IntRange(1),
    metavar="N",
    default=auditor.CASES,
    show_default=True,
    help="Generated events per event type.",
)
@chooses_plugins
@version_option
def command(
    names: tuple[str, ...], as_json: bool, markdown: str | None, cases: int, registry: Callable[[], Registry]
) -> None:
    """Check that plugins let out only what they declare.

    Generated events are run through each PLUGIN, or through all. The exit status is 1 if an output changes with an
    input that its event type does not declare for it.
    """
    routes = registry().routes(EXCHANGE_ID)
    unknown = sorted(set(names) - {route.plugin.name for route in routes})
    if unknown:
        raise ConfigurationError(f"PLUGIN: no plugin named {unknown[0]!r} is loaded")
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    chosen = [route for route in routes if not names or route.plugin.name in names]
    found = auditor.audit(chosen, version=tornado_bridge.__version__, date=date, cases=cases)
    if markdown == "-":
        output.write(report.as_markdown(found), newline=False)
    else:
        if markdown is not None:
            _write_report(markdown, report.as_markdown(found))
        output.write(report.as_json(found) if as_json else as_text(found))
    sys.exit(FOUND if found.findings else 0)


def _write_report(file: str, text: str) -> None:
    try:
        with open(file, "w", encoding="utf-8") as opened:
            opened.write(text)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "invalid path"
        raise ConfigurationError(f"--markdown: {file} cannot be written: {reason}") from None


def as_text(found: Report) -> str:
    """Return the report as lines for a terminal."""
    return "\n\n".join((*map(_block, found.audits), report.conclusion(found)))


def _block(audit: TypeAudit) -> str:
    lines = [
        f"{audit.event_type}: plugin {audit.plugin} of {origin(audit.distribution, audit.version)}",
        f"from {audit.source} to {audit.channel}",
        report.cases(audit),
        "",
        tables.text([_HEADING, *report.rows(audit)]),
        "",
        *(f"declared, not seen: {pair}" for pair in audit.unseen),
        *(f"finding: {finding}" for finding in audit.findings),
    ]
    return "\n".join(lines).rstrip()

"""tornado_bridge.audit.auditor: planted leaks are found, and what is declared is no finding."""

from typing import Annotated, Any

import msgspec
import pytest

from tests.support.planted import CANDLE, LEAKS, NOTE, SIGNALS, Quotes, Result, clean, hidden, public
from tornado_bridge import Envelope, Event, envelope_schema, values
from tornado_bridge.audit.auditor import Auditor, Report, TypeAudit, audit
from tornado_bridge.errors import PluginError
from tornado_bridge.registry import Registry

# Fewer than by default: the events that are changed are as many.
CASES = 200


def audited(plugin: object, cases: int = CASES) -> TypeAudit:
    (route,) = Registry([plugin]).routes("1")
    return Auditor(route, cases=cases).run()


def flows(found: TypeAudit) -> dict[tuple[str, str], str]:
    """Return the flows but those of validity."""
    return {(flow.output, flow.input): flow.declared for flow in found.flows if flow.declared != "validity"}


OF_CANDLE, OF_SIGNAL = audited(CANDLE), audited(SIGNALS)


@pytest.mark.parametrize("leak", LEAKS)
def test_a_planted_leak_is_found(leak: str) -> None:
    plant, sentence = LEAKS[leak]
    assert [finding for finding in audited(plant()).findings if finding.startswith(sentence)]


def test_a_schema_that_is_open_is_refused_before_the_audit() -> None:
    emits = envelope_schema("quote", "^quotes:[A-Z]{3}$", {"price": values.DECIMAL, "at": values.TIMESTAMP})
    emits["properties"]["data"]["additionalProperties"] = True
    with pytest.raises(PluginError, match="is open at"):
        audited(Quotes(clean, emits=emits))


def test_a_plugin_without_a_leak_has_no_finding() -> None:
    assert audited(Quotes(clean)).findings == ()


@pytest.mark.parametrize("found", [OF_CANDLE, OF_SIGNAL], ids=["candle", "signals"])
def test_the_built_in_plugins_have_no_finding(found: TypeAudit) -> None:
    assert found.findings == ()


@pytest.mark.parametrize("found", [OF_CANDLE, OF_SIGNAL], ids=["candle", "signals"])
def test_what_the_built_in_plugins_declare_is_seen(found: TypeAudit) -> None:
    assert found.unseen == ()


def test_the_flows_of_a_candle_are_those_of_its_contract() -> None:
    same = ("timestamp", "open", "high", "low", "close", "volume")
    assert flows(OF_CANDLE) == {
        ("channel", "{symbol}"): "published",
        ("channel", "{timeframe}"): "published",
        **{(name, name): "published" for name in same},
    }


def test_the_flows_of_a_signal_are_those_of_its_contract() -> None:
    assert flows(OF_SIGNAL) == {
        ("channel", "symbol"): "published",
        ("channel", "timeframe"): "published",
        ("symbol", "symbol"): "published",
        ("timeframe", "timeframe"): "published",
        ("exchange", "(exchange)"): "configured",
        ("direction", "triggerLabel"): "derived",
        ("strength", "triggerValue"): "derived",
        ("price", "price"): "published",
        ("timestamp", "triggeredAt"): "published",
    }


def test_a_trigger_value_shows_as_one_of_four_strengths() -> None:
    (flow,) = (flow for flow in OF_SIGNAL.flows if flow.input == "triggerValue")
    assert (flow.output, flow.outputs, flow.inputs > 30) == ("strength", 4, True)


def test_a_label_shows_as_one_of_two_directions() -> None:
    (flow,) = (flow for flow in OF_SIGNAL.flows if flow.input == "triggerLabel")
    assert (flow.output, flow.outputs, flow.inputs > 30) == ("direction", 2, True)


def test_a_published_number_takes_as_many_values_as_it_is_given() -> None:
    flow = next(flow for flow in OF_SIGNAL.flows if (flow.output, flow.input) == ("price", "price"))
    assert flow.outputs > 20


def test_what_decides_whether_there_is_an_envelope_is_reported() -> None:
    needed = {flow.input for flow in OF_SIGNAL.flows if flow.declared == "validity"}
    assert needed == {"symbol", "timeframe", "price", "triggeredAt"}


def test_an_output_that_never_changes_is_constant() -> None:
    assert OF_SIGNAL.constant == ("signal_type",)


def test_an_audit_says_of_what_it_is() -> None:
    assert (OF_SIGNAL.plugin, OF_SIGNAL.event_type, OF_SIGNAL.source, OF_SIGNAL.channel) == (
        "tornado_bridge.plugins.signals",
        "trade_signal",
        "channel:alerts:exchange:{exchange_id}",
        "signals:{symbol}:{timeframe}",
    )


def test_an_audit_names_what_is_read() -> None:
    assert OF_SIGNAL.reads == ("symbol", "timeframe", "price", "triggeredAt", "triggerValue", "triggerLabel")


def test_an_audit_counts_what_became_of_its_events() -> None:
    assert (set(OF_SIGNAL.outcomes), sum(OF_SIGNAL.outcomes.values())) == ({"invalid", "relayed"}, OF_SIGNAL.cases)


def test_more_cases_are_more_events() -> None:
    assert audited(Quotes(clean), 6000).cases >= 6000


def test_the_same_audit_finds_the_same() -> None:
    assert audited(CANDLE) == OF_CANDLE


def test_an_event_type_without_a_valid_event_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tornado_bridge.audit.generation._ATTEMPTS", 20)
    assert audited(Quotes(lambda event: None)).findings == ("no valid event was found, so nothing is proven",)


@pytest.mark.parametrize(
    "members",
    [
        {"note": {"enum": list(range(10))}},
        {"note": {"type": "integer", "minimum": 0, "maximum": 63}},
    ],
    ids=["enum", "range"],
)
def test_a_derived_output_of_few_choices_is_no_finding(members: dict[str, Any]) -> None:
    def digit(event: Event[Any]) -> Result:
        return Envelope(event.channel, public(event, note=hidden(event) % 10))

    assert audited(Quotes(digit, members=members, derives={"note": "hidden"})).findings == ()


def test_a_derived_output_of_which_few_values_are_seen_is_no_finding() -> None:
    def digits(event: Event[Any]) -> Result:
        return Envelope(event.channel, public(event, note=len(str(hidden(event)))))

    assert audited(Quotes(digits, **NOTE, derives={"note": "hidden"})).findings == ()


def test_a_declaration_that_is_not_seen_is_listed_and_no_finding() -> None:
    found = audited(Quotes(clean, derives={"price": "hidden"}))
    assert (found.unseen, found.findings) == (("price ← hidden",), ())


class Pair(msgspec.Struct):
    """Two flags, each of which makes an envelope that the other does not make."""

    flags: Annotated[list[bool], msgspec.Meta(min_length=2, max_length=2)]


def each_once(event: Event[Pair]) -> Result:
    """Show no change of one flag but in the number of envelopes."""
    return [Envelope(event.channel, {"note": flag}) for flag in sorted({*event.payload.flags})]


def paired(**changes: Any) -> TypeAudit:
    emits = envelope_schema("quote", "^quotes:[A-Z]{3}$", {"note": {"type": "boolean"}})
    return audited(Quotes(each_once, reads=Pair, emits=emits, derives={"(envelopes)": "flags"}, **changes))


def test_an_output_that_varies_with_no_single_input_is_a_finding() -> None:
    assert paired().findings == ("note changes with no single input, so nothing shows of what it tells",)


def test_an_output_that_varies_with_no_single_input_and_is_declared_is_listed() -> None:
    found = paired(publishes={"note": "flags"})
    assert (found.findings, found.unseen) == ((), ("note ← flags", "note ← any one input"))


def test_an_envelope_that_comes_every_so_often_is_a_finding() -> None:
    def count(event: Event[Any]) -> Result:
        calls.append(1)
        return clean(event) if len(calls) % 7 else None

    calls: list[int] = []
    sentence = "whether there is an envelope changes for the same event: with earlier events, the time or chance"
    assert sentence in audited(Quotes(count)).findings


def test_a_report_is_the_audits_and_how_they_were_made() -> None:
    report = audit(
        Registry([CANDLE, SIGNALS]).routes("1"), version="1.2", date="2026-02-19T12:00:00+00:00", cases=CASES
    )
    assert (report.audits, report.cases, report.findings) == ((OF_CANDLE, OF_SIGNAL), CASES, 0)


def test_a_report_counts_the_findings_of_all_audits() -> None:
    leaky = audited(LEAKS["a value copied"][0]())
    assert Report("1", "3", "", 1, 1, (leaky, leaky)).findings == 2

"""tornado_bridge.events: event types, events and envelopes."""

import dataclasses
from typing import Any

import msgspec
import pytest

from tornado_bridge.errors import InvalidEvent
from tornado_bridge.events import Envelope, Event, EventType, envelope_schema
from tornado_bridge.redaction import closed_schema
from tornado_bridge.redaction.validation import Validator


class Trade(msgspec.Struct):
    price: msgspec.Raw


EMITS = envelope_schema("trade", "^trades:[A-Z]{3}$", {"side": {"enum": ["buy", "sell"]}})


def declared(**changes: Any) -> EventType:
    declaration: dict[str, Any] = {
        "name": "trade",
        "source": "channel:exchange:{exchange_id}:trades:{symbol}",
        "channel": "trades:{symbol}",
        "parameters": {"symbol": r"[A-Z]{3}"},
        "reads": Trade,
        "emits": EMITS,
    }
    return EventType(**{**declaration, **changes})


def test_an_event_type_knows_its_source_form() -> None:
    assert declared().source_form.match("channel:exchange:1:trades:BTC") == {"exchange_id": "1", "symbol": "BTC"}


def test_an_event_type_knows_its_channel_form() -> None:
    assert declared().channel_form.match("trades:BTC") == {"symbol": "BTC"}


def test_an_event_type_holds_its_rules_against_source_and_channel() -> None:
    assert (
        declared().source_form.match("channel:exchange:1:trades:BTCX"),
        declared().channel_form.match("trades:BTCX"),
    ) == (None, None)


def test_an_event_type_makes_channels() -> None:
    assert declared().channel_name(symbol="BTC") == "trades:BTC"


def test_an_event_type_refuses_a_part_that_breaks_its_rule() -> None:
    with pytest.raises(InvalidEvent):
        declared().channel_name(symbol="*")


def test_the_parts_of_a_source_give_the_channel() -> None:
    assert declared().channel_of({"symbol": "BTC", "venue": "x"}) == "trades:BTC"


def test_the_channel_is_empty_if_it_has_other_parts() -> None:
    assert declared().channel_of({"venue": "x"}) == ""


def test_a_part_of_a_source_that_breaks_the_rule_of_the_channel_is_invalid() -> None:
    with pytest.raises(InvalidEvent):
        declared().channel_of({"symbol": "*"})


def test_an_event_type_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        declared().name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"parameters": {"symbol": "[A-Z]{3}", "side": "[a-z]+"}},
            "parameters has a rule for 'side', which is in neither source nor channel",
        ),
        (
            {"channel": "trades:{symbol}:{a}:{b}:{c}:{d}"},
            "'trades:{symbol}:{a}:{b}:{c}:{d}' has more than 4 named parts",
        ),
        ({"source": "trades:*"}, "'trades:*' has the part '*', which is neither a plain name nor {a_name}"),
        ({"channel": ""}, "'' has the part '', which is neither a plain name nor {a_name}"),
        ({"reads": dict}, "the reads of 'trade' must be a msgspec.Struct type"),
        ({"reads": Any}, "the reads of 'trade' must be a msgspec.Struct type"),
        ({"reads": Trade(msgspec.Raw(b"1"))}, "the reads of 'trade' must be a msgspec.Struct type"),
    ],
)
def test_an_invalid_declaration_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError) as raised:
        declared(**changes)
    assert str(raised.value) == reason


@pytest.mark.parametrize("name", ["", "x" * 65, "a\nb", "\x1b[31m", "\ud800", 5, None])
def test_a_name_is_1_to_64_printable_characters(name: Any) -> None:
    with pytest.raises(ValueError, match=r"^the name of an event type must be 1 to 64 printable characters, not "):
        declared(name=name)


@pytest.mark.parametrize("name", ["x", "x" * 64, "candle_close", "order-book", "a/b~c d%"])
def test_any_other_name_is_admitted(name: str) -> None:
    assert declared(name=name).name == name


PROTOCOL_TYPES = [
    "authenticated",
    "error",
    "gap",
    "going_away",
    "pong",
    "position",
    "status",
    "subscribed",
    "unsubscribed",
    "welcome",
]


@pytest.mark.parametrize("name", PROTOCOL_TYPES)
def test_the_types_of_the_protocol_s_own_messages_are_reserved(name: str) -> None:
    with pytest.raises(ValueError) as raised:
        declared(name=name)
    assert str(raised.value) == (
        f"the name '{name}' is reserved for a message of the protocol; choose another for the event type"
    )


def test_a_channel_may_have_four_named_parts() -> None:
    assert declared(channel="trades:{symbol}:{a}:{b}:{c}").channel_name(symbol="BTC", a="1", b="2", c="3") == (
        "trades:BTC:1:2:3"
    )


def test_a_source_may_have_more_named_parts_than_a_channel() -> None:
    assert declared(source="{exchange_id}:{symbol}:{a}:{b}:{c}").source_form.parameters == (
        "exchange_id",
        "symbol",
        "a",
        "b",
        "c",
    )


def test_an_event_cannot_be_changed() -> None:
    event = Event("trade", "s", {}, "", Trade(msgspec.Raw(b"1")), "coinbase")
    with pytest.raises(AttributeError):
        event.exchange = "other"  # type: ignore[misc]


def test_an_envelope_cannot_be_changed() -> None:
    envelope = Envelope("trades:BTC", {})
    with pytest.raises(AttributeError):
        envelope.channel = "other"  # type: ignore[misc]


def test_an_envelope_schema_is_closed() -> None:
    assert list(closed_schema.findings(EMITS)) == []


def test_an_envelope_schema_admits_its_envelope() -> None:
    assert Validator(EMITS).admits({"type": "trade", "channel": "trades:BTC", "data": {"side": "buy"}})


@pytest.mark.parametrize(
    "envelope",
    [
        {"type": "candle_close", "channel": "trades:BTC", "data": {"side": "buy"}},
        {"type": "trade", "channel": "trades:BTCX", "data": {"side": "buy"}},
        {"type": "trade", "channel": "trades:BTC", "data": {"side": "both"}},
        {"type": "trade", "channel": "trades:BTC", "data": {}},
        {"type": "trade", "channel": "trades:BTC", "data": {"side": "buy", "id": 1}},
        {"type": "trade", "channel": "trades:BTC", "data": {"side": "buy"}, "id": 1},
        {"type": "trade", "channel": "trades:BTC"},
        {"channel": "trades:BTC", "data": {"side": "buy"}},
        {"type": "trade", "data": {"side": "buy"}},
    ],
)
def test_an_envelope_schema_admits_nothing_else(envelope: dict[str, Any]) -> None:
    assert not Validator(EMITS).admits(envelope)


def test_an_envelope_schema_bounds_the_channel() -> None:
    schema = envelope_schema("trade", "^t:[a-z]*$", {})
    sizes = {
        size: Validator(schema).admits({"type": "trade", "channel": "t:".ljust(size, "a"), "data": {}})
        for size in (128, 129)
    }
    assert sizes == {128: True, 129: False}


def test_an_envelope_schema_carries_its_notes() -> None:
    assert envelope_schema("trade", "^t$", {}, title="Trade")["title"] == "Trade"

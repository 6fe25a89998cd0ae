"""tornado_bridge.redaction.channel_schema: a part without a rule, and a schema narrower than the default rule."""

import re
from typing import Any

import msgspec
import pytest

from tornado_bridge.channels import DEFAULT_PATTERN
from tornado_bridge.events import EventType, envelope_schema
from tornado_bridge.redaction import channel_schema
from tornado_bridge.redaction.channel_schema import check_default_rules


class Reads(msgspec.Struct):
    price: msgspec.Raw


def declared(channel: str, emits: dict[str, Any] | str, **parameters: Any) -> EventType:
    schema = envelope_schema("trade", emits, {}) if isinstance(emits, str) else emits
    return EventType("trade", "trades:{exchange_id}", channel, Reads, schema, parameters)


def with_channel(channel: dict[str, Any], **more: Any) -> dict[str, Any]:
    schema = envelope_schema("trade", "^t$", {})
    return {**schema, **more, "properties": {**schema["properties"], "channel": channel}}


def refusal(name: str, refused: str) -> str:
    return (
        f"'trade' has no rule for {{{name}}}, which may then be any plain name, but its schema refuses {refused} "
        f"there: give '{name}' a rule in parameters"
    )


@pytest.mark.parametrize(
    ("pattern", "refused"),
    [
        ("^trades:[a-z0-9_.-]{1,64}$", "'A'"),
        ("^trades:[A-Z0-9_.-]{1,64}$", "'a'"),
        ("^trades:[A-Za-z_.-]{1,64}$", "'0'"),
        ("^trades:[A-Za-z0-9.-]{1,64}$", "'_'"),
        ("^trades:[A-Za-z0-9_-]{1,64}$", "'.'"),
        ("^trades:[A-Za-z0-9_.]{1,64}$", "'-'"),
        (r"^trades:(?:[A-Za-z]|\d|[_.-]|[x]{64})$", "'aA0_.-'"),
        ("^trades:[A-Za-z0-9_.-]{1,63}$", "a text of 64 characters"),
        ("^trades:[A-Z]{2,10}-[A-Z]{2,10}$", "'A'"),
        ("^quotes:[A-Za-z0-9_.-]{1,64}$", "'A'"),
    ],
)
def test_a_schema_that_refuses_a_plain_name_is_refused(pattern: str, refused: str) -> None:
    with pytest.raises(ValueError) as raised:
        check_default_rules(declared("trades:{symbol}", pattern))
    assert str(raised.value) == refusal("symbol", refused)


@pytest.mark.parametrize(
    "pattern", ["^trades:[A-Za-z0-9_.-]{1,64}$", r"^trades:[\w.\-]+$", "^[a-z]+:[:A-Za-z0-9_.-]+$"]
)
def test_a_schema_that_admits_every_plain_name_is_admitted(pattern: str) -> None:
    check_default_rules(declared("trades:{symbol}", pattern))


def test_a_part_with_a_rule_may_be_narrower() -> None:
    check_default_rules(declared("trades:{symbol}", "^trades:[A-Z]{3}$", symbol="[A-Z]{3}"))


def test_a_channel_without_named_parts_is_admitted() -> None:
    check_default_rules(declared("trades:all", "^trades:all$"))


@pytest.mark.parametrize(
    "channel",
    [
        {"enum": ["trades:BTC", "trades:ETH"]},
        {"type": "string", "pattern": "^trades:[A-Za-z0-9_.-]{1,64}$", "maxLength": 40},
        {"$ref": "#/$defs/channel"},
    ],
)
def test_whatever_narrows_the_channel_is_seen(channel: dict[str, Any]) -> None:
    definition = {"type": "string", "pattern": "^trades:BTC$", "maxLength": 10}
    with pytest.raises(ValueError, match=r"^'trade' has no rule for \{symbol\}, "):
        check_default_rules(declared("trades:{symbol}", with_channel(channel, **{"$defs": {"channel": definition}})))


@pytest.mark.parametrize(
    ("pattern", "name", "refused"),
    [
        ("^trades:[A-Z]{3}:(?:spot|1e3)$", "symbol", "'A'"),
        (r"^trades:[\w.-]{1,64}:(?:spot|1e3)$", "market", "'A'"),
        (r"^trades:(?:[\w.-]{1,64}|a[:]b|a\.(b:c)):[a-z]$", "market", "'A'"),
    ],
)
def test_each_of_several_parts_is_tried(pattern: str, name: str, refused: str) -> None:
    with pytest.raises(ValueError) as raised:
        check_default_rules(declared("trades:{symbol}:{market}", pattern))
    assert str(raised.value) == refusal(name, refused)


def test_one_of_several_parts_may_have_a_rule() -> None:
    check_default_rules(declared("trades:{symbol}:{market}", r"^trades:[A-Z]{3}:[\w.-]{1,64}$", symbol="[A-Z]{3}"))


@pytest.mark.parametrize("pattern", ["^t$", "^trades:(?:[A-Z]+:[A-Z]+)$", r"^trades:[\w.-]+:?[\w.-]+$"])
def test_a_pattern_that_does_not_show_its_parts_is_admitted(pattern: str) -> None:
    check_default_rules(declared("trades:{symbol}:{market}", pattern))


def test_a_schema_that_is_a_union_is_admitted() -> None:
    check_default_rules(declared("trades:{symbol}", {"anyOf": [envelope_schema("trade", "^trades:BTC$", {})]}))


def test_the_texts_that_are_tried_are_plain_names() -> None:
    assert all(re.fullmatch(DEFAULT_PATTERN, text) for text in channel_schema._PROBES)

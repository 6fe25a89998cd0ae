"""tornado_bridge.redaction.declaration: which flows are declared, and which declarations are refused."""

from typing import Any

import msgspec
import pytest

from tornado_bridge import EventType, envelope_schema, values
from tornado_bridge.redaction.declaration import (
    CHANNEL,
    CONFIGURED,
    DERIVED,
    EARLIER,
    ENVELOPES,
    EXCHANGE,
    ORDER,
    PRESENCE,
    PUBLISHED,
    UNDECLARED,
    VALIDITY,
    Declaration,
    Input,
)

TEXT = {"type": "string", "pattern": "^[a-z]{1,8}$", "maxLength": 8}


class Fill(msgspec.Struct):
    price: msgspec.Raw
    size: msgspec.Raw
    account: msgspec.Raw


class Order(msgspec.Struct):
    symbol: str
    placedAt: msgspec.Raw
    secretScore: msgspec.Raw
    fills: list[Fill]
    more: dict[str, msgspec.Raw]
    owner: Fill


MEMBERS = {
    "symbol": TEXT,
    "at": values.TIMESTAMP,
    "strength": {"enum": ["weak", "strong"]},
    "price": values.DECIMAL,
    "levels": {
        "type": "array",
        "maxItems": 3,
        "items": {"type": "object", "properties": {"size": values.DECIMAL}, "additionalProperties": False},
    },
}


def declared(**changes: Any) -> EventType:
    declaration: dict[str, Any] = {
        "name": "order",
        "source": "channel:exchange:{exchange_id}:orders:{venue}",
        "channel": "orders:{symbol}:{venue}",
        "reads": Order,
        "emits": envelope_schema("order", "^orders:[a-z]{1,8}:[a-z]{1,8}$", MEMBERS),
        "publishes": {"at": "placedAt", "levels.size": "fills.size"},
        "derives": {"strength": ("secretScore", "more.score")},
    }
    return EventType(**{**declaration, **changes})


DECLARATION = Declaration(declared())


@pytest.mark.parametrize(
    ("output", "given", "flow"),
    [
        ("at", Input("placedAt"), PUBLISHED),
        ("at", Input("secretScore"), UNDECLARED),
        ("symbol", Input("symbol"), PUBLISHED),
        ("symbol", Input("venue", part=True), UNDECLARED),
        ("strength", Input("secretScore"), DERIVED),
        ("strength", Input("more.score"), DERIVED),
        ("strength", Input("more.SCORE"), UNDECLARED),
        ("strength", Input("more"), DERIVED),
        ("price", Input("fills.price", "price"), PUBLISHED),
        ("price", Input("owner.price", "owner.price"), UNDECLARED),
        ("price", Input("fills.account", "account"), UNDECLARED),
        ("price", Input("fills"), PUBLISHED),
        ("at", Input("fills"), UNDECLARED),
        ("levels.size", Input("fills.size", "size"), PUBLISHED),
        ("levels.size", Input("fills"), PUBLISHED),
        (CHANNEL, Input("symbol"), PUBLISHED),
        (CHANNEL, Input("venue", part=True), PUBLISHED),
        (CHANNEL, Input("secretScore"), UNDECLARED),
        (ENVELOPES, Input("fills"), PUBLISHED),
        (ENVELOPES, Input("fills.price", "price"), UNDECLARED),
        (PRESENCE, Input("secretScore"), VALIDITY),
        (PRESENCE, Input("unknown", read=False), UNDECLARED),
        (ORDER, Input("symbol"), UNDECLARED),
        ("symbol", Input("symbol", read=False), UNDECLARED),
        ("price", Input(EXCHANGE), CONFIGURED),
        ("price", Input(EARLIER), UNDECLARED),
    ],
)
def test_a_flow_is_declared_or_not(output: str, given: Input, flow: str) -> None:
    assert DECLARATION.flow(output, given) == flow


def test_an_array_may_be_derived_from_with_its_items() -> None:
    declaration = Declaration(declared(derives={"strength": "fills.account"}))
    assert declaration.flow("strength", Input("fills")) == DERIVED


def test_the_number_of_envelopes_may_be_declared() -> None:
    declaration = Declaration(declared(derives={ENVELOPES: "secretScore"}))
    assert declaration.flow(ENVELOPES, Input("secretScore")) == DERIVED


def test_the_outputs_are_the_members_of_data() -> None:
    assert DECLARATION.outputs == ("symbol", "at", "strength", "price", "levels", "levels.size")


def test_the_inputs_are_the_members_that_are_read_and_those_declared_below_them() -> None:
    assert {"symbol", "fills.price", "more", "more.score", "{venue}"} <= DECLARATION.inputs()


def test_pairs_are_what_is_declared_by_name() -> None:
    assert DECLARATION.pairs() == [
        ("at", "placedAt"),
        ("levels.size", "fills.size"),
        ("strength", "secretScore"),
        ("strength", "more.score"),
    ]


def test_an_output_of_which_something_is_declared_is_explained() -> None:
    emits = envelope_schema("order", "^orders:[a-z]{1,8}:[a-z]{1,8}$", {"other": TEXT, "symbol": TEXT})
    declaration = Declaration(declared(emits=emits, publishes={}, derives={}))
    assert (declaration.explains("symbol"), declaration.explains("other")) == (True, False)


@pytest.mark.parametrize(("output", "choices"), [("strength", 2), ("price", None), (CHANNEL, None)])
def test_an_output_has_as_many_choices_as_its_schema(output: str, choices: int | None) -> None:
    assert DECLARATION.choices(output) == choices


def test_private_names_are_those_that_are_read_and_stand_in_nothing_public() -> None:
    assert DECLARATION.private_names().findall("placedAt secretScore fills size symbol more account") == [
        "placedAt",
        "secretScore",
        "more",
        "account",
    ]


def test_an_event_type_without_private_names_has_a_pattern_that_matches_nothing() -> None:
    reads = msgspec.defstruct("Reads", [("symbol", str)])
    declaration = Declaration(declared(reads=reads, publishes={}, derives={}))
    assert declaration.private_names().findall("symbol") == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"publishes": {"when": "placedAt"}},
            "'order' declares where 'when' comes from, which its schema does not list",
        ),
        ({"publishes": {"at": "placed_at"}}, "'order' declares 'at' to come from 'placed_at', which it does not read"),
        ({"publishes": {"at": ""}}, "'order' declares 'at' to come from '', which it does not read"),
        (
            {"derives": {"price": "fills.id"}},
            "'order' declares 'price' to come from 'fills.id', which it does not read",
        ),
        (
            {"derives": {PRESENCE: "symbol"}},
            f"'order' declares where {PRESENCE!r} comes from, which its schema does not list",
        ),
    ],
)
def test_a_declaration_of_a_missing_member_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError) as raised:
        Declaration(declared(**changes))
    assert str(raised.value) == reason


@pytest.mark.parametrize("source", ["venue", "fills", "owner", "more.anything.below"])
def test_a_declaration_may_name_parts_arrays_objects_and_what_is_below_an_open_one(source: str) -> None:
    assert Declaration(declared(publishes={"at": source})).published == {"at": (source,)}


def test_a_part_of_the_source_is_labelled_as_one() -> None:
    assert (Input("venue", part=True).label, Input("venue").label) == ("{venue}", "venue")

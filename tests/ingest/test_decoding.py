"""tornado_bridge.ingest.decoding: a fault is named by the path of its member, and nothing of a payload is quoted."""

import dataclasses
import re
from typing import Any, Literal, NamedTuple, TypedDict

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_bridge.ingest.decoding import explain, member_names

CANARY = "canary"
WRONG = "a member that is read is missing or of the wrong kind"


class Leg(msgspec.Struct, rename="camel"):
    unit_price: int
    side: Literal["buy", "sell"] = "buy"


class Spot(msgspec.Struct, tag="spot", tag_field="kind"):
    venue: str


class Future(msgspec.Struct, tag="future", tag_field="kind"):
    expiry: int


@dataclasses.dataclass
class Fee:
    rate: int


class Limits(TypedDict):
    ceiling: int


class Pair(NamedTuple):
    base: int


class Order(msgspec.Struct):
    price: int = 0
    leg: Leg | None = None
    legs: list[Leg] = []
    by_name: dict[str, Leg] = {}
    market: Spot | Future | None = None
    fee: Fee | None = None
    limits: Limits | None = None
    pair: tuple[int, Pair] | None = None
    child: "Order | None" = None
    code: Literal["a", "b"] = "a"
    size: msgspec.Raw = msgspec.Raw(b"1")


DECLARED = member_names(Order)


def fault(payload: str, reads: Any = Order, declared: frozenset[str] = DECLARED) -> str:
    with pytest.raises(msgspec.DecodeError) as caught:
        msgspec.json.decode(payload, type=reads)
    return explain(caught.value, declared)


def test_the_members_of_a_type_are_those_of_all_that_it_contains() -> None:
    assert {
        *("price", "leg", "legs", "by_name", "market", "fee", "limits", "pair", "child", "code", "size"),
        *("unitPrice", "side", "kind", "venue", "expiry", "rate", "ceiling", "base"),
    } == DECLARED


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        ('{"price":"canary"}', "$.price"),
        ('{"leg":{}}', "$.leg.unitPrice"),
        ('{"leg":{"unitPrice":["canary"]}}', "$.leg.unitPrice"),
        ('{"legs":[{"unitPrice":1},{"unitPrice":"canary"}]}', "$.legs[...].unitPrice"),
        ('{"legs":[{"unitPrice":1},{}]}', "$.legs[...].unitPrice"),
        ('{"by_name":{"canary":{"unitPrice":"canary"}}}', "$.by_name[...].unitPrice"),
        ('{"by_name":{"canary":{}}}', "$.by_name[...].unitPrice"),
        ('{"leg":{"unitPrice":1,"side":"canary"}}', "$.leg.side"),
        ('{"market":{"kind":"canary"}}', "$.market.kind"),
        ('{"market":{"kind":"spot"}}', "$.market.venue"),
        ('{"fee":{"rate":"canary"}}', "$.fee.rate"),
        ('{"limits":{"ceiling":"canary"}}', "$.limits.ceiling"),
        ('{"pair":[1,["canary"]]}', "$.pair[...][...]"),
        ('{"child":{"child":{"price":"canary"}}}', "$.child.child.price"),
        # The decoder quotes these values. What looks like a path in them is none.
        ('{"code":"canary - at `$.price`"}', "$.code"),
        ('{"code":"` - at `$.canary"}', "$.code"),
        ('{"leg":{"unitPrice":1,"side":"\\n - at `$.canary`"}}', "$.leg.side"),
    ],
)
def test_a_fault_is_named_by_the_path_of_its_member(payload: str, path: str) -> None:
    assert fault(payload) == f"{WRONG}: {path}"


@pytest.mark.parametrize("payload", ["[]", '"canary"', "null"])
def test_a_payload_that_is_not_an_object_has_no_path(payload: str) -> None:
    assert fault(payload) == WRONG


def test_a_path_of_great_length_is_left_out() -> None:
    assert fault('{"child":' * 50 + '{"price":"canary"}' + "}" * 50) == WRONG


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    price: int = 0


@pytest.mark.parametrize(
    "name", ["canary", " - at `$.canary", "x` - at `$.canary", "Object missing required field `canary"]
)
def test_the_name_of_an_unknown_member_is_not_quoted(name: str) -> None:
    assert CANARY not in fault(msgspec.json.encode({name: 1}).decode(), Strict, member_names(Strict))


class Echo(msgspec.Struct):
    price: str

    def __post_init__(self) -> None:
        raise ValueError(self.price)


@pytest.mark.parametrize(
    "price",
    [
        "canary",
        "x - at `$.canary`",
        "x - at `$.canary.price`",
        "x - at `canary`",
        "x - at `$canary`",
        "x - at `$.price canary`",
        "Object missing required field `canary`",
        "Object missing required field `price` - at `$.canary`",
    ],
)
def test_a_check_of_the_type_that_quotes_the_payload_does_not_get_it_into_the_log(price: str) -> None:
    assert fault(msgspec.json.encode({"price": price}).decode(), Echo, member_names(Echo)) == WRONG


TOKENS = ["price", CANARY, ".", "[0]", "[...]", "`", "$", " - at `$.", "Object missing required field `", "\n", "é"]


@given(tokens=st.lists(st.sampled_from(TOKENS), max_size=8))
def test_a_path_has_declared_names_and_nothing_else(tokens: list[str]) -> None:
    found = explain(msgspec.ValidationError("".join(tokens)), frozenset({"price"}))
    assert re.fullmatch(rf"{WRONG}(: \$(\.price|\[\.\.\.\])+)?", found)


def test_another_fault_of_a_payload_is_named_without_a_path() -> None:
    assert fault("{") == "the payload is not JSON"
    assert explain(UnicodeDecodeError("utf-8", b"canary", 0, 1, CANARY), DECLARED) == "the payload is not UTF-8"
    assert explain(RecursionError(CANARY), DECLARED) == "the payload is nested too deep"

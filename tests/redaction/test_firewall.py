"""tornado_bridge.redaction.firewall: which envelopes leave, as exactly the text that was checked."""

import dataclasses
import enum
from typing import Any

import msgspec
import pytest

from tornado_bridge.errors import BridgeError
from tornado_bridge.events import Envelope, EventType, envelope_schema
from tornado_bridge.redaction.firewall import CheckedEnvelope, EnvelopeRefused, Firewall

SIDE = {"enum": ["buy", "sell"]}
NOTE = {"type": "string", "pattern": "^[a-z]{1,9}$", "maxLength": 9}
SENT = '{"type":"trade","channel":"trades:BTC","data":{"side":"buy","note":"abc"}}'


class Trade(msgspec.Struct):
    price: msgspec.Raw


def declared(data: dict[str, Any] | None = None, **changes: Any) -> EventType:
    members = {"side": SIDE, "note": NOTE} if data is None else data
    declaration: dict[str, Any] = {
        "name": "trade",
        "source": "channel:exchange:{exchange_id}:trades:{symbol}",
        "channel": "trades:{symbol}",
        "parameters": {"symbol": r"[A-Z]{3}"},
        "reads": Trade,
        "emits": envelope_schema("trade", "^[a-z]*:[A-Za-z*]*$", members),
    }
    return EventType(**{**declaration, **changes})


@pytest.fixture
def firewall() -> Firewall:
    return Firewall(declared())


def refused(firewall: Firewall, envelope: Envelope) -> tuple[str, str]:
    with pytest.raises(EnvelopeRefused) as raised:
        firewall.check(envelope)
    return raised.value.path, raised.value.rule


def test_an_envelope_that_is_as_declared_leaves_as_a_text_frame(firewall: Firewall) -> None:
    checked = firewall.check(Envelope("trades:BTC", {"side": "buy", "note": "abc"}))
    assert checked.text.decode() == SENT


def test_a_checked_envelope_names_its_channel(firewall: Firewall) -> None:
    assert firewall.check(Envelope("trades:BTC", {"side": "buy", "note": "abc"})).channel == "trades:BTC"


def test_a_checked_envelope_holds_nothing_else() -> None:
    with pytest.raises(AttributeError):
        CheckedEnvelope("trades:BTC", b"").data = {}  # type: ignore[attr-defined]


def test_text_that_is_not_ascii_leaves_unescaped() -> None:
    firewall = Firewall(declared({"name": {"enum": ["caf\u00e9 \U0001f600"]}}))
    checked = firewall.check(Envelope("trades:BTC", {"name": "caf\u00e9 \U0001f600"}))
    assert checked.text.decode() == ('{"type":"trade","channel":"trades:BTC","data":{"name":"caf\u00e9 \U0001f600"}}')


@pytest.mark.parametrize(
    ("data", "path", "rule"),
    [
        ({"side": "buy"}, "$.data", "breaks the schema's required"),
        ({}, "$.data", "breaks the schema's required"),
        ({"side": "both", "note": "abc"}, "$.data.side", "breaks the schema's enum"),
        ({"side": "buy", "note": "ABC"}, "$.data.note", "breaks the schema's pattern"),
        ({"side": "buy", "note": "abc\n"}, "$.data.note", "breaks the schema's pattern"),
        ({"side": "buy", "note": 5}, "$.data.note", "breaks the schema's type"),
        ({"side": "buy", "note": None}, "$.data.note", "breaks the schema's type"),
        ({"side": "buy", "note": ["abc"]}, "$.data.note", "breaks the schema's type"),
        ({"side": "buy", "note": float("nan")}, "$.data.note", "breaks the schema's type"),
        ({"side": "buy", "note": "abc", "id": 1}, "$.data", "has a member that is not declared"),
        ({"side": "buy", "note": {"id": 1}}, "$.data.note", "has a member that is not declared"),
        ({"side": {"side": "buy"}, "note": "abc"}, "$.data.side", "has a member that is not declared"),
        ({"side": "buy", "note": [{"id": 1}]}, "$.data.note[]", "has a member that is not declared"),
        (None, "$.data", "breaks the schema's type"),
        ("text", "$.data", "breaks the schema's type"),
        ([], "$.data", "breaks the schema's type"),
    ],
)
def test_an_envelope_that_is_not_as_declared_is_refused(firewall: Firewall, data: Any, path: str, rule: str) -> None:
    assert refused(firewall, Envelope("trades:BTC", data)) == (path, rule)


@pytest.mark.parametrize(
    "channel",
    [
        "trades:btc",
        "trades:*",
        "trades:BTC:1h",
        "trades",
        "candles:BTC",
        "trades:BTC\n",
        "",
        5,
        None,
        ["trades:BTC"],
        {},
    ],
)
def test_a_channel_outside_the_declared_form_is_refused(firewall: Firewall, channel: Any) -> None:
    assert refused(firewall, Envelope(channel, {"side": "buy", "note": "abc"})) == (
        "$.channel",
        "is not of the form trades:{symbol}",
    )


def test_a_channel_carries_many_envelopes(firewall: Firewall) -> None:
    envelope = Envelope("trades:BTC", {"side": "buy", "note": "abc"})
    assert [firewall.check(envelope).text.decode() for _ in range(2)] == [SENT, SENT]


def test_a_channel_is_refused_after_others_have_passed(firewall: Firewall) -> None:
    firewall.check(Envelope("trades:BTC", {"side": "buy", "note": "abc"}))
    assert refused(firewall, Envelope("trades:btc", {"side": "buy", "note": "abc"}))[0] == "$.channel"


def test_a_channel_is_refused_after_more_others_than_are_remembered() -> None:
    firewall = Firewall(declared({}, parameters={"symbol": "[A-Za-z]{1,4}"}))
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    names = [a + b + c for a in letters for b in letters for c in letters][:65_537]
    for name in names:
        firewall.check(Envelope(f"trades:{name}", {}))
    assert refused(firewall, Envelope("trades:12", {}))[0] == "$.channel"


def test_a_channel_that_the_schema_does_not_admit_is_refused() -> None:
    firewall = Firewall(declared(emits=envelope_schema("trade", "^trades:BTC$", {})))
    assert refused(firewall, Envelope("trades:ETH", {})) == ("$.channel", "breaks the schema's pattern")


def test_an_event_type_whose_schema_is_for_another_type_lets_nothing_out() -> None:
    firewall = Firewall(declared(emits=envelope_schema("candle_close", "^trades:[A-Z]{3}$", {})))
    assert refused(firewall, Envelope("trades:BTC", {})) == ("$.type", "breaks the schema's const")


class Twin(str):
    """A text that claims to equal every other text."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return hash("trades:BTC")


def test_a_channel_that_claims_to_be_another_is_refused(firewall: Firewall) -> None:
    firewall.check(Envelope("trades:BTC", {"side": "buy", "note": "abc"}))
    assert refused(firewall, Envelope(Twin("candles:BTC"), {"side": "buy", "note": "abc"}))[0] == "$.channel"


class Name(enum.Enum):
    NOTE = "note"


class Loner(str):
    """A text that does not equal any text, not even itself."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return False

    def __hash__(self) -> int:
        return 1


@dataclasses.dataclass
class Data:
    side: str
    note: str


@pytest.mark.parametrize(
    "data",
    [
        {"side": "buy", Name.NOTE: "SECRET", "note": "abc"},
        {"side": "buy", Loner("note"): "SECRET", "note": "abc"},
        {"side": "buy", "note": msgspec.Raw(b'"SECRET","note":"abc"')},
        {"side": "buy", "note": msgspec.Raw(b'\t"\\u0061bc" ')},
        msgspec.Raw(b'{"side":"sell","side":"buy","note":{"SECRET":1},"note":"abc"}'),
        msgspec.Raw(b' {"side" : "buy",\n"note":"abc"}\n'),
        Data("buy", "abc"),
    ],
)
def test_the_text_that_leaves_is_the_text_that_was_checked(firewall: Firewall, data: Any) -> None:
    assert firewall.check(Envelope("trades:BTC", data)).text.decode() == SENT


@pytest.mark.parametrize(
    "data",
    [
        msgspec.Raw(b'{"side":"SECRET"},"data":{"side":"buy","note":"abc"}'),
        msgspec.Raw(b'{"side":"buy","note":"abc"},"channel":"trades:ETH"'),
        msgspec.Raw(b'{"side":"buy","note":"abc"}}{'),
        msgspec.Raw(b""),
        msgspec.Raw(b'{"side":"buy","note":"\xff"}'),
        {"side": "buy", "note": "\ud800"},
        {"side": "buy", "note": object()},
        {"side": "buy", "note": {1: {}, (1, 2): 3}},
    ],
)
def test_data_that_json_cannot_hold_does_not_leave(firewall: Firewall, data: Any) -> None:
    with pytest.raises((msgspec.MsgspecError, UnicodeError, TypeError)):
        firewall.check(Envelope("trades:BTC", data))


def test_members_of_members_are_checked_by_name() -> None:
    fill = {
        "type": "object",
        "properties": {"side": SIDE},
        "required": ["side"],
        "additionalProperties": False,
    }
    firewall = Firewall(declared({"fills": {"type": "array", "items": fill, "maxItems": 2}}))
    checked = firewall.check(Envelope("trades:BTC", {"fills": [{"side": "buy"}, {"side": "sell"}]}))
    assert checked.text.decode() == (
        '{"type":"trade","channel":"trades:BTC","data":{"fills":[{"side":"buy"},{"side":"sell"}]}}'
    )


@pytest.mark.parametrize(
    ("data", "path", "rule"),
    [
        ([{"side": "buy"}, {"side": "buy", "id": 1}], "$.data.fills[]", "has a member that is not declared"),
        ([{"side": "buy"}, {"side": "x"}], "$.data.fills[1].side", "breaks the schema's enum"),
        ([[{"id": 1}]], "$.data.fills[][]", "has a member that is not declared"),
        ([{}] * 3, "$.data.fills", "breaks the schema's maxItems"),
    ],
)
def test_a_wrong_member_of_a_member_is_refused(data: Any, path: str, rule: str) -> None:
    fill = {"type": "object", "properties": {"side": SIDE}, "additionalProperties": False}
    firewall = Firewall(declared({"fills": {"type": "array", "items": fill, "maxItems": 2}}))
    assert refused(firewall, Envelope("trades:BTC", {"fills": data})) == (path, rule)


@pytest.mark.parametrize("data", [{"side": "buy"}, {"note": "abc"}])
def test_an_envelope_may_be_of_one_of_several_shapes(data: dict[str, str]) -> None:
    shapes = [
        envelope_schema("trade", "^trades:BTC$", {"side": SIDE}),
        envelope_schema("trade", "^trades:BTC$", {"note": NOTE}),
    ]
    for shape in shapes:
        del shape["$schema"]
    firewall = Firewall(declared(emits={"anyOf": shapes}))
    assert firewall.check(Envelope("trades:BTC", data)).channel == "trades:BTC"


def test_a_refusal_has_the_path_and_the_reason_but_no_value(firewall: Firewall) -> None:
    with pytest.raises(EnvelopeRefused) as raised:
        firewall.check(Envelope("trades:BTC", {"side": "SECRET", "note": "SECRET"}))
    assert str(raised.value) == "$.data.side: breaks the schema's enum"


def test_a_refusal_is_a_bridge_error() -> None:
    assert issubclass(EnvelopeRefused, BridgeError)


def test_a_hostile_text_is_refused_at_once() -> None:
    note = {"type": "string", "pattern": "^(?:[a-z]+)+$", "maxLength": 1000}
    firewall = Firewall(declared({"note": note}))
    assert refused(firewall, Envelope("trades:BTC", {"note": "a" * 900 + "!"})) == (
        "$.data.note",
        "breaks the schema's pattern",
    )


class Sly(dict[str, Any]):
    """A schema that looks closed to `get`, although the encoder sees an open one."""

    def get(self, name: str, default: Any = None) -> Any:
        return {"type": "object", "properties": {}, "additionalProperties": False}.get(name, default)


@pytest.mark.parametrize(
    ("emits", "reason"),
    [
        (
            envelope_schema("trade", "^t$", {"note": {"type": "string", "maxLength": 9}}),
            "the schema of 'trade' is open at $.data.note: a text needs an enum or a pattern",
        ),
        (
            {**envelope_schema("trade", "^t$", {}), "additionalProperties": True},
            "the schema of 'trade' is open at $: an object must set additionalProperties to false",
        ),
        (None, "the schema of 'trade' is open at $: a schema must be an object"),
        ({"enum": ["a"]}, "the schema of 'trade' is not the schema of an envelope (type, channel, data)"),
        (
            {"type": "object", "properties": {"type": SIDE}, "additionalProperties": False},
            "the schema of 'trade' is not the schema of an envelope (type, channel, data)",
        ),
        (
            {
                "type": "object",
                "properties": {"type": SIDE, "channel": NOTE, "data": SIDE, "id": SIDE},
                "additionalProperties": False,
            },
            "the schema of 'trade' is not the schema of an envelope (type, channel, data)",
        ),
        (
            {**envelope_schema("trade", "^t$", {}), "title": 5},
            "the schema of 'trade' is not a valid draft 2020-12 schema (5 is not of type 'string')",
        ),
        (
            {**envelope_schema("trade", "^t$", {}), "examples": [object]},
            "the schema of 'trade' is not JSON (Encoding objects of type type is unsupported)",
        ),
        (
            dict[Any, Any](envelope_schema("trade", "^t$", {})) | {1: 2},
            "the schema of 'trade' is open at $: the keyword '1' is not allowed for the type 'object'",
        ),
        (
            envelope_schema("trade", "^t$", {"n": {"type": "integer", "minimum": 0, "maximum": float("inf")}}),
            "the schema of 'trade' is open at $.data.n: "
            "a number needs a minimum and a maximum, both between -9007199254740991 and 9007199254740991",
        ),
        (
            envelope_schema("trade", "^t$", {"note": Sly(type="object")}),
            "the schema of 'trade' is open at $.data.note: an object must set additionalProperties to false",
        ),
    ],
)
def test_a_schema_that_is_not_closed_or_not_of_an_envelope_is_refused(emits: Any, reason: str) -> None:
    with pytest.raises(ValueError) as raised:
        Firewall(declared(emits=emits))
    assert str(raised.value) == reason


def test_a_schema_that_holds_itself_is_refused() -> None:
    schema = envelope_schema("trade", "^t$", {})
    schema["properties"]["data"]["properties"]["again"] = schema
    with pytest.raises(ValueError, match=r"^the schema of 'trade' is not JSON \(.+\)$"):
        Firewall(declared(emits=schema))


def test_a_schema_that_changes_after_the_start_changes_nothing() -> None:
    event_type = declared()
    firewall = Firewall(event_type)
    event_type.emits["properties"]["data"]["additionalProperties"] = True
    event_type.emits["properties"]["data"]["properties"]["id"] = {}
    assert refused(firewall, Envelope("trades:BTC", {"side": "buy", "note": "abc", "id": 1}))[0] == "$.data"

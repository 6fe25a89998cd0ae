"""tornado_bridge.audit.generation: events of any event type, found by trying, amid what is not read."""

import json
import re
from typing import Annotated, Any, Literal

import msgspec
import pytest

from tests.support.planted import CANDLE, SIGNALS, Quotes, clean
from tornado_bridge import Envelope, EventType, InvalidEvent, envelope_schema, values
from tornado_bridge.audit.drafts import Slot
from tornado_bridge.audit.generation import Generator, canaries
from tornado_bridge.audit.rehearsal import Rehearsal
from tornado_bridge.redaction.declaration import Declaration
from tornado_bridge.registry import Registry, Route


def generator(route: Route, seed: int = 1) -> Generator:
    return Generator(route, Declaration(route.event_type), seed)


def learned(route: Route, seed: int = 1) -> Generator:
    made = generator(route, seed)
    assert made.learn(Rehearsal(route, "coinbase"))
    return made


def route_of(plugin: object) -> Route:
    (route,) = Registry([plugin]).routes("1")
    return route


def quotes(reads: Any, transform: Any, **changes: Any) -> Route:
    return Quotes(transform, reads=reads, emits=envelope_schema("quote", "^quotes:[A-Z]{3}$", {}), **changes).route


def silent(event: Any) -> Envelope:
    return Envelope(event.channel, {})


@pytest.mark.parametrize("plugin", [CANDLE, SIGNALS], ids=["candle", "signals"])
def test_it_learns_what_a_valid_event_is(plugin: object) -> None:
    route = route_of(plugin)
    made, rehearsal = learned(route), Rehearsal(route, "coinbase")
    relayed = sum(bool(rehearsal.run(*made.draft().write()).envelopes) for _ in range(200))
    assert relayed > 100


def test_it_learns_where_every_reason_is_the_same() -> None:
    class Reads(msgspec.Struct):
        a: msgspec.Raw
        b: msgspec.Raw

    def transform(event: Any) -> Envelope:
        if bytes(event.payload.a) != b"true" or bytes(event.payload.b)[:1] != b"[":
            raise InvalidEvent("no")
        return silent(event)

    assert generator(quotes(Reads, transform)).learn(Rehearsal(quotes(Reads, transform), "coinbase"))


def test_an_event_that_never_is_valid_is_not_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tornado_bridge.audit.generation._ATTEMPTS", 50)
    route = Quotes(lambda event: None).route
    assert not generator(route).learn(Rehearsal(route, "coinbase"))


def test_it_takes_the_event_that_it_knows_where_valid_ones_are_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    route = Quotes(clean).route
    made, rehearsal = learned(route), Rehearsal(Quotes(lambda event: None).route, "coinbase")
    monkeypatch.setattr("tornado_bridge.audit.generation._VALID_ATTEMPTS", 3)
    assert made.valid_draft(rehearsal) is made.valid_draft(rehearsal)


def test_every_kind_of_structure_is_filled() -> None:
    class Inner(msgspec.Struct, tag_field="kind", tag="inner", forbid_unknown_fields=True):
        value: Annotated[int, msgspec.Meta(ge=0)]

    class Row(msgspec.Struct, array_like=True):
        price: float
        size: float

    class Reads(msgspec.Struct):
        inner: Inner
        rows: list[Row]
        side: Literal["buy", "sell"]
        code: Annotated[str, msgspec.Meta(pattern="^[a-f]{4}$")]
        more: dict[str, msgspec.Raw]

    route = quotes(Reads, silent)
    made = learned(route)
    _, payload = made.valid_draft(Rehearsal(route, "coinbase")).write()
    members = json.loads(payload)
    assert (
        members["inner"]["kind"],
        {type(row) for row in members["rows"]},
        members["side"] in ("buy", "sell"),
        re.fullmatch("[a-f]{4}", members["code"]) is not None,
        type(members["more"]),
    ) == ("inner", {list}, True, True, dict)


def test_a_structure_that_refuses_others_gets_none() -> None:
    class Reads(msgspec.Struct, forbid_unknown_fields=True):
        price: msgspec.Raw

    made = learned(quotes(Reads, silent))
    assert {tuple(json.loads(made.draft().write()[1])) for _ in range(50)} == {("price",)}


def test_unknown_members_stand_around_what_is_read() -> None:
    made = learned(Quotes(clean).route)
    payloads = [made.draft().write()[1].decode() for _ in range(200)]
    assert all(canaries(payload) for payload in payloads)


@pytest.mark.parametrize(
    "trace",
    ['"PRICE":', '"Price":', '" price":', '"_price":', r'"\\u0070\\u0072\\u0069\\u0063\\u0065":', ":\\[[^]]*{"],
    ids=["upper", "title", "blank", "underscore", "escaped", "nested"],
)
def test_names_and_nesting_nearly_like_what_is_read_are_among_them(trace: str) -> None:
    made = learned(Quotes(clean).route)
    payloads = "\n".join(made.draft().write()[1].decode() for _ in range(300))
    assert re.search(trace, payloads)


def test_every_canary_has_a_mark_of_its_own() -> None:
    made = learned(Quotes(clean).route)
    found = [mark.lower() for _ in range(100) for mark in canaries(made.draft().write()[1].decode())]
    assert len(found) == len(set(found))


@pytest.mark.parametrize("text", ["xcanaryq17y", "CANARYQ3", "7.7007700770079", "-7700770077003"])
def test_a_canary_is_found_again(text: str) -> None:
    assert len(canaries(f'{{"a":"{text}"}}')) == 1


def test_no_canary_is_found_in_what_is_public() -> None:
    assert canaries('{"price":"42350.77","symbol":"BTC-USD"}') == []


def test_an_open_object_has_the_members_that_are_declared_and_other_spellings_of_them() -> None:
    def transform(event: Any) -> Envelope:
        size = event.payload.more.get("deep")
        if size is None:
            raise InvalidEvent("size is missing")
        size = msgspec.json.decode(size, type=dict[str, msgspec.Raw]).get("size", msgspec.Raw(b"null"))
        return clean_with(event, size)

    def clean_with(event: Any, size: msgspec.Raw) -> Envelope:
        made = clean(event)
        assert isinstance(made, Envelope)
        return Envelope(made.channel, {**made.data, "size": values.decimal(size, "size")})

    route = Quotes(transform, members={"size": values.DECIMAL}, publishes={"size": "more.deep.size"}).route
    made = learned(route)
    paths = {slot.given.path for slot in made.valid_draft(Rehearsal(route, "coinbase")).slots()}
    assert {"more.deep.size", "more.deep.SIZE", "more.deep.Size", "more.DEEP"} <= paths


def test_values_instead_begin_with_those_of_the_code() -> None:
    route = route_of(SIGNALS)
    made = learned(route)
    draft = made.draft()
    label = next(slot for slot in draft.slots() if slot.given.path == "triggerLabel")
    tried = list(made.values(label, 40))
    assert (len(tried) > 40, '"reversal_oversold"' in tried) == (True, True)


def test_values_instead_of_a_part_keep_its_rule() -> None:
    route = route_of(CANDLE)
    made = learned(route)
    timeframe = next(slot for slot in made.draft().slots() if slot.given.label == "{timeframe}")
    assert {*made.values(timeframe, 60)} == {"1m", "5m", "15m", "1h", "4h", "1d"}


def test_an_array_instead_is_longer_or_shorter() -> None:
    class Reads(msgspec.Struct):
        rows: list[int]

    made = learned(quotes(Reads, silent))
    ((group, _),) = made.draft().arrays()
    sizes = {len(json.loads(text or "")) for text in made.values(group, 60)}
    assert {0, len(group.members)} < sizes


def test_a_value_that_names_its_structure_is_that_or_left_out() -> None:
    class Reads(msgspec.Struct, tag="x", tag_field="kind"):
        price: int

    made = learned(quotes(Reads, silent))
    tag = next(slot for slot in made.draft().slots() if slot.given.path == "kind")
    assert {made.instead(tag) for _ in range(60)} == {'"x"', None}


def test_values_before_anything_is_learned_are_of_any_kind() -> None:
    made = generator(Quotes(clean).route)
    price = next(slot for slot in made.draft(bare=True).slots() if slot.given.path == "price")
    assert isinstance(price, Slot)
    assert len({made.instead(price) for _ in range(30)}) > 10


def test_the_same_seed_makes_the_same_events() -> None:
    route = Quotes(clean).route
    first, second = learned(route, seed=3), learned(route, seed=3)
    assert [first.draft().write() for _ in range(20)] == [second.draft().write() for _ in range(20)]


def test_an_event_type_without_parts_is_generated() -> None:
    class Reads(msgspec.Struct):
        price: int

    event_type = EventType(
        "notice", "notices:all", "notices:all", Reads, envelope_schema("notice", "^notices:all$", {})
    )

    class Plugin(Quotes):
        def __init__(self) -> None:
            self._transform = lambda event: Envelope("notices:all", {})
            self.event_type = event_type

    assert learned(route_of(Plugin())).draft().write()[0] == "notices:all"

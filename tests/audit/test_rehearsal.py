"""tornado_bridge.audit.rehearsal: the real way of an event, and what comes out at its end."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from tests.support.planted import Quotes, public
from tornado_bridge import Envelope, values
from tornado_bridge.audit.rehearsal import Outputs, Rehearsal, Result, differing, outputs_of
from tornado_bridge.ingest.relay import Outcome
from tornado_bridge.redaction.declaration import CHANNEL, ENVELOPES, ORDER, PRESENCE

SOURCE = "channel:exchange:1:quotes:BTC"
PAYLOAD = b'{"price":1.50,"at":0,"hidden":7}'
ENVELOPE = '{"type":"quote","channel":"quotes:BTC","data":{"price":"1.5","at":"1970-01-01T00:00:00.000Z"}}'
NOTE = {"note": {"type": "string", "pattern": "^x*$", "maxLength": 1000}}


def rehearsal(transform: Any, **changes: Any) -> Rehearsal:
    return Rehearsal(Quotes(transform, **changes).route, "coinbase")


def one(event: Any) -> Envelope:
    return Envelope(event.channel, public(event))


def two(event: Any) -> Iterator[Envelope]:
    yield one(event)
    yield one(event)


def broken(event: Any) -> Envelope:
    raise RuntimeError(str(event))


def open_handed(event: Any) -> Envelope:
    return Envelope(event.channel, {**public(event), "hidden": 7})


def test_an_envelope_comes_out_as_a_client_gets_it() -> None:
    assert rehearsal(one).run(SOURCE, PAYLOAD) == Result(Outcome.RELAYED, (ENVELOPE,), "")


def test_several_envelopes_come_out_in_order() -> None:
    assert rehearsal(two).run(SOURCE, PAYLOAD).envelopes == (ENVELOPE, ENVELOPE)


@pytest.mark.parametrize("size", [1, 200, 1000])
def test_an_envelope_of_any_length_is_read(size: int) -> None:
    def long(event: Any) -> Envelope:
        return Envelope(event.channel, public(event, note="x" * size))

    (text,) = rehearsal(long, members=NOTE).run(SOURCE, PAYLOAD).envelopes
    assert msgspec.json.decode(text)["data"]["note"] == "x" * size


def test_a_long_envelope_is_read() -> None:
    texts = {f"note{i}": values.DECIMAL for i in range(1200)}

    def long(event: Any) -> Envelope:
        return Envelope(event.channel, public(event, **dict.fromkeys(texts, "1." + "1" * 60)))

    (text,) = rehearsal(long, members=texts).run(SOURCE, PAYLOAD).envelopes
    assert len(text) > 65_536


def test_an_event_without_an_envelope_is_relayed() -> None:
    assert rehearsal(lambda event: None).run(SOURCE, PAYLOAD) == Result(Outcome.RELAYED, (), "")


@pytest.mark.parametrize(
    ("transform", "source", "payload", "kind", "cause"),
    [
        (one, SOURCE, b"{", Outcome.INVALID, "the payload is not JSON"),
        (one, SOURCE, b'{"price":null,"at":0}', Outcome.INVALID, "price is not a decimal number"),
        (broken, SOURCE, PAYLOAD, Outcome.FAILED, "RuntimeError in broken, line "),
        (open_handed, SOURCE, PAYLOAD, Outcome.REFUSED, "$.data: has a member that is not declared"),
        (one, "elsewhere", PAYLOAD, Outcome.UNROUTED, "its source channel is of no declared form"),
    ],
)
def test_an_event_that_gives_nothing_says_why(
    transform: Any, source: str, payload: bytes, kind: str, cause: str
) -> None:
    outcome = rehearsal(transform).run(source, payload)
    assert (outcome.outcome, outcome.envelopes, outcome.cause.startswith(cause)) == (kind, (), True)


def test_failures_without_number_quarantine_nothing() -> None:
    rehearsed = rehearsal(broken)
    assert {rehearsed.run(SOURCE, PAYLOAD).outcome for _ in range(500)} == {Outcome.FAILED}


def outputs(*data: dict[str, Any]) -> Outputs:
    """Return the outputs of envelopes with that data."""
    texts = (msgspec.json.encode({"type": "t", "channel": "c", "data": members}).decode() for members in data)
    return outputs_of(Result(Outcome.RELAYED, tuple(texts), ""))


def test_every_member_is_an_output() -> None:
    assert outputs({"a": 1, "b": {"c": [True, "x"]}}) == {
        PRESENCE: ("True",),
        ENVELOPES: ("1",),
        CHANNEL: ("c",),
        ORDER: ("a b", "c"),
        "a": ("1",),
        "b": ("an object",),
        "b.c": ("2 items", "True", "'x'"),
    }


def test_the_values_of_several_envelopes_stand_side_by_side() -> None:
    assert outputs({"a": 1}, {"a": 2})["a"] == ("1", "2")


def test_an_event_without_an_envelope_has_its_absence_alone() -> None:
    assert outputs() == {PRESENCE: ("False",)}


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ([{"a": 1}], [{"a": 1}], set()),
        ([{"a": 1}], [{"a": 2}], {"a"}),
        ([{"a": 1}], [{"a": 1.0}], {"a"}),
        ([{"a": 1}], [{"a": True}], {"a"}),
        ([{"a": 1}], [], {PRESENCE}),
        ([], [], set()),
        ([{"a": 1}], [{"a": 1}, {"a": 2}], {ENVELOPES}),
        ([{"a": 1, "b": 2}], [{"b": 2, "a": 1}], {ORDER}),
        ([{"a": 1, "b": 2}], [{"a": 1}], {"b"}),
        ([{"a": [{"b": 1}]}], [{"a": [{"b": 1}, {"b": 2}]}], {"a"}),
        ([{"a": [{"b": 1}]}], [{"a": [{"b": 2}]}], {"a.b"}),
    ],
)
def test_events_differ_in_outputs(before: list[dict[str, Any]], after: list[dict[str, Any]], found: set[str]) -> None:
    assert differing(outputs(*before), outputs(*after)) == found

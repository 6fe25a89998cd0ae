import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.support.servers import LogLines
from tests.support.subscriber import Subscriber
from tornado_bridge import Envelope, Event, EventType, InvalidEvent, envelope_schema, hookimpl
from tornado_bridge.ingest import quarantine as rules
from tornado_bridge.ingest import relay
from tornado_bridge.ingest.relay import Relay, Tally
from tornado_bridge.logs import ThrottledLog
from tornado_bridge.registry import Registry
from tornado_bridge.stream.hub import Hub

# The payload of every event that goes wrong here holds this text. No log line may hold it.
CANARY = "canary"

ROOT = Path(__file__).parents[2]


class Note(msgspec.Struct):
    text: str


class Alarm(msgspec.Struct):
    level: int


def schema(name: str, members: dict[str, Any]) -> dict[str, Any]:
    return envelope_schema(name, f"^{name}s:[a-z]{{1,9}}$", members)


NOTE = EventType(
    name="note",
    source="notes:{exchange_id}:{topic}",
    channel="notes:{topic}",
    parameters={"topic": "[a-z]{1,9}"},
    reads=Note,
    emits=schema("note", {"text": {"type": "string", "pattern": "^[a-z0-9 ]*$", "maxLength": 20}}),
)
ALARM = EventType(
    name="alarm",
    source="alarms:{exchange_id}",
    channel="alarms:{topic}",
    parameters={"topic": "[a-z]{1,9}"},
    reads=Alarm,
    emits=schema("alarm", {"level": {"type": "integer", "minimum": 0, "maximum": 9}}),
)

Transform = Callable[[Event[Any]], Any]


class Notes:
    """A plugin whose transform is the function of the test."""

    def __init__(self, transform: Transform) -> None:
        self._transform = transform

    @hookimpl
    def register_event_types(self) -> list[EventType]:
        return [NOTE]

    @hookimpl
    def transform(self, event: Event[Note]) -> Any:
        return self._transform(event)


class Alarms:
    """Another plugin. It notes each event that it sees."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    @hookimpl
    def register_event_types(self) -> list[EventType]:
        return [ALARM]

    @hookimpl
    def transform(self, event: Event[Alarm]) -> Envelope:
        self.seen.append(event.type)
        return Envelope("alarms:fire", {"level": event.payload.level})


def note(text: object, topic: str = "a") -> Envelope:
    return Envelope(f"notes:{topic}", {"text": text})


def repeat(event: Event[Note]) -> Envelope:
    return note(event.payload.text, event.parameters["topic"])


class Bridge:
    """A relay with its plugins and its hub, and one client that subscribes to everything.

    The test moves `clock`. With `real_time` the real time is added to it.
    """

    def __init__(self, transform: Transform = repeat, *others: object, real_time: bool = False) -> None:
        registry = Registry([Notes(transform), *others])
        self.hub = Hub(registry.grammar)
        self.client = Subscriber()
        self.hub.assign(self.client, frozenset({"notes:*", "alarms:*"} if others else {"notes:*"}))
        self.clock = 1000.0
        self.relay = Relay(
            registry.routes("1"),
            self.hub,
            exchange="coinbase",
            log=ThrottledLog(structlog.get_logger("tests"), lambda: self.clock),
            clock=lambda: self.clock + time.perf_counter() * real_time,
        )

    def read(self, messages: Iterable[tuple[bytes, bytes]]) -> None:
        """Relay the messages of one read, and flush."""
        self.relay.relay(messages)
        self.hub.flush()

    def send(self, *payloads: bytes, source: bytes = b"notes:1:a") -> list[bytes]:
        """Relay the payloads as one read, and return the writes to the client."""
        before = len(self.client.sends)
        self.read((source, payload) for payload in payloads)
        return self.client.sends[before:]


HELLO = b'{"text":"hello"}'
HELLO_FRAME = b'\x81\x3b{"type":"note","channel":"notes:a","data":{"text":"hello"}}'
# An event that goes wrong. The event after it must arrive.
BAD = b'{"text":"canary"}'


def fail_at_canary(fault: Callable[[], Any]) -> Transform:
    """Return a transform that calls `fault` for an event with the canary, and handles every other event correctly."""
    return lambda event: fault() if event.payload.text == CANARY else repeat(event)


def raising(error: BaseException) -> Callable[[], Any]:
    def fault() -> Any:
        raise error

    return fault


def take(log_lines: LogLines, event: str, **fields: Any) -> None:
    """Take the only log line, and check its fields. It may hold nothing of a payload."""
    line = dict(log_lines.take(event))
    del line["log_level"]
    assert line == {"event": event, **fields}
    assert CANARY not in repr(log_lines.all())
    assert len(log_lines.all()) == 1


# What is relayed


def test_an_event_reaches_its_subscribers_as_one_frame() -> None:
    assert Bridge().send(HELLO) == [HELLO_FRAME]


def test_the_events_of_one_read_are_one_send_in_the_order_of_the_source() -> None:
    payloads = [b'{"text":"%d"}' % number for number in range(50)]

    (batch,) = Bridge().send(*payloads)

    assert re.findall(rb'"text":"(\d+)"', batch) == [b"%d" % number for number in range(50)]


def test_events_of_different_channels_and_plugins_keep_their_order() -> None:
    bridge = Bridge(repeat, Alarms())
    bridge.read(
        [
            (b"notes:1:b", b'{"text":"1"}'),
            (b"alarms:1", b'{"level":2}'),
            (b"notes:1:a", b'{"text":"3"}'),
            (b"alarms:1", b'{"level":4}'),
        ]
    )

    (batch,) = bridge.client.sends
    assert re.findall(rb'"(?:text|level)":"?(\d)', batch) == [b"1", b"2", b"3", b"4"]


def test_each_read_is_a_send_of_its_own() -> None:
    bridge = Bridge()

    assert bridge.send(HELLO) + bridge.send(HELLO, HELLO) == [HELLO_FRAME, HELLO_FRAME * 2]


def test_a_read_of_nothing_sends_nothing() -> None:
    assert Bridge().send() == []


def test_a_plugin_sees_the_event_and_its_source() -> None:
    seen: list[Event[Any]] = []
    Bridge(seen.append).send(HELLO, source=b"notes:1:weather")

    assert seen == [
        Event(
            type="note",
            source="notes:1:weather",
            parameters={"topic": "weather"},
            channel="notes:weather",
            payload=Note("hello"),
            exchange="coinbase",
        )
    ]


def test_a_plugin_cannot_change_the_parameters_of_later_events(log_lines: LogLines) -> None:
    def transform(event: Event[Note]) -> Envelope:
        event.parameters["topic"] = "b"  # type: ignore[index]
        return repeat(event)

    bridge = Bridge(transform)

    assert bridge.send(HELLO) == []
    assert log_lines.take("plugin failed")["cause"].startswith("TypeError in transform, line ")


def test_an_event_is_passed_only_to_the_plugin_that_owns_its_type() -> None:
    seen: list[Any] = []
    alarms = Alarms()
    bridge = Bridge(seen.append, alarms)
    bridge.send(HELLO)
    bridge.send(b'{"level":1}', source=b"alarms:1")

    assert ([event.type for event in seen], alarms.seen) == (["note"], ["alarm"])


def test_a_member_that_is_not_declared_is_never_seen() -> None:
    seen: list[Any] = []
    Bridge(seen.append).send(b'{"secret":1,"text":"hello","more":{"text":"x"}}')

    assert seen[0].payload == Note("hello")


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(list, id="list"),
        pytest.param(tuple, id="tuple"),
        pytest.param(iter, id="iterator"),
        pytest.param(lambda envelopes: (envelope for envelope in envelopes), id="generator"),
    ],
)
def test_a_plugin_may_return_several_envelopes(make: Callable[[list[Envelope]], Any]) -> None:
    bridge = Bridge(lambda event: make([note("one"), note("two", "b")]))

    assert bridge.send(HELLO) == [
        b'\x81\x39{"type":"note","channel":"notes:a","data":{"text":"one"}}'
        b'\x81\x39{"type":"note","channel":"notes:b","data":{"text":"two"}}'
    ]


@pytest.mark.parametrize("nothing", [None, [], ()])
def test_a_plugin_may_return_nothing(nothing: Any) -> None:
    bridge = Bridge(lambda event: nothing)

    assert bridge.send(HELLO) == []
    assert bridge.relay.tallies == {"note": Tally(relayed=1)}


def test_a_plugin_may_return_256_envelopes() -> None:
    bridge = Bridge(lambda event: [note("x")] * 256)

    (batch,) = bridge.send(HELLO)
    assert batch.count(b'{"type":"note"') == 256


def test_relayed_events_are_counted() -> None:
    bridge = Bridge(lambda event: [note("one"), note("two")])
    bridge.send(HELLO, HELLO, HELLO)

    assert bridge.relay.tallies == {"note": Tally(relayed=3, envelopes=6)}


@pytest.mark.slow
def test_more_source_channels_than_are_remembered_are_still_relayed(monkeypatch: pytest.MonkeyPatch) -> None:
    # A busy machine may stop the test in the middle of one of so many calls, which would be logged.
    monkeypatch.setattr(relay, "SLOW_CALL", 60.0)
    bridge = Bridge()
    names = [f"{number:06}".translate(str.maketrans("0123456789", "abcdefghij")) for number in range(65_537)]
    bridge.read((f"notes:1:{name}".encode(), b'{"text":""}') for name in names)

    assert bridge.relay.tallies["note"].relayed == 65_537
    assert len(bridge.relay._sources) <= 65_536


# Events of undeclared sources


@pytest.mark.parametrize(
    "source", [b"notes:2:a", b"notes:1:A", b"notes:1:canary:b", b"news:1:canary", b"", b"notes:1:\xff", b"notes:1:a\n"]
)
def test_an_event_of_an_undeclared_source_is_dropped_and_counted(source: bytes, log_lines: LogLines) -> None:
    bridge = Bridge()

    assert bridge.send(BAD, source=source) == []
    assert bridge.relay.unrouted == 1
    take(log_lines, "event dropped", cause="its source channel is of no declared form")


def test_an_event_of_an_undeclared_source_does_not_affect_the_next(log_lines: LogLines) -> None:
    bridge = Bridge()
    bridge.read([(b"news", BAD), (b"notes:1:a", HELLO), (b"news", BAD)])

    assert (bridge.client.sends, bridge.relay.unrouted) == ([HELLO_FRAME], 2)
    log_lines.take("event dropped")


# Payloads that break their contract


WRONG = "a member that is read is missing or of the wrong kind"

INVALID_PAYLOADS = [
    pytest.param(b'{"text":"canary\xff"}', "the payload is not UTF-8", id="not UTF-8"),
    pytest.param(b'{"text":"canary\xed\xa0\x80"}', "the payload is not UTF-8", id="surrogate bytes"),
    pytest.param(b"", "the payload is not JSON", id="empty"),
    pytest.param(b'{"text":"canary"', "the payload is not JSON", id="cut short"),
    pytest.param(b'{"text":"canary"} x', "the payload is not JSON", id="more after it"),
    pytest.param(b'{"text":"canary","x":NaN}', "the payload is not JSON", id="NaN"),
    pytest.param(b'\xef\xbb\xbf{"text":"canary"}', "the payload is not JSON", id="byte order mark"),
    pytest.param(b"[]", WRONG, id="no object"),
    pytest.param(b'{"canary":1}', f"{WRONG}: $.text", id="missing"),
    pytest.param(b'{"text":["canary"]}', f"{WRONG}: $.text", id="wrong kind"),
    pytest.param(b'{"text":null}', f"{WRONG}: $.text", id="null"),
    pytest.param(
        b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b',"text":"canary"}',
        "the payload is nested too deep",
        id="100,000 deep",
    ),
]


@pytest.mark.parametrize(("payload", "cause"), INVALID_PAYLOADS)
def test_a_payload_that_breaks_its_contract_costs_only_its_event(
    payload: bytes, cause: str, log_lines: LogLines
) -> None:
    bridge = Bridge()

    assert bridge.send(HELLO, payload, HELLO) == [HELLO_FRAME * 2]
    assert bridge.relay.tallies == {"note": Tally(relayed=2, envelopes=2, invalid=1)}
    take(log_lines, "event dropped", event_type="note", source="notes:{exchange_id}:{topic}", cause=cause)


def test_a_plugin_may_refuse_an_event_with_its_reason(log_lines: LogLines) -> None:
    bridge = Bridge(fail_at_canary(raising(InvalidEvent("text is no word"))))

    assert bridge.send(BAD, HELLO) == [HELLO_FRAME]
    assert bridge.relay.tallies == {"note": Tally(relayed=1, envelopes=1, invalid=1)}
    take(log_lines, "event dropped", event_type="note", source="notes:{exchange_id}:{topic}", cause="text is no word")


class StrictNote(msgspec.Struct):
    text: str

    def __post_init__(self) -> None:
        if self.text == CANARY:
            raise InvalidEvent("text is no word")
        if self.text == "lookup":
            raise KeyError(self.text)


STRICT_NOTE = EventType(
    name=NOTE.name,
    source=NOTE.source,
    channel=NOTE.channel,
    parameters=NOTE.parameters,
    reads=StrictNote,
    emits=NOTE.emits,
)


class StrictNotes(Notes):
    """A plugin whose structure checks its members itself."""

    @hookimpl
    def register_event_types(self) -> list[EventType]:
        return [STRICT_NOTE]


@pytest.mark.parametrize("payload", [BAD, b'{"text":"lookup"}'])
def test_a_structure_of_a_plugin_that_raises_costs_only_its_event(payload: bytes, log_lines: LogLines) -> None:
    bridge = Bridge()
    registry = Registry([StrictNotes(repeat)])
    relay = Relay(registry.routes("1"), bridge.hub, exchange="coinbase", log=ThrottledLog(structlog.get_logger()))

    relay.relay([(b"notes:1:a", payload), (b"notes:1:a", HELLO)])
    bridge.hub.flush()

    assert bridge.client.sends == [HELLO_FRAME]
    assert relay.tallies["note"].relayed == 1
    log_lines.take(log_lines.all()[0]["event"])


# A plugin that fails


class Odd(BaseException):
    """An exception that no `except Exception` catches."""


ERRORS = [
    ValueError(CANARY),
    KeyError(CANARY),
    RuntimeError({"text": CANARY}),
    RecursionError(CANARY),
    MemoryError(CANARY),
    StopIteration(CANARY),
    AssertionError(CANARY),
    UnicodeDecodeError("utf-8", b"canary", 0, 1, CANARY),
    msgspec.ValidationError(CANARY),
    ExceptionGroup(CANARY, [ValueError(CANARY)]),
    Odd(CANARY),
    GeneratorExit(CANARY),
    asyncio.CancelledError(CANARY),
    BaseExceptionGroup(CANARY, [Odd(CANARY)]),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_plugin_that_raises_costs_only_its_event(error: BaseException, log_lines: LogLines) -> None:
    bridge = Bridge(fail_at_canary(raising(error)))

    assert bridge.send(HELLO, BAD, HELLO) == [HELLO_FRAME * 2]
    assert bridge.relay.tallies == {"note": Tally(relayed=2, envelopes=2, failed=1)}
    line = log_lines.take("plugin failed", plugin="Notes", distribution="the application", event_type="note")
    assert CANARY not in repr(log_lines.all())
    assert line.keys() == {"event", "log_level", "plugin", "distribution", "event_type", "cause"}


def test_an_error_of_a_plugin_is_logged_with_its_place_and_without_its_text(log_lines: LogLines) -> None:
    Bridge(fail_at_canary(raising(ValueError(CANARY)))).send(BAD)

    line = raising.__code__.co_firstlineno + 2
    take(
        log_lines,
        "plugin failed",
        plugin="Notes",
        distribution="the application",
        event_type="note",
        cause=f"ValueError in fault, line {line}",
    )


def test_ctrl_c_in_a_plugin_is_not_a_fault_of_the_plugin() -> None:
    bridge = Bridge(fail_at_canary(raising(KeyboardInterrupt())))

    with pytest.raises(KeyboardInterrupt):
        bridge.send(BAD)


def halfway(fault: Callable[[], Any]) -> Callable[[], Any]:
    """Return a fault that occurs after a valid envelope."""

    def generate() -> Iterator[Any]:
        yield note("right")
        yield fault()

    return generate


@pytest.mark.parametrize("error", [ValueError(CANARY), Odd(CANARY), GeneratorExit(CANARY)], ids=repr)
def test_a_generator_that_raises_halfway_sends_nothing(error: BaseException, log_lines: LogLines) -> None:
    bridge = Bridge(fail_at_canary(halfway(raising(error))))

    assert bridge.send(BAD, HELLO) == [HELLO_FRAME]
    assert bridge.relay.tallies == {"note": Tally(relayed=1, envelopes=1, failed=1)}
    assert CANARY not in repr(log_lines.all())
    log_lines.take("plugin failed")


def test_a_generator_that_refuses_the_event_halfway_sends_nothing(log_lines: LogLines) -> None:
    bridge = Bridge(fail_at_canary(halfway(raising(InvalidEvent("text is no word")))))

    assert bridge.send(BAD, HELLO) == [HELLO_FRAME]
    assert bridge.relay.tallies == {"note": Tally(relayed=1, envelopes=1, invalid=1)}
    log_lines.take("event dropped")


@pytest.mark.parametrize("result", [5, 1.5, True, object()], ids=lambda result: type(result).__name__)
def test_a_result_that_holds_no_envelopes_is_a_failure(result: object, log_lines: LogLines) -> None:
    bridge = Bridge(fail_at_canary(lambda: result))

    assert bridge.send(BAD, HELLO) == [HELLO_FRAME]
    assert bridge.relay.tallies == {"note": Tally(relayed=1, envelopes=1, failed=1)}
    assert log_lines.take("plugin failed")["cause"].startswith("TypeError in ")


def test_an_object_that_lies_about_its_class_is_refused(log_lines: LogLines) -> None:
    class Liar:
        @property  # type: ignore[misc]
        def __class__(self) -> Any:
            raise Odd(CANARY)

    bridge = Bridge(fail_at_canary(lambda: [Liar()]))

    assert bridge.send(BAD, HELLO) == [HELLO_FRAME]
    assert CANARY not in repr(log_lines.all())
    log_lines.take("plugin failed")


# Envelopes that may not leave


REFUSED: list[Any] = [
    pytest.param(lambda: CANARY, "$: is not an Envelope", id="a text"),
    pytest.param(lambda: b"canary", "$: is not an Envelope", id="bytes"),
    pytest.param(lambda: {"channel": "notes:a"}, "$: is not an Envelope", id="a mapping"),
    pytest.param(lambda: [{"channel": "notes:a", "data": {"text": CANARY}}], "$: is not an Envelope", id="mappings"),
    pytest.param(lambda: [[note("right")]], "$: is not an Envelope", id="a list in a list"),
    pytest.param(lambda: [None], "$: is not an Envelope", id="nothing in a list"),
    pytest.param(lambda: [Envelope], "$: is not an Envelope", id="the class"),
    pytest.param(
        lambda: Envelope("notes:a", {"text": "right", "canary": 1}),
        "$.data: has a member that is not declared",
        id="one member more",
    ),
    pytest.param(lambda: Envelope("notes:a", {}), "$.data: breaks the schema's required", id="one member less"),
    pytest.param(lambda: note(7), "$.data.text: breaks the schema's type", id="wrong kind"),
    pytest.param(lambda: note("canary!"), "$.data.text: breaks the schema's pattern", id="wrong text"),
    pytest.param(lambda: note("canary" * 5), "$.data.text: breaks the schema's maxLength", id="long text"),
    pytest.param(
        lambda: note("right", "CANARY"), "$.channel: is not of the form notes:{topic}", id="no channel of the form"
    ),
    pytest.param(lambda: note("right", "*"), "$.channel: is not of the form notes:{topic}", id="wildcard"),
    pytest.param(
        lambda: Envelope("alarms:a", {"text": "right"}),
        "$.channel: is not of the form notes:{topic}",
        id="somebody else's channel",
    ),
    pytest.param(
        lambda: Envelope(["notes:a"], {"text": "right"}),  # type: ignore[arg-type]
        "$.channel: is not of the form notes:{topic}",
        id="no text for a channel",
    ),
    pytest.param(lambda: [note("x")] * 257, "$: is one of more than 256 from one event", id="257 envelopes"),
]


@pytest.mark.parametrize(("result", "cause"), REFUSED)
def test_an_envelope_that_may_not_leave_costs_only_its_event(
    result: Callable[[], Any], cause: str, log_lines: LogLines
) -> None:
    bridge = Bridge(fail_at_canary(result))

    assert bridge.send(HELLO, BAD, HELLO) == [HELLO_FRAME * 2]
    assert bridge.relay.tallies == {"note": Tally(relayed=2, envelopes=2, refused=1)}
    take(
        log_lines,
        "envelope refused",
        plugin="Notes",
        distribution="the application",
        event_type="note",
        cause=cause,
    )


@pytest.mark.parametrize(
    "wrong",
    [note("canary!"), Envelope("notes:a", {}), note("right", "CANARY"), CANARY, None],
    ids=["schema", "member", "channel", "text", "nothing"],
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_list_of_which_one_envelope_is_wrong_sends_nothing(wrong: Any, place: int, log_lines: LogLines) -> None:
    envelopes: list[Any] = [note("one"), note("two")]
    envelopes.insert(place, wrong)
    bridge = Bridge(fail_at_canary(lambda: envelopes))

    assert bridge.send(BAD, HELLO) == [HELLO_FRAME]
    assert bridge.relay.tallies == {"note": Tally(relayed=1, envelopes=1, refused=1)}
    assert CANARY not in repr(log_lines.all())
    log_lines.take("envelope refused")


def test_a_generator_without_end_is_stopped(log_lines: LogLines) -> None:
    drawn = 0

    def endless() -> Iterable[Envelope]:
        nonlocal drawn
        while True:
            drawn += 1
            yield note("x")

    bridge = Bridge(fail_at_canary(endless))

    assert bridge.send(BAD, HELLO) == [HELLO_FRAME]
    assert drawn == 257
    log_lines.take("envelope refused", cause="$: is one of more than 256 from one event")


def cyclic() -> Envelope:
    data: dict[str, Any] = {}
    data["text"] = data
    return Envelope("notes:a", data)


@pytest.mark.parametrize(
    "result",
    [
        pytest.param(lambda: note(object()), id="an object"),
        pytest.param(lambda: note("\ud800"), id="a lone surrogate"),
        pytest.param(lambda: Envelope("notes:a", {1j: CANARY}), id="a number for a name"),  # type: ignore[dict-item]
        pytest.param(cyclic, id="a cycle"),
    ],
)
def test_an_envelope_that_json_cannot_hold_costs_only_its_event(result: Callable[[], Any], log_lines: LogLines) -> None:
    bridge = Bridge(fail_at_canary(result))

    assert bridge.send(BAD, HELLO) == [HELLO_FRAME]
    assert bridge.relay.tallies == {"note": Tally(relayed=1, envelopes=1, failed=1)}
    assert CANARY not in repr(log_lines.all())
    log_lines.take("plugin failed")


# Log lines


def test_a_fault_that_repeats_is_logged_once_in_10_seconds_with_the_number_suppressed(log_lines: LogLines) -> None:
    bridge = Bridge(fail_at_canary(raising(ValueError(CANARY))))
    bridge.send(*[BAD] * 15)
    bridge.clock += 10
    bridge.send(BAD)

    assert "suppressed" not in log_lines.take("plugin failed")
    assert log_lines.take("plugin failed")["suppressed"] == 14
    assert len(log_lines.all()) == 2


def test_different_faults_are_logged_each(log_lines: LogLines) -> None:
    bridge = Bridge()
    bridge.send(b"{", b'{"text":1}', b"{", b"\xff")

    for cause in (
        "the payload is not JSON",
        f"{WRONG}: $.text",
        "the payload is not UTF-8",
    ):
        log_lines.take("event dropped", cause=cause)
    assert len(log_lines.all()) == 3


def test_a_plugin_that_fails_too_often_gets_no_more_events(log_lines: LogLines) -> None:
    bridge = Bridge(fail_at_canary(raising(ValueError())))
    bridge.send(*[BAD] * 20)
    log_lines.take("plugin failed")
    log_lines.take("plugin quarantined: its events are dropped", plugin="Notes", seconds=30.0)

    assert bridge.send(HELLO, HELLO) == []
    assert bridge.relay.tallies["note"].quarantined == 2


def test_a_plugin_in_quarantine_costs_no_other_plugin_an_event(log_lines: LogLines) -> None:
    bridge = Bridge(fail_at_canary(raising(ValueError())), Alarms())
    bridge.send(*[BAD] * 20)
    log_lines.take("plugin failed")
    log_lines.take("plugin quarantined: its events are dropped")

    assert len(bridge.send(b'{"level":2}', source=b"alarms:1")) == 1


def test_a_plugin_that_does_well_after_the_pause_is_released(log_lines: LogLines) -> None:
    bridge = Bridge(fail_at_canary(raising(ValueError())))
    bridge.send(*[BAD] * 20)
    log_lines.take("plugin failed")
    log_lines.take("plugin quarantined: its events are dropped")
    bridge.clock += 30

    assert bridge.send(HELLO) == [HELLO_FRAME]
    log_lines.take("plugin released from quarantine", plugin="Notes")


def test_a_plugin_that_fails_after_the_pause_stays_in_quarantine(log_lines: LogLines) -> None:
    bridge = Bridge(fail_at_canary(raising(ValueError())))
    bridge.send(*[BAD] * 20)
    log_lines.take("plugin failed")
    log_lines.take("plugin quarantined: its events are dropped")
    bridge.clock += 30
    bridge.send(BAD)
    log_lines.take("plugin failed")

    assert bridge.send(HELLO) == []


def test_a_call_of_more_than_fifty_milliseconds_is_counted_and_named(log_lines: LogLines) -> None:
    def slow() -> Envelope:
        bridge.clock += 0.051
        return Envelope("notes:a", {"text": "hello"})

    bridge = Bridge(fail_at_canary(slow))
    assert bridge.send(BAD) == [HELLO_FRAME]
    log_lines.take("plugin is slow: every client waits for it", plugin="Notes", event_type="note")
    assert bridge.relay.quarantines["Notes"].slow_calls == 1


def test_a_slow_call_puts_the_plugin_under_watch(log_lines: LogLines) -> None:
    def slow() -> Envelope:
        bridge.clock += 0.051
        return Envelope("notes:a", {"text": "hello"})

    bridge = Bridge(fail_at_canary(slow))
    bridge.send(BAD)
    log_lines.take("plugin is slow: every client waits for it")
    assert bridge.relay.quarantines["Notes"].watched


def test_the_size_of_a_payload_excuses_a_slow_call() -> None:
    def slow() -> Envelope:
        bridge.clock += 0.14
        return Envelope("notes:a", {"text": "hello"})

    bridge = Bridge(fail_at_canary(slow))
    assert bridge.send(b'{"text":"canary","more":"' + b"x" * 1_000_000 + b'"}') == [HELLO_FRAME]
    assert bridge.relay.quarantines["Notes"].slow_calls == 0


def test_time_that_passes_while_nothing_runs_is_not_held_against_a_plugin(log_lines: LogLines) -> None:
    def jump() -> Envelope:
        bridge.clock += 2
        return Envelope("notes:a", {"text": "hello"})

    bridge = Bridge(fail_at_canary(jump))
    assert bridge.send(BAD, BAD, BAD, HELLO) == [HELLO_FRAME * 4]
    log_lines.take("plugin is slow: every client waits for it")


# Seconds for which a call blocks: a little more than the 1 s that leads to quarantine.
BLOCKED = 1.05


def sleep() -> None:
    time.sleep(BLOCKED)


def sleep_in_many_steps() -> None:
    end = time.perf_counter() + BLOCKED
    while time.perf_counter() < end:
        time.sleep(0.001)


def compute() -> None:
    end = time.thread_time() + BLOCKED
    while time.thread_time() < end:
        pass


def compute_under_the_interpreter_lock() -> None:
    end = time.thread_time() + BLOCKED
    while time.thread_time() < end:
        # About 0.1 s of C code, twice as much for each letter more. No other thread runs Python code meanwhile.
        re.match("(a+)+$", "a" * 22 + "b")


@pytest.mark.parametrize("block", [sleep, sleep_in_many_steps, compute, compute_under_the_interpreter_lock])
def test_a_plugin_that_blocks_is_quarantined(block: Callable[[], None], log_lines: LogLines) -> None:
    bridge = Bridge(fail_at_canary(block), real_time=True)
    quarantine = bridge.relay.quarantines["Notes"]
    quarantine.note_slow()
    for _ in range(20):
        # One call suffices, unless a busy machine delays the pulse while the plugin sleeps.
        bridge.send(BAD)
        if quarantine.closed:
            break
    assert quarantine.closed
    assert {log_lines.take(line["event"])["event"] for line in log_lines.all()} == {
        "plugin is slow: every client waits for it",
        "plugin quarantined: its events are dropped",
    }


def close(bridge: Bridge) -> None:
    """Put the plugin into quarantine."""
    quarantine = bridge.relay.quarantines["Notes"]
    while not quarantine.closed:
        quarantine.note_failure()


def test_the_size_of_a_payload_excuses_a_watched_plugin(log_lines: LogLines) -> None:
    def slow() -> None:
        compute()
        bridge.clock += 2

    bridge = Bridge(fail_at_canary(slow))
    quarantine = bridge.relay.quarantines["Notes"]
    quarantine.note_slow()
    # The size excuses 1.2 s, a little more than the call computes.
    bridge.send(b'{"text":"canary","more":"' + b"x" * 12_000_000 + b'"}')
    log_lines.take("plugin is slow: every client waits for it")
    assert not quarantine.closed


def test_a_plugin_that_blocks_after_the_pause_stays_in_quarantine(log_lines: LogLines) -> None:
    bridge = Bridge(fail_at_canary(compute), real_time=True)
    close(bridge)
    bridge.clock += 30
    bridge.send(BAD)
    log_lines.take("plugin is slow: every client waits for it")

    assert bridge.send(HELLO) == []


def test_time_that_passes_after_the_pause_while_nothing_runs_releases_a_plugin(log_lines: LogLines) -> None:
    def jump() -> Envelope:
        bridge.clock += 2
        return Envelope("notes:a", {"text": "hello"})

    bridge = Bridge(fail_at_canary(jump))
    close(bridge)
    bridge.clock += 30
    assert bridge.send(BAD) == [HELLO_FRAME]
    log_lines.take("plugin is slow: every client waits for it")
    log_lines.take("plugin released from quarantine", plugin="Notes")


@pytest.fixture(autouse=True)
def quick_end_of_pulses(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """End the pulse thread with the test that started it, so that no other test sees it."""
    monkeypatch.setattr(rules, "LINGER", 0.0)
    yield
    for pulse in pulses():
        pulse.join()


def pulses() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "plugin-watch"]


def open_files() -> int:
    return len(os.listdir("/dev/fd"))


def test_a_plugin_that_is_not_slow_is_not_watched() -> None:
    seen: list[threading.Thread] = []
    bridge = Bridge(lambda event: seen.extend(pulses()))
    bridge.send(HELLO, HELLO)

    assert seen == []


@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt()], ids=repr)
def test_the_pulse_of_a_watched_plugin_ends_by_itself(error: BaseException, log_lines: LogLines) -> None:
    seen: list[threading.Thread] = []

    def fault() -> Any:
        seen.extend(pulses())
        raise error

    bridge = Bridge(fail_at_canary(fault))
    bridge.relay.quarantines["Notes"].note_slow()
    files = open_files()
    with contextlib.suppress(KeyboardInterrupt):
        bridge.send(BAD)
        log_lines.take("plugin failed")

    (pulse,) = seen
    pulse.join(10)
    assert not pulse.is_alive()
    assert open_files() == files


# A machine that stalls


class Stall:
    """`tests.support.stalls` as a process."""

    def __init__(self, name: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.stalls", name],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def pause(self, seconds: float) -> None:
        """Wait until the process has stopped itself, and continue it after so many seconds."""
        _, status = os.waitpid(self.process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        time.sleep(seconds)
        self.process.send_signal(signal.SIGCONT)

    def result(self) -> tuple[int, str]:
        """Return the number of slow calls and whether the plugin is `open` or `closed`, once the process has ended."""
        output, _ = self.process.communicate(timeout=60)
        slow_calls, state = output.split()
        return int(slow_calls), state


@pytest.fixture
def stall() -> Iterator[Callable[[str], Stall]]:
    started: list[Stall] = []

    def start(name: str) -> Stall:
        started.append(Stall(name))
        return started[-1]

    yield start
    for stall in started:
        stall.process.kill()
        stall.process.communicate()


LINUX = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux counts how often a thread ran, and pins to a CPU"
)


@pytest.mark.parametrize("name", ["stopped", pytest.param("unreported", marks=LINUX)])
def test_a_process_that_was_stopped_quarantines_no_plugin(name: str, stall: Callable[[str], Stall]) -> None:
    process = stall(name)
    for seconds in (0.1, 0.6, 0.6):
        process.pause(seconds)

    assert process.result() == (3, "open")


@LINUX
def test_a_busy_machine_quarantines_no_plugin(stall: Callable[[str], Stall]) -> None:
    slow_calls, state = stall("busy").result()

    # Without the neighbours on its CPU no call would be slow.
    assert slow_calls >= 3
    assert state == "open"


NAMES = st.sampled_from(["text", "Text", "TEXT", "t\\u0065xt", "macdV", "data", "canary", ""])
VALUES = st.sampled_from(
    [
        '"canary"',
        '"CANARY"',
        '"c\\u0061nary"',
        '["canary"]',
        '{"canary":"canary"}',
        "1e400",
        "null",
        '"\\ud800"',
        "canary",
    ]
)
PAYLOADS = st.lists(st.tuples(NAMES, VALUES), max_size=4).map(
    lambda members: ("{" + ",".join(f'"{name}":{value}' for name, value in members) + "}").encode()
)


def outcome(event: Event[Note]) -> Any:
    """Fail in a way that depends on the topic. The fault holds text of the payload wherever a reader could see it."""
    text = event.payload.text
    faults: list[Callable[[], Any]] = [
        raising(ValueError(text)),
        raising(Odd(text)),
        lambda: text + "!",
        lambda: note(text + "!"),
        lambda: note("right", text.upper() + "!"),
        lambda: Envelope("notes:a", {"text": "right", text + "!": text}),
        lambda: note({text: text}),
        lambda: [note("right"), text],
    ]
    return faults[sum(map(ord, event.parameters["topic"])) % len(faults)]()


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), PAYLOADS), max_size=5))
def test_nothing_of_a_payload_is_in_any_log_line_or_frame(messages: list[tuple[str, bytes]]) -> None:
    bridge = Bridge(outcome)
    with capture_logs() as lines:
        bridge.read([(b"notes:1:" + topic.encode(), payload) for topic, payload in messages])

    assert "canary" not in repr(lines).lower()
    assert bridge.client.sends == []
    tally = bridge.relay.tallies["note"]
    assert tally.invalid + tally.failed + tally.refused == len(messages)

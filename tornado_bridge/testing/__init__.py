"""The conformance kit: what every plugin is held to, as tests that a plugin's own tests inherit."""

import collections
import functools
import statistics
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import msgspec

from tornado_bridge.audit.auditor import Auditor
from tornado_bridge.audit.generation import EXCHANGE_ID, Generator
from tornado_bridge.audit.rehearsal import INVALID, RELAYED, Outcome, Rehearsal, subscription_to_all
from tornado_bridge.channels import Grammar
from tornado_bridge.events import Event
from tornado_bridge.redaction.declaration import Declaration
from tornado_bridge.redaction.validation import Validator
from tornado_bridge.registry import Registry, Route

if TYPE_CHECKING:
    from tornado_bridge.testing.bridge_client import BridgeClient

__all__ = ["PluginSuite"]

SEED = 1
EXCHANGE = "coinbase"

# Valid events that a test looks at.
_EVENTS = 50

# Calls of which the median is the time of one.
_CALLS = 300

# No payload of these is an object that msgspec decodes.
_NO_JSON = (
    b"",
    b"null",
    b"true",
    b"7",
    b'"text"',
    b"{",
    b'{"',
    b'{"a":}',
    b'{"a":NaN}',
    b'{"a":1}}',
    b"\xff\xfe",
    b'{"a":"\xed\xa0\x80"}',
    b"[" * 100_000,
    b'{"a":' * 100_000,
)
_WRONG_VALUES = (
    b"null",
    b"true",
    b'""',
    b"{}",
    b"[]",
    b"-1",
    b"1e400",
    b"1e-400",
    b"9" * 400,
    b'"\\u0000"',
    b'"' + b"x" * 100_000 + b'"',
    b"[" * 500 + b"]" * 500,
)

# What a transformer may not do, by the beginning of the name of the interpreter's audit event.
_IO = ("open", "socket.", "subprocess.", "os.", "shutil.", "sqlite3.", "urllib.", "http.", "ftplib.", "smtplib.")


class PluginSuite:
    """The tests of one plugin: a subclass names it, and its name starts with `Test`.

    `cases` are the events of the audit, `time_budget` is the median time of a call in seconds.
    """

    plugin: ClassVar[object]
    cases: ClassVar[int] = 1_000
    time_budget: ClassVar[float] = 0.001

    def test_it_is_admitted_with_closed_schemas(self) -> None:
        assert _rehearsed(self.plugin)

    def test_the_examples_of_its_schemas_are_valid(self) -> None:
        for route in _routes(self.plugin):
            validator = Validator(route.event_type.emits)
            for example in route.event_type.emits.get("examples", ()):
                assert validator.first_error(example) is None

    def test_every_channel_it_emits_is_matched_by_wildcards(self) -> None:
        for rehearsed in _rehearsed(self.plugin):
            event_type = rehearsed.route.event_type
            grammar = Grammar([event_type.channel_form])
            for outcome in rehearsed.outcomes:
                for envelope in map(msgspec.json.decode, outcome.envelopes):
                    assert subscription_to_all(event_type) in grammar.subscriptions(envelope["channel"])

    def test_its_audit_has_no_finding(self) -> None:
        for route in _routes(self.plugin):
            assert Auditor(route, cases=self.cases).run().findings == ()

    def test_the_same_event_gives_the_same_envelopes(self) -> None:
        for rehearsed in _rehearsed(self.plugin):
            assert [rehearsed.rehearsal.run(*event) for event in rehearsed.events] == list(rehearsed.outcomes)

    def test_events_are_independent_of_their_order(self) -> None:
        for rehearsed in _rehearsed(self.plugin):
            backwards = [rehearsed.rehearsal.run(*event) for event in reversed(rehearsed.events)]
            assert backwards[::-1] == list(rehearsed.outcomes)

    def test_an_event_is_left_as_it_was(self) -> None:
        for rehearsed in _rehearsed(self.plugin):
            for event in rehearsed.decoded():
                before = msgspec.json.encode(event.payload)
                _transform(rehearsed.route, event)
                assert msgspec.json.encode(event.payload) == before

    def test_a_call_does_no_input_or_output(self) -> None:
        for rehearsed in _rehearsed(self.plugin):
            with _Watch() as watch:
                for event in rehearsed.decoded():
                    _transform(rehearsed.route, event)
            assert watch.seen == []

    def test_a_call_stays_within_the_time_budget(self) -> None:
        for rehearsed in _rehearsed(self.plugin):
            events = list(rehearsed.decoded())
            times = [_time(rehearsed.route, events[i % len(events)]) for i in range(_CALLS)]
            assert statistics.median(times) <= self.time_budget

    def test_a_generated_event_is_relayed_or_dropped(self) -> None:
        for rehearsed in _rehearsed(self.plugin):
            for outcome in rehearsed.attempts(self.cases):
                assert outcome.kind in (RELAYED, INVALID), outcome.cause

    def test_a_payload_that_is_no_json_object_is_dropped(self) -> None:
        for rehearsed in _rehearsed(self.plugin):
            source, payload = rehearsed.events[0]
            for broken in (*_NO_JSON, payload[:-1], payload + b"x", payload.decode().encode("utf-16")):
                assert rehearsed.rehearsal.run(source, broken).kind == INVALID, broken[:40]

    def test_a_member_of_the_wrong_kind_drops_its_event_at_most(self) -> None:
        for rehearsed in _rehearsed(self.plugin):
            for source, payload in rehearsed.with_wrong_members():
                outcome = rehearsed.rehearsal.run(source, payload)
                assert outcome.kind in (RELAYED, INVALID), outcome.cause

    def test_a_published_event_reaches_a_subscriber(self, bridge_client: "BridgeClient") -> None:
        for rehearsed in _rehearsed(self.plugin):
            bridge_client.publish(*rehearsed.events[0])
            expected = [msgspec.json.decode(text) for text in rehearsed.outcomes[0].envelopes]
            assert [bridge_client.receive() for _ in expected] == expected


class _Rehearsed:
    """One event type, and valid events of it with what becomes of them."""

    def __init__(self, route: Route) -> None:
        self.route = route
        self.rehearsal = Rehearsal(route, EXCHANGE)
        self._generator = Generator(route, Declaration(route.event_type), SEED)
        assert self._generator.learn(self.rehearsal), f"no valid event of {route.event_type.name!r} was found"
        self.events = [self._generator.valid_draft(self.rehearsal).write() for _ in range(_EVENTS)]
        self.outcomes = tuple(self.rehearsal.run(*event) for event in self.events)

    def decoded(self) -> Iterator[Event[Any]]:
        """Yield the events as the plugin sees them."""
        event_type = self.route.event_type
        for source, payload in self.events:
            parts = self.route.match(source)
            assert parts is not None
            read = self.route.decode(payload.decode())
            yield Event(event_type.name, source, parts, event_type.channel_of(parts), read, EXCHANGE)

    def attempts(self, count: int) -> Iterator[Outcome]:
        """Yield what becomes of events as they are generated, some of which are not valid."""
        for _ in range(count):
            yield self.rehearsal.run(*self._generator.draft().write())

    def with_wrong_members(self) -> Iterator[tuple[str, bytes]]:
        """Yield events with one value that is of another kind than it must be, or absent."""
        draft = self._generator.draft()
        for slot in draft.slots():
            if not slot.given.part:
                for value in _WRONG_VALUES:
                    yield draft.write({slot: value.decode()})
                yield draft.write({slot: None})


@functools.cache
def _routes(plugin: object) -> Sequence[Route]:
    return Registry([plugin]).routes(EXCHANGE_ID)


@functools.cache
def _rehearsed(plugin: object) -> Sequence[_Rehearsed]:
    return [_Rehearsed(route) for route in _routes(plugin)]


def _transform(route: Route, event: Event[Any]) -> None:
    """Call the plugin, and take all that it gives: it may be a generator."""
    result = route.plugin.transform(event=event)
    if isinstance(result, Iterable):
        collections.deque(result, maxlen=0)


def _time(route: Route, event: Event[Any]) -> float:
    started = time.perf_counter()
    _transform(route, event)
    return time.perf_counter() - started


class _Watch:
    """Notes what this thread does outside of itself, by the interpreter's audit events."""

    _current: "_Watch | None" = None

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._thread = threading.get_ident()

    def __enter__(self) -> Self:
        _install_audit_hook()
        _Watch._current = self
        return self

    def __exit__(self, *_: object) -> None:
        _Watch._current = None

    @staticmethod
    def note(event: str, _: tuple[Any, ...]) -> None:
        watch = _Watch._current
        if watch is not None and event.startswith(_IO) and threading.get_ident() == watch._thread:
            watch.seen.append(event)


@functools.cache
def _install_audit_hook() -> None:
    # Once: the interpreter lets no hook go.
    sys.addaudithook(_Watch.note)

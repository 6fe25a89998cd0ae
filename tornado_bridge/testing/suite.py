"""The tests that every plugin must pass; a class in the plugin's own tests inherits them."""

import collections
import functools
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import msgspec

from tornado_bridge.audit.auditor import Auditor
from tornado_bridge.audit.generation import EXCHANGE_ID, EXCHANGE_NAME, Generator
from tornado_bridge.audit.rehearsal import Rehearsal, Result
from tornado_bridge.channels import Grammar
from tornado_bridge.events import Event
from tornado_bridge.ingest.relay import Outcome
from tornado_bridge.redaction.declaration import Declaration
from tornado_bridge.redaction.validation import Validator
from tornado_bridge.registry import Registry, Route

if TYPE_CHECKING:
    from tornado_bridge.testing.bridge_client import BridgeClient

SEED = 1

# How many valid events each test uses.
_EVENTS = 50

# How often each of them is passed to the plugin to measure a call.
_REPETITIONS = 6

# None of these payloads is a JSON object that msgspec decodes.
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

# A transformer may not do any of these: prefixes of the names of CPython's audit events.
_IO = ("open", "socket.", "subprocess.", "os.", "shutil.", "sqlite3.", "urllib.", "http.", "ftplib.", "smtplib.")


class PluginSuite:
    """The tests of one plugin. A subclass sets `plugin`, and its name starts with `Test` so that pytest collects it.

    `cases` is the number of events that the audit generates. `time_budget` is the longest median time of a call, in
    seconds.
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
            for result in rehearsed.results:
                for envelope in map(msgspec.json.decode, result.envelopes):
                    assert event_type.channel_form.wildcard in grammar.subscriptions(envelope["channel"])

    def test_its_audit_has_no_finding(self) -> None:
        for route in _routes(self.plugin):
            assert Auditor(route, cases=self.cases).run().findings == ()

    def test_the_same_event_gives_the_same_envelopes(self) -> None:
        for rehearsed in _rehearsed(self.plugin):
            assert [rehearsed.rehearsal.run(*event) for event in rehearsed.events] == list(rehearsed.results)

    def test_events_are_independent_of_their_order(self) -> None:
        for rehearsed in _rehearsed(self.plugin):
            backwards = [rehearsed.rehearsal.run(*event) for event in reversed(rehearsed.events)]
            assert backwards[::-1] == list(rehearsed.results)

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
        # CPU time: other processes may hold up a call for as long as they like.
        for rehearsed in _rehearsed(self.plugin):
            times = [seconds for times in rehearsed.times(time.thread_time) for seconds in times]
            assert statistics.median(times) <= self.time_budget

    def test_a_call_does_not_block(self) -> None:
        # A call that sleeps or waits takes no CPU time. The fastest of several calls is one that nothing else held up.
        for rehearsed in _rehearsed(self.plugin):
            assert statistics.median(map(min, rehearsed.times(time.perf_counter))) <= self.time_budget

    def test_a_generated_event_is_relayed_or_dropped(self) -> None:
        for rehearsed in _rehearsed(self.plugin):
            for result in rehearsed.attempts(self.cases):
                assert result.outcome in (Outcome.RELAYED, Outcome.INVALID), result.cause

    def test_a_payload_that_is_not_a_json_object_is_dropped(self) -> None:
        for rehearsed in _rehearsed(self.plugin):
            source, payload = rehearsed.events[0]
            for broken in (*_NO_JSON, payload[:-1], payload + b"x", payload.decode().encode("utf-16")):
                assert rehearsed.rehearsal.run(source, broken).outcome is Outcome.INVALID, broken[:40]

    def test_a_member_of_the_wrong_kind_drops_its_event_at_most(self) -> None:
        for rehearsed in _rehearsed(self.plugin):
            for source, payload in rehearsed.with_wrong_members():
                result = rehearsed.rehearsal.run(source, payload)
                assert result.outcome in (Outcome.RELAYED, Outcome.INVALID), result.cause

    def test_a_published_event_reaches_a_subscriber(self, bridge_client: "BridgeClient") -> None:
        for rehearsed in _rehearsed(self.plugin):
            bridge_client.publish(*rehearsed.events[0])
            expected = [msgspec.json.decode(text) for text in rehearsed.results[0].envelopes]
            assert [bridge_client.receive() for _ in expected] == expected


class _Rehearsed:
    """One event type with valid events, and the outcome of each."""

    def __init__(self, route: Route) -> None:
        self.route = route
        self.rehearsal = Rehearsal(route, EXCHANGE_NAME)
        self._generator = Generator(route, Declaration(route.event_type), SEED)
        assert self._generator.learn(self.rehearsal), f"no generated event of {route.event_type.name!r} was valid"
        self.events = [self._generator.valid_draft(self.rehearsal).write() for _ in range(_EVENTS)]
        self.results = tuple(self.rehearsal.run(*event) for event in self.events)

    def decoded(self) -> Iterator[Event[Any]]:
        """Yield the events as the plugin receives them."""
        event_type = self.route.event_type
        for source, payload in self.events:
            parts = self.route.match(source)
            assert parts is not None
            read = self.route.decode(payload.decode())
            yield Event(event_type.name, source, parts, event_type.channel_of(parts), read, EXCHANGE_NAME)

    def times(self, clock: Callable[[], float]) -> list[list[float]]:
        """Return, for each event, how long each of its calls took by `clock`, in seconds."""
        events = list(self.decoded())
        rounds = [[_time(self.route, event, clock) for event in events] for _ in range(_REPETITIONS)]
        return [list(times) for times in zip(*rounds, strict=True)]

    def attempts(self, count: int) -> Iterator[Result]:
        """Yield the outcomes of newly generated events; some of the events are invalid."""
        for _ in range(count):
            yield self.rehearsal.run(*self._generator.draft().write())

    def with_wrong_members(self) -> Iterator[tuple[str, bytes]]:
        """Yield events with one value that is of the wrong kind, or missing."""
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
    """Call the plugin and consume its result, which may be a generator."""
    result = route.plugin.transform(event=event)
    if isinstance(result, Iterable):
        collections.deque(result, maxlen=0)


def _time(route: Route, event: Event[Any], clock: Callable[[], float]) -> float:
    started = clock()
    _transform(route, event)
    return clock() - started


class _Watch:
    """Records the input and output of this thread, from CPython's audit events."""

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
    # Only once per process: an audit hook cannot be removed.
    sys.addaudithook(_Watch.note)

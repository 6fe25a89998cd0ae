"""tornado_bridge.testing.suite: the built-in plugins pass it, and each kind of wrong plugin fails the right test."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.planted import CANDLE, LEAKS, SIGNALS, Quotes, Result, clean, public
from tornado_bridge import Envelope, Event, envelope_schema, values
from tornado_bridge.errors import PluginError
from tornado_bridge.testing import PluginSuite, suite

# The longest median time of a call, in seconds: shorter than by default, for the sake of the calls that exceed it.
BUDGET = 0.0005


def one_by_one(event: Event[Any]) -> Iterator[Envelope]:
    yield Envelope(event.channel, public(event))


class TestCandle(PluginSuite):
    plugin = CANDLE


class TestSignals(PluginSuite):
    plugin = SIGNALS


class TestAnObjectThatGivesAnIterator(PluginSuite):
    plugin = Quotes(one_by_one)
    cases = 50


def mutating(event: Event[Any]) -> Result:
    event.payload.more["seen"] = event.payload.price
    return clean(event)


def opening(event: Event[Any]) -> Result:
    Path("/dev/null").read_bytes()
    return clean(event)


def connecting(event: Event[Any]) -> Result:
    socket.socket().close()
    return clean(event)


def sleeping(event: Event[Any]) -> Result:
    time.sleep(2 * BUDGET)
    return clean(event)


def busy(event: Event[Any]) -> Result:
    until = time.thread_time() + 2 * BUDGET
    while time.thread_time() < until:
        pass
    return clean(event)


def failing_unless_a_number(event: Event[Any]) -> Result:
    float(bytes(event.payload.price))
    return clean(event)


def odd_at_times(event: Event[Any]) -> Result:
    envelope = Envelope(event.channel, public(event))
    return [envelope] * (300 if envelope.data["price"].startswith("-") else 1)


def of_its_time() -> Callable[[Event[Any]], Result]:
    count = [0]

    def transform(event: Event[Any]) -> Result:
        count[0] += 1
        return Envelope(event.channel, public(event, note=count[0] % 1000))

    return transform


def suite_of(plugin: object) -> PluginSuite:
    """Return the suite for a plugin, with fewer events and a shorter time budget than by default."""
    members = {"plugin": plugin, "cases": 200, "time_budget": BUDGET}
    tests: PluginSuite = type("Suite", (PluginSuite,), members)()
    return tests


NUMBER = {"note": {"type": "integer", "minimum": 0, "maximum": 1000}}


def with_a_wrong_example() -> dict[str, Any]:
    members = {"price": values.DECIMAL, "at": values.TIMESTAMP}
    return envelope_schema("quote", "^quotes:[A-Z]{3}$", members, examples=[{"type": "quote"}])


@pytest.mark.parametrize(
    ("plugin", "test"),
    [
        (Quotes(clean, emits=with_a_wrong_example()), "test_the_examples_of_its_schemas_are_valid"),
        (LEAKS["a value copied"][0](), "test_its_audit_has_no_finding"),
        (Quotes(of_its_time(), members=NUMBER), "test_the_same_event_gives_the_same_envelopes"),
        (Quotes(of_its_time(), members=NUMBER), "test_events_are_independent_of_their_order"),
        (Quotes(mutating), "test_an_event_is_left_as_it_was"),
        (Quotes(opening), "test_a_call_does_no_input_or_output"),
        (Quotes(connecting), "test_a_call_does_no_input_or_output"),
        (Quotes(busy), "test_a_call_stays_within_the_time_budget"),
        (Quotes(sleeping), "test_a_call_does_not_block"),
        (Quotes(odd_at_times), "test_a_generated_event_is_relayed_or_dropped"),
        (Quotes(failing_unless_a_number), "test_a_member_of_the_wrong_kind_drops_its_event_at_most"),
        (Quotes(lambda event: None), "test_it_is_admitted_with_closed_schemas"),
    ],
)
def test_a_plugin_that_is_wrong_fails(plugin: object, test: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tornado_bridge.audit.generation._ATTEMPTS", 500)
    with pytest.raises(AssertionError):
        getattr(suite_of(plugin), test)()


def test_a_plugin_that_is_refused_fails() -> None:
    with pytest.raises(PluginError):
        suite_of(object()).test_it_is_admitted_with_closed_schemas()


def test_time_in_which_a_call_does_not_run_is_not_in_the_time_budget() -> None:
    suite_of(Quotes(sleeping)).test_a_call_stays_within_the_time_budget()


def test_a_file_opened_by_another_thread_is_not_the_plugin_s_fault() -> None:
    stop = threading.Event()

    def open_all_the_time() -> None:
        while not stop.wait(0.0001):
            Path("/dev/null").read_bytes()

    thread = threading.Thread(target=open_all_the_time)
    thread.start()
    try:
        suite_of(Quotes(clean)).test_a_call_does_no_input_or_output()
    finally:
        stop.set()
        thread.join()


def test_a_file_opened_in_a_call_is_recorded() -> None:
    with suite._Watch() as watch:
        suite._Watch.note("open", ("file",))
        suite._Watch.note("object.__getattr__", ())
    suite._Watch.note("open", ("another",))
    assert watch.seen == ["open"]

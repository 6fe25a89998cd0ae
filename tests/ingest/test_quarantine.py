"""tornado_bridge.ingest.quarantine."""

import threading
import time
from collections.abc import Iterator

import pytest

from tornado_bridge.ingest import quarantine as rules
from tornado_bridge.ingest.quarantine import Quarantine, Watch


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def closed(clock: Clock) -> Quarantine:
    quarantine = Quarantine(clock)
    for _ in range(20):
        quarantine.note_failure()
    return quarantine


def test_a_plugin_that_never_failed_is_admitted(clock: Clock) -> None:
    quarantine = Quarantine(clock)
    assert (quarantine.closed, quarantine.admits()) == (False, True)


def test_nineteen_failures_are_borne(clock: Clock) -> None:
    quarantine = Quarantine(clock)
    assert [quarantine.note_failure() for _ in range(19)] == [False] * 19
    assert not quarantine.closed


def test_the_twentieth_failure_quarantines(clock: Clock) -> None:
    quarantine = closed(clock)
    assert (quarantine.closed, quarantine.watched, quarantine.admits()) == (True, True, False)


def test_failures_of_more_than_ten_seconds_ago_do_not_count(clock: Clock) -> None:
    quarantine = Quarantine(clock)
    for _ in range(19):
        quarantine.note_failure()
    clock.now += 10.01
    assert not quarantine.note_failure()


def test_twenty_failures_among_two_hundred_calls_quarantine(clock: Clock) -> None:
    quarantine = Quarantine(clock)
    for _ in range(20):
        quarantine.calls += 10
        quarantine.note_failure()
    assert quarantine.closed


def test_twenty_failures_among_more_calls_are_borne(clock: Clock) -> None:
    quarantine = Quarantine(clock)
    for _ in range(20):
        quarantine.calls += 11
        quarantine.note_failure()
    assert not quarantine.closed


def test_calls_that_block_for_a_second_together_quarantine(clock: Clock) -> None:
    quarantine = Quarantine(clock)
    assert [quarantine.note_blocked(0.5), quarantine.note_blocked(0.5)] == [False, True]
    assert (quarantine.closed, quarantine.watched) == (True, True)


def test_calls_that_blocked_more_than_ten_seconds_ago_do_not_count(clock: Clock) -> None:
    quarantine = Quarantine(clock)
    quarantine.note_blocked(0.9)
    clock.now += 10.01
    assert not quarantine.note_blocked(0.9)


def test_slow_calls_are_counted_and_quarantine_nothing(clock: Clock) -> None:
    quarantine = Quarantine(clock)
    for _ in range(100):
        quarantine.note_slow()
    assert (quarantine.slow_calls, quarantine.closed) == (100, False)


def test_a_slow_call_starts_a_watch_of_ten_seconds(clock: Clock) -> None:
    quarantine = Quarantine(clock)
    quarantine.note_slow()
    clock.now += 9.99
    assert (quarantine.admits(), quarantine.watched) == (True, True)
    clock.now += 0.01
    assert (quarantine.admits(), quarantine.watched) == (True, False)


def test_a_slow_call_does_not_shorten_the_pause(clock: Clock) -> None:
    quarantine = closed(clock)
    quarantine.note_slow()
    clock.now += 29.99
    assert not quarantine.admits()


def test_after_the_pause_one_event_is_admitted(clock: Clock) -> None:
    quarantine = closed(clock)
    clock.now += 29.99
    assert not quarantine.admits()
    clock.now += 0.01
    assert quarantine.admits()


def test_an_event_that_fails_after_the_pause_begins_it_anew(clock: Clock) -> None:
    quarantine = closed(clock)
    clock.now += 30
    assert quarantine.note_failure()
    assert not quarantine.admits()


def test_a_released_plugin_starts_with_a_clean_record(clock: Clock) -> None:
    quarantine = closed(clock)
    quarantine.release()
    assert not quarantine.note_failure()
    assert (quarantine.closed, quarantine.watched, quarantine.admits()) == (False, False, True)


# What a call proves


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    watch = Watch(time.thread_time)
    yield watch
    monkeypatch.setattr(rules, "LINGER", 0.0)
    watch.end()
    for pulse in pulses():
        pulse.join(10)


def pulses() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "plugin-watch"]


def compute(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_cpu_time_is_a_proof(watch: Watch) -> None:
    watch.begin()
    compute(0.1)
    assert 0.1 <= watch.blocked(60) < 0.2


def test_a_call_is_not_charged_with_more_time_than_it_took(watch: Watch) -> None:
    watch.begin()
    compute(0.1)
    assert watch.blocked(0.05) == 0.05


def test_time_without_cpu_time_and_without_the_pulse_is_no_proof(watch: Watch) -> None:
    watch.begin()
    assert watch.blocked(60) < 0.01


def test_the_time_before_a_call_is_no_proof(watch: Watch) -> None:
    watch.begin()
    compute(0.1)
    watch.begin()
    assert watch.blocked(0.1) < 0.01


def test_one_pulse_serves_call_after_call(watch: Watch) -> None:
    watch.begin()
    watch.end()
    watch.begin()
    watch.end()
    assert len(pulses()) == 1


def test_the_pulse_does_not_end_during_a_call(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "LINGER", 0.0)
    watch.begin()
    watch.end()
    watch.begin()
    (pulse,) = pulses()
    pulse.join(0.1)
    assert pulse.is_alive()


def test_a_new_pulse_follows_one_that_has_ended(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "LINGER", 0.0)
    watch.begin()
    (first,) = pulses()
    watch.end()
    first.join(10)
    watch.begin()
    compute(0.1)
    assert watch.blocked(60) >= 0.1


def test_without_another_thread_cpu_time_is_the_only_proof(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    watch.begin()
    compute(0.1)
    time.sleep(0.1)
    assert 0.1 <= watch.blocked(60) < 0.2

"""tornado_bridge.ingest.quarantine: a plugin that fails too often gets no events for a while."""

import pytest

from tornado_bridge.ingest.quarantine import Quarantine


class Clock:
    """A clock that shows the time that a test sets, in seconds."""

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
    assert (quarantine.closed, quarantine.admits()) == (True, False)


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


def test_slow_calls_that_add_up_to_a_second_quarantine(clock: Clock) -> None:
    quarantine = Quarantine(clock)
    assert [quarantine.note_slow(0.5), quarantine.note_slow(0.5)] == [False, True]
    assert quarantine.slow_calls == 2


def test_one_slow_call_may_be_the_machines(clock: Clock) -> None:
    assert not Quarantine(clock).note_slow(2.0)


def test_the_second_call_that_blocks_for_two_seconds_quarantines(clock: Clock) -> None:
    quarantine = Quarantine(clock)
    assert [quarantine.note_slow(2.0), quarantine.note_slow(2.0)] == [False, True]


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
    assert (quarantine.closed, quarantine.admits()) == (False, True)

"""tornado_bridge.pace: when events wait for those right behind them."""

import pytest

from tornado_bridge.pace import BEHIND, CROWD, MAX_WAIT, MIN_COST, SHARE, Pace

COST = 0.012


def flushed(pace: Pace, ended: float, cost: float = COST, *, waited: bool = False) -> float:
    pace.note_flush(ended - cost, ended, waited)
    return ended


@pytest.fixture
def crowded() -> Pace:
    """A pace whose last flush had a crowd behind it."""
    pace = Pace()
    pace.wait(flushed(pace, 1.0), CROWD)
    flushed(pace, 1.02)
    return pace


def test_the_first_events_do_not_wait() -> None:
    assert Pace().wait(0.0, 1) == 0.0


def test_a_publisher_of_single_events_never_waits() -> None:
    pace = Pace()
    now = 1.0
    for _ in range(10):
        assert pace.wait(flushed(pace, now), 1) == 0.0
        now += COST


def test_a_crowd_behind_a_flush_makes_the_next_burst_wait(crowded: Pace) -> None:
    assert crowded.wait(2.0, 1) == pytest.approx(COST * SHARE)


def test_those_behind_a_flush_wait_themselves_for_the_rest() -> None:
    pace = Pace()
    assert pace.wait(flushed(pace, 1.0), CROWD) == pytest.approx(COST * SHARE)


@pytest.mark.parametrize(("messages", "later"), [(CROWD - 1, 0.0), (CROWD, 2 * BEHIND)])
def test_few_or_late_ones_are_no_crowd(messages: int, later: float) -> None:
    pace = Pace()
    assert pace.wait(flushed(pace, 1.0) + later, messages) == 0.0


def test_no_event_waits_where_flushes_are_cheap() -> None:
    pace = Pace()
    assert pace.wait(flushed(pace, 1.0, MIN_COST * 0.9), 1000) == 0.0


def test_a_wait_has_an_end() -> None:
    pace = Pace()
    assert pace.wait(flushed(pace, 1.0, 10.0), CROWD) == MAX_WAIT


def test_a_wait_that_was_worth_it_is_followed_by_another(crowded: Pace) -> None:
    for now in (2.0, 3.0, 4.0):
        assert crowded.wait(now, 1) > 0
        crowded.note_wait(CROWD)
        flushed(crowded, now + COST, waited=True)


def test_a_wait_for_nothing_is_the_last(crowded: Pace) -> None:
    crowded.wait(2.0, 1)
    crowded.note_wait(CROWD - 1)
    flushed(crowded, 2.02, waited=True)
    assert crowded.wait(3.0, 1) == 0.0


def test_a_crowd_behind_a_wait_proves_nothing(crowded: Pace) -> None:
    crowded.wait(2.0, 1)
    crowded.note_wait(0)
    assert crowded.wait(flushed(crowded, 2.02, waited=True), 1000) == 0.0


def test_a_flush_that_has_become_cheap_ends_the_waiting(crowded: Pace) -> None:
    flushed(crowded, 2.0, MIN_COST * 0.9)
    assert crowded.wait(3.0, 1) == 0.0

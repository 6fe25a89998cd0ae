import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tornado_bridge.connections.admission import Admission, Allowance
from tornado_bridge.keys import Key

NOON = datetime.datetime(2026, 2, 19, 12, tzinfo=datetime.UTC)


class Clock:
    """A clock that shows the time that a test sets, in seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def key(number: int = 1, *, max_connections: int | None = None) -> Key:
    return Key(number, f"key-{number}", "0" * 64, NOON, max_connections=max_connections)


def allowance(*, places: int = 5, rate: float = 300, burst: int = 50, max_connections: int | None = None) -> Allowance:
    return Allowance(key(max_connections=max_connections), places, rate, burst, 1000.0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def admission(clock: Clock) -> Admission:
    return Admission(places=5, rate=300, burst=50, clock=clock)


# Places


def test_a_key_has_a_limited_number_of_places() -> None:
    one = allowance(places=5)

    assert [one.take_place() for _ in range(50)] == [True] * 5 + [False] * 45


def test_a_place_that_is_refused_is_not_taken() -> None:
    one = allowance(places=1)
    one.take_place()
    one.take_place()

    assert one.live == 1


def test_a_place_that_was_given_back_can_be_taken_again() -> None:
    one = allowance(places=1)
    one.take_place()
    one.give_place_back()

    assert one.take_place()


def test_a_key_may_have_more_places_than_others() -> None:
    one = allowance(places=5, max_connections=7)

    assert [one.take_place() for _ in range(8)] == [True] * 7 + [False]


def test_a_key_may_have_fewer_places_than_others() -> None:
    one = allowance(places=5, max_connections=1)

    assert [one.take_place() for _ in range(2)] == [True, False]


def test_the_connections_of_a_key_are_counted(admission: Admission) -> None:
    admission.of(key(7)).take_place()
    admission.of(key(7)).take_place()

    assert admission.live(7) == 2


def test_a_key_that_was_never_seen_has_no_connections(admission: Admission) -> None:
    assert admission.live(7) == 0


def test_two_keys_have_places_of_their_own(admission: Admission) -> None:
    for _ in range(5):
        admission.of(key(1)).take_place()

    assert not admission.of(key(1)).take_place()
    assert admission.of(key(2)).take_place()


def test_a_limit_that_changes_counts_from_the_next_connection_on(admission: Admission) -> None:
    admission.of(key(max_connections=1)).take_place()

    assert not admission.of(key(max_connections=1)).take_place()
    assert admission.of(key(max_connections=2)).take_place()


def test_a_limit_that_falls_below_the_live_connections_admits_none_until_enough_have_ended(
    admission: Admission,
) -> None:
    one = admission.of(key())
    for _ in range(3):
        one.take_place()
    admission.of(key(max_connections=2))

    assert not one.take_place()
    one.give_place_back()
    assert not one.take_place()
    one.give_place_back()
    assert one.take_place()


def test_an_allowance_has_the_row_of_its_key_as_it_is_now(admission: Admission) -> None:
    admission.of(key())
    changed = key(max_connections=9)

    assert admission.of(changed).key is changed


def test_all_connections_of_a_key_share_one_allowance(admission: Admission) -> None:
    assert admission.of(key()) is admission.of(key(max_connections=9))


# Messages


def test_a_full_bucket_has_50_messages_at_once() -> None:
    one = allowance(burst=50)

    assert [one.take_message(1000.0) for _ in range(60)] == [True] * 50 + [False] * 10


def test_300_messages_per_minute_are_5_per_second() -> None:
    one = allowance(rate=300, burst=50)
    for _ in range(50):
        one.take_message(1000.0)

    assert [one.take_message(1001.0) for _ in range(7)] == [True] * 5 + [False] * 2


def test_a_message_that_is_refused_costs_nothing() -> None:
    one = allowance(rate=60, burst=1)
    one.take_message(1000.0)

    assert [one.take_message(1000.0 + tick / 4) for tick in range(1, 9)] == [
        False, False, False, True, False, False, False, True,
    ]  # fmt: skip


def test_the_bucket_does_not_overflow() -> None:
    one = allowance(burst=50)

    assert [one.take_message(1_000_000.0) for _ in range(51)] == [True] * 50 + [False]


def test_a_new_bucket_is_full_from_the_moment_it_is_made(admission: Admission, clock: Clock) -> None:
    one = admission.of(key())

    assert [one.take_message(clock.now) for _ in range(51)] == [True] * 50 + [False]


def test_two_keys_have_buckets_of_their_own(admission: Admission, clock: Clock) -> None:
    for _ in range(50):
        admission.of(key(1)).take_message(clock.now)

    assert not admission.of(key(1)).take_message(clock.now)
    assert admission.of(key(2)).take_message(clock.now)


@settings(deadline=None)
@given(st.integers(1, 5), st.lists(st.integers(0, 200), max_size=60))
def test_a_bucket_behaves_as_the_model(burst: int, pauses: list[int]) -> None:
    # The model counts in whole numbers: messages and seconds are in sixty-fourths. The rate is 5 messages per second.
    one = allowance(rate=300, burst=burst)
    level, now = 64 * burst, 64_000
    for pause in pauses:
        now += pause
        level = min(64 * burst, level + 5 * pause)
        granted = level >= 64
        level -= 64 * granted

        assert one.take_message(now / 64) == granted

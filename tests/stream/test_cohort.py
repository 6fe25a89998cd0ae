"""tornado_bridge.stream.cohort: one write for all members, busy members, and sockets that take only a part."""

import pytest

from tests.support.subscriber import Subscriber
from tornado_bridge.stream.cohort import NO_SUBSCRIPTIONS, Cohort

BTC = frozenset({"candles:BTC-USD:1h"})


class Reporting(Subscriber):
    """Records each batch that its socket did not take whole, and how many bytes it took."""

    def __init__(self) -> None:
        super().__init__()
        self.reports: list[tuple[bytes, int]] = []

    def fell_short(self, batch: bytes, sent: int) -> None:
        self.reports.append((batch, sent))
        super().fell_short(batch, sent)


@pytest.fixture
def cohort() -> Cohort:
    return Cohort(BTC)


def member(cohort: Cohort, *, room: int | None = None, gone: bool = False) -> Reporting:
    """Return a new member. Its socket takes `room` more bytes, or fails at the next write."""
    one = Reporting()
    one.cohort = cohort
    cohort.place(one)
    one.room, one.gone = room, gone
    return one


def busy_member(cohort: Cohort) -> Reporting:
    """Return a new member that has bytes buffered."""
    one = member(cohort, room=0)
    one.fell_short(b"buffered", 0)
    one.reports.clear()
    return one


# Members


def test_a_cohort_has_its_subscriptions_its_window_and_no_members() -> None:
    cohort = Cohort(BTC, 12)
    assert (cohort.subscriptions, cohort.window, len(cohort), cohort.pending) == (BTC, 12, 0, [])


def test_a_cohort_is_plain_unless_it_is_given_a_window(cohort: Cohort) -> None:
    assert cohort.window is None


def test_the_absence_of_subscriptions_is_an_empty_set() -> None:
    assert frozenset() == NO_SUBSCRIPTIONS


def test_idle_and_busy_members_are_counted(cohort: Cohort) -> None:
    ones = [member(cohort), member(cohort), busy_member(cohort)]
    assert (len(cohort), list(cohort.idle), cohort.busy) == (3, ones[:2], {ones[2]})


def test_a_member_is_in_one_place_however_often_it_is_placed(cohort: Cohort) -> None:
    one, other = member(cohort), busy_member(cohort)
    cohort.place(one)
    cohort.place(other)
    assert (list(cohort.idle), cohort.busy) == ([one], {other})


def test_a_member_changes_its_place_with_its_state(cohort: Cohort) -> None:
    one = member(cohort, room=0)
    one.fell_short(b"batch", 0)
    assert (list(cohort.idle), cohort.busy) == ([], {one})
    one.drain()
    assert (list(cohort.idle), cohort.busy) == ([one], set())


def test_idle_and_busy_members_can_leave(cohort: Cohort) -> None:
    one, other = member(cohort), busy_member(cohort)
    cohort.remove(one)
    cohort.remove(other)
    cohort.write(b"batch", 1)
    assert (len(cohort), one.sends, other.offers) == (0, [], [])


def test_a_subscriber_that_is_not_a_member_can_be_removed(cohort: Cohort) -> None:
    one = member(cohort)
    cohort.remove(Subscriber())
    assert list(cohort.idle) == [one]


# A write


def test_a_write_is_one_send_for_each_idle_member(cohort: Cohort) -> None:
    ones = [member(cohort) for _ in range(3)]
    cohort.write(b"batch", 2)
    assert [(one.sends, one.offers, one.reports) for one in ones] == [([b"batch"], [], [])] * 3


def test_a_write_leaves_the_pending_frames_to_the_hub(cohort: Cohort) -> None:
    cohort.pending.append(b"event")
    cohort.write(b"batch", 1)
    assert cohort.pending == [b"event"]


def test_a_busy_member_is_offered_the_batch_with_its_number_of_frames(cohort: Cohort) -> None:
    one = busy_member(cohort)
    cohort.write(b"123", 3)
    assert (one.sends, one.offers, one.received) == ([], [(b"123", 3)], b"buffered123")


@pytest.mark.parametrize(("room", "sends"), [(0, []), (1, [b"b"]), (4, [b"batc"])])
def test_a_member_gets_the_number_of_bytes_that_its_socket_took(cohort: Cohort, room: int, sends: list[bytes]) -> None:
    one = member(cohort, room=room)
    cohort.write(b"batch", 1)
    assert (one.sends, one.reports, one.received) == (sends, [(b"batch", room)], b"batch")


def test_a_socket_that_takes_exactly_the_batch_does_not_fall_short(cohort: Cohort) -> None:
    one = member(cohort, room=5)
    cohort.write(b"batch", 1)
    assert (one.sends, one.reports) == ([b"batch"], [])


def test_a_member_whose_socket_is_gone_gets_minus_one(cohort: Cohort) -> None:
    one = member(cohort, gone=True)
    cohort.write(b"batch", 1)
    assert (one.sends, one.reports) == ([], [(b"batch", -1)])


def test_a_member_that_fell_short_is_offered_the_next_batch(cohort: Cohort) -> None:
    one = member(cohort, room=2)
    cohort.write(b"first", 1)
    cohort.write(b"second", 1)
    assert (one.sends, one.offers, one.received) == ([b"fi"], [(b"second", 1)], b"firstsecond")


def test_a_member_that_fell_short_is_not_offered_the_same_batch(cohort: Cohort) -> None:
    one = member(cohort, room=2)
    cohort.write(b"batch", 1)
    assert one.offers == []


def test_a_member_that_was_busy_is_written_again_once_it_is_idle(cohort: Cohort) -> None:
    one = busy_member(cohort)
    one.drain()
    cohort.write(b"batch", 1)
    assert (one.sends, one.offers) == ([b"buffered", b"batch"], [])


@pytest.mark.parametrize("room", [0, 2])
def test_slow_members_change_nothing_for_the_others(cohort: Cohort, room: int) -> None:
    before, _, between, _, after = (member(cohort, room=one) for one in (None, room, None, room, None))
    for number in range(3):
        cohort.write(b"batch%d" % number, 1)
    assert before.sends == between.sends == after.sends == [b"batch0", b"batch1", b"batch2"]


def test_members_whose_sockets_are_gone_change_nothing_for_the_others(cohort: Cohort) -> None:
    before, one, between, other, after = (member(cohort, gone=gone) for gone in (False, True, False, True, False))
    cohort.write(b"batch", 1)
    assert before.sends == between.sends == after.sends == [b"batch"]
    assert one.sends == other.sends == []


def test_busy_members_that_leave_as_they_are_offered_a_batch_change_nothing_for_the_others(cohort: Cohort) -> None:
    class Leaving(Reporting):
        def offer(self, batch: bytes, frames: int) -> None:
            super().offer(batch, frames)
            cohort.remove(self)

    leaving = [Leaving() for _ in range(2)]
    for one in leaving:
        one.cohort = cohort
        one.fell_short(b"buffered", 0)
    staying = [busy_member(cohort) for _ in range(2)]
    cohort.write(b"batch", 1)
    assert [one.offers for one in leaving + staying] == [[(b"batch", 1)]] * 4
    assert cohort.busy == set(staying)

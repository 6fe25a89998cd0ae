"""tornado_bridge.connections.wrong_keys: how many wrong keys a client group may try, and how much is remembered."""

import pytest

from tornado_bridge.connections.wrong_keys import Answer, WrongKeys


class Clock:
    """A clock that stands until it is set, in seconds."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def wrong_keys(clock: Clock) -> WrongKeys:
    return WrongKeys(clock)


def answers(wrong_keys: WrongKeys, count: int, group: str = "203.0.113.7") -> list[Answer]:
    return [wrong_keys.note(group) for _ in range(count)]


def test_ten_wrong_keys_are_answered_at_once_twenty_late_and_no_more(wrong_keys: WrongKeys) -> None:
    assert answers(wrong_keys, 50) == [Answer.AT_ONCE] * 10 + [Answer.LATE] * 20 + [Answer.NONE] * 20


def test_another_group_is_not_affected(wrong_keys: WrongKeys) -> None:
    answers(wrong_keys, 50)
    assert answers(wrong_keys, 10, "203.0.113.8") == [Answer.AT_ONCE] * 10


def test_an_answer_that_was_given_makes_room_for_one_more(wrong_keys: WrongKeys) -> None:
    answers(wrong_keys, 30)
    wrong_keys.answered("203.0.113.7")
    assert answers(wrong_keys, 2) == [Answer.LATE, Answer.NONE]


def test_an_answer_of_another_group_makes_no_room(wrong_keys: WrongKeys) -> None:
    answers(wrong_keys, 30)
    answers(wrong_keys, 11, "203.0.113.8")
    wrong_keys.answered("203.0.113.8")
    assert answers(wrong_keys, 1) == [Answer.NONE]


def test_a_free_try_comes_back_every_six_seconds(wrong_keys: WrongKeys, clock: Clock) -> None:
    answers(wrong_keys, 10)
    clock.now += 5.9
    assert answers(wrong_keys, 1) == [Answer.LATE]
    clock.now += 0.2
    assert answers(wrong_keys, 2) == [Answer.AT_ONCE, Answer.LATE]


def test_after_a_minute_all_ten_have_come_back_and_no_more_than_ten_ever_do(
    wrong_keys: WrongKeys, clock: Clock
) -> None:
    for seconds in (60, 86_400):
        answers(wrong_keys, 10)
        clock.now += seconds
        assert answers(wrong_keys, 11) == [Answer.AT_ONCE] * 10 + [Answer.LATE]
        wrong_keys.answered("203.0.113.7")
        clock.now += 60


def test_a_try_that_is_answered_late_costs_no_free_try(wrong_keys: WrongKeys, clock: Clock) -> None:
    answers(wrong_keys, 30)
    clock.now += 60
    assert answers(wrong_keys, 10) == [Answer.AT_ONCE] * 10


# Memory


def test_at_most_10000_groups_are_remembered(wrong_keys: WrongKeys) -> None:
    for number in range(25_000):
        answers(wrong_keys, 1, str(number))
    assert len(wrong_keys._tries) == 10_000


def test_the_group_that_has_tried_nothing_for_longest_is_forgotten(wrong_keys: WrongKeys) -> None:
    answers(wrong_keys, 10, "early")
    answers(wrong_keys, 10, "often")
    for number in range(9_998):
        answers(wrong_keys, 1, str(number))
    assert answers(wrong_keys, 1, "often") == [Answer.LATE]

    answers(wrong_keys, 1, "one more")

    assert answers(wrong_keys, 1, "often") == [Answer.LATE]
    assert answers(wrong_keys, 1, "early") == [Answer.AT_ONCE]


def test_nothing_is_kept_of_answers_once_they_are_given(wrong_keys: WrongKeys) -> None:
    for number in range(100):
        answers(wrong_keys, 30, str(number))
    for number in range(100):
        for _ in range(20):
            wrong_keys.answered(str(number))
    assert not wrong_keys._waiting

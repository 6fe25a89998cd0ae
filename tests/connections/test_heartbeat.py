import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tornado_bridge.connections.heartbeat import SLOTS, Heartbeat


class Pulse:
    """A connection that counts its beats."""

    def __init__(self) -> None:
        self.beats = 0

    def beat(self) -> None:
        self.beats += 1


class Leaving(Pulse):
    """A connection that ends some connections during its beat. It may be one of them."""

    def __init__(self, heartbeat: Heartbeat) -> None:
        super().__init__()
        self._heartbeat = heartbeat
        self.slots: list[tuple[Pulse, int]] = []

    def beat(self) -> None:
        super().beat()
        for pulse, slot in self.slots:
            self._heartbeat.remove(pulse, slot)


class Inviting(Pulse):
    """A connection that adds another connection during its first beat."""

    def __init__(self, heartbeat: Heartbeat) -> None:
        super().__init__()
        self._heartbeat = heartbeat
        self.guest = Pulse()

    def beat(self) -> None:
        if not self.beats:
            self._heartbeat.add(self.guest)
        super().beat()


@pytest.fixture
def heartbeat() -> Heartbeat:
    return Heartbeat(30.0)


def run(heartbeat: Heartbeat, ticks: int) -> None:
    for _ in range(ticks):
        heartbeat.beat()


def test_an_interval_of_30_seconds_has_30_ticks_of_one() -> None:
    assert (SLOTS, Heartbeat(30.0).tick) == (30, 1.0)


def test_the_ticks_of_a_short_interval_are_short() -> None:
    assert Heartbeat(3.0).tick == 0.1


@pytest.mark.parametrize("late", [0, 1, 17, 29, 30, 31])
def test_the_first_beat_comes_one_interval_after_a_connection(heartbeat: Heartbeat, late: int) -> None:
    run(heartbeat, late)
    pulse = Pulse()
    heartbeat.add(pulse)

    run(heartbeat, 29)
    assert pulse.beats == 0
    run(heartbeat, 1)
    assert pulse.beats == 1


def test_a_connection_is_beaten_once_an_interval(heartbeat: Heartbeat) -> None:
    pulse = Pulse()
    heartbeat.add(pulse)

    run(heartbeat, 300)

    assert pulse.beats == 10


def test_connections_that_come_apart_are_not_beaten_together(heartbeat: Heartbeat) -> None:
    first, second = Pulse(), Pulse()
    heartbeat.add(first)
    run(heartbeat, 1)
    heartbeat.add(second)

    run(heartbeat, 29)

    assert (first.beats, second.beats) == (1, 0)


def test_connections_that_come_together_are_beaten_together(heartbeat: Heartbeat) -> None:
    pulses = [Pulse() for _ in range(100)]
    for pulse in pulses:
        heartbeat.add(pulse)

    run(heartbeat, 30)

    assert [pulse.beats for pulse in pulses] == [1] * 100


def test_a_connection_that_has_ended_is_not_beaten(heartbeat: Heartbeat) -> None:
    pulse = Pulse()
    heartbeat.remove(pulse, heartbeat.add(pulse))

    run(heartbeat, 60)

    assert pulse.beats == 0


def test_a_connection_may_be_removed_twice(heartbeat: Heartbeat) -> None:
    pulse = Pulse()
    slot = heartbeat.add(pulse)
    heartbeat.remove(pulse, slot)

    heartbeat.remove(pulse, slot)


def test_a_connection_may_end_during_its_beat(heartbeat: Heartbeat) -> None:
    leaving, staying = Leaving(heartbeat), Pulse()
    leaving.slots = [(leaving, heartbeat.add(leaving))]
    heartbeat.add(staying)

    run(heartbeat, 60)

    assert (leaving.beats, staying.beats) == (1, 2)


def test_a_connection_that_comes_during_a_beat_waits_its_whole_interval(heartbeat: Heartbeat) -> None:
    inviting = Inviting(heartbeat)
    heartbeat.add(inviting)
    run(heartbeat, 30)

    run(heartbeat, 29)
    assert inviting.guest.beats == 0
    run(heartbeat, 1)
    assert inviting.guest.beats == 1


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=25))
def test_every_connection_is_beaten_a_whole_number_of_intervals_after_it_came(steps: list[tuple[int, bool]]) -> None:
    heartbeat = Heartbeat(30.0)
    now = 0
    present: list[tuple[Pulse, int, int]] = []
    for ticks, comes in steps:
        run(heartbeat, ticks)
        now += ticks
        assert [pulse.beats for pulse, _, _ in present] == [(now - came) // 30 for _, _, came in present]
        if comes or not present:
            pulse = Pulse()
            present.append((pulse, heartbeat.add(pulse), now))
        else:
            pulse, slot, _ = present.pop(0)
            heartbeat.remove(pulse, slot)

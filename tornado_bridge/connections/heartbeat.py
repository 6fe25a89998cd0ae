"""The heartbeat: a ping every interval, and the end of who has not answered by the next one."""

from typing import Protocol

# Connections are spread over this many slots of an interval, so that their pings do not come at once.
SLOTS = 30


class Pulse(Protocol):
    """What the heartbeat needs of a connection."""

    def beat(self) -> None:
        """Send a ping, or end the connection where the last one was not answered."""


class Heartbeat:
    """A wheel of slots, one of which is due each tick; a connection's first ping comes one interval after it."""

    def __init__(self, interval: float) -> None:
        self.tick = interval / SLOTS
        self._slots: list[set[Pulse]] = [set() for _ in range(SLOTS)]
        self._next = 0

    def add(self, pulse: Pulse) -> int:
        """Take a connection in; returns its slot, for `remove`."""
        slot = (self._next - 1) % SLOTS
        self._slots[slot].add(pulse)
        return slot

    def remove(self, pulse: Pulse, slot: int) -> None:
        self._slots[slot].discard(pulse)

    def beat(self) -> None:
        """Beat the slot that is due; to be called every `tick` seconds."""
        due = self._slots[self._next]
        self._next = (self._next + 1) % SLOTS
        for pulse in tuple(due):
            pulse.beat()

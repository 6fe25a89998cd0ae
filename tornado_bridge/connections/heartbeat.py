"""The heartbeat: each interval a ping, and a client that has not answered by the next ping is disconnected."""

from typing import Protocol

from tornado_bridge.connections.outlet import Outlet

# Connections are spread over this many slots of an interval, so that their pings do not come at once.
SLOTS = 30


class Pulse(Protocol):
    """What the heartbeat needs of a connection."""

    def beat(self) -> None:
        """Send a ping, or end the connection if the last ping was not answered."""


class Pings(Protocol):
    """A heartbeat of one connection's own: that of Tornado, for a client that came through its WebSocketHandler."""

    def attach(self, outlet: Outlet) -> None:
        """Start to ping through `outlet`."""

    def note_pong(self) -> None:
        """Take note of a pong."""

    def stop(self) -> None:
        """Stop to ping. It may be called at any time, and more than once."""


class Heartbeat:
    """A wheel of slots, with one slot due each tick. The first ping of a connection comes one interval after it.

    `interval` is in seconds.
    """

    def __init__(self, interval: float) -> None:
        self.tick = interval / SLOTS
        self._slots: list[set[Pulse]] = [set() for _ in range(SLOTS)]
        self._next = 0

    def __len__(self) -> int:
        return sum(map(len, self._slots))

    def add(self, pulse: Pulse) -> int:
        """Add a connection and return its slot, for `remove`."""
        slot = (self._next - 1) % SLOTS
        self._slots[slot].add(pulse)
        return slot

    def remove(self, pulse: Pulse, slot: int) -> None:
        self._slots[slot].discard(pulse)

    def beat(self) -> None:
        """Beat the slot that is due. Call it every `tick` seconds."""
        due = self._slots[self._next]
        self._next = (self._next + 1) % SLOTS
        for pulse in tuple(due):
            pulse.beat()

"""Quarantine: a plugin that fails or blocks too often gets no events for a while, then one to show itself.

A synchronous plugin cannot be interrupted; what it costs the others is bounded by not calling it again.
"""

import collections
from collections.abc import Callable

# Within this many seconds …
WINDOW = 10.0

# … so many failures among so many events, or so much time in slow calls, in seconds, of which there are so many (one
# alone may be the machine's), …
MAX_FAILURES = 20
AMONG = 200
MAX_BLOCKED = 1.0
MIN_SLOW_CALLS = 2

# … quarantine a plugin for this long, in seconds.
PAUSE = 30.0

# A call that takes longer, in seconds, is slow: it delays every client.
SLOW_CALL = 0.05

# What a call may take besides for each byte of its payload, in seconds: a large payload is no fault of the plugin's.
SLOW_BYTE = 1e-7


class Quarantine:
    """The record of one plugin.

    `clock` is monotonic, in seconds; `calls` is to be counted up with every call of the plugin. While `closed` is set
    the plugin gets no events but one after each pause: if that goes well it is let out, else the pause begins anew.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # When, how long it blocked, and the number of the call.
        self._faults: collections.deque[tuple[float, float, int]] = collections.deque(maxlen=MAX_FAILURES)
        self._until = 0.0
        self.closed = False
        self.calls = 0
        self.slow_calls = 0

    def admits(self) -> bool:
        """Tell whether the plugin may have an event."""
        return not self.closed or self._clock() >= self._until

    def note_failure(self) -> bool:
        """Note a failed event; tells whether it quarantines the plugin, or leaves it there."""
        return self._note(0.0)

    def note_slow(self, seconds: float) -> bool:
        """Note a slow call; tells whether it quarantines the plugin, or leaves it there."""
        self.slow_calls += 1
        return self._note(seconds)

    def _note(self, blocked: float) -> bool:
        now = self._clock()
        self._faults.append((now, blocked, self.calls))
        recent = [fault for fault in self._faults if now - fault[0] <= WINDOW]
        failing = len(recent) >= MAX_FAILURES and self.calls - recent[0][2] < AMONG
        slow = [seconds for _, seconds, _ in recent if seconds]
        blocking = len(slow) >= MIN_SLOW_CALLS and sum(slow) >= MAX_BLOCKED
        if self.closed or failing or blocking:
            self.closed = True
            self._until = now + PAUSE
            return True
        return False

    def release(self) -> None:
        """Let the plugin out, after an event that went well."""
        self._faults.clear()
        self.closed = False

"""When what has been read is written: at once, or a little later with what comes right behind it.

A write costs a system call for each client, however much it carries. Where a publisher sends the events of a burst one
by one, the first of them is read alone, and while it is being written the others have to wait.
"""

# A flush that takes less than this many seconds is not worth waiting for.
MIN_COST = 0.002

# The share of a flush's time that its events may wait for others, and the most that they may, in seconds.
SHARE = 0.25
MAX_WAIT = 0.005

# So many messages within so many seconds after a flush were on their way while it was written; a publisher that has
# been waiting for the flush sends one.
CROWD = 4
BEHIND = 0.0005


class Pace:
    """The pace of one source's flushes; times are of one monotonic clock, in seconds.

    `wait` is how long the events of a read should wait for more: 0 unless flushes are costly and the last one that was
    not preceded by a wait had a crowd behind it, or the last wait was worth it.
    """

    __slots__ = ("_cost", "_crowded", "_flushed", "_waited")

    def __init__(self) -> None:
        self._cost = 0.0
        self._crowded = False
        self._flushed = 0.0
        self._waited = False

    def wait(self, now: float, messages: int) -> float:
        """Return for how many seconds the `messages` of a read should wait for more, before a flush."""
        if not self._waited and messages >= CROWD and now - self._flushed < BEHIND:
            self._crowded = True
        if not self._crowded or self._cost < MIN_COST:
            return 0.0
        return min(self._cost * SHARE, MAX_WAIT)

    def note_wait(self, messages: int) -> None:
        """Note that a wait has brought so many messages more."""
        self._crowded = messages >= CROWD

    def note_flush(self, started: float, ended: float, waited: bool) -> None:
        """Note a flush, and whether its events had waited."""
        self._cost = ended - started
        self._flushed = ended
        self._waited = waited

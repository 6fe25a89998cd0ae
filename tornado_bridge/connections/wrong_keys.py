"""Slows down strangers who try API keys.

A good key is always admitted at once, also from an address that strangers share. So nothing here looks at good keys.
"""

import enum
from collections import Counter, OrderedDict
from collections.abc import Callable

# Wrong keys that one client group may try per minute before the answers come late.
FREE_TRIES = 10
_REFILL = FREE_TRIES / 60

# Seconds by which a late answer comes late, and how many of them one group may wait for. Further tries get no answer.
DELAY = 1.0
MAX_WAITING = 20

# Groups that are remembered. Beyond them the one that has tried nothing for longest is forgotten.
MAX_GROUPS = 10_000


class Answer(enum.Enum):
    """How a wrong key is answered."""

    AT_ONCE = "at once"
    LATE = "late"
    NONE = "none"


class WrongKeys:
    """The wrong keys that client groups have tried lately. `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # For each group its free tries, and when they were counted.
        self._tries: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._waiting: Counter[str] = Counter()

    def note(self, group: str) -> Answer:
        """Take note of a wrong key. After LATE, call `answered` when the answer has been given."""
        now = self._clock()
        free, counted = self._tries.pop(group, (float(FREE_TRIES), now))
        free = min(FREE_TRIES, free + (now - counted) * _REFILL)
        answer = Answer.AT_ONCE
        if free >= 1:
            free -= 1
        elif self._waiting[group] < MAX_WAITING:
            self._waiting[group] += 1
            answer = Answer.LATE
        else:
            answer = Answer.NONE
        if len(self._tries) >= MAX_GROUPS:
            self._tries.popitem(last=False)
        self._tries[group] = free, now
        return answer

    def answered(self, group: str) -> None:
        """Take note that a late answer has been given."""
        self._waiting[group] -= 1
        if self._waiting[group] <= 0:
            del self._waiting[group]

"""The limits of one key: its number of connections and its rate of messages."""

from collections.abc import Callable

from tornado_bridge.keys import Key


class Allowance:
    """The live state of one key. All connections of the key share it.

    `places` is the limit of connections for a key that has no limit of its own. `rate` is in messages per minute, and
    `burst` is the number of messages that may come at once. `now` is monotonic, in seconds.
    """

    __slots__ = ("_burst", "_default_places", "_per_second", "_refilled", "_tokens", "key", "live")

    def __init__(self, key: Key, places: int, rate: float, burst: int, now: float) -> None:
        self.key = key
        self.live = 0
        self._default_places = places
        self._per_second = rate / 60
        self._burst = burst
        self._tokens = float(burst)
        self._refilled = now

    @property
    def places(self) -> int:
        """How many connections the key may have at once."""
        return self._default_places if self.key.max_connections is None else self.key.max_connections

    def take_place(self) -> bool:
        """Take a place for a connection. Returns False if all places of the key are taken."""
        if self.live >= self.places:
            return False
        self.live += 1
        return True

    def give_place_back(self) -> None:
        self.live -= 1

    def take_message(self, now: float) -> bool:
        """Take a token for one client message. Returns False if the bucket is empty."""
        self._tokens = min(self._burst, self._tokens + (now - self._refilled) * self._per_second)
        self._refilled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Admission:
    """The allowances of all keys that were used since the start. There is at most one for each row of the key file."""

    def __init__(self, *, places: int, rate: float, burst: int, clock: Callable[[], float]) -> None:
        self._places = places
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._allowances: dict[int, Allowance] = {}

    def of(self, key: Key) -> Allowance:
        """Return the allowance of a key, updated to the row `key`. The row's limits may have changed."""
        allowance = self._allowances.get(key.id)
        if allowance is None:
            allowance = Allowance(key, self._places, self._rate, self._burst, self._clock())
            self._allowances[key.id] = allowance
        allowance.key = key
        return allowance

    def live(self, key_id: int) -> int:
        """Return the number of the key's live connections."""
        allowance = self._allowances.get(key_id)
        return 0 if allowance is None else allowance.live

"""What one key may do at once: its places and its message rate."""

from collections.abc import Callable

from tornado_bridge.keys import Key


class Allowance:
    """The live state of one key, shared by all its connections.

    `rate` is messages a minute, `burst` how many may come at once.
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
        """Take a place for a connection. False if the key has none left."""
        if self.live >= self.places:
            return False
        self.live += 1
        return True

    def give_place_back(self) -> None:
        self.live -= 1

    def take_message(self, now: float) -> bool:
        """Take a token for one client message; False where the bucket is empty. `now` in seconds, monotonic."""
        self._tokens = min(self._burst, self._tokens + (now - self._refilled) * self._per_second)
        self._refilled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Admission:
    """The allowances of all keys that were ever admitted since start; as many as the key file has rows."""

    def __init__(self, *, places: int, rate: float, burst: int, clock: Callable[[], float]) -> None:
        self._places = places
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._allowances: dict[int, Allowance] = {}

    def of(self, key: Key) -> Allowance:
        """Return the key's allowance, with the key's row as it is now."""
        allowance = self._allowances.get(key.id)
        if allowance is None:
            allowance = Allowance(key, self._places, self._rate, self._burst, self._clock())
            self._allowances[key.id] = allowance
        allowance.key = key
        return allowance

    def live(self, key_id: int) -> int:
        """Return how many live connections the key has."""
        allowance = self._allowances.get(key_id)
        return 0 if allowance is None else allowance.live

"""API keys: what one allows, and how the text that a client sends is looked up.

A key's text is 256 random bits. Only its SHA-256 is kept. A fast digest is enough, since 256 random bits cannot be
guessed, and a look-up by digest takes no longer for a text that is nearly right.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Protocol, Self

import msgspec

from tornado_bridge.errors import ConfigurationError

# A client may name channels of up to 128 characters. Control characters and surrogates are in no channel.
_CHANNEL = msgspec.Meta(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f-\x9f\ud800-\udfff]*\Z")

_UTC_TIME = msgspec.Meta(tz=True)


def utc_now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(UTC)


def digest(text: str) -> str:
    """Return the SHA-256 of a key's text, as 64 hexadecimal digits."""
    # A surrogate cannot be encoded as UTF-8. Passed on, it makes a digest that no key has.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True, repr=False)
class Key:
    """One API key. All times are in UTC; raises ValueError for another time zone.

    Without `channels` the key may have all channels, without `max_connections` the server's limit holds, and without
    `expires` the key does not expire.
    """

    id: Annotated[int, msgspec.Meta(ge=1)]
    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
    created: Annotated[datetime, _UTC_TIME]
    revoked: Annotated[datetime, _UTC_TIME] | None = None
    max_connections: Annotated[int, msgspec.Meta(ge=1)] | None = None
    channels: tuple[Annotated[str, _CHANNEL], ...] = ()
    expires: Annotated[datetime, _UTC_TIME] | None = None

    def __post_init__(self) -> None:
        if any(time and time.utcoffset() for time in (self.created, self.revoked, self.expires)):
            raise ValueError("times must be in UTC")

    def __repr__(self) -> str:
        return f"Key(id={self.id}, name={self.name!r})"

    def active_at(self, now: datetime) -> bool:
        """Tell whether the key lets clients in. A `revoked` time in the future has revoked the key already."""
        return self.revoked is None and (self.expires is None or now < self.expires)


class KeyRing:
    """A set of keys in memory. `clock` returns the time in UTC, for keys that expire."""

    def __init__(self, keys: Iterable[Key], clock: Callable[[], datetime] = utc_now) -> None:
        self._clock = clock
        self._by_digest = {key.sha256: key for key in keys if key.revoked is None}
        self._by_id = {key.id: key for key in self._by_digest.values()}
        self._expiries = sorted(key.expires for key in self._by_digest.values() if key.expires is not None)

    @classmethod
    def single(cls, name: str, text: str) -> Self:
        """Make a ring of one key without a file; raises ConfigurationError for an empty text."""
        if not text:
            raise ConfigurationError(f"the API key {name} is empty")
        return cls([Key(1, name, digest(text), utc_now())])

    def find(self, text: str) -> Key | None:
        """Return the active key with this text."""
        key = self._by_digest.get(digest(text))
        return key if key is not None and key.active_at(self._clock()) else None

    def current(self, key: Key) -> Key | None:
        """Return a key of an earlier ring as this ring has it, None if it is no longer active.

        A key is the same one if it has the same id and the same text.
        """
        found = self._by_id.get(key.id)
        return found if found is not None and found.sha256 == key.sha256 and found.active_at(self._clock()) else None

    def active(self) -> list[Key]:
        """Return the active keys."""
        now = self._clock()
        return [key for key in self._by_digest.values() if key.active_at(now)]

    @property
    def expired(self) -> int:
        """How many keys have expired; while this stays the same, the active keys do."""
        return bisect_right(self._expiries, self._clock())


class Keys(Protocol):
    """The keys that a bridge admits clients by."""

    @property
    def ring(self) -> KeyRing:
        """The keys as they are now."""

    async def refresh(self) -> None:
        """Replace `ring` if the keys have changed, and log that. The bridge calls this once per second."""


@dataclass(frozen=True)
class FixedKeys:
    """Keys that never change."""

    ring: KeyRing

    async def refresh(self) -> None:
        """Do nothing."""

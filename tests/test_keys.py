"""tornado_bridge.keys."""

import asyncio
from datetime import UTC, datetime, timedelta, timezone

import pytest

from tornado_bridge.errors import ConfigurationError
from tornado_bridge.keys import FixedKeys, Key, KeyRing, Keys, digest

ALICE_TEXT = "alice's text"
ALICE_SHA256 = "a30fc86b632cd7747140fcee8cf679c814b33b091dea492a32fe75a52c3caa0a"
BOB_TEXT = "bob's text"
BOB_SHA256 = "5eb30ab1b19683ba68b872c93fbf442631ef8c00666a5208e5c52ea68baf5389"

NOON = datetime(2026, 2, 19, 12, tzinfo=UTC)
NOON_ELSEWHERE = datetime(2026, 2, 19, 12, tzinfo=timezone(timedelta(hours=1)))

ALICE = Key(1, "alice", ALICE_SHA256, NOON)
BOB = Key(2, "bob", BOB_SHA256, NOON)
REVOKED_BOB = Key(2, "bob", BOB_SHA256, NOON, revoked=NOON)
MIDNIGHT = datetime(2026, 2, 20, tzinfo=UTC)
EXPIRING_BOB = Key(2, "bob", BOB_SHA256, NOON, expires=MIDNIGHT)
SECOND = timedelta(seconds=1)


class Clock:
    """A clock that stands until it is set."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


def test_a_digest_is_the_sha_256_of_the_text() -> None:
    assert digest(ALICE_TEXT) == ALICE_SHA256


def test_a_text_with_a_surrogate_has_a_digest_too() -> None:
    assert len(digest("\ud800")) == 64


# A key


def test_the_repr_of_a_key_shows_id_and_name_alone() -> None:
    assert repr(Key(7, "alice", ALICE_SHA256, NOON)) == "Key(id=7, name='alice')"


def test_a_key_without_a_revoked_time_is_active() -> None:
    assert ALICE.active_at(datetime(9999, 1, 1, tzinfo=UTC))


def test_a_key_with_a_revoked_time_in_the_future_is_not_active() -> None:
    assert not Key(1, "alice", ALICE_SHA256, NOON, datetime(9999, 1, 1, tzinfo=UTC)).active_at(NOON)


def test_a_key_is_active_until_it_expires() -> None:
    assert EXPIRING_BOB.active_at(MIDNIGHT - SECOND)
    assert not EXPIRING_BOB.active_at(MIDNIGHT)


@pytest.mark.parametrize("member", ["created", "revoked", "expires"])
def test_a_key_with_a_time_that_is_not_in_utc_is_refused(member: str) -> None:
    with pytest.raises(ValueError, match="times must be in UTC"):
        Key(**{"id": 1, "name": "alice", "sha256": ALICE_SHA256, "created": NOON, member: NOON_ELSEWHERE})  # type: ignore[arg-type]


# The ring


def test_a_text_finds_its_key() -> None:
    assert KeyRing([ALICE, REVOKED_BOB]).find(ALICE_TEXT) == ALICE


@pytest.mark.parametrize("text", ["", "alice", "alice's text ", ALICE_SHA256, BOB_TEXT, "\ud800", "é"])
def test_a_text_of_no_active_key_finds_nothing(text: str) -> None:
    assert KeyRing([ALICE, REVOKED_BOB]).find(text) is None


def test_the_active_keys_are_those_that_are_not_revoked() -> None:
    assert KeyRing([ALICE, REVOKED_BOB]).active() == [ALICE]


def test_a_key_of_an_earlier_ring_is_found_as_it_is_now() -> None:
    limited = Key(1, "alice", ALICE_SHA256, NOON, max_connections=2)
    assert KeyRing([limited, BOB]).current(ALICE) is limited


@pytest.mark.parametrize(
    "later",
    [
        pytest.param([BOB], id="it has vanished"),
        pytest.param([Key(1, "alice", ALICE_SHA256, NOON, revoked=NOON), BOB], id="it was revoked"),
        pytest.param([Key(1, "alice", "0" * 64, NOON), BOB], id="its text has changed"),
        pytest.param([Key(3, "alice", ALICE_SHA256, NOON), BOB], id="its id has changed"),
    ],
)
def test_a_key_of_an_earlier_ring_is_not_found_if_it_is_not_active_any_more(later: list[Key]) -> None:
    assert KeyRing(later).current(ALICE) is None


def test_a_key_that_expires_is_found_until_then() -> None:
    clock = Clock(MIDNIGHT - SECOND)
    ring = KeyRing([ALICE, EXPIRING_BOB], clock)
    assert (ring.find(BOB_TEXT), ring.current(BOB)) == (EXPIRING_BOB, EXPIRING_BOB)
    assert ring.active() == [ALICE, EXPIRING_BOB]
    clock.now = MIDNIGHT
    assert (ring.find(BOB_TEXT), ring.current(BOB), ring.active()) == (None, None, [ALICE])


def test_a_ring_counts_the_keys_that_have_expired() -> None:
    clock = Clock(MIDNIGHT - SECOND)
    later = Key(3, "carol", "c" * 64, NOON, expires=MIDNIGHT + SECOND)
    revoked = Key(4, "dave", "d" * 64, NOON, revoked=NOON, expires=MIDNIGHT)
    ring = KeyRing([ALICE, later, EXPIRING_BOB, revoked], clock)
    counts = []
    for _ in range(4):
        counts.append(ring.expired)
        clock.now += SECOND
    assert counts == [0, 1, 2, 2]


def test_a_ring_goes_by_the_time_of_now() -> None:
    past, future = datetime(2000, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
    assert KeyRing([Key(1, "alice", ALICE_SHA256, NOON, expires=past)]).find(ALICE_TEXT) is None
    assert KeyRing([Key(1, "alice", ALICE_SHA256, NOON, expires=future)]).find(ALICE_TEXT) is not None


def test_a_ring_of_one_key_needs_no_file() -> None:
    found = KeyRing.single("demo", ALICE_TEXT).find(ALICE_TEXT)
    assert found is not None
    assert (found.id, found.name, found.sha256) == (1, "demo", ALICE_SHA256)


def test_a_ring_of_one_empty_key_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="the API key demo is empty"):
        KeyRing.single("demo", "")


def test_the_repr_of_a_ring_shows_no_digest() -> None:
    assert ALICE_SHA256 not in repr(KeyRing([ALICE]))


def test_fixed_keys_never_change() -> None:
    fixed = FixedKeys(KeyRing([ALICE]))
    known: Keys = fixed
    before = known.ring
    asyncio.run(known.refresh())
    assert known.ring is before

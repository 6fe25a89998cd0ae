"""tornado_bridge.key_file."""

import asyncio
import base64
import contextlib
import errno
import fcntl
import os
import resource
import secrets
import signal
import stat
import subprocess
import sys
import threading
import time
import tomllib
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from tests.support.servers import LogLines
from tornado_bridge import key_file
from tornado_bridge.errors import ConfigurationError
from tornado_bridge.key_file import KeyFile, KeyFileError, KeyWatch
from tornado_bridge.keys import Key, KeyRing, Keys

ALICE_TEXT = "alice's text"
ALICE_SHA256 = "a30fc86b632cd7747140fcee8cf679c814b33b091dea492a32fe75a52c3caa0a"
BOB_TEXT = "bob's text"
BOB_SHA256 = "5eb30ab1b19683ba68b872c93fbf442631ef8c00666a5208e5c52ea68baf5389"

ALICE = f"""
[[keys]]
id = 1
name = "alice"
sha256 = "{ALICE_SHA256}"
created = 2026-02-19T12:00:00Z
"""
BOB = f"""
[[keys]]
id = 2
name = "bob"
sha256 = "{BOB_SHA256}"
created = 2026-02-19T13:00:00Z
"""
ALICE_ONLY = "next_id = 3\n" + ALICE
BOTH = "next_id = 3\n" + ALICE + BOB
REVOKED = "revoked = 2026-02-20T12:00:00Z\n"
EXPIRES = "expires = 2026-02-21T12:00:00Z\n"

NOON = datetime(2026, 2, 19, 12, tzinfo=UTC)
FAR = datetime(9999, 1, 1, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.toml"


@contextlib.contextmanager
def no_descriptor_left() -> Iterator[None]:
    """No file can be opened inside."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def put(path: Path, text: str | bytes, mode: int = 0o600) -> KeyFile:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(mode)
    return KeyFile(path)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def rows(path: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = tomllib.loads(path.read_text())["keys"]
    return found


def names_beside(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir())


# Reading


def test_a_file_is_read_with_every_member(path: Path) -> None:
    text = BOTH + REVOKED + EXPIRES + 'max_connections = 2\nchannels = ["candles:BTC-USD:*", "signals:*:1h"]\n'
    assert put(path, text).read() == (
        Key(1, "alice", ALICE_SHA256, datetime(2026, 2, 19, 12, tzinfo=UTC)),
        Key(
            id=2,
            name="bob",
            sha256=BOB_SHA256,
            created=datetime(2026, 2, 19, 13, tzinfo=UTC),
            revoked=datetime(2026, 2, 20, 12, tzinfo=UTC),
            max_connections=2,
            channels=("candles:BTC-USD:*", "signals:*:1h"),
            expires=datetime(2026, 2, 21, 12, tzinfo=UTC),
        ),
    )


@pytest.mark.parametrize("rest", ["", REVOKED])
def test_rows_of_one_name_are_read_if_all_but_one_are_revoked(path: Path, rest: str) -> None:
    text = "next_id = 3\n" + ALICE + REVOKED + BOB.replace("bob", "alice") + rest
    assert [key.name for key in put(path, text).read()] == ["alice", "alice"]


def test_a_file_without_rows_has_no_keys(path: Path) -> None:
    assert put(path, "next_id = 1").read() == ()


def test_a_missing_file_is_refused_by_its_name(path: Path) -> None:
    with pytest.raises(KeyFileError) as refusal:
        KeyFile(path).read()
    assert str(refusal.value) == f"API key file {path} cannot be read: No such file or directory"


def test_a_refused_file_is_a_refused_configuration(path: Path) -> None:
    with pytest.raises(ConfigurationError):
        KeyFile(path).read()


@pytest.mark.parametrize("mode", [0o640, 0o620, 0o610, 0o604, 0o602, 0o601, 0o644, 0o777])
def test_a_file_that_others_can_use_is_refused(path: Path, mode: int) -> None:
    with pytest.raises(KeyFileError, match=f"has mode {mode:04o}, so others can use it: chmod 600 it"):
        put(path, BOTH, mode).read()


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_file_of_its_owner_alone_is_read(path: Path, mode: int) -> None:
    assert len(put(path, BOTH, mode).read()) == 2


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="cannot be read: Is a directory"):
        KeyFile(tmp_path).read()


def test_a_fifo_is_refused_at_once(path: Path) -> None:
    os.mkfifo(path, 0o600)
    with pytest.raises(KeyFileError, match="is not a regular file"):
        KeyFile(path).read()


def test_a_name_with_a_nul_character_is_refused() -> None:
    with pytest.raises(KeyFileError, match="has a NUL character in its name"):
        KeyFile("keys\0.toml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOTH.encode() + b"# \xff", "is not UTF-8"),
        (BOTH + "x", r"is not TOML \(at end of document\)"),
        (f"next_id = 3\n{ALICE_SHA256}\n", r"is not TOML \(at line 2, column 65\)"),
        (f"[{ALICE_SHA256}]\n[{ALICE_SHA256}]\n", r"is not TOML \(at line 2, column 66\)"),
        ("next_id = " + "[" * 100_000, "is not TOML$"),
        ("next_id = " + "9" * 5_000, "is not TOML$"),
        ("\ufeff" + BOTH, r"is not TOML \(at line 1, column 1\)"),
        (f"{ALICE_SHA256} = 1\n" + BOTH, r"has more than next_id and \[\[keys\]\] rows"),
        ("next_id = 3\nkeys = 3", r"has more than next_id and \[\[keys\]\] rows"),
        ("next_id = 3\n[keys]\nid = 1", r"has more than next_id and \[\[keys\]\] rows"),
        ("", "has no next_id"),
        (ALICE, "has no next_id that is a whole number above 0 and above every id"),
        ("next_id = 0", "has no next_id"),
        ("next_id = -1", "has no next_id"),
        ("next_id = true", "has no next_id"),
        ("next_id = 3.0" + ALICE, "has no next_id"),
        ("next_id = 2\n" + ALICE + BOB, "has no next_id"),
        (BOTH.replace("id = 2", "id = 1"), "has two rows with the same id"),
        (BOTH.replace("bob", "alice"), "has two rows with the same name, neither of them revoked"),
        (BOTH.replace("bob", "alice") + EXPIRES, "has two rows with the same name, neither of them revoked"),
        (BOTH.replace(BOB_SHA256, ALICE_SHA256), "has two rows with the same sha256"),
        (f'next_id = 3\nkeys = ["{ALICE_SHA256}"]', "is wrong in row 1: Expected `object`, got `str`"),
        (BOTH + f'{ALICE_SHA256} = "{ALICE_TEXT}"', "has an unknown member or a quoted time in row 2"),
        (BOTH.replace("2026-02-19T13:00:00Z", '"2026-02-19T13:00:00Z"'), "quoted time in row 2"),
        (BOTH + 'revoked = "2026-02-19T13:00:00Z"', "quoted time in row 2"),
        (BOTH.replace("13:00:00Z", "13:00:00"), r"row 2: Expected `datetime` with a timezone.*`\$.created`"),
        (BOTH.replace("13:00:00Z", "13:00:00+01:00"), "row 2: times must be in UTC"),
        (BOTH + 'expires = "2026-02-19T13:00:00Z"', "quoted time in row 2"),
        (BOTH + "expires = 2026-02-19T13:00:00", r"row 2: Expected `datetime` with a timezone.*`\$.expires`"),
        (BOTH + "expires = 2026-02-19T13:00:00+01:00", "row 2: times must be in UTC"),
        (BOTH + "expires = 30", r"row 2: Expected `datetime \| null`, got `int` - at `\$.expires`"),
        (BOTH + "revoked = 2026-02-19", r"row 2: Expected `datetime \| null`, got `date`"),
        (BOTH + "revoked = false", r"row 2: Expected `datetime \| null`, got `bool`"),
        (BOTH.replace("id = 2\n", ""), "row 2: Object missing required field `id`"),
        (BOTH.replace("id = 2\n", "id = 0\n"), r"row 2: Expected `int` >= 1 - at `\$.id`"),
        (BOTH.replace("id = 2\n", "id = -2\n"), r"row 2: Expected `int` >= 1 - at `\$.id`"),
        (BOTH.replace("id = 2\n", "id = 2.0\n"), r"row 2: Expected `int`, got `float` - at `\$.id`"),
        (BOTH.replace("id = 1\n", "id = true\n"), r"row 1: Expected `int`, got `bool` - at `\$.id`"),
        (BOTH.replace('"bob"', '"-bob"'), r"row 2: Expected `str` matching regex .* - at `\$.name`"),
        (BOTH.replace('"bob"', '"bob\\n"'), r"row 2: Expected `str` matching regex .* - at `\$.name`"),
        (BOTH.replace('"bob"', "3"), r"row 2: Expected `str`, got `int` - at `\$.name`"),
        (BOTH.replace(BOB_SHA256, BOB_TEXT), r"row 2: Expected `str` matching regex .* - at `\$.sha256`"),
        (BOTH.replace(BOB_SHA256, BOB_SHA256.upper()), r"row 2: Expected `str` matching regex .*sha256`"),
        (BOTH.replace(BOB_SHA256, BOB_SHA256[1:]), r"row 2: Expected `str` matching regex .*sha256`"),
        (BOTH + "max_connections = 0", r"row 2: Expected `int` >= 1 - at `\$.max_connections`"),
        (BOTH + "max_connections = -5", r"row 2: Expected `int` >= 1 - at `\$.max_connections`"),
        (BOTH + 'max_connections = "5"', r"row 2: Expected `int \| null`, got `str`"),
        (BOTH + 'channels = "candles:*:*"', "row 2: Expected `array`, got `str`"),
        (BOTH + "channels = [1]", r"row 2: Expected `str`, got `int` - at `\$.channels\[0\]`"),
        (BOTH + 'channels = ["a", ""]', r"row 2: Expected `str` of length >= 1 - at `\$.channels\[1\]`"),
    ],
)
def test_a_file_that_is_wrong_anywhere_is_refused_without_its_secrets(path: Path, text: str | bytes, said: str) -> None:
    with pytest.raises(KeyFileError, match=said) as refusal:
        put(path, text).read()
    told = "".join(traceback.format_exception(refusal.value))
    assert str(path) in str(refusal.value)
    assert [secret for secret in (ALICE_SHA256, BOB_SHA256, ALICE_TEXT, BOB_TEXT) if secret in told] == []


# Creating


def test_a_new_key_is_tb_and_256_bits_of_text(path: Path) -> None:
    prefix, random = KeyFile(path).create("alice")[:3], KeyFile(path).create("bob")[3:]
    assert prefix == "tb_"
    assert len(base64.urlsafe_b64decode(random + "=")) == 32


def test_a_key_without_the_prefix_stays_valid(path: Path) -> None:
    found = KeyRing(put(path, BOTH).read()).find(ALICE_TEXT)
    assert found is not None
    assert found.name == "alice"


def test_two_new_keys_are_different(path: Path) -> None:
    assert KeyFile(path).create("alice") != KeyFile(path).create("bob")


def test_the_text_of_a_new_key_is_not_in_the_file(path: Path) -> None:
    text = KeyFile(path).create("alice")
    assert text not in path.read_text()


def test_the_text_of_a_new_key_opens_that_key(path: Path) -> None:
    KeyFile(path).create("alice")
    text = KeyFile(path).create("bob")
    found = KeyRing(KeyFile(path).read()).find(text)
    assert found is not None
    assert found.name == "bob"


def test_a_new_key_is_written_as_a_toml_row(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "token_urlsafe", lambda size: "alice")
    KeyFile(path).create("alice", max_connections=2, channels=["candles:BTC-USD:*"])
    (row,) = rows(path)
    created = row.pop("created")
    assert isinstance(created, datetime)
    assert abs(created - datetime.now(UTC)) < timedelta(minutes=1)
    assert row == {
        "id": 1,
        "name": "alice",
        "sha256": "fbe015b6e3c22ee40052d93b609417eb6bd3ed94b15bd408944b082028a37ff0",
        "max_connections": 2,
        "channels": ["candles:BTC-USD:*"],
    }


def test_a_new_key_without_limits_has_no_members_for_them(path: Path) -> None:
    KeyFile(path).create("alice")
    assert list(rows(path)[0]) == ["id", "name", "sha256", "created"]


def test_a_new_file_is_its_owners_alone_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        KeyFile(path).create("alice")
    finally:
        os.umask(before)
    assert (mode_of(path), mode_of(path.with_name("keys.toml.lock"))) == (0o600, 0o600)


def test_nothing_but_the_lock_file_is_left_beside_the_file(path: Path) -> None:
    KeyFile(path).create("alice")
    assert names_beside(path) == ["keys.toml", "keys.toml.lock"]


def test_ids_count_up_from_1(path: Path) -> None:
    for name in ("a", "b", "c"):
        KeyFile(path).create(name)
    assert [key.id for key in KeyFile(path).read()] == [1, 2, 3]


def test_the_id_of_a_row_that_was_taken_out_is_not_used_again(path: Path) -> None:
    put(path, "next_id = 3\n").create("carol")
    assert [key.id for key in KeyFile(path).read()] == [3]


def test_rows_out_of_order_keep_their_order_and_next_id(path: Path) -> None:
    put(path, "next_id = 3\n" + BOB + ALICE).revoke("bob")
    KeyFile(path).create("carol")
    assert [key.id for key in KeyFile(path).read()] == [2, 1, 3]


@pytest.mark.parametrize("name", ["a", "7", "A.b_c-D", "x" * 64])
def test_a_name_of_plain_characters_is_taken(path: Path, name: str) -> None:
    KeyFile(path).create(name)
    assert KeyFile(path).read()[0].name == name


@pytest.mark.parametrize("name", ["", ".a", "-a", "a b", "a\n", "é", "x" * 65, "\ud800"])
def test_any_other_name_is_refused(path: Path, name: str) -> None:
    with pytest.raises(KeyFileError, match=r"refuses such a key: .* - at `\$.name`"):
        KeyFile(path).create(name)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_1_is_refused(path: Path, limit: int) -> None:
    with pytest.raises(KeyFileError, match=r"refuses such a key: Expected `int` >= 1 .*`\$.max_connections`"):
        KeyFile(path).create("alice", max_connections=limit)


@pytest.mark.parametrize("channel", ["x", "x" * 128, "candles:*:*"])
def test_a_channel_of_1_to_128_characters_is_taken(path: Path, channel: str) -> None:
    KeyFile(path).create("alice", channels=[channel])
    assert KeyFile(path).read()[0].channels == (channel,)


@pytest.mark.parametrize("channel", ["", "x" * 129, "a\nb", "a\n", "\0", "a\x7f", "a\x9f", "a\udc80"])
def test_any_other_channel_is_refused(path: Path, channel: str) -> None:
    with pytest.raises(KeyFileError, match=r"refuses such a key: .* - at `\$.channels\[1\]`"):
        KeyFile(path).create("alice", channels=["candles:*:*", channel])


def test_a_refused_key_leaves_no_file_behind(path: Path) -> None:
    with pytest.raises(KeyFileError):
        KeyFile(path).create("not a name")
    assert names_beside(path) == []


@pytest.mark.parametrize("rest", ["", REVOKED])
def test_a_name_that_is_taken_is_refused_even_after_its_revocation(path: Path, rest: str) -> None:
    file = put(path, BOTH + rest)
    with pytest.raises(KeyFileError, match=r"has a key bob already \(a revoked one keeps its name\)"):
        file.create("bob")
    assert path.read_text() == BOTH + rest


@pytest.mark.parametrize("mode", [0o644, 0o660])
def test_a_file_that_others_can_use_is_not_written(path: Path, mode: int) -> None:
    with pytest.raises(KeyFileError, match="so others can use it"):
        put(path, BOTH, mode).create("carol")
    assert path.read_text() == BOTH


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="cannot be written: No such file or directory"):
        KeyFile(tmp_path / "none" / "keys.toml").create("alice")


def test_a_new_key_may_expire(path: Path) -> None:
    KeyFile(path).create("alice", expires=FAR)
    assert rows(path)[0]["expires"] == FAR
    assert KeyFile(path).read()[0].expires == FAR


@pytest.mark.parametrize(
    ("expires", "problem"),
    [
        (NOON, "it would have expired already"),
        (FAR.replace(tzinfo=None), r"Expected `datetime` with a timezone component - at `\$.expires`"),
        (FAR.replace(tzinfo=timezone(timedelta(hours=1))), "times must be in UTC"),
    ],
)
def test_a_key_that_cannot_expire_so_is_refused(path: Path, expires: datetime, problem: str) -> None:
    with pytest.raises(KeyFileError, match=f"refuses such a key: {problem}$"):
        KeyFile(path).create("alice", expires=expires)
    assert names_beside(path) == []


# Rotating


def test_a_rotated_key_opens_by_its_new_text_alone(path: Path) -> None:
    text = put(path, BOTH).rotate("alice")
    ring = KeyRing(KeyFile(path).read())
    found = ring.find(text)
    assert text.startswith("tb_")
    assert found is not None
    assert found.name == "alice"
    assert ring.find(ALICE_TEXT) is None


def test_a_rotated_key_has_a_new_row_with_the_limits_of_the_old_one(path: Path) -> None:
    limits = 'max_connections = 2\nchannels = ["candles:*:*"]\n'
    put(path, BOTH + limits).rotate("bob")
    _, old, new = KeyFile(path).read()
    assert (old.id, old.name, old.sha256) == (2, "bob", BOB_SHA256)
    assert old.revoked == new.created
    assert (new.id, new.name, new.revoked) == (3, "bob", None)
    assert (new.max_connections, new.channels) == (2, ("candles:*:*",))
    assert abs(new.created - datetime.now(UTC)) < timedelta(minutes=1)


def test_a_key_may_be_rotated_again(path: Path) -> None:
    file = put(path, ALICE_ONLY)
    first, second = file.rotate("alice"), file.rotate("alice")
    ring = KeyRing(file.read())
    assert [row.id for row in file.read()] == [1, 3, 4]
    assert (ring.find(first), [key.id for key in ring.active()]) == (None, [4])
    assert ring.find(second) is not None


def test_a_rotated_key_expires_when_the_old_one_would_have(path: Path) -> None:
    put(path, BOTH + f"expires = {FAR.isoformat()}\n").rotate("bob")
    assert [key.expires for key in KeyFile(path).read()] == [None, FAR, FAR]


def test_a_rotated_key_may_expire_at_another_time(path: Path) -> None:
    put(path, BOTH + f"expires = {FAR.isoformat()}\n").rotate("bob", expires=FAR + timedelta(days=1))
    assert [key.expires for key in KeyFile(path).read()] == [None, FAR, FAR + timedelta(days=1)]


def test_a_key_that_has_expired_is_rotated_only_with_another_time(path: Path) -> None:
    file = put(path, BOTH + EXPIRES)
    with pytest.raises(KeyFileError, match="refuses such a key: it would have expired already"):
        file.rotate("bob")
    assert path.read_text() == BOTH + EXPIRES
    text = file.rotate("bob", expires=FAR)
    assert KeyRing(file.read()).find(text) is not None


@pytest.mark.parametrize("name", ["bob", ALICE_TEXT])
def test_a_key_that_is_not_in_use_is_not_rotated_and_not_repeated(path: Path, name: str) -> None:
    file = put(path, BOTH + REVOKED)
    with pytest.raises(KeyFileError) as refusal:
        file.rotate(name)
    assert str(refusal.value) == f"API key file {path} has no active key of that name"
    assert path.read_text() == BOTH + REVOKED


@pytest.mark.parametrize("change", ["rotate", "revoke", "withdraw"])
def test_a_change_in_a_missing_file_leaves_no_file_behind(path: Path, change: str) -> None:
    with pytest.raises(KeyFileError, match="cannot be read: No such file or directory"):
        getattr(KeyFile(path), change)("alice")
    assert names_beside(path) == []


# Withdrawing


def test_a_withdrawn_key_leaves_no_row_and_its_id_is_not_used_again(path: Path) -> None:
    file = put(path, BOTH)
    text = file.create("carol")
    file.withdraw("carol")
    assert [key.name for key in file.read()] == ["alice", "bob"]
    assert KeyRing(file.read()).find(text) is None
    file.create("carol")
    assert [key.id for key in file.read()] == [1, 2, 4]


def test_the_only_key_of_a_file_may_be_withdrawn(path: Path) -> None:
    file = KeyFile(path)
    file.create("alice")
    file.withdraw("alice")
    assert file.read() == ()


def test_a_withdrawn_rotation_makes_the_old_key_valid_again(path: Path) -> None:
    file = put(path, BOTH)
    before = file.read()
    file.rotate("alice")
    file.withdraw("alice")
    assert file.read() == before


def test_a_withdrawn_rotation_leaves_earlier_rotations_as_they_are(path: Path) -> None:
    file = put(path, ALICE_ONLY)
    first = file.rotate("alice")
    before = file.read()
    file.rotate("alice")
    file.withdraw("alice")
    assert file.read() == before
    assert KeyRing(before).find(first) is not None


def test_an_unknown_name_is_not_withdrawn_and_not_repeated(path: Path) -> None:
    file = put(path, BOTH + REVOKED)
    with pytest.raises(KeyFileError) as refusal:
        file.withdraw("bob")
    assert str(refusal.value) == f"API key file {path} has no active key of that name"


# Revoking


def test_a_revoked_row_stays_and_has_the_time(path: Path) -> None:
    put(path, BOTH).revoke("alice")
    alice, bob = KeyFile(path).read()
    assert alice.revoked is not None
    assert abs(alice.revoked - datetime.now(UTC)) < timedelta(minutes=1)
    assert (alice.id, alice.name, alice.sha256, alice.created) == (1, "alice", ALICE_SHA256, NOON)
    assert bob.revoked is None


def test_an_unknown_name_is_not_revoked_and_not_repeated(path: Path) -> None:
    file = put(path, BOTH)
    with pytest.raises(KeyFileError) as refusal:
        file.revoke(ALICE_TEXT)
    assert str(refusal.value) == f"API key file {path} has no active key of that name"


def test_a_revoked_key_is_not_revoked_again(path: Path) -> None:
    file = put(path, BOTH + REVOKED)
    with pytest.raises(KeyFileError, match="has no active key of that name"):
        file.revoke("bob")
    assert path.read_text() == BOTH + REVOKED


# How the file is replaced


def test_the_file_is_replaced_whole_and_never_written_in_place(path: Path) -> None:
    file = put(path, BOTH)
    with path.open() as opened_before:
        file.create("carol")
        assert opened_before.read() == BOTH


def test_the_content_reaches_the_disk_before_the_name_and_the_name_before_the_return(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    sync, rename = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        steps.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "content")
        sync(descriptor)

    def replace(old: Path, new: Path) -> None:
        steps.append("name")
        rename(old, new)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    KeyFile(path).create("alice")
    assert steps == ["content", "name", "directory"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    file = put(path, BOTH)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(KeyFileError, match="cannot be written: No space left on device"):
        file.create("carol")
    assert path.read_text() == BOTH
    assert names_beside(path) == ["keys.toml", "keys.toml.lock"]


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o700])
def test_the_mode_of_the_file_is_kept(path: Path, mode: int) -> None:
    put(path, BOTH, mode).create("carol")
    assert mode_of(path) == mode


def test_the_owner_and_the_group_of_the_file_are_kept(path: Path) -> None:
    file = put(path, BOTH)
    try:
        os.chown(path, 12345, 23456)
    except OSError:
        pytest.skip("only root gives files away")
    file.create("carol")
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 23456)


def test_an_owner_that_cannot_be_kept_is_no_obstacle(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, owner: int, group: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refuse)
    put(path, BOTH).create("carol")
    assert (mode_of(path), len(KeyFile(path).read())) == (0o600, 3)


def test_the_target_of_a_symbolic_link_is_replaced(tmp_path: Path, path: Path) -> None:
    put(path, BOTH)
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link.toml"
    link.symlink_to(path)
    KeyFile(link).create("carol")
    assert link.is_symlink()
    assert [row["name"] for row in rows(path)] == ["alice", "bob", "carol"]
    assert names_beside(link) == ["link.toml"]


def test_the_missing_target_of_a_symbolic_link_is_made(tmp_path: Path, path: Path) -> None:
    link = tmp_path / "link.toml"
    link.symlink_to(path)
    KeyFile(link).create("alice")
    assert mode_of(path) == 0o600


def test_a_symbolic_link_to_itself_is_refused(path: Path) -> None:
    path.symlink_to(path)
    with pytest.raises(KeyFileError, match="cannot be written: Too many levels of symbolic links"):
        KeyFile(path).create("alice")


# Several writers

WRITER = """
import sys
from tornado_bridge.key_file import KeyFile
print("ready", flush=True)
sys.stdin.readline()
for number in range(25):
    KeyFile(sys.argv[1]).create(f"{sys.argv[2]}-{number}")
"""

KILLED_WRITER = """
import os, signal, sys
from tornado_bridge.key_file import KeyFile
os.replace = lambda *names: os.kill(os.getpid(), signal.SIGKILL)
KeyFile(sys.argv[1]).create("carol")
"""


@contextlib.contextmanager
def writer(path: Path, prefix: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that stands before its first write until a line is sent to it."""
    command = [sys.executable, "-c", WRITER, str(path), prefix]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process
        assert process.wait(60) == 0


def test_two_processes_that_write_at_once_lose_nothing(path: Path) -> None:
    with writer(path, "a") as one, writer(path, "b") as other:
        for process in (one, other):
            assert process.stdin is not None
            process.stdin.write(b"go\n")
            process.stdin.flush()
    found = KeyFile(path).read()
    assert [key.id for key in found] == list(range(1, 51))
    assert {key.name for key in found} == {f"{prefix}-{number}" for prefix in "ab" for number in range(25)}


def test_what_a_killed_writer_leaves_harms_nobody(path: Path) -> None:
    file = put(path, BOTH)
    killed = subprocess.run([sys.executable, "-c", KILLED_WRITER, str(path)], timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(names_beside(path)) == 3, "keys.toml, its lock and a temporary file"
    file.create("carol")
    assert [key.name for key in file.read()] == ["alice", "bob", "carol"]


def test_a_writer_waits_for_the_lock(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    with path.with_name("keys.toml.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)

        def release(seconds: float) -> None:
            waits.append(seconds)
            fcntl.flock(held, fcntl.LOCK_UN)

        monkeypatch.setattr(time, "sleep", release)
        KeyFile(path).create("alice")
    assert waits == [0.02]


def test_a_writer_waits_no_longer_than_10_seconds() -> None:
    assert key_file.LOCK_TIMEOUT == 10.0


def test_a_lock_that_stays_is_an_error_that_names_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_file, "LOCK_TIMEOUT", 0.05)
    with path.with_name("keys.toml.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(KeyFileError) as refusal:
            KeyFile(path).create("alice")
    assert str(refusal.value) == f"API key file {path} cannot be written: another writer holds {path}.lock"
    assert not path.exists()


def test_a_lock_file_that_is_a_symbolic_link_is_not_followed(tmp_path: Path, path: Path) -> None:
    path.with_name("keys.toml.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(KeyFileError, match="cannot be written: Too many levels of symbolic links"):
        KeyFile(path).create("alice")
    assert not (tmp_path / "victim").exists()


# The watch


def refresh(watch: KeyWatch) -> None:
    asyncio.run(watch.refresh())


def remove(path: Path) -> None:
    path.unlink()


def taken(log_lines: LogLines) -> list[dict[str, object]]:
    """Take all log lines, without their levels."""
    return [
        {name: value for name, value in log_lines.take(line["event"]).items() if name != "log_level"}
        for line in log_lines.all()
    ]


def read_anew(keys: int, lost: int) -> dict[str, object]:
    return {"event": "key file read anew", "keys": keys, "lost": lost}


def problem(path: Path, text: str) -> dict[str, object]:
    return {"event": "key file cannot be used: the keys stay as they were", "cause": f"API key file {path} {text}"}


@pytest.fixture
def parsing_threads(monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """The thread of each parsing of a TOML document."""
    threads: list[threading.Thread] = []
    loads = tomllib.loads

    def noting(text: str) -> dict[str, object]:
        threads.append(threading.current_thread())
        return loads(text)

    monkeypatch.setattr(tomllib, "loads", noting)
    return threads


def test_a_watch_has_the_ring_of_its_file_from_the_start(path: Path) -> None:
    known: Keys = KeyWatch(put(path, BOTH))
    assert known.ring.find(BOB_TEXT) == Key(2, "bob", BOB_SHA256, datetime(2026, 2, 19, 13, tzinfo=UTC))


def test_a_watch_does_not_start_with_a_file_that_is_wrong(path: Path) -> None:
    with pytest.raises(KeyFileError, match="No such file"):
        KeyWatch(KeyFile(path))


@pytest.mark.gen_test
async def test_a_file_that_has_not_changed_is_not_opened(path: Path, log_lines: LogLines) -> None:
    watch = KeyWatch(put(path, BOTH))
    with no_descriptor_left():
        await watch.refresh()
    assert taken(log_lines) == []


@pytest.mark.gen_test
async def test_a_new_key_is_found(path: Path, log_lines: LogLines) -> None:
    watch = KeyWatch(put(path, BOTH))
    text = KeyFile(path).create("carol")
    await watch.refresh()
    found = watch.ring.find(text)
    assert found is not None
    assert found.name == "carol"
    assert taken(log_lines) == [read_anew(keys=3, lost=0)]


@pytest.mark.gen_test
async def test_a_change_is_logged_once(path: Path, log_lines: LogLines) -> None:
    watch = KeyWatch(put(path, BOTH))
    KeyFile(path).create("carol")
    await watch.refresh()
    ring = watch.ring
    await watch.refresh()
    assert watch.ring is ring
    assert taken(log_lines) == [read_anew(keys=3, lost=0)]


@pytest.mark.gen_test
async def test_a_revoked_key_is_lost(path: Path, log_lines: LogLines) -> None:
    watch = KeyWatch(put(path, BOTH))
    KeyFile(path).revoke("bob")
    await watch.refresh()
    assert watch.ring.find(BOB_TEXT) is None
    assert taken(log_lines) == [read_anew(keys=1, lost=1)]


@pytest.mark.gen_test
async def test_a_key_that_was_revoked_before_is_not_lost_again(path: Path, log_lines: LogLines) -> None:
    watch = KeyWatch(put(path, BOTH + REVOKED))
    put(path, ALICE_ONLY)
    await watch.refresh()
    assert taken(log_lines) == [read_anew(keys=1, lost=0)]


def test_another_file_of_the_same_size_and_time_is_noticed(path: Path) -> None:
    watch = KeyWatch(put(path, ALICE_ONLY))
    before = path.stat()
    other = path.with_name("other.toml")
    put(other, ALICE_ONLY.replace(ALICE_SHA256, BOB_SHA256))
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    refresh(watch)
    assert watch.ring.find(BOB_TEXT) is not None


def test_a_write_in_place_that_sets_the_time_back_is_noticed(path: Path) -> None:
    watch = KeyWatch(put(path, ALICE_ONLY))
    before = path.stat()
    # The kernel's clock moves in steps of some milliseconds.
    while path.stat().st_ctime_ns == before.st_ctime_ns:
        put(path, ALICE_ONLY.replace(ALICE_SHA256, BOB_SHA256))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    refresh(watch)
    assert watch.ring.find(BOB_TEXT) is not None


@pytest.mark.gen_test
async def test_a_key_expires_by_the_clock_of_the_watch(path: Path) -> None:
    now = NOON
    watch = KeyWatch(put(path, BOTH + EXPIRES), lambda: now)
    assert watch.ring.find(BOB_TEXT) is not None
    now = datetime(2026, 2, 21, 12, tzinfo=UTC)
    assert watch.ring.find(BOB_TEXT) is None
    put(path, BOTH + EXPIRES + "max_connections = 3\n")
    await watch.refresh()
    assert watch.ring.find(BOB_TEXT) is None


@pytest.mark.gen_test
async def test_a_changed_file_is_parsed_in_another_thread(path: Path, parsing_threads: list[threading.Thread]) -> None:
    watch = KeyWatch(put(path, BOTH))
    KeyFile(path).create("carol")
    parsing_threads.clear()
    await watch.refresh()
    assert len(parsing_threads) == 1
    assert parsing_threads[0] is not threading.current_thread()


@pytest.mark.gen_test
async def test_two_refreshes_at_once_read_a_change_once(
    path: Path, parsing_threads: list[threading.Thread], log_lines: LogLines
) -> None:
    watch = KeyWatch(put(path, BOTH))
    KeyFile(path).create("carol")
    parsing_threads.clear()
    await asyncio.gather(watch.refresh(), watch.refresh())
    assert len(parsing_threads) == 1
    assert taken(log_lines) == [read_anew(keys=3, lost=0)]


@pytest.mark.gen_test
async def test_a_change_is_not_lost_with_a_refresh_that_is_cancelled(path: Path, log_lines: LogLines) -> None:
    watch = KeyWatch(put(path, BOTH))
    KeyFile(path).revoke("bob")
    refreshing = asyncio.create_task(watch.refresh())
    # It has read the file, and waits for the thread that parses it.
    await asyncio.sleep(0)
    refreshing.cancel()
    await asyncio.wait([refreshing])
    assert refreshing.cancelled()
    await watch.refresh()
    assert watch.ring.find(BOB_TEXT) is None
    assert taken(log_lines) == [read_anew(keys=1, lost=1)]


# Files that cannot be used


def test_a_file_that_vanished_is_a_problem_and_the_ring_stays(path: Path, log_lines: LogLines) -> None:
    watch = KeyWatch(put(path, BOTH))
    before = watch.ring
    path.unlink()
    refresh(watch)
    assert watch.ring is before
    assert taken(log_lines) == [problem(path, "cannot be read: No such file or directory")]


def test_a_file_that_others_can_use_from_now_on_is_a_problem(path: Path, log_lines: LogLines) -> None:
    watch = KeyWatch(put(path, BOTH))
    path.chmod(0o644)
    refresh(watch)
    assert watch.ring.find(ALICE_TEXT) is not None
    assert taken(log_lines) == [problem(path, "has mode 0644, so others can use it: chmod 600 it")]


@pytest.mark.gen_test
async def test_a_problem_is_logged_once_and_as_an_error(path: Path, log_lines: LogLines) -> None:
    watch = KeyWatch(put(path, BOTH))
    put(path, "garbage")
    await watch.refresh()
    await watch.refresh()
    assert [line["log_level"] for line in log_lines.all()] == ["error"]
    assert taken(log_lines) == [problem(path, "is not TOML (at end of document)")]


@pytest.mark.gen_test
async def test_an_invalid_file_is_parsed_once(
    path: Path, parsing_threads: list[threading.Thread], log_lines: LogLines
) -> None:
    watch = KeyWatch(put(path, BOTH))
    put(path, "garbage")
    parsing_threads.clear()
    for _ in range(3):
        await watch.refresh()
    assert len(parsing_threads) == 1
    taken(log_lines)


@pytest.mark.gen_test
async def test_the_same_problem_of_a_file_that_changes_is_logged_once(path: Path, log_lines: LogLines) -> None:
    watch = KeyWatch(put(path, BOTH))
    put(path, "garbage = 1")
    await watch.refresh()
    put(path, "other_garbage = 1")
    await watch.refresh()
    assert taken(log_lines) == [problem(path, "has more than next_id and [[keys]] rows")]


def test_another_problem_is_logged(path: Path, log_lines: LogLines) -> None:
    watch = KeyWatch(put(path, BOTH))
    put(path, "garbage")
    refresh(watch)
    path.unlink()
    refresh(watch)
    assert taken(log_lines) == [
        problem(path, "is not TOML (at end of document)"),
        problem(path, "cannot be read: No such file or directory"),
    ]


@pytest.mark.gen_test
async def test_the_end_of_a_problem_is_logged_with_what_was_lost_meanwhile(path: Path, log_lines: LogLines) -> None:
    watch = KeyWatch(put(path, BOTH))
    put(path, "garbage")
    await watch.refresh()
    put(path, ALICE_ONLY)
    await watch.refresh()
    await watch.refresh()
    assert taken(log_lines) == [problem(path, "is not TOML (at end of document)"), read_anew(keys=1, lost=1)]


def test_a_file_that_comes_back_as_it_was_ends_its_problem(path: Path, log_lines: LogLines) -> None:
    watch = KeyWatch(put(path, BOTH))
    aside = path.with_name("aside.toml")
    path.rename(aside)
    refresh(watch)
    aside.rename(path)
    refresh(watch)
    assert taken(log_lines) == [
        problem(path, "cannot be read: No such file or directory"),
        read_anew(keys=2, lost=0),
    ]


@pytest.mark.gen_test
async def test_a_file_that_could_not_be_opened_is_tried_again_although_it_stays_the_same(
    path: Path, log_lines: LogLines
) -> None:
    watch = KeyWatch(put(path, BOTH))
    KeyFile(path).revoke("bob")
    # Below the number of the spare descriptor, so that it is of no help.
    with no_descriptor_left():
        await watch.refresh()
    await watch.refresh()
    assert watch.ring.find(BOB_TEXT) is None
    assert taken(log_lines) == [problem(path, "cannot be read: Too many open files"), read_anew(keys=1, lost=1)]


# Files that are still being written

THREE = (
    BOTH.replace("next_id = 3", "next_id = 4")
    + f"""
[[keys]]
id = 3
name = "carol"
sha256 = "{"c" * 64}"
created = 2026-02-19T14:00:00Z
"""
)
ONE_OF_THREE = "next_id = 4\n" + ALICE


def test_the_second_look_comes_after_300_ms() -> None:
    assert key_file.SECOND_LOOK == 0.3


@pytest.mark.gen_test
async def test_a_file_that_lost_more_than_half_of_its_keys_is_used_if_it_stays_the_same(
    path: Path, log_lines: LogLines
) -> None:
    watch = KeyWatch(put(path, THREE))
    put(path, ONE_OF_THREE)
    began = time.monotonic()
    await watch.refresh()
    assert time.monotonic() - began >= 0.3
    assert [key.name for key in watch.ring.active()] == ["alice"]
    assert taken(log_lines) == [read_anew(keys=1, lost=2)]


@pytest.mark.gen_test
async def test_a_file_of_which_a_part_was_written_is_used_once_it_is_whole(path: Path, log_lines: LogLines) -> None:
    watch = KeyWatch(put(path, THREE))
    before = watch.ring
    put(path, ONE_OF_THREE)
    refreshing = asyncio.create_task(watch.refresh())
    # It has read the file.
    await asyncio.sleep(0)
    put(path, THREE.replace("carol", "dave"))
    await refreshing
    assert watch.ring is before
    assert taken(log_lines) == []
    await watch.refresh()
    assert [key.name for key in watch.ring.active()] == ["alice", "bob", "dave"]
    assert taken(log_lines) == [read_anew(keys=3, lost=0)]


@pytest.mark.gen_test
async def test_a_file_that_lost_half_of_its_keys_is_used_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_file, "SECOND_LOOK", 3600.0)
    watch = KeyWatch(put(path, BOTH))
    put(path, ALICE_ONLY)
    await watch.refresh()
    assert watch.ring.find(BOB_TEXT) is None


@pytest.mark.gen_test
async def test_a_file_whose_only_key_is_revoked_is_used_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_file, "SECOND_LOOK", 3600.0)
    watch = KeyWatch(put(path, ALICE_ONLY))
    KeyFile(path).revoke("alice")
    await watch.refresh()
    assert watch.ring.active() == []


@pytest.mark.gen_test
async def test_a_file_that_vanishes_before_the_second_look_is_a_problem(path: Path, log_lines: LogLines) -> None:
    watch = KeyWatch(put(path, THREE))
    before = watch.ring
    put(path, ONE_OF_THREE)
    refreshing = asyncio.create_task(watch.refresh())
    await asyncio.sleep(0)
    remove(path)
    await refreshing
    assert watch.ring is before
    assert taken(log_lines) == [problem(path, "cannot be read: No such file or directory")]


# Without a descriptor left

CROWDED = """
import asyncio, os, resource, sys
import structlog
from tornado_bridge.key_file import KeyFile, KeyWatch

structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))

async def main():
    watch = KeyWatch(KeyFile(sys.argv[1]))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    try:
        while True:
            os.open(os.devnull, os.O_RDONLY)
    except OSError:
        pass
    for _ in range(2):
        print("crowded", flush=True)
        sys.stdin.readline()
        await watch.refresh()
        print(*(key.name for key in watch.ring.active()), flush=True)

asyncio.run(main())
"""


def test_a_revocation_is_noticed_while_the_process_has_no_descriptor_left(path: Path) -> None:
    file = put(path, BOTH)
    file.create("carol")
    command = [sys.executable, "-c", CROWDED, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for name, active in (("bob", "alice carol\n"), ("carol", "alice\n")):
            assert process.stdout.readline() == "crowded\n"
            file.revoke(name)
            process.stdin.write("go\n")
            process.stdin.flush()
            assert process.stdout.readline() == active
    assert process.returncode == 0


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no /proc on this machine")
def test_a_watch_gives_its_descriptor_back(path: Path) -> None:
    before = descriptors()
    watch = KeyWatch(put(path, BOTH))
    assert descriptors() == before + 1
    del watch
    assert descriptors() == before

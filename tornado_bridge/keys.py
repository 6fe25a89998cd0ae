"""API keys as their TOML file holds them.

A key's text is 256 random bits, shown once; the file has its SHA-256 alone. A fast digest is enough for what
nobody can guess, and a look-up by digest takes no longer for a text that is nearly right.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import stat
import time
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Annotated, Protocol, Self

import msgspec
import tomli_w

from tornado_bridge.errors import ConfigurationError

LOCK_TIMEOUT = 10.0  # seconds that a writer waits for another one

# docs/protocol.md section 2 has the 128; neither a control character nor a surrogate is in any channel.
_CHANNEL = msgspec.Meta(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f-\x9f\ud800-\udfff]*\Z")


@dataclass(frozen=True, slots=True, repr=False)
class Key:
    """One `[[keys]]` row, times in UTC; no `channels` means all, no `max_connections` the server's limit."""

    id: Annotated[int, msgspec.Meta(ge=1)]
    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
    created: Annotated[datetime, msgspec.Meta(tz=True)]
    revoked: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    max_connections: Annotated[int, msgspec.Meta(ge=1)] | None = None
    channels: tuple[Annotated[str, _CHANNEL], ...] = ()

    def __post_init__(self) -> None:
        if self.created.utcoffset() or (self.revoked and self.revoked.utcoffset()):
            raise ValueError("times must be in UTC")

    def __repr__(self) -> str:
        return f"Key(id={self.id}, name={self.name!r})"

    @property
    def active(self) -> bool:
        """Whether the key opens anything; one whose `revoked` lies in the future does not either."""
        return self.revoked is None


class KeyFileError(ConfigurationError):
    """A key file that cannot be used, or a change that it does not take; nothing secret is in its text."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"API key file {path} {problem}")


class KeyFile:
    """The file of keys at `path`, open to its owner alone; a symbolic link stands for its target.

    Every method raises KeyFileError for a file that is wrong anywhere, and those that write also when other
    writers have held `PATH.lock` for 10 seconds.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if "\0" in str(self.path):
            raise KeyFileError(self.path, "has a NUL character in its name")

    def read(self) -> tuple[Key, ...]:
        """Return all keys, revoked ones too."""
        with self._naming("read"):
            return tuple(_load(self.path)[1])

    def create(self, name: str, max_connections: int | None = None, channels: Sequence[str] = ()) -> str:
        """Add a key and return its text, which is kept nowhere; makes a missing file, with mode 0600.

        Raises KeyFileError for a name that is taken (also by a revoked key) or breaks its pattern, a limit
        below 1, and a channel that is not 1 to 128 characters or has control characters.
        """
        text = secrets.token_urlsafe(32)
        new = Key(1, name, _digest(text), datetime.now(UTC), None, max_connections, tuple(channels))
        try:
            msgspec.convert(asdict(new), Key)
        except msgspec.ValidationError as error:
            raise KeyFileError(self.path, f"takes no such key: {error}") from None
        with self._changing() as (next_id, keys):
            if any(key.name == name for key in keys):
                raise KeyFileError(self.path, f"has a key {name} already (a revoked one keeps its name)")
            keys.append(replace(new, id=next_id))
        return text

    def revoke(self, name: str) -> None:
        """Mark a key as revoked, for ever; raises KeyFileError if no active one has that name."""
        # A missing file is refused here, before a lock file is made beside it.
        self.read()
        with self._changing() as (_, keys):
            index = self._index(name, keys)
            keys[index] = replace(keys[index], revoked=datetime.now(UTC))

    def withdraw(self, name: str) -> None:
        """Undo the last `create` of a name, for a key whose text could not be shown to anyone.

        The row is removed, so the name is free again. Its id is not reused. Raises KeyFileError if no active key has
        that name.
        """
        self.read()
        with self._changing() as (_, keys):
            del keys[self._index(name, keys)]

    def _index(self, name: str, keys: Sequence[Key]) -> int:
        for index, key in enumerate(keys):
            if key.name == name and key.active:
                return index
        # Without the name: what was given for one may be the key itself.
        raise KeyFileError(self.path, "has no active key of that name")

    @contextlib.contextmanager
    def _changing(self) -> Iterator[tuple[int, list[Key]]]:
        # The target's lock, so that writers who come by different links meet.
        target = Path(os.path.realpath(self.path))
        with self._naming("written"), open(f"{target}.lock", "ab", opener=_open_private) as lock:
            _wait_for(lock, self.path)
            try:
                next_id, keys, old = _load(target)
            except FileNotFoundError:
                next_id, keys, old = 1, [], None
            yield next_id, keys
            _replace(target, max([next_id, *(key.id + 1 for key in keys)]), keys, old)

    @contextlib.contextmanager
    def _naming(self, done: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise KeyFileError(self.path, f"cannot be {done}: {error.strerror}") from error


class KeyRing:
    """The keys in memory, by digest and by id."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self._by_id = {key.id: key for key in keys}
        self._active = {key.sha256: key for key in self._by_id.values() if key.active}

    @classmethod
    def single(cls, name: str, text: str) -> Self:
        """Make a ring of one key without a file; raises ConfigurationError for an empty text."""
        if not text:
            raise ConfigurationError(f"the API key {name} is empty")
        return cls([Key(1, name, _digest(text), datetime.now(UTC))])

    def find(self, text: str) -> Key | None:
        """Return the active key that `text` is."""
        return self._active.get(_digest(text))

    def get(self, id: int) -> Key | None:
        """Return the key of that id, be it active or not."""
        return self._by_id.get(id)

    def lost_in(self, later: "KeyRing") -> tuple[int, ...]:
        """Return the ids active here whose key `later` has as revoked, with another digest, or not at all."""
        kept = {(key.id, key.sha256) for key in later._active.values()}
        return tuple(key.id for key in self._active.values() if (key.id, key.sha256) not in kept)


@dataclass(frozen=True, slots=True)
class Change:
    """What a poll found: the ring that holds now (the last good one), whose key was lost, what is wrong."""

    ring: KeyRing
    revoked: tuple[int, ...]
    problem: str | None


class Keys(Protocol):
    """Where a bridge has its keys from."""

    @property
    def ring(self) -> KeyRing:
        """The keys that hold now."""

    def poll(self) -> Change | None:
        """Look for a change; it runs in the event loop, so it may not wait."""


@dataclass(frozen=True)
class FixedKeys:
    """Keys that never change."""

    ring: KeyRing

    def poll(self) -> None:
        """Find nothing."""


class KeyWatch:
    """The keys of a file that others write; raises KeyFileError for one that is wrong at the start."""

    def __init__(self, file: KeyFile) -> None:
        self._problem: str | None = None
        # The state before the content: a write between the two is then found by the next poll.
        self._file, self._seen = file, _state(file.path)
        self.ring = KeyRing(file.read())

    def poll(self) -> Change | None:
        """Return what has changed in the file; a problem is told once, and its end as a change without."""
        seen = _state(self._file.path)
        # A problem need not be the file's (no descriptor left, say): it may end while the state is the same.
        if seen == self._seen and self._problem is None:
            return None
        before, known, self._seen = self.ring, self._problem, seen
        try:
            self.ring, self._problem = KeyRing(self._file.read()), None
        except KeyFileError as error:
            self._problem = str(error)
            if self._problem == known:
                return None
        return Change(self.ring, before.lost_in(self.ring), self._problem)


def _digest(text: str) -> str:
    # A surrogate, which UTF-8 cannot have, makes the digest of no key.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _state(path: Path) -> tuple[int, ...] | None:
    with contextlib.suppress(OSError):
        found = os.stat(path)
        # The time of change as well: a writer can set that of modification back.
        return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_mode
    return None


def _load(path: Path) -> tuple[int, list[Key], os.stat_result]:
    # Without O_NONBLOCK the opening of a FIFO waits for its writer, in a server for ever.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise KeyFileError(path, "is not a regular file")
        if (mode := stat.S_IMODE(found.st_mode)) & 0o077:
            raise KeyFileError(path, f"has mode {mode:04o}, so others can use it: chmod 600 it")
        return *_parse(path, file.read()), found


def _parse(path: Path, raw: bytes) -> tuple[int, list[Key]]:
    try:
        document = tomllib.loads(raw.decode())
    except UnicodeDecodeError:
        raise KeyFileError(path, "is not UTF-8") from None
    except (ValueError, RecursionError) as error:
        # Only where it is: the rest of tomllib's text may quote the file, and so a digest.
        place = re.search(r" \(at [a-z0-9, ]+\)", str(error))
        raise KeyFileError(path, f"is not TOML{place[0] if place else ''}") from None
    rows, next_id = document.get("keys", []), document.get("next_id")
    if not document.keys() <= {"next_id", "keys"} or not isinstance(rows, list):
        raise KeyFileError(path, "has more than next_id and [[keys]] rows")
    keys: list[Key] = []
    members = {member.name for member in fields(Key)}
    for number, row in enumerate(rows, 1):
        try:
            keys.append(msgspec.convert(row, Key))
        except msgspec.ValidationError as error:
            raise KeyFileError(path, f"is wrong in row {number}: {error}") from None
        # msgspec reads a time from text too, and a dataclass takes members that it does not have.
        if not row.keys() <= members or str in {type(row["created"]), type(row.get("revoked"))}:
            raise KeyFileError(path, f"has an unknown member or a quoted time in row {number}")
    for member in ("id", "name", "sha256"):
        if len({row[member] for row in rows}) < len(rows):
            raise KeyFileError(path, f"has two rows with the same {member}")
    if type(next_id) is not int or next_id < 1 or any(key.id >= next_id for key in keys):
        raise KeyFileError(path, "has no next_id that is a whole number above 0 and above every id")
    return next_id, keys


def _open_private(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_NOFOLLOW, 0o600)


def _wait_for(lock: IO[bytes], path: Path) -> None:
    deadline = time.monotonic() + LOCK_TIMEOUT
    while time.monotonic() < deadline:
        with contextlib.suppress(BlockingIOError):
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(0.02)
    raise KeyFileError(path, f"cannot be written: another writer holds {lock.name}")


def _replace(target: Path, next_id: int, keys: list[Key], old: os.stat_result | None) -> None:
    rows = [{name: value for name, value in asdict(key).items() if value not in (None, ())} for key in keys]
    text = "# Comments are lost at the next write.\n" + tomli_w.dumps({"next_id": next_id, "keys": rows})
    temporary = target.with_name(f"{target.name}.{secrets.token_hex(8)}.tmp")
    with contextlib.ExitStack() as last:
        directory = os.open(target.parent, os.O_RDONLY)
        last.callback(os.close, directory)
        file = last.enter_context(open(temporary, "xb", opener=_open_private))
        last.callback(temporary.unlink, missing_ok=True)
        if old is not None:
            with contextlib.suppress(OSError):
                os.fchown(file.fileno(), old.st_uid, old.st_gid)
            os.fchmod(file.fileno(), stat.S_IMODE(old.st_mode))
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())
        os.replace(temporary, target)
        os.fsync(directory)

"""The TOML file of API keys: written by commands, and watched by a running server."""

import asyncio
import contextlib
import errno
import fcntl
import os
import secrets
import stat
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import IO

import msgspec
import structlog
import tomli_w

from tornado_bridge.errors import ConfigurationError
from tornado_bridge.excerpts import toml_place
from tornado_bridge.keys import Key, KeyRing, digest, utc_now

log = structlog.get_logger(__name__)

# How the text of a new key begins, so that people and secret scanners recognise one. Keys of any other form stay valid.
PREFIX = "tb_"

# Seconds that a writer waits for another one.
LOCK_TIMEOUT = 10.0

# A file that was only half copied can be valid TOML. One that lacks the rows of more than half of the active keys is
# read again after this many seconds, and used if it is still the same. A revoked key keeps its row.
SECOND_LOOK = 0.3

_MEMBERS = {member.name for member in fields(Key)}
_TIMES = ("created", "revoked", "expires")


class KeyFileError(ConfigurationError):
    """A key file that cannot be used, or a change that it refuses. The text holds no secret."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"API key file {path} {problem}")


class KeyFile:
    """The key file at `path`, which only its owner may read or write. A symbolic link stands for its target.

    Every method raises KeyFileError if any part of the file is invalid. Methods that write also raise it if other
    writers have held `PATH.lock` for 10 seconds. Ids count up and are never used again.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if "\0" in str(self.path):
            raise KeyFileError(self.path, "has a NUL character in its name")

    def read(self) -> tuple[Key, ...]:
        """Return all keys, including revoked ones."""
        with self._naming("read"):
            return tuple(_parse(self.path, _contents(self.path)[1])[1])

    def create(
        self,
        name: str,
        max_connections: int | None = None,
        channels: Sequence[str] = (),
        expires: datetime | None = None,
    ) -> str:
        """Add a key and return its text, which is stored nowhere. A missing file is made, with mode 0600.

        Raises KeyFileError for a name that any row has, also a revoked one, for an invalid name, for a limit below 1,
        for a channel that is not 1 to 128 characters or has control characters, and for a time to expire that has
        passed or is not in UTC.
        """
        text, new = self._new(name, max_connections, tuple(channels), expires)
        with self._changing() as (next_id, keys):
            if any(key.name == name for key in keys):
                raise KeyFileError(self.path, f"has a key {name} already (a revoked one keeps its name)")
            keys.append(replace(new, id=next_id))
        return text

    def rotate(self, name: str, expires: datetime | None = None) -> str:
        """Replace a key by a new one of the same name, limits and channels, and return the new text.

        The old key is revoked and keeps its row. The new one expires when the old one would have, unless `expires` is
        given. Raises KeyFileError if no key of that name is in use, and if the new one would have expired already.
        """
        # A missing file is refused here, before a lock file is made beside it.
        self.read()
        with self._changing() as (next_id, keys):
            index = self._index(name, keys)
            old = keys[index]
            text, new = self._new(name, old.max_connections, old.channels, expires or old.expires)
            # The same time in both rows lets `withdraw` find the old one.
            keys[index] = replace(old, revoked=new.created)
            keys.append(replace(new, id=next_id))
        return text

    def revoke(self, name: str) -> None:
        """Revoke a key for ever; raises KeyFileError if no key of that name is in use."""
        self.read()
        with self._changing() as (_, keys):
            index = self._index(name, keys)
            keys[index] = replace(keys[index], revoked=utc_now())

    def withdraw(self, name: str) -> None:
        """Undo the last `create` or `rotate` of a name, for a new key whose text could not be shown to anyone.

        The new row is removed. After `rotate` the old key is valid again. Raises KeyFileError if no key of that name
        is in use.
        """
        self.read()
        with self._changing() as (_, keys):
            withdrawn = keys.pop(self._index(name, keys))
            for index, key in enumerate(keys):
                if key.name == name and key.revoked == withdrawn.created:
                    keys[index] = replace(key, revoked=None)

    def _new(
        self, name: str, max_connections: int | None, channels: tuple[str, ...], expires: datetime | None
    ) -> tuple[str, Key]:
        """Return the text of a new key, and its row with an id to be replaced."""
        text = PREFIX + secrets.token_urlsafe(32)
        now = utc_now()
        try:
            new = Key(1, name, digest(text), now, None, max_connections, channels, expires)
            msgspec.convert(asdict(new), Key)
        except (ValueError, msgspec.ValidationError) as error:
            raise KeyFileError(self.path, f"refuses such a key: {error}") from None
        if not new.active_at(now):
            raise KeyFileError(self.path, "refuses such a key: it would have expired already")
        return text, new

    def _index(self, name: str, keys: Sequence[Key]) -> int:
        """Return the index of the one key of this name that is not revoked."""
        for index, key in enumerate(keys):
            if key.name == name and key.revoked is None:
                return index
        # The name is not repeated: someone may have typed the key itself in its place.
        raise KeyFileError(self.path, "has no active key of that name")

    @contextlib.contextmanager
    def _changing(self) -> Iterator[tuple[int, list[Key]]]:
        # The lock belongs to the target, so that writers who use different links meet.
        target = Path(os.path.realpath(self.path))
        with self._naming("written"), open(f"{target}.lock", "ab", opener=_open_private) as lock:
            _wait_for(lock, self.path)
            try:
                old, raw = _contents(target)
                next_id, keys = _parse(target, raw)
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


class KeyWatch:
    """The keys of a file that others write, as `ring`.

    `clock` returns the time in UTC, for keys that expire. Raises KeyFileError if the file is invalid at the start.
    """

    def __init__(self, file: KeyFile, clock: Callable[[], datetime] = utc_now) -> None:
        self._path = file.path
        self._clock = clock
        self._refreshing = asyncio.Lock()
        self._problem: str | None = None
        self._spare = _SpareDescriptor()
        with file._naming("read"):
            found, raw = _contents(self._path)
        self._seen: tuple[int, ...] | None = _state(found)
        self.ring = KeyRing(_parse(self._path, raw)[1], clock)

    async def refresh(self) -> None:
        """Read the file again if it has changed, and log the outcome. An invalid file leaves the ring as it is.

        A problem is logged once. An invalid file is parsed once; one that cannot be opened is tried again each time.
        """
        async with self._refreshing:
            self._spare.take()
            try:
                reading = await self._read_if_changed()
            except (KeyFileError, OSError) as error:
                self._note_problem(error)
                return
            if reading is not None:
                self.ring, self._problem = reading.ring, None
                log.info("key file read anew", keys=reading.active, lost=reading.lost)

    async def _read_if_changed(self) -> "_Reading | None":
        # It stays None where the reading fails or is cancelled, so that the next refresh reads again.
        known, self._seen = self._seen, None
        if known is not None and known == _state(os.stat(self._path)):
            self._seen = known
            return None
        found, raw = self._open_and_read()
        try:
            reading = await _in_thread(self._compare, raw)
        except KeyFileError:
            self._seen = _state(found)
            raise
        if reading.torn:
            await asyncio.sleep(SECOND_LOOK)
            if self._open_and_read()[1] != raw:
                return None
        self._seen = _state(found)
        return reading

    def _open_and_read(self) -> tuple[os.stat_result, bytes]:
        """Read the file, with the spare descriptor if the process has no other left.

        This happens in the event loop, where nothing else of the loop can take the descriptor, a new client for one.
        It takes 1 ms for a file of 10,000 keys; to parse one takes 200 ms, and happens in a thread.
        """
        try:
            return _contents(self._path)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
        self._spare.give()
        try:
            return _contents(self._path)
        finally:
            self._spare.take()

    def _compare(self, raw: bytes) -> "_Reading":
        """Parse the file and compare its keys with those known until now."""
        keys = _parse(self._path, raw)[1]
        ring, before, rows = KeyRing(keys, self._clock), self.ring.active(), {key.id for key in keys}
        lost = sum(ring.current(key) is None for key in before)
        gone = sum(key.id not in rows for key in before)
        return _Reading(ring, active=len(ring.active()), lost=lost, torn=gone > len(before) / 2)

    def _note_problem(self, error: KeyFileError | OSError) -> None:
        problem = str(error)
        if isinstance(error, OSError):
            problem = str(KeyFileError(self._path, f"cannot be read: {error.strerror}"))
        if problem != self._problem:
            self._problem = problem
            log.error("key file cannot be used: the keys stay as they were", cause=problem)


@dataclass(frozen=True, slots=True)
class _Reading:
    """The keys of a changed file. `lost` is how many keys were active before and are not any more.

    `torn` is set if more than half of the rows are gone, as in a file that is only partly written.
    """

    ring: KeyRing
    active: int
    lost: int
    torn: bool


class _SpareDescriptor:
    """A descriptor kept open, to be given up for opening a file when the process may open no other."""

    def __init__(self) -> None:
        self._descriptor: int | None = None
        self.take()

    def take(self) -> None:
        """Open the descriptor, unless it is open or none is free."""
        if self._descriptor is None:
            with contextlib.suppress(OSError):
                self._descriptor = os.open(os.devnull, os.O_RDONLY)

    def give(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __del__(self) -> None:
        self.give()


async def _in_thread(function: "Callable[[bytes], _Reading]", raw: bytes) -> _Reading:
    # A thread of its own: those of asyncio.to_thread may all be waiting for a name server, on behalf of redis-py.
    executor = ThreadPoolExecutor(1, "key-file")
    try:
        return await asyncio.get_running_loop().run_in_executor(executor, function, raw)
    finally:
        executor.shutdown(wait=False)


def _state(found: os.stat_result) -> tuple[int, ...]:
    # The time of change as well: a writer can set the time of modification back.
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_mode


def _contents(path: Path) -> tuple[os.stat_result, bytes]:
    """Return the state of the file before it was read, and its bytes; raises OSError or KeyFileError."""
    # Without O_NONBLOCK, opening a FIFO would wait for its writer: in a server for ever.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise KeyFileError(path, "is not a regular file")
        if (mode := stat.S_IMODE(found.st_mode)) & 0o077:
            raise KeyFileError(path, f"has mode {mode:04o}, so others can use it: chmod 600 it")
        return found, file.read()


def _parse(path: Path, raw: bytes) -> tuple[int, list[Key]]:
    """Return the next id and the keys of a file's bytes; raises KeyFileError."""
    try:
        document = tomllib.loads(raw.decode())
    except UnicodeDecodeError:
        raise KeyFileError(path, "is not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise KeyFileError(path, f"is not TOML{toml_place(error)}") from None
    rows, next_id = document.get("keys", []), document.get("next_id")
    if not document.keys() <= {"next_id", "keys"} or not isinstance(rows, list):
        raise KeyFileError(path, "has more than next_id and [[keys]] rows")
    keys: list[Key] = []
    for number, row in enumerate(rows, 1):
        try:
            keys.append(msgspec.convert(row, Key))
        except msgspec.ValidationError as error:
            raise KeyFileError(path, f"is wrong in row {number}: {error}") from None
        # msgspec reads a time from text too, and a dataclass takes members that it does not have.
        if not row.keys() <= _MEMBERS or any(isinstance(row.get(member), str) for member in _TIMES):
            raise KeyFileError(path, f"has an unknown member or a quoted time in row {number}")
    for member in ("id", "sha256"):
        if len({row[member] for row in rows}) < len(rows):
            raise KeyFileError(path, f"has two rows with the same {member}")
    names = [key.name for key in keys if key.revoked is None]
    if len(set(names)) < len(names):
        raise KeyFileError(path, "has two rows with the same name, neither of them revoked")
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

"""API keys: narrowed, guessed, badly written, and created for a full disk."""

import asyncio
import os
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import tomli_w

from tests.abuse.clients import connect, holds, reader, round_trip, subscribed, visit
from tests.abuse.rows import Check, at_least, at_most, exactly
from tests.abuse.target import Target, target
from tests.support.raw import CLOSE, PATIENCE, handshake
from tornado_bridge.key_file import KeyFile
from tornado_bridge.keys import digest

ALL_CANDLES = "candles:*:*"

# The connections of a key before its limit is lowered, and the limit.
CONNECTIONS = 5
LIMIT = 2

GUESSERS = 50
ROWS = 10_000


def _write(path: Path, text: str) -> None:
    """Replace a key file at once, as `keys` does."""
    temporary = path.with_suffix(".new")
    temporary.write_text(text, encoding="utf-8")
    temporary.chmod(0o600)
    os.replace(temporary, path)


def _change(path: Path, name: str, **members: Any) -> None:
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    next(row for row in document["keys"] if row["name"] == name).update(members)
    _write(path, tomli_w.dumps(document))


async def a_key_that_is_narrowed(_: float) -> list[Check]:
    """a key loses its channels and three of its five places in the file"""
    with target() as under_attack:
        narrowed = KeyFile(under_attack.key_file).create("narrowed")
        crowded = KeyFile(under_attack.key_file).create("crowded")
        await holds(lambda: under_attack.logged("key file read anew"), 5)
        await asyncio.sleep(1.5)
        readers = [reader(under_attack, crowded) for _ in range(CONNECTIONS)]
        crowd = [await one.__aenter__() for one in readers]
        try:
            async with reader(under_attack, narrowed, channels=(ALL_CANDLES,)) as reading:
                _change(under_attack.key_file, "narrowed", channels=["signals:*:*"])
                unsubscribed = await holds(
                    lambda: any('"unsubscribed"' in message for message in reading.messages), PATIENCE
                )
                stays = not reading.ended
            _change(under_attack.key_file, "crowded", max_connections=LIMIT)
            closed = await holds(lambda: sum(one.ended for one in crowd) >= CONNECTIONS - LIMIT, PATIENCE)
            await asyncio.sleep(0.3)
            codes = [int.from_bytes(one.close.payload[:2]) for one in crowd if one.close is not None]
        finally:
            for one in readers:
                await one.__aexit__(None, None, None)
        return [
            at_most("unsubscribed after", unsubscribed, 2, "s"),
            exactly("and still connected", stays, True),
            at_most("closed after", closed, 2, "s"),
            exactly("close codes", codes, [4008] * (CONNECTIONS - LIMIT)),
        ]


class Guesses:
    """Wrong keys, one after the other on new connections. `answered` counts those that got a close code."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.tried = 0
        self.answered = 0

    async def guess(self) -> None:
        while True:
            self.tried += 1
            try:
                with await connect(self._port) as client:
                    await client.send(handshake(f"tb_guess{self.tried}"))
                    await client.response()
                    answer = await client.frame()
                    self.answered += answer.opcode == CLOSE
            except (OSError, EOFError):
                await asyncio.sleep(0)


async def wrong_keys_without_end(seconds: float) -> list[Check]:
    """wrong keys from one address, 50 at a time"""
    with target() as under_attack:
        before = len(under_attack.lines)
        guesses = Guesses(under_attack.port)
        tasks = [asyncio.create_task(guesses.guess()) for _ in range(GUESSERS)]
        start = time.monotonic()
        admitted: list[float] = []
        while time.monotonic() - start < seconds:
            await asyncio.sleep(0.2)
            begun = time.monotonic()
            admitted.append(time.monotonic() - begun if await visit(under_attack) else float("inf"))
        elapsed = time.monotonic() - start
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        lines = [line for line in under_attack.lines[before:] if "key=good" not in line]
        # 10 free tries, those that come back meanwhile, and the late answers of each second and of the one under way.
        # Each of the two kinds of log line may come once in 10 s.
        bound = 10 * (1 + elapsed / 60) + 20 * (elapsed + 1)
        return [
            at_least("tried", guesses.tried, 10 * bound),
            at_most("answered", guesses.answered, bound),
            at_most("log lines", len(lines), 2 * (1 + elapsed // 10)),
            at_most("good key admitted after", max(admitted), 1, "s"),
        ]


def _bad_files(good: str) -> dict[str, str]:
    """Return key files of 10,000 rows, each bad in its last row, by what is wrong."""
    rows = "".join(
        f'[[keys]]\nid = {number}\nname = "key{number}"\nsha256 = "{digest(str(number))}"\n'
        "created = 2026-01-01T00:00:00Z\n\n"
        for number in range(100, 100 + ROWS)
    )
    begun = good.replace("next_id = 2", f"next_id = {200 + ROWS}") + "\n" + rows
    assert f"next_id = {200 + ROWS}" in begun
    last = 101 + ROWS
    return {
        "is not TOML": begun + "[[keys]]\nid =\n",
        "is wrong in row": begun + f"[[keys]]\nid = {last}\nname = 7\n",
        "has two rows with the same id": begun + rows[: rows.index("\n\n") + 2],
    }


async def a_large_bad_key_file(_: float) -> list[Check]:
    """a bad key file of 10,000 rows, three times"""
    with target() as under_attack:
        good = under_attack.key_file.read_text(encoding="utf-8")
        with await subscribed(under_attack) as client:
            idle = max([await round_trip(client) for _ in range(200)])
            trips: list[float] = []
            refused = 0
            for problem, text in _bad_files(good).items():
                await asyncio.to_thread(_write, under_attack.key_file, text)
                end = time.monotonic() + 6
                while not under_attack.logged(problem) and time.monotonic() < end:
                    trips.append(await round_trip(client))
                    await asyncio.sleep(0.002)
                refused += under_attack.logged(problem) == 1
        # 50 ms on an idle machine; the bound is for a machine that does other work besides.
        return [
            exactly("refused", refused, 3),
            at_most("longest round trip", 1e3 * max(trips), 150, "ms"),
            at_most("without it", 1e3 * idle, 150, "ms"),
        ]


def _create(under_attack: Target, name: str, stdout: int) -> int:
    """Create a key that is printed to a descriptor, close that, and return the exit status."""
    command = [sys.executable, "-m", "tornado_bridge", "keys", "create", name]
    try:
        return subprocess.run(
            [*command, "--api-keys", str(under_attack.key_file)],
            stdout=stdout,
            stderr=subprocess.DEVNULL,
            check=False,
            timeout=30,
        ).returncode
    finally:
        os.close(stdout)


async def keys_that_cannot_be_printed(_: float) -> list[Check]:
    """keys create >/dev/full"""
    with target() as under_attack:
        status = await asyncio.to_thread(_create, under_attack, "unprinted", os.open("/dev/full", os.O_WRONLY))
        reading, writing = os.pipe()
        os.close(reading)
        piped = await asyncio.to_thread(_create, under_attack, "piped", writing)
        active = [key.name for key in KeyFile(under_attack.key_file).read() if key.revoked is None]
        return [
            exactly("exit status is an error", status != 0, True),
            exactly("also for a broken pipe", piped != 0, True),
            exactly("active keys", active, ["good"]),
        ]

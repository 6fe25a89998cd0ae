"""Attacks a real server, and prints a table with the figures of each attack and their bounds.

`python -m tests.abuse` runs every attack, in less than two minutes. `--long` lets the attacks last for 30 s each, and
names of rows run these alone. It exits with 1 if a figure breaks its bound. It needs Linux and redis-server.
"""

import argparse
import asyncio
import inspect
import resource
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

from tests.abuse import floods, keys, life, redis_replies, stalls, strangers, wildcards
from tests.abuse.rows import Check, row

Attack = Callable[[float], Coroutine[Any, Any, list[Check]]]

# The docstring of each is its name in the table.
ATTACKS: tuple[Attack, ...] = (
    strangers.silent_connections,
    strangers.too_many_for_the_descriptors,
    strangers.bodies,
    stalls.a_server_that_stands_still,
    stalls.a_redis_that_hangs,
    redis_replies.malformed_replies,
    keys.a_key_that_is_narrowed,
    keys.wrong_keys_without_end,
    floods.floods,
    floods.clients_that_never_read,
    floods.malformed_bytes,
    stalls.a_plugin_that_is_stopped,
    keys.a_large_bad_key_file,
    wildcards.wildcards,
    life.signals,
    life.a_polluted_environment,
    keys.keys_that_cannot_be_printed,
)

# Seconds that an attack lasts.
SHORT = 4.0
LONG = 30.0

# Seconds after which an attack that does not end has failed.
PATIENCE = 60.0


def measure(attack: Attack, seconds: float) -> list[Check]:
    """Run one attack. One that fails, or does not end, is a check that does not hold."""

    async def bounded() -> list[Check]:
        async with asyncio.timeout(PATIENCE + 4 * seconds):
            return await attack(seconds)

    try:
        return asyncio.run(bounded())
    except Exception as error:  # one attack: the others go on, and the table says what happened
        print(f"{attack.__name__}: {type(error).__name__}: {error}", file=sys.stderr)
        return [Check(f"{type(error).__name__}: {' '.join(str(error).split())[:100]}", "ends", False)]


def main() -> int:
    names = {attack.__name__: attack for attack in ATTACKS}
    parser = argparse.ArgumentParser(prog="python -m tests.abuse", description="Attacks a server; prints a table.")
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"attacks to run, by default all: {' '.join(names)}")
    parser.add_argument("--seconds", type=float, default=SHORT, help="length of an attack (default %(default)s)")
    parser.add_argument("--long", action="store_const", const=LONG, dest="seconds", help=f"the same as {LONG:.0f} s")
    options = parser.parse_args()
    unknown = set(options.rows) - names.keys()
    if unknown:
        parser.error(f"unknown rows: {' '.join(sorted(unknown))}")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print("| attack | measured | must hold | ok |\n|---|---|---|---|", flush=True)
    held = True
    for name in options.rows or names:
        start = time.monotonic()
        checks = measure(names[name], options.seconds)
        print(f"{name}: {time.monotonic() - start:.1f} s", file=sys.stderr)
        print(row(inspect.getdoc(names[name]) or name, checks), flush=True)
        held = held and all(check.holds for check in checks)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())

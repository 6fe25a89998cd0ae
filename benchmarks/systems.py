"""The servers that are measured, and how each is started."""

import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.market import EXCHANGE_ID, EXCHANGE_NAME
from benchmarks.processes import Process, ProcessFailed, own_environment

ROOT = Path(__file__).parent.parent
KEY_VARIABLE = "TORNADO_BRIDGE_API_KEY"
START_SECONDS = 30.0
LISTENING = "listening on http://127.0.0.1:"


@dataclass(frozen=True)
class System:
    """A server under test: once it serves, it says `listening on http://127.0.0.1:PORT` on stdout.

    In `argv` and `key_argv`, `{redis_url}`, `{exchange}` and `{keys_file}` are filled in. `key_argv` prints a
    new key; a system without it takes the one key it knows from the environment (TORNADO_BRIDGE_API_KEY).
    """

    name: str
    argv: tuple[str, ...]
    key_argv: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Serving:
    process: Process
    port: int
    key: str


SYSTEMS = (
    System(
        name="tornado_bridge",
        argv=(
            *(sys.executable, "-m", "tornado_bridge", "serve", "--port", "0", "--redis-url", "{redis_url}"),
            *("--exchange", "{exchange}", "--api-keys", "{keys_file}", "--max-connections-per-key", "100000"),
            *("--rate-limit", "1000000", "--rate-burst", "1000000"),  # all clients subscribe with one key
        ),
        key_argv=(
            *(sys.executable, "-m", "tornado_bridge", "keys", "create", "bench"),
            *("--api-keys", "{keys_file}"),
        ),
    ),
    System(
        name="write_message",
        argv=(
            *(sys.executable, "-m", "benchmarks.write_message_server", "--port", "0"),
            *("--redis-url", "{redis_url}", "--exchange", "{exchange}"),
        ),
    ),
)


@contextmanager
def serving(system: System, redis_port: int, directory: Path, processor: int) -> Iterator[Serving]:
    """Runs the server on a processor of its own; its files are in `directory`."""
    places = {
        "redis_url": f"redis://127.0.0.1:{redis_port}/0",
        "exchange": f"{EXCHANGE_ID}:{EXCHANGE_NAME}",
        "keys_file": str(directory / "keys"),
    }
    key = _create_key(system, places) if system.key_argv else secrets.token_urlsafe(32)
    environment = system.environment if system.key_argv else {**system.environment, KEY_VARIABLE: key}
    argv = [word.format(**places) for word in system.argv]
    with Process(system.name, argv, processor=processor, environment=environment, directory=ROOT) as process:
        line = process.read_line(START_SECONDS)
        if not line.startswith(LISTENING):
            raise process.failed(f"said {line!r} in place of where it listens")
        yield Serving(process, int(line.removeprefix(LISTENING)), key)


def _create_key(system: System, places: dict[str, str]) -> str:
    argv = [word.format(**places) for word in system.key_argv]
    done = subprocess.run(
        argv,
        cwd=ROOT,
        env=own_environment(),
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )
    if done.returncode:
        raise ProcessFailed(f"{system.name} made no key\n{done.stderr}".rstrip())
    return done.stdout.strip()

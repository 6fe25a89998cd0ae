"""A server under test: how it is prepared, and how it is started."""

import secrets
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.rig.market import EXCHANGE_ID, EXCHANGE_NAME
from benchmarks.rig.processes import Process, ProcessFailed, own_environment

ROOT = Path(__file__).parents[2]
KEY_VARIABLE = "TORNADO_BRIDGE_API_KEY"
START_SECONDS = 30.0
LISTENING = "listening on http://127.0.0.1:"
ARGUMENTS = ("--port", "0", "--redis-url", "{redis_url}", "--exchange", "{exchange}")

Places = Mapping[str, str]  # names of files and directories that a system's arguments refer to
Install = Callable[[Path], Places]
Versions = Callable[[Places], str]


def nothing_to_install(directory: Path) -> Places:
    return {}


@dataclass(frozen=True)
class System:
    """A server under test.

    It prints `listening on http://127.0.0.1:PORT` on stdout once it serves. `install` prepares it below a directory and
    raises ProcessFailed or OSError. In `argv`, `key_argv` and `directory`, the names that `install` returns stand in
    braces, and so do `redis_url`, `exchange` (ID:NAME), `keys_file` and `root`. `key_argv` prints a new API key; a
    system without `key_argv` takes its only key from the environment variable TORNADO_BRIDGE_API_KEY. `compression` are
    the arguments that enable permessage-deflate, None where a system lacks it. `workloads` and `clients` restrict the
    scenarios of a contest; empty, they do not.
    """

    name: str
    title: str
    argv: tuple[str, ...]
    versions: Versions
    key_argv: tuple[str, ...] = ()
    directory: str = "{root}"
    install: Install = nothing_to_install
    dialect: str = "plain"
    compression: tuple[str, ...] | None = ("--compression",)
    workloads: tuple[str, ...] = ()
    clients: tuple[int, ...] = ()


@dataclass(frozen=True)
class Installed:
    """A system that is ready to be started, and where its parts are."""

    system: System
    places: Places = field(default_factory=dict)


@dataclass(frozen=True)
class Serving:
    """A server that runs: its process, its port on 127.0.0.1, and an API key that it admits."""

    process: Process
    port: int
    key: str


@contextmanager
def serving(
    installed: Installed, redis_port: int, directory: Path, processor: int, *, deflate: bool = False
) -> Iterator[Serving]:
    """Run the server on a processor of its own, with its files in `directory`. Raises ProcessFailed."""
    system = installed.system
    places = {
        "redis_url": f"redis://127.0.0.1:{redis_port}/0",
        "exchange": f"{EXCHANGE_ID}:{EXCHANGE_NAME}",
        "keys_file": str(directory / "keys"),
        "root": str(ROOT),
        **installed.places,
    }
    key = _create_key(system, places) if system.key_argv else secrets.token_urlsafe(32)
    environment = {} if system.key_argv else {KEY_VARIABLE: key}
    argv = [word.format(**places) for word in system.argv]
    argv += (system.compression or ()) if deflate else ()
    where = Path(system.directory.format(**places))
    with Process(system.name, argv, processor=processor, environment=environment, directory=where) as process:
        line = process.read_line(START_SECONDS)
        if not line.startswith(LISTENING):
            raise process.failed(f"said {line!r} in place of its address")
        yield Serving(process, int(line.removeprefix(LISTENING)), key)


def _create_key(system: System, places: Places) -> str:
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

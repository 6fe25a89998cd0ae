"""The servers that are measured: how each is made ready, and how it is started."""

import importlib.util
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.installation import build_limit, install_node
from benchmarks.peers_installation import build_gorilla, install_python
from benchmarks.rig.market import EXCHANGE_ID, EXCHANGE_NAME
from benchmarks.rig.processes import Process, ProcessFailed, own_environment

ROOT = Path(__file__).parent.parent
KEY_VARIABLE = "TORNADO_BRIDGE_API_KEY"
START_SECONDS = 30.0
LISTENING = "listening on http://127.0.0.1:"
PEER_WORKLOADS = ("burst", "lone")
PEER_CLIENTS = (500,)
UVLOOP_WORKLOADS = ("burst", "mixed", "lone", "paced", "ingest")

Places = Mapping[str, str]


def nothing_to_install(directory: Path) -> Places:
    return {}


def _uvloop(directory: Path) -> Places:
    if importlib.util.find_spec("uvloop") is None:
        raise ProcessFailed("uvloop is not installed in this environment")
    return {}


def _limit(directory: Path) -> Places:
    return {"limit": str(build_limit(directory))}


def _node(directory: Path) -> Places:
    return {"node": str(install_node(directory))}


def _python(directory: Path) -> Places:
    return {"python": str(install_python(directory))}


def _gorilla(directory: Path) -> Places:
    return {"gorilla": str(build_gorilla(directory))}


@dataclass(frozen=True)
class System:
    """A server under test: once it serves, it says `listening on http://127.0.0.1:PORT` on stdout.

    In `argv`, `key_argv` and `directory`, `{redis_url}`, `{exchange}`, `{keys_file}`, `{root}` and what `install`
    returns are filled in. `key_argv` prints a new key; a system without it takes the one key it knows from the
    environment (TORNADO_BRIDGE_API_KEY). `compression` is what makes it offer permessage-deflate. It is measured on
    every workload with any number of clients, or where `only` says, with `only_clients`.
    """

    name: str
    title: str
    argv: tuple[str, ...]
    key_argv: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    directory: str = "{root}"
    install: Callable[[Path], Places] = nothing_to_install
    packages: tuple[str, ...] = ()  # whose versions are told
    dialect: str = "plain"
    compression: tuple[str, ...] | None = ("--compression",)
    only: tuple[str, ...] = ()
    only_clients: tuple[int, ...] = ()


@dataclass(frozen=True)
class Installed:
    """A system ready to be started, and where what it needs is."""

    system: System
    places: Places = field(default_factory=dict)


@dataclass(frozen=True)
class Serving:
    process: Process
    port: int
    key: str


COMMON = ("--port", "0", "--redis-url", "{redis_url}", "--exchange", "{exchange}")


def _node_system(name: str, title: str, *packages: str, dialect: str = "plain", only: tuple[str, ...] = ()) -> System:
    return System(
        name=name,
        title=title,
        argv=("node", f"{name}.mjs", *COMMON),
        directory="{node}",
        install=_node,
        packages=packages,
        dialect=dialect,
        only=only,
        only_clients=PEER_CLIENTS if only else (),
        compression=None if dialect != "plain" else ("--compression",),
    )


def _python_system(name: str, title: str, *packages: str) -> System:
    return System(
        name=name,
        title=title,
        argv=("{python}", "-m", f"benchmarks.servers.python.{name}_server", *COMMON),
        install=_python,
        packages=packages,
        only=PEER_WORKLOADS,
        only_clients=PEER_CLIENTS,
    )


def _bridge(
    name: str,
    title: str,
    install: Callable[[Path], Places],
    packages: tuple[str, ...],
    options: tuple[str, ...] = (),
    only: tuple[str, ...] = (),
) -> System:
    return System(
        name=name,
        title=title,
        argv=(
            *(sys.executable, "-m", "tornado_bridge", "serve", *COMMON, "--api-keys", "{keys_file}"),
            *("--max-connections-per-key", "100000", "--max-connections", "100000"),
            *("--rate-limit", "1000000", "--rate-burst", "1000000"),  # all clients subscribe with one key
            *options,
        ),
        key_argv=(
            *(sys.executable, "-m", "tornado_bridge", "keys", "create", "bench"),
            *("--api-keys", "{keys_file}"),
        ),
        install=install,
        packages=packages,
        only=only,
    )


SYSTEMS = (
    _bridge(
        "tornado_bridge",
        "this server, with admission, firewall and thresholds",
        nothing_to_install,
        ("tornado", "redis", "hiredis", "msgspec"),
    ),
    _bridge(
        "tornado_bridge_uvloop",
        "the same on uvloop",
        _uvloop,
        ("uvloop",),
        options=("--event-loop", "uvloop"),
        only=UVLOOP_WORKLOADS,
    ),
    System(
        name="c_joined",
        title="C, one send per client for what Redis brought at once",
        argv=("{limit}", *COMMON, "--mode", "joined"),
        install=_limit,
    ),
    System(
        name="c_single",
        title="C, one send per client and event",
        argv=("{limit}", *COMMON, "--mode", "single"),
        install=_limit,
    ),
    _node_system("ws", "Node's ws, one send per client and event", "ws", "ioredis"),
    _node_system("ws_joined", "Node's ws, frames joined by hand", "ws", "ioredis"),
    _node_system("uws", "uWebSockets.js, its own publish and subscribe", "@trufflesuite/uws-js-unofficial", "ioredis"),
    System(
        name="write_message",
        title="Tornado, write_message per client and event",
        argv=(sys.executable, "-m", "benchmarks.write_message_server", *COMMON),
        packages=("tornado", "redis", "hiredis"),
    ),
    _node_system(
        "socket_io", "socket.io", "@socket.io/redis-adapter", "ioredis", dialect="socketio", only=PEER_WORKLOADS
    ),
    _python_system("websockets", "websockets, broadcast", "websockets"),
    _python_system("aiohttp", "aiohttp, one send per client and event", "aiohttp"),
    _python_system("starlette", "starlette on uvicorn, one send per client and event", "starlette", "uvicorn"),
    _python_system("picows", "picows, one send per client and event", "picows"),
    System(
        name="gorilla",
        title="Go's gorilla/websocket",
        argv=("{gorilla}", *COMMON),
        install=_gorilla,
        only=PEER_WORKLOADS,
        only_clients=PEER_CLIENTS,
    ),
)


@contextmanager
def serving(
    installed: Installed, redis_port: int, directory: Path, processor: int, *, deflate: bool = False
) -> Iterator[Serving]:
    """Runs the server on a processor of its own; its files are in `directory`."""
    system = installed.system
    places = {
        "redis_url": f"redis://127.0.0.1:{redis_port}/0",
        "exchange": f"{EXCHANGE_ID}:{EXCHANGE_NAME}",
        "keys_file": str(directory / "keys"),
        "root": str(ROOT),
        **installed.places,
    }
    key = _create_key(system, places) if system.key_argv else secrets.token_urlsafe(32)
    environment = system.environment if system.key_argv else {**system.environment, KEY_VARIABLE: key}
    argv = [word.format(**places) for word in system.argv]
    argv += (system.compression or ()) if deflate else ()
    where = Path(system.directory.format(**places))
    with Process(system.name, argv, processor=processor, environment=environment, directory=where) as process:
        line = process.read_line(START_SECONDS)
        if not line.startswith(LISTENING):
            raise process.failed(f"said {line!r} in place of where it listens")
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

"""All servers of the contest: the bridge with its references, and those written with other libraries."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

from benchmarks.contest.installation import build_gorilla, install_node, install_python
from benchmarks.rig.machine import first_line, python_versions
from benchmarks.rig.processes import ProcessFailed
from benchmarks.rig.system import ARGUMENTS, Places, System, Versions
from benchmarks.systems import BRIDGE, C_JOINED, C_SINGLE, WRITE_MESSAGE

PEER_WORKLOADS = ("burst", "lone")
PEER_CLIENTS = (500,)
UVLOOP_WORKLOADS = ("burst", "mixed", "lone", "paced", "ingest")

_ASK_PYTHON = (
    "import platform, sys; from importlib.metadata import version;"
    "print(', '.join(['Python ' + platform.python_version()] + [f'{name} {version(name)}' for name in sys.argv[1:]]))"
)


def _find_uvloop(directory: Path) -> Places:
    if importlib.util.find_spec("uvloop") is None:
        raise ProcessFailed("uvloop is not installed in this environment")
    return {}


def _node_versions(*packages: str) -> Versions:
    def versions(places: Places) -> str:
        modules = Path(places["node"]) / "node_modules"
        found = [json.loads((modules / name / "package.json").read_text())["version"] for name in packages]
        return ", ".join(
            [
                f"Node {first_line(['node', '--version'])}",
                *(f"{name} {version}" for name, version in zip(packages, found, strict=True)),
            ]
        )

    return versions


def _peer_versions(*packages: str) -> Versions:
    return lambda places: first_line([places["python"], "-c", _ASK_PYTHON, *packages])


def _go_version(places: Places) -> str:
    return first_line(["go", "version"])


def _node(name: str, title: str, *packages: str) -> System:
    return System(
        name=name,
        title=title,
        argv=("node", f"{name}.mjs", *ARGUMENTS),
        directory="{node}",
        install=install_node,
        versions=_node_versions(*packages),
    )


def _python(name: str, title: str, *packages: str) -> System:
    return System(
        name=name,
        title=title,
        argv=("{python}", "-m", f"benchmarks.contest.servers.python.{name}_server", *ARGUMENTS),
        install=install_python,
        versions=_peer_versions(*packages),
        workloads=PEER_WORKLOADS,
        clients=PEER_CLIENTS,
    )


SYSTEMS = (
    BRIDGE,
    System(
        name="tornado_bridge_uvloop",
        title="the same on uvloop",
        argv=(*BRIDGE.argv, "--event-loop", "uvloop"),
        key_argv=BRIDGE.key_argv,
        install=_find_uvloop,
        versions=python_versions("uvloop"),
        workloads=UVLOOP_WORKLOADS,
    ),
    C_JOINED,
    C_SINGLE,
    _node("ws", "Node's ws, one send per client and event", "ws", "ioredis"),
    _node("ws_joined", "Node's ws, frames joined by hand", "ws", "ioredis"),
    _node("uws", "uWebSockets.js, its own publish and subscribe", "@trufflesuite/uws-js-unofficial", "ioredis"),
    WRITE_MESSAGE,
    replace(
        _node("socket_io", "socket.io", "@socket.io/redis-adapter", "ioredis"),
        dialect="socketio",
        compression=None,
        workloads=PEER_WORKLOADS,
        clients=PEER_CLIENTS,
    ),
    _python("websockets", "websockets, broadcast", "websockets"),
    _python("aiohttp", "aiohttp, one send per client and event", "aiohttp"),
    _python("starlette", "starlette on uvicorn, one send per client and event", "starlette", "uvicorn"),
    _python("picows", "picows, one send per client and event", "picows"),
    System(
        name="gorilla",
        title="Go's gorilla/websocket",
        argv=("{gorilla}", *ARGUMENTS),
        install=build_gorilla,
        versions=_go_version,
        workloads=PEER_WORKLOADS,
        clients=PEER_CLIENTS,
    ),
)

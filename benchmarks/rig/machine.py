"""What a run is measured on: the machine, and the versions of what is measured."""

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.rig.measure import Processors
from benchmarks.systems import Installed

COMMAND_SECONDS = 20.0
TOOLS = {
    "redis-server": ("--version",),
    "cc": ("--version",),
}


def describe(processors: Processors, systems: Iterable[Installed]) -> dict[str, Any]:
    return {
        "processor": _processor(),
        "processors": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "server_on": processors.server,
        "load_on": processors.load,
        "tools": {name: _first_line([name, *options]) for name, options in TOOLS.items()},
        "versions": {
            installed.system.name: f"{installed.system.title}; {_versions(installed)}" for installed in systems
        },
    }


def _versions(installed: Installed) -> str:
    names, places = installed.system.packages, installed.places
    if "node" in places:
        return ", ".join([f"Node {_first_line(['node', '--version'])}", *_of_node(Path(places["node"]), names)])
    if "python" in places:
        return _first_line([places["python"], "-c", _ASK_PYTHON, *names])
    if "gorilla" in places:
        return _first_line(["go", "version"])
    if "limit" in places:
        return _first_line(["cc", "--version"])
    return ", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in names)])


_ASK_PYTHON = (
    "import platform, sys; from importlib.metadata import version;"
    "print(', '.join(['Python ' + platform.python_version()] + [f'{name} {version(name)}' for name in sys.argv[1:]]))"
)


def _of_node(directory: Path, names: Sequence[str]) -> list[str]:
    found = []
    for name in names:
        description = directory / "node_modules" / name / "package.json"
        found.append(f"{name} {json.loads(description.read_text())['version']}")
    return found


def _first_line(argv: Sequence[str]) -> str:
    if shutil.which(argv[0]) is None:
        return "not installed"
    done = subprocess.run(argv, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
    return (done.stdout.splitlines() or ["unknown"])[0]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()

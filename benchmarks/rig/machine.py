"""The machine of a run, and the versions of the programs on it."""

import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.rig.system import Installed, Places, Versions

COMMAND_SECONDS = 20.0


def describe(server_processor: int, load_processor: int, systems: Iterable[Installed]) -> dict[str, Any]:
    """Return the machine, its tools, and the versions of each system."""
    return {
        "processor": _processor(),
        "processors": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "server_on": server_processor,
        "load_on": load_processor,
        "tools": {name: first_line([name, "--version"]) for name in ("redis-server", "cc")},
        "versions": {
            installed.system.name: f"{installed.system.title}; {installed.system.versions(installed.places)}"
            for installed in systems
        },
    }


def python_versions(*packages: str) -> Versions:
    """Return the function that names this Python and these of its packages."""

    def versions(places: Places) -> str:
        return ", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in packages)])

    return versions


def c_compiler(places: Places) -> str:
    """Name the C compiler."""
    return first_line(["cc", "--version"])


def first_line(argv: Sequence[str]) -> str:
    """Return the first line that a program prints, or that the program is not installed."""
    if shutil.which(argv[0]) is None:
        return "not installed"
    done = subprocess.run(argv, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
    return (done.stdout.splitlines() or ["unknown"])[0]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()

"""The servers written in C and for Node, made ready to run: built, or installed with pinned versions."""

import hashlib
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.rig.processes import ProcessFailed, own_environment

SERVERS = Path(__file__).with_name("servers")
LIMIT = SERVERS / "limit.c"
NODE = SERVERS / "node"
BUILD_SECONDS = 120.0
INSTALL_SECONDS = 600.0
C_FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror")


def build_limit(directory: Path) -> Path:
    """The C limit server, built below `directory`; it knows `--compression` if `has_zlib()`. Raises ProcessFailed."""
    compiler = _compiler()
    directory.mkdir(parents=True, exist_ok=True)
    program = directory.resolve() / "limit"
    zlib = ["-DWITH_ZLIB", "-lz"] if has_zlib() else []
    _run("the limit server was not built", [compiler, *C_FLAGS, "-o", str(program), str(LIMIT), *zlib], BUILD_SECONDS)
    return program


def has_zlib() -> bool:
    """Whether the C compiler finds zlib's header and library; raises ProcessFailed without a compiler."""
    program = "#include <zlib.h>\nint main(void) { return !zlibVersion(); }\n"
    argv = [_compiler(), "-x", "c", "-o", "/dev/null", "-", "-lz"]
    done = subprocess.run(argv, input=program.encode(), capture_output=True, timeout=BUILD_SECONDS, check=False)
    return done.returncode == 0


def _compiler() -> str:
    compiler = shutil.which("cc")
    if compiler is None:
        raise ProcessFailed("the limit server needs a C compiler, and cc is not installed")
    return compiler


def install_node(directory: Path) -> Path:
    """A directory below `directory` with the Node servers (`ws.mjs` and others) and their packages.

    Made once per contents of the sources, package-lock.json among them, and version of Node. Raises ProcessFailed.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise ProcessFailed("the Node servers need node and npm, which are not installed")
    sources = sorted([*NODE.glob("*.mjs"), NODE / "package.json", NODE / "package-lock.json"])
    version = subprocess.run([node, "--version"], capture_output=True, timeout=BUILD_SECONDS, check=False).stdout
    content = b"".join(b"%b\0%b\0" % (source.name.encode(), source.read_bytes()) for source in sources)
    installed = directory.resolve() / f"node-{hashlib.sha256(version + content).hexdigest()[:16]}"
    complete = installed / "complete"  # is there once npm is through
    if not complete.exists():
        installed.mkdir(parents=True, exist_ok=True)
        for source in sources:
            shutil.copy(source, installed)
        # What is optional, or compiled by scripts, are addons of ws that few install and that a server hardly uses.
        argv = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--omit=optional", "--prefix", str(installed)]
        _run("the packages of the Node servers did not install", argv, INSTALL_SECONDS)
        complete.touch()
    return installed


def _run(failure: str, argv: Sequence[str], seconds: float) -> None:
    try:
        done = subprocess.run(
            argv,
            env=own_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ProcessFailed(f"{failure} within {seconds:g} s") from None
    if done.returncode:
        errors = [line for line in done.stdout.splitlines() if "error" in line.lower()]
        raise ProcessFailed(f"{failure}: {errors[0] if errors else f'exit status {done.returncode}'}")

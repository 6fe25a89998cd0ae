"""The peers written in Python and in Go, made ready to run: their libraries, pinned, outside the package's own."""

import hashlib
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.rig.processes import ProcessFailed, own_environment

SERVERS = Path(__file__).with_name("servers")
REQUIREMENTS = SERVERS / "python" / "requirements.txt"
INSTALL_SECONDS = 600.0

GO_PACKAGES = Path("/usr/share/gocode")  # where Debian has the sources of Go packages
GO_LIBRARIES = {
    "golang-github-gorilla-websocket-dev": "github.com/gorilla/websocket",
    "golang-github-gomodule-redigo-dev": "github.com/gomodule/redigo",
}


def install_python(directory: Path) -> Path:
    """The interpreter of an environment below `directory` with the libraries of the Python peers.

    Made once per Python version and contents of requirements.txt. Raises ProcessFailed.
    """
    wanted = f"{sys.executable} {platform.python_version()}\n".encode() + REQUIREMENTS.read_bytes()
    environment = directory.absolute() / f"python-{hashlib.sha256(wanted).hexdigest()[:16]}"
    interpreter = environment / "bin" / "python"
    complete = environment / "complete"  # is there once pip is through
    if not complete.exists():
        directory.mkdir(parents=True, exist_ok=True)
        _run("no environment for the Python peers", [sys.executable, "-m", "venv", "--clear", str(environment)])
        argv = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run("the libraries of the Python peers did not install", [*argv, "--requirement", str(REQUIREMENTS)])
        complete.touch()
    return interpreter


def build_gorilla(directory: Path) -> Path:
    """The gorilla server, built below `directory` with Debian's Go packages; raises ProcessFailed."""
    go = shutil.which("go")
    missing = [name for name, path in GO_LIBRARIES.items() if not (GO_PACKAGES / "src" / path).is_dir()]
    if go is None:
        missing.insert(0, "golang-go")
    if go is None or missing:
        raise ProcessFailed(f"the gorilla server needs Debian packages: apt-get install {' '.join(missing)}")
    directory.mkdir(parents=True, exist_ok=True)
    program = directory.absolute() / "gorilla"
    settings = {
        "GO111MODULE": "off",
        "GOPATH": str(GO_PACKAGES),
        "GOCACHE": str(directory.absolute() / "go"),
        "GOFLAGS": "",
        "CGO_ENABLED": "0",
    }
    argv = [go, "build", "-o", str(program), "."]
    _run("the gorilla server was not built", argv, directory=SERVERS / "go", environment=settings)
    return program


def _run(
    failure: str,
    argv: Sequence[str],
    *,
    directory: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    try:
        done = subprocess.run(
            argv,
            cwd=directory,
            env={**own_environment(), **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ProcessFailed(f"{failure} within {INSTALL_SECONDS:g} s") from None
    if done.returncode:
        lines = done.stdout.strip().splitlines() or [f"exit status {done.returncode}"]
        raise ProcessFailed(f"{failure}: {lines[-1]}")

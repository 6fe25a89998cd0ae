"""The servers of other libraries, prepared to run: packages with pinned versions, outside of the bridge's own."""

import hashlib
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.rig.processes import ProcessFailed, run_to_end
from benchmarks.rig.system import Places

SERVERS = Path(__file__).with_name("servers")
NODE = SERVERS / "node"
REQUIREMENTS = SERVERS / "python" / "requirements.txt"
INSTALL_SECONDS = 600.0

GO_PACKAGES = Path("/usr/share/gocode")  # where Debian has the sources of Go packages
GO_LIBRARIES = {
    "golang-github-gorilla-websocket-dev": "github.com/gorilla/websocket",
    "golang-github-gomodule-redigo-dev": "github.com/gomodule/redigo",
}


def install_node(directory: Path) -> Places:
    """Copy the Node servers below `directory` and install their packages beside them. Raises ProcessFailed.

    A copy is made once per Node version and contents of the sources, package-lock.json among them.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise ProcessFailed("the Node servers need node and npm, which are not installed")
    sources = sorted([*NODE.glob("*.mjs"), NODE / "package.json", NODE / "package-lock.json"])
    version = subprocess.run([node, "--version"], capture_output=True, timeout=INSTALL_SECONDS, check=False).stdout
    content = b"".join(b"%b\0%b\0" % (source.name.encode(), source.read_bytes()) for source in sources)
    installed = directory.resolve() / f"node-{hashlib.sha256(version + content).hexdigest()[:16]}"
    complete = installed / "complete"  # exists once npm has ended
    if not complete.exists():
        installed.mkdir(parents=True, exist_ok=True)
        for source in sources:
            shutil.copy(source, installed)
        # Left out are optional packages and those compiled by scripts: add-ons of ws that a server hardly uses.
        argv = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--omit=optional", "--prefix", str(installed)]
        run_to_end("the packages of the Node servers did not install", argv, seconds=INSTALL_SECONDS)
        complete.touch()
    return {"node": str(installed)}


def install_python(directory: Path) -> Places:
    """Make an environment below `directory` with the libraries of the Python servers. Raises ProcessFailed.

    An environment is made once per Python version and contents of requirements.txt.
    """
    wanted = f"{sys.executable} {platform.python_version()}\n".encode() + REQUIREMENTS.read_bytes()
    environment = directory.absolute() / f"python-{hashlib.sha256(wanted).hexdigest()[:16]}"
    interpreter = str(environment / "bin" / "python")
    complete = environment / "complete"  # exists once pip has ended
    if not complete.exists():
        directory.mkdir(parents=True, exist_ok=True)
        make = [sys.executable, "-m", "venv", "--clear", str(environment)]
        run_to_end("the environment of the Python servers was not made", make, seconds=INSTALL_SECONDS)
        install = [interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        install += ["--requirement", str(REQUIREMENTS)]
        run_to_end("the libraries of the Python servers did not install", install, seconds=INSTALL_SECONDS)
        complete.touch()
    return {"python": interpreter}


def build_gorilla(directory: Path) -> Places:
    """Build the Go server into `directory` with Debian's Go packages. Raises ProcessFailed."""
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
    run_to_end(
        "the gorilla server was not built",
        [go, "build", "-o", str(program), "."],
        seconds=INSTALL_SECONDS,
        directory=SERVERS / "go",
        environment=settings,
    )
    return {"gorilla": str(program)}

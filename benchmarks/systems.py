"""The bridge, and the servers that stand for what its sockets allow and for what is usual with Tornado."""

import sys
from pathlib import Path

from benchmarks.rig import c_programs
from benchmarks.rig.machine import c_compiler, python_versions
from benchmarks.rig.system import ARGUMENTS, Places, System

LIMIT_SOURCES = Path(__file__).parent / "servers" / "limit"
# All clients share one key and subscribe at once, so none of the bridge's limits may stop them.
WITHOUT_LIMITS = (
    *("--max-connections-per-key", "100000", "--max-connections", "100000"),
    *("--rate-limit", "1000000", "--rate-burst", "1000000"),
)


def build_limit(directory: Path) -> Places:
    """Compile the C server into `directory`. It has `--compression` where zlib is installed. Raises ProcessFailed."""
    zlib = ["-DWITH_ZLIB", "-lz"] if c_programs.has_zlib() else []
    program = c_programs.build(directory.resolve() / "limit", sorted(LIMIT_SOURCES.glob("*.c")), *zlib)
    return {"limit": str(program)}


SHIPPED = System(
    name="tornado_bridge",
    title="this server, with the limits that it ships with",
    argv=(sys.executable, "-m", "tornado_bridge", "serve", *ARGUMENTS, "--api-keys", "{keys_file}"),
    key_argv=(sys.executable, "-m", "tornado_bridge", "keys", "create", "bench", "--api-keys", "{keys_file}"),
    versions=python_versions("tornado", "redis", "hiredis", "msgspec"),
)
BRIDGE = System(
    name="tornado_bridge",
    title="this server, with admission, firewall and thresholds",
    argv=(*SHIPPED.argv, *WITHOUT_LIMITS),
    key_argv=SHIPPED.key_argv,
    versions=SHIPPED.versions,
)
C_JOINED = System(
    name="c_joined",
    title="C, one send per client for what Redis brought at once",
    argv=("{limit}", *ARGUMENTS, "--mode", "joined"),
    install=build_limit,
    versions=c_compiler,
)
C_SINGLE = System(
    name="c_single",
    title="C, one send per client and event",
    argv=("{limit}", *ARGUMENTS, "--mode", "single"),
    install=build_limit,
    versions=c_compiler,
)
WRITE_MESSAGE = System(
    name="write_message",
    title="Tornado, write_message per client and event",
    argv=(sys.executable, "-m", "benchmarks.servers.python.write_message_server", *ARGUMENTS),
    versions=python_versions("tornado", "redis", "hiredis"),
)

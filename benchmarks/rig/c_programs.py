"""C programs of the benchmarks, compiled with the machine's own compiler."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.rig.processes import ProcessFailed, run_to_end

FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror")
BUILD_SECONDS = 120.0


def build(program: Path, sources: Sequence[Path], *options: str) -> Path:
    """Compile and link the sources into `program`, and return it.

    `options` stand behind the sources, where libraries must stand. Raises ProcessFailed.
    """
    program.parent.mkdir(parents=True, exist_ok=True)
    argv = [_compiler(), *FLAGS, "-o", str(program), *map(str, sources), *options]
    run_to_end(f"{program.name} was not compiled", argv, seconds=BUILD_SECONDS)
    return program


def has_zlib() -> bool:
    """Whether the compiler finds zlib's header and library. Raises ProcessFailed without a compiler."""
    program = b"#include <zlib.h>\nint main(void) { return !zlibVersion(); }\n"
    argv = [_compiler(), "-x", "c", "-o", "/dev/null", "-", "-lz"]
    done = subprocess.run(argv, input=program, capture_output=True, timeout=BUILD_SECONDS, check=False)
    return done.returncode == 0


def _compiler() -> str:
    compiler = shutil.which("cc")
    if compiler is None:
        raise ProcessFailed("cc is not installed")
    return compiler

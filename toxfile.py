"""Hooks of tox: environments may use the Pythons of pyenv, and those without a Python are listed at the end."""

import atexit
import os
import re
from pathlib import Path

from tox.config.sets import ConfigSet
from tox.plugin import impl
from tox.session.state import State
from tox.tox_env.api import ToxEnv
from tox.tox_env.errors import Skip
from tox.tox_env.python.api import Python

# The versions that setup.py admits. The names of free-threaded and development builds do not match.
_VERSION = re.compile(r"3\.(1[1-9]|[2-9][0-9])\.([0-9]+)")

_skipped: dict[str, str] = {}


@impl
def tox_add_core_config(core_conf: ConfigSet, state: State) -> None:
    """Offer pyenv's Pythons to every environment; of those on PATH, pyenv runs only the version that is active."""
    state.conf.options.discover = [*(state.conf.options.discover or ()), *pyenv_pythons()]


@impl
def tox_env_teardown(tox_env: ToxEnv) -> None:
    """Remember an environment that was skipped because its Python is not installed."""
    if isinstance(tox_env, Python):
        try:
            _ = tox_env.base_python
        except Skip as reason:
            _skipped[tox_env.conf.name] = str(reason)


@atexit.register
def _report() -> None:
    for name, reason in sorted(_skipped.items()):
        print(f"{name} was skipped: {reason}")


def pyenv_pythons() -> list[str]:
    """Return the Pythons that pyenv has installed, the newest first."""
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    numbers = {path: _VERSION.fullmatch(path.name) for path in versions.glob("3.*")}
    usable = {path: (int(number[1]), int(number[2])) for path, number in numbers.items() if number}
    pythons = [path / "bin" / "python3" for path in sorted(usable, key=usable.__getitem__, reverse=True)]
    return [str(python) for python in pythons if python.is_file()]

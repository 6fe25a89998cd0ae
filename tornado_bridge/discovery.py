"""Finds plugins without importing them: entry points of installed distributions, and single files in a directory."""

import dataclasses
import functools
import hashlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from tornado_bridge import hookspecs
from tornado_bridge.errors import ConfigurationError, PluginError

ENTRY_POINT_GROUP = hookspecs.PROJECT


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A plugin that is available. `load` imports it.

    `distribution` is the installed distribution, or the path of a single file, which has no version.
    """

    name: str
    distribution: str
    version: str
    load: Callable[[], object] = dataclasses.field(repr=False, compare=False)

    @property
    def origin(self) -> str:
        """The distribution with its version, or the path of the file, for messages to the operator."""
        return origin(self.distribution, self.version)


def origin(distribution: str, version: str) -> str:
    """Return where a plugin comes from, for people: the distribution with its version, or the file."""
    return f"{distribution} {version}".strip()


def installed() -> list[Candidate]:
    """Return the plugins of the installed distributions, from their entry points."""
    return [
        # The distribution is never None for an entry point that was selected by its group.
        Candidate(point.name, point.dist.name, point.dist.version, point.load)  # type: ignore[union-attr]
        for point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
    ]


def single_files(directory: Path) -> list[Candidate]:
    """Return the plugins in a directory: each `*.py` that does not start with `_`, named by its stem.

    Raises ConfigurationError, in one clause, for a directory that cannot be read.
    """
    try:
        paths = sorted(path.absolute() for path in directory.iterdir())
    except (OSError, ValueError):
        raise ConfigurationError(f"expected a directory that can be read, got {directory}") from None
    return [
        Candidate(path.stem, str(path), "", functools.partial(_import_file, path))
        for path in paths
        if path.suffix == ".py" and not path.name.startswith("_")
    ]


def choose(names: Iterable[str] | None, offered: Iterable[Candidate]) -> list[Candidate]:
    """Return the candidates with these names, each once, or all candidates for None.

    Raises ConfigurationError for a name without a candidate, and PluginError for a name with two.
    """
    by_name: dict[str, list[Candidate]] = {}
    for candidate in offered:
        by_name.setdefault(candidate.name, []).append(candidate)
    return [_only(name, by_name) for name in dict.fromkeys(sorted(by_name) if names is None else names)]


def _only(name: str, by_name: Mapping[str, list[Candidate]]) -> Candidate:
    if name not in by_name:
        known = ", ".join(sorted(by_name)) or "none"
        if any(not candidate.version for candidates in by_name.values() for candidate in candidates):
            raise ConfigurationError(
                f"neither an installed distribution nor a file offers a plugin {name!r} (offered: {known})"
            )
        raise ConfigurationError(f"no installed distribution offers a plugin {name!r} (installed: {known})")
    first, *rivals = by_name[name]
    for rival in rivals:
        raise PluginError(name, rival.origin, f"{first.origin} offers a plugin of that name too")
    return first


def _import_file(path: Path) -> object:
    """Import a file under a private module name, so that it neither hides another module nor is hidden by one."""
    name = f"_tornado_bridge_file_{hashlib.sha256(str(path).encode()).hexdigest()[:16]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # msgspec resolves a structure's annotations in the module that sys.modules has under this name.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module

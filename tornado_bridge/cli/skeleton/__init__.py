"""Writes the skeleton of a plugin: a distribution that installs, with tests that pass.

The templates stand beside this module, as `NAME.template` files with the placeholders of `string.Template`.
"""

import importlib.resources
import re
import string
from pathlib import Path

import tornado_bridge
from tornado_bridge import discovery
from tornado_bridge.errors import ConfigurationError
from tornado_bridge.excerpts import excerpt

PREFIX = "tornado-bridge-"

MAX_NAME = 40

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*").fullmatch


def write(name: str, directory: Path) -> Path:
    """Create the directory tornado-bridge-`name` with the files of a plugin in `directory`, and return its path.

    `name` may also begin with tornado-bridge-. Raises ConfigurationError for a name that is invalid or installed, and
    if the directory exists or cannot be written.
    """
    name = name.removeprefix(PREFIX)
    if not _NAME(name) or len(name) > MAX_NAME:
        raise ConfigurationError(
            f"NAME: expected at most {MAX_NAME} lower-case letters and digits with single hyphens between them, "
            f"starting with a letter, got {excerpt(repr(name))}"
        )
    for candidate in discovery.installed():
        if candidate.name == name:
            raise ConfigurationError(f"NAME: a plugin {name!r} is already installed, from {candidate.origin}")
    root = directory / f"{PREFIX}{name}"
    try:
        root.mkdir(parents=True)
        for path, text in files(name).items():
            (root / path).parent.mkdir(exist_ok=True)
            (root / path).write_text(text, encoding="utf-8")
    except FileExistsError:
        raise ConfigurationError(f"{root} already exists") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "invalid path"
        raise ConfigurationError(f"{root} cannot be written ({reason})") from None
    return root


def files(name: str) -> dict[str, str]:
    """Return the text of each file of the plugin `name`, by its path in the new directory."""
    word = name.replace("-", "_")
    package = f"tornado_bridge_{word}"
    version = tornado_bridge.__version__
    parts = {
        "name": name,
        "word": word,
        "title": "".join(part.capitalize() for part in name.split("-")),
        "package": package,
        "distribution": f"{PREFIX}{name}",
        "since": version,
        "until": str(int(version.partition(".")[0]) + 1),
    }
    templates = {
        "pyproject.toml": "pyproject.toml",
        f"{package}/__init__.py": "package.py",
        f"tests/test_{word}.py": "tests.py",
        "README.md": "README.md",
        ".gitignore": "gitignore",
    }
    return {f"{package}/py.typed": ""} | {
        path: string.Template(_template(template)).substitute(parts) for path, template in templates.items()
    }


def _template(name: str) -> str:
    return importlib.resources.files(__name__).joinpath(f"{name}.template").read_text(encoding="utf-8")

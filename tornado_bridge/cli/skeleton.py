"""The skeleton of a plugin's distribution: what `tornado-bridge plugins new` writes."""

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

_PYPROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "$distribution"
version = "0.1.0"
description = "Events of the kind $word for tornado_bridge."
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["msgspec>=0.20", "tornado_bridge>=$since,<$until"]

[project.optional-dependencies]
test = ["tornado_bridge[testing]"]

[project.entry-points.tornado_bridge]
$name = "$package"

[tool.setuptools]
packages = ["$package"]

[tool.setuptools.package-data]
$package = ["py.typed"]

[tool.pytest.ini_options]
testpaths = ["tests"]
addopts = "--import-mode=importlib"
"""

_PACKAGE = '''\
"""The public side of the platform's events of the kind $word."""

import msgspec
from tornado_bridge import Envelope, Event, EventType, envelope_schema, hookimpl, values


class Payload(msgspec.Struct):
    """What is read of an event; every other member stays inside."""

    price: msgspec.Raw
    timestamp: msgspec.Raw


EVENT_TYPE = EventType(
    name="$word",
    source="channel:exchange:{exchange_id}:$word:{symbol}",
    channel="$word:{symbol}",
    parameters={"symbol": r"[A-Z]{2,10}-[A-Z]{2,10}"},
    reads=Payload,
    emits=envelope_schema(
        "$word",
        r"^$word:[A-Z]{2,10}-[A-Z]{2,10}$$",
        {"price": values.DECIMAL, "timestamp": values.TIMESTAMP},
    ),
)


@hookimpl
def register_event_types() -> list[EventType]:
    return [EVENT_TYPE]


@hookimpl
def transform(event: Event[Payload]) -> Envelope:
    payload = event.payload
    return Envelope(
        event.channel,
        {
            "price": values.decimal(payload.price, "price"),
            "timestamp": values.epoch_timestamp(payload.timestamp, "timestamp"),
        },
    )
'''

_TESTS = '''\
"""$package: the conformance of the plugin, and what becomes of one event."""

import msgspec
from tornado_bridge import Envelope, Event
from tornado_bridge.testing import PluginSuite

import $package


class Test$title(PluginSuite):
    plugin = $package


def test_an_event_leaves_with_its_price_and_its_time_alone() -> None:
    payload = b'{"price": 42350.50, "timestamp": 1708264800000, "accountId": "ACC-1"}'
    event = Event(
        type="$word",
        source="channel:exchange:1:$word:BTC-USD",
        parameters={"symbol": "BTC-USD"},
        channel="$word:BTC-USD",
        payload=msgspec.json.decode(payload, type=$package.Payload),
        exchange="coinbase",
    )
    assert $package.transform(event) == Envelope(
        "$word:BTC-USD", {"price": "42350.5", "timestamp": "2024-02-18T14:00:00.000Z"}
    )
'''

_README = """\
# $distribution

A plugin of tornado_bridge. It relays the events that the platform publishes on
`channel:exchange:{exchange_id}:$word:{symbol}` to the clients that are subscribed to `$word:{symbol}`: a price and a
time, nothing else of the payload. What it reads and what may leave is declared in
[$package/__init__.py]($package/__init__.py).

Install it next to the bridge, and test it:

    python -m pip install -e '.[test]'
    python -m pytest

See it, with its event type, what it reads and what it emits:

    tornado-bridge plugins
    tornado-bridge plugins --json

Run it, on an embedded Redis:

    tornado-bridge keys create me --api-keys keys.toml
    tornado-bridge serve --exchange 1:coinbase --api-keys keys.toml --redis-url embedded://127.0.0.1:6399

Follow it in another terminal, with the key that was printed, and publish an event in a third one:

    TORNADO_BRIDGE_API_KEY=KEY tornado-bridge tail --url ws://127.0.0.1:8765/public/v1/stream '$word:*'
    redis-cli -p 6399 publish channel:exchange:1:$word:BTC-USD '{"price":42350.50,"timestamp":1708264800000,"id":7}'

Publish it to PyPI:

    python -m pip install build twine
    python -m build
    python -m twine upload dist/*
"""

_GITIGNORE = """\
__pycache__/
*.egg-info/
build/
dist/
"""


def write(name: str, directory: Path) -> Path:
    """Write the skeleton of the plugin `name` into a new directory of `directory`, and return the new one.

    Raises ConfigurationError, one sentence, for a name that cannot be used and where nothing can be written.
    """
    name = name.removeprefix(PREFIX)
    if not _NAME(name) or len(name) > MAX_NAME:
        raise ConfigurationError(
            f"NAME: expected at most {MAX_NAME} lower-case letters and digits, with single hyphens between them and a "
            f"letter first, got {excerpt(repr(name))}"
        )
    for candidate in discovery.installed():
        if candidate.name == name:
            raise ConfigurationError(f"NAME: a plugin {name!r} is installed already, by {candidate.origin}")
    root = directory / f"{PREFIX}{name}"
    try:
        root.mkdir(parents=True)
        for path, text in files(name).items():
            (root / path).parent.mkdir(exist_ok=True)
            (root / path).write_text(text, encoding="utf-8")
    except FileExistsError:
        raise ConfigurationError(f"{root} exists already") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no path"
        raise ConfigurationError(f"{root} cannot be written ({reason})") from None
    return root


def files(name: str) -> dict[str, str]:
    """Return the files of the skeleton of the plugin `name`, by their paths in its directory."""
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
        "pyproject.toml": _PYPROJECT,
        f"{package}/__init__.py": _PACKAGE,
        f"{package}/py.typed": "",
        f"tests/test_{word}.py": _TESTS,
        "README.md": _README,
        ".gitignore": _GITIGNORE,
    }
    return {path: string.Template(template).substitute(parts) for path, template in templates.items()}

"""The bridge between a platform's internal Redis events and its WebSocket clients.

The names of this module are the public ones, for authors of plugins and for applications that embed a bridge. They
are imported on first use, so that a plugin, which needs few of them, loads no Tornado and no Redis client.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tornado_bridge import values
    from tornado_bridge.bridge import Limits, WebSocketBridge
    from tornado_bridge.errors import BridgeError, ConfigurationError, InvalidEvent, PluginError
    from tornado_bridge.events import Envelope, Event, EventType, envelope_schema
    from tornado_bridge.hookspecs import hookimpl
    from tornado_bridge.key_file import KeyFile, KeyWatch
    from tornado_bridge.redaction.validation import load_schema
    from tornado_bridge.web.app import routes, serve

    __version__: str

__all__ = [
    "BridgeError",
    "ConfigurationError",
    "Envelope",
    "Event",
    "EventType",
    "InvalidEvent",
    "KeyFile",
    "KeyWatch",
    "Limits",
    "PluginError",
    "WebSocketBridge",
    "envelope_schema",
    "hookimpl",
    "load_schema",
    "routes",
    "serve",
    "values",
]

_MODULES = {
    "BridgeError": "errors",
    "ConfigurationError": "errors",
    "Envelope": "events",
    "Event": "events",
    "EventType": "events",
    "InvalidEvent": "errors",
    "KeyFile": "key_file",
    "KeyWatch": "key_file",
    "Limits": "bridge",
    "PluginError": "errors",
    "WebSocketBridge": "bridge",
    "envelope_schema": "events",
    "hookimpl": "hookspecs",
    "load_schema": "redaction.validation",
    "routes": "web.app",
    "serve": "web.app",
}

if not TYPE_CHECKING:  # A type checker that sees `__getattr__` accepts any name.

    def __getattr__(name: str) -> Any:
        """Import a public name on its first use (PEP 562)."""
        if name == "__version__":
            # This import adds a third to the time of `tornado-bridge --help`, which needs no version.
            from importlib import metadata

            value = metadata.version(__name__)
        elif name == "values":
            value = importlib.import_module(f"{__name__}.values")
        elif name in _MODULES:
            value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})

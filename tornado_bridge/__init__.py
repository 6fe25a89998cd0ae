"""The bridge between a platform's internal Redis events and its WebSocket clients."""

import importlib.metadata

from tornado_bridge import values
from tornado_bridge.errors import BridgeError, ConfigurationError, InvalidEvent, PluginError
from tornado_bridge.events import Envelope, Event, EventType, envelope_schema
from tornado_bridge.hookspecs import hookimpl
from tornado_bridge.redaction.validation import load_schema

__version__ = importlib.metadata.version("tornado_bridge")

__all__ = [
    "BridgeError",
    "ConfigurationError",
    "Envelope",
    "Event",
    "EventType",
    "InvalidEvent",
    "PluginError",
    "envelope_schema",
    "hookimpl",
    "load_schema",
    "values",
]

"""The hooks that a plugin implements."""

from collections.abc import Iterable
from typing import Any

import pluggy

from tornado_bridge.events import Envelope, Event, EventType

PROJECT = "tornado_bridge"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec(firstresult=True)
def register_event_types() -> Iterable[EventType]:  # type: ignore[empty-body]
    """Declare the event types of this plugin. Called once, at start."""


@hookspec(firstresult=True)
def transform(event: Event[Any]) -> Envelope | Iterable[Envelope] | None:
    """Turn one event into envelopes. Called for every event of a declared type; must not block."""

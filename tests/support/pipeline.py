"""Takes one event through its plugin and its firewall, without Redis or a hub."""

import functools
from collections.abc import Generator, Mapping
from typing import TypeVar

import msgspec
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from tornado_bridge.errors import InvalidEvent
from tornado_bridge.events import Envelope, Event
from tornado_bridge.registry import Registry, Route

Result = TypeVar("Result")


@functools.cache
def built_in_routes() -> tuple[Route, ...]:
    """Return the routes of the built-in plugins, for exchange 1."""
    return Registry(["candle", "signals"]).routes("1")


def relayed(source: str, payload: bytes) -> str | None:
    """Return the text that is sent for one message of Redis, None if its event is invalid or no route matches.

    Anything else that goes wrong is raised: a failing plugin, a refused envelope.
    """
    for route in built_in_routes():
        parameters = route.match(source)
        if parameters is not None:
            return _through(route, source, parameters, payload)
    return None


def _through(route: Route, source: str, parameters: Mapping[str, str], payload: bytes) -> str | None:
    try:
        decoded = route.decode(payload.decode())
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
        return None
    event = Event(
        route.event_type.name, source, parameters, route.event_type.channel_of(parameters), decoded, "coinbase"
    )
    try:
        envelope = route.plugin.transform(event=event)
    except InvalidEvent:
        return None
    assert isinstance(envelope, Envelope)
    return route.firewall.check(envelope).text.decode()


def text_of(frame: bytes) -> str:
    """Return the text of exactly one whole, unmasked text frame, as the websockets library reads it."""
    reader = StreamReader()
    reader.feed_data(frame)
    reader.feed_eof()
    found = _result_of(Frame.parse(reader.read_exact, mask=False))
    assert (found.opcode, found.fin, found.rsv1) == (Opcode.TEXT, True, False)
    assert _result_of(reader.read_to_eof(1)) == b""
    return bytes(found.data).decode()


def _result_of(generator: Generator[None, None, Result]) -> Result:
    try:
        next(generator)
    except StopIteration as done:
        result: Result = done.value
        return result
    raise AssertionError("the frame is not whole")

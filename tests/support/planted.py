"""Plugins with a planted leak, one for each plugin, and a plugin without a leak."""

import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from tornado_bridge import Envelope, Event, EventType, InvalidEvent, envelope_schema, hookimpl, values
from tornado_bridge.registry import Registry, Route

# Imported by name, like the plugins of strangers, which a type checker does not know.
CANDLE: Any = importlib.import_module("tornado_bridge.plugins.candle")
SIGNALS: Any = importlib.import_module("tornado_bridge.plugins.signals")

NUMBER = {"type": "integer", "minimum": 0, "maximum": 10**6}
TEXT = {"type": "string", "pattern": "^[A-Za-z0-9]{1,40}$", "maxLength": 40}


class Reads(msgspec.Struct):
    """The members of a quote that are read. Only a planted leak puts `hidden` into an envelope."""

    price: msgspec.Raw
    at: msgspec.Raw
    hidden: msgspec.Raw = msgspec.Raw(b"0")
    more: dict[str, msgspec.Raw] = {}


Result = Envelope | Iterable[Envelope] | None


class Quotes:
    """A plugin with one event type and any transformer."""

    def __init__(self, transform: Callable[[Event[Any]], Result], **changes: Any) -> None:
        self._transform = transform
        emits = {"price": values.DECIMAL, "at": values.TIMESTAMP, **changes.pop("members", {})}
        declaration: dict[str, Any] = {
            "name": "quote",
            "source": "channel:exchange:{exchange_id}:quotes:{symbol}",
            "channel": "quotes:{symbol}",
            "parameters": {"symbol": "[A-Z]{3}", "level": "[0-9]{1,20}"},
            "reads": Reads,
            "emits": envelope_schema("quote", changes.pop("pattern", "^quotes:[A-Z]{3}$"), emits),
        }
        if "level" not in changes.get("channel", ""):
            del declaration["parameters"]["level"]
        self.event_type = EventType(**{**declaration, **changes})

    @hookimpl
    def register_event_types(self) -> list[EventType]:
        return [self.event_type]

    @hookimpl
    def transform(self, event: Event[Reads]) -> Result:
        return self._transform(event)

    @property
    def route(self) -> Route:
        (route,) = Registry([self]).routes("1")
        return route


def public(event: Event[Reads], **members: Any) -> dict[str, Any]:
    at = values.epoch_timestamp(event.payload.at, "at")
    return {"price": values.decimal(event.payload.price, "price"), "at": at, **members}


def hidden(event: Event[Reads]) -> int:
    """Return the private number as an integer without its sign."""
    return int(abs(float(values.decimal(event.payload.hidden, "hidden")))) % 10**6


def clean(event: Event[Reads]) -> Result:
    return Envelope(event.channel, public(event))


def _copy(event: Event[Reads]) -> Result:
    return Envelope(event.channel, public(event, note=hidden(event)))


def _round(event: Event[Reads]) -> Result:
    return Envelope(event.channel, public(event, note=hidden(event) // 1000))


def _fold(event: Event[Reads]) -> Result:
    members = public(event)
    return Envelope(event.channel, {**members, "at": f"{members['at'][:20]}{hidden(event) % 1000:03}Z"})


def _in_channel(event: Event[Reads]) -> Result:
    return Envelope(f"quotes:{event.parameters['symbol']}:{hidden(event)}", public(event))


def _in_number_of_envelopes(event: Event[Reads]) -> Result:
    return [Envelope(event.channel, public(event))] * (1 + hidden(event) % 5)


def _in_order(event: Event[Reads]) -> Result:
    members = public(event)
    return Envelope(event.channel, dict(reversed(members.items())) if hidden(event) % 2 else members)


def _at_one_value(event: Event[Reads]) -> Result:
    return Envelope(event.channel, public(event, note=1 if hidden(event) == 424242 else 0))


def _mis_cased(event: Event[Reads]) -> Result:
    """Ignore the case of names: `SIZE` counts as `size`."""
    for name, raw in event.payload.more.items():
        if name.strip(" _").lower() == "size":
            return Envelope(event.channel, public(event, size=values.decimal(raw, "size")))
    raise InvalidEvent("size is missing")


def _everything_below(event: Event[Reads]) -> Result:
    """Copy every member of an open object, though none is declared."""
    texts = [values.text_of(raw) for raw in event.payload.more.values()]
    note = "".join(character for text in texts for character in text or "" if character.isalnum())
    return Envelope(event.channel, public(event, note=(note or "none")[:40]))


def _names_below(event: Event[Reads]) -> Result:
    names = "".join(character for name in event.payload.more for character in name if character.isalnum())
    return Envelope(event.channel, public(event, note=(names or "none")[:40]))


def _private_name(event: Event[Reads]) -> Result:
    return Envelope(event.channel, public(event, note="hidden"))


def _earlier() -> Callable[[Event[Reads]], Result]:
    last = ["0"]

    def transform(event: Event[Reads]) -> Result:
        members = public(event, last=last[0])
        last[0] = members["price"]
        return Envelope(event.channel, members)

    return transform


def _fine_derivation(event: Event[Reads]) -> Result:
    return Envelope(event.channel, public(event, note=hidden(event) // 10))


NOTE: Mapping[str, Any] = {"members": {"note": NUMBER}}
LEVEL: Mapping[str, Any] = {"channel": "quotes:{symbol}:{level}", "pattern": "^quotes:[A-Z]{3}:[0-9]{1,20}$"}

# The planted leak, the plugin, and the finding of the audit.
LEAKS: dict[str, tuple[Callable[[], Quotes], str]] = {
    "a value copied": (lambda: Quotes(_copy, **NOTE), "note changes with hidden, which is not declared"),
    "a value rounded": (lambda: Quotes(_round, **NOTE), "note changes with hidden, which is not declared"),
    "a value folded into the milliseconds of a timestamp": (
        lambda: Quotes(_fold),
        "at changes with hidden, which is not declared",
    ),
    "a value in the channel": (
        lambda: Quotes(_in_channel, **LEVEL),
        "channel changes with hidden, which is not declared",
    ),
    "a value in the number of envelopes": (
        lambda: Quotes(_in_number_of_envelopes),
        "the number of envelopes changes with hidden, which is not declared",
    ),
    "a value in the order of the members": (
        lambda: Quotes(_in_order),
        "the order of the members changes with hidden, which is not declared",
    ),
    "a value that shows at one number of the code": (
        lambda: Quotes(_at_one_value, **NOTE),
        "note changes with hidden, which is not declared",
    ),
    "a value that is declared as derived, and is nearly whole": (
        lambda: Quotes(_fine_derivation, **NOTE, derives={"note": "hidden"}),
        "note is declared to be derived from hidden, and takes ",
    ),
    "a schema with a member that nothing fills": (
        lambda: Quotes(clean, emits=_with_optional_note()),
        "note is in the schema, and no event has shown it, so nothing is proven of it",
    ),
    "a name taken in any case": (
        lambda: Quotes(_mis_cased, members={"size": values.DECIMAL}, publishes={"size": "more.size"}),
        "size changes with more.SIZE, which is not declared",
    ),
    "the values of members that nobody declared": (
        lambda: Quotes(_everything_below, members={"note": TEXT}),
        "a value or a name that is not read comes out: its canary was seen",
    ),
    "the names of members that nobody declared": (
        lambda: Quotes(_names_below, members={"note": TEXT}),
        "a value or a name that is not read comes out: its canary was seen",
    ),
    "the name of a private member": (
        lambda: Quotes(_private_name, members={"note": TEXT}),
        "the name of the private member 'hidden' comes out",
    ),
    "a value of an earlier event": (
        lambda: Quotes(_earlier(), members={"last": values.DECIMAL}),
        "last changes for the same event: with earlier events, the time or chance",
    ),
}


def _with_optional_note() -> dict[str, Any]:
    schema = envelope_schema("quote", "^quotes:[A-Z]{3}$", {"price": values.DECIMAL, "at": values.TIMESTAMP})
    schema["properties"]["data"]["properties"]["note"] = TEXT
    return schema

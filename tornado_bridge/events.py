"""The values that a plugin declares, receives and returns: event types, events, envelopes."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import msgspec

from tornado_bridge.channels import MAX_PARAMETERS, Form, Rule

PayloadT = TypeVar("PayloadT")

# The `type` of each message that the protocol itself sends to clients, in any of its versions (docs/protocol.md).
RESERVED_NAMES = frozenset(
    {
        "authenticated",
        "error",
        "gap",
        "going_away",
        "pong",
        "position",
        "status",
        "subscribed",
        "unsubscribed",
        "welcome",
    }
)

# The name of an event type is in every envelope, log line and metric of it.
MAX_NAME = 64


@dataclasses.dataclass(frozen=True)
class EventType:
    """One kind of event: its source, the members that are read, and the envelopes that it becomes.

    `name` is the envelope's `type`: 1 to 64 printable characters. `source` and `channel` are the forms of the source
    channel and of the channel, with named parts in braces. In `source`, `{exchange_id}` is the bridge's exchange.
    `parameters` has the rule of a named part: a regular expression, or a tuple of the allowed texts. `reads` is a
    msgspec.Struct; members that it does not declare are never decoded. `emits` is the JSON Schema (draft 2020-12) of
    the whole envelope, closed at every depth; `tornado_bridge.envelope_schema` writes one around the members of `data`.

    `publishes` and `derives` declare which read members an output comes from, if it does not have the same name as its
    only one: `publishes` for a whole value, `derives` for a coarse part of it. An output is a dotted path below `data`,
    or `channel`. `tornado-bridge audit` compares the declaration with the flows that it observes.

    Raises ValueError for an invalid name, form, rule or structure.
    """

    name: str
    source: str
    channel: str
    reads: type[msgspec.Struct]
    emits: Mapping[str, Any]
    parameters: Mapping[str, Rule] = dataclasses.field(default_factory=dict)
    publishes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    derives: Mapping[str, str | tuple[str, ...]] = dataclasses.field(default_factory=dict)
    source_form: Form = dataclasses.field(init=False, repr=False, compare=False)
    channel_form: Form = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_name(self.name)
        if not (isinstance(self.reads, type) and issubclass(self.reads, msgspec.Struct)):
            raise ValueError(f"the reads of {self.name!r} must be a msgspec.Struct type")
        object.__setattr__(self, "source_form", Form(self.source, self.parameters))
        object.__setattr__(self, "channel_form", Form(self.channel, self.parameters))
        unused = self.parameters.keys() - {*self.source_form.parameters, *self.channel_form.parameters}
        if unused:
            raise ValueError(f"parameters has a rule for {min(unused)!r}, which is in neither source nor channel")
        if len(self.channel_form.parameters) > MAX_PARAMETERS:
            raise ValueError(f"{self.channel!r} has more than {MAX_PARAMETERS} named parts")

    def channel_name(self, **parts: str) -> str:
        """Return the channel with these named parts; raises InvalidEvent if one of them breaks its rule."""
        return self.channel_form.format(**parts)

    def channel_of(self, parameters: Mapping[str, str]) -> str:
        """Return the channel with the named parts of a source, empty if the channel needs others."""
        names = self.channel_form.parameters
        if not parameters.keys() >= set(names):
            return ""
        return self.channel_name(**{name: parameters[name] for name in names})


def _check_name(name: str) -> None:
    if not (isinstance(name, str) and 0 < len(name) <= MAX_NAME and name.isprintable()):
        raise ValueError(f"the name of an event type must be 1 to {MAX_NAME} printable characters, not {name!r:.80}")
    if name in RESERVED_NAMES:
        raise ValueError(
            f"the name {name!r} is reserved for a message of the protocol; choose another for the event type"
        )


# gc=False is safe: a payload cannot refer back to its event.
class Event(msgspec.Struct, Generic[PayloadT], frozen=True, gc=False):
    """One event as a plugin receives it.

    `type` is the name of the event type. `source` is the source channel, and `parameters` are its named parts.
    `channel` is the channel with those parts; it is empty if the channel has others, which the payload decides.
    `payload` is the structure that the event type reads. `exchange` is the configured name of the bridge's exchange.
    """

    type: str
    source: str
    parameters: Mapping[str, str]
    channel: str
    payload: PayloadT
    exchange: str


class Envelope(msgspec.Struct, frozen=True):
    """One message for the subscribers of a concrete channel, with its public members."""

    channel: str
    data: dict[str, Any]


def envelope_schema(name: str, channel_pattern: str, data: Mapping[str, Any], **notes: Any) -> dict[str, Any]:
    """Return the closed JSON Schema of an envelope whose `data` has exactly these members, all required.

    `channel_pattern` is an anchored ECMA-262 pattern. `notes` are annotations: `title`, `description`, `examples`.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **notes,
        "type": "object",
        "properties": {
            "type": {"const": name},
            "channel": {"type": "string", "pattern": channel_pattern, "maxLength": 128},
            "data": {
                "type": "object",
                "properties": dict(data),
                "required": list(data),
                "additionalProperties": False,
            },
        },
        "required": ["type", "channel", "data"],
        "additionalProperties": False,
    }

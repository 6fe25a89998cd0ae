"""What a plugin declares and handles: event types, events, envelopes."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import msgspec

from tornado_bridge.channels import MAX_PARAMETERS, Form, Rule

PayloadT = TypeVar("PayloadT")


@dataclasses.dataclass(frozen=True)
class EventType:
    """One kind of event: where it comes from, what is read of it, what goes out and on which channel.

    `name` is the envelope's `type`. `source` and `channel` are the forms of the source channel and of the channel,
    text with named parts in braces; `{exchange_id}` of a source is the bridge's exchange. `parameters` gives the rule
    of a named part, a regular expression or a tuple of the allowed texts. `reads` is a msgspec structure: a
    member that it does not declare is never decoded. `emits` is the JSON Schema (draft 2020-12) of the whole
    envelope, closed at every depth; `tornado_bridge.envelope_schema` writes one around the members of `data`.
    `publishes` and `derives` say of which read member an output tells, whole or a coarse part, where the names differ;
    an output is a dotted path below `data`, or `channel`. `tornado-bridge audit` holds them against what it sees.

    Raises ValueError for a form, a rule or a structure that is none.
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
        if not (isinstance(self.reads, type) and issubclass(self.reads, msgspec.Struct)):
            raise ValueError(f"{self.name!r} reads what is no msgspec structure")
        object.__setattr__(self, "source_form", Form(self.source, self.parameters))
        object.__setattr__(self, "channel_form", Form(self.channel, self.parameters))
        unused = self.parameters.keys() - {*self.source_form.parameters, *self.channel_form.parameters}
        if unused:
            raise ValueError(f"there is a rule for {min(unused)!r}, which neither form names")
        if len(self.channel_form.parameters) > MAX_PARAMETERS:
            raise ValueError(f"{self.channel!r} has more than {MAX_PARAMETERS} named parts")

    def channel_name(self, **parts: str) -> str:
        """Return the channel made of `parts`; raises InvalidEvent where one of them breaks its rule."""
        return self.channel_form.format(**parts)

    def channel_of(self, parameters: Mapping[str, str]) -> str:
        """Return the channel that the named parts of a source make, empty where they do not suffice."""
        names = self.channel_form.parameters
        if not parameters.keys() >= set(names):
            return ""
        return self.channel_name(**{name: parameters[name] for name in names})


# Nothing that is read leads back to the event: the collector need not look.
class Event(msgspec.Struct, Generic[PayloadT], frozen=True, gc=False):
    """One event as a plugin sees it.

    `type` is the event type's name; `source` the source channel and `parameters` its named parts; `channel` the channel
    that those make, empty where the payload decides; `payload` the structure of the event type's `reads`; `exchange`
    the configured name of the bridge's exchange.
    """

    type: str
    source: str
    parameters: Mapping[str, str]
    channel: str
    payload: PayloadT
    exchange: str


class Envelope(msgspec.Struct, frozen=True):
    """What a plugin lets out: the concrete channel, and the public members."""

    channel: str
    data: dict[str, Any]


def envelope_schema(name: str, channel_pattern: str, data: Mapping[str, Any], **notes: Any) -> dict[str, Any]:
    """Return the closed JSON Schema of an envelope whose `data` has exactly the members given, all required.

    `channel_pattern` is an anchored ECMA-262 pattern; `notes` are annotations (`title`, `description`, `examples`).
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

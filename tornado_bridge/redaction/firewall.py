"""The egress firewall: an envelope leaves through here, or not at all.

What is checked is what is sent: the data is encoded first and decoded again, and what came of it is checked and sent,
so that no object of a plugin can show the checks one face and the socket another. Two checks are made, independent of
each other: the member names against the declared set, and the whole against the event type's JSON Schema.
"""

from typing import Any, NoReturn

import msgspec

from tornado_bridge.errors import BridgeError
from tornado_bridge.events import Envelope, EventType
from tornado_bridge.redaction import closed_schema
from tornado_bridge.redaction.validation import Validator
from tornado_bridge.wire import frames

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_decode_texts = msgspec.json.Decoder(dict[str, str]).decode


class EnvelopeRefused(BridgeError):
    """An envelope that may not leave; `path` is where, never what."""

    def __init__(self, path: str, rule: str) -> None:
        super().__init__(f"{path}: {rule}")
        self.path = path
        self.rule = rule


class CheckedEnvelope(msgspec.Struct, frozen=True, gc=False):
    """An envelope that has passed its firewall: the only thing the hub publishes."""

    channel: str
    frame: bytes


class Firewall:
    """What may leave for one event type.

    Raises ValueError, in one clause, for an event type whose schema is open anywhere or is not that of its envelope.
    """

    def __init__(self, event_type: EventType) -> None:
        try:
            schema = _decode(_encode(event_type.emits))
        except (TypeError, ValueError, ArithmeticError, RecursionError) as error:
            raise ValueError(f"the schema of {event_type.name!r} is no JSON ({error})") from None
        for finding in closed_schema.findings(schema):
            raise ValueError(f"the schema of {event_type.name!r} is open at {finding}")
        try:
            self._envelope = Validator(schema)
        except ValueError as error:
            raise ValueError(f"the schema of {event_type.name!r} {error}") from None
        names = closed_schema.member_names(schema)
        if not isinstance(names, dict) or names.keys() != {"type", "channel", "data"}:
            raise ValueError(f"the schema of {event_type.name!r} is not that of an envelope: type, channel, data")
        # Type and channel are the same in every envelope of a channel: what is left to check is the data, unless the
        # schema is a union, whose branches may tie the one to the other.
        self._admits_data = _data_validator(schema).admits_decoded if "properties" in schema else None
        self._names = names["data"]
        self._declares = frozenset(names["data"] or ()).issuperset
        self._type = event_type.name
        self._form = event_type.channel_form
        # What stands before the data, for each channel that has passed; the form's rules bound how many there can be
        # in practice.
        self._heads: dict[str, bytes] = {}

    def check(self, envelope: Envelope) -> CheckedEnvelope:
        """Return the envelope, ready to send.

        Raises EnvelopeRefused where a check fails, and whatever the encoder raises for what is no JSON.
        """
        channel = envelope.channel
        encoded = _encode(envelope.data)
        try:
            data = _decode_texts(encoded)
        except msgspec.ValidationError:
            data = _decode(encoded)
            _check_names(data, self._names, "$.data")
        else:
            if not self._declares(data):
                raise EnvelopeRefused("$.data", _UNDECLARED)
        # The type first: a text of a plugin's own class can claim to be any other.
        head = self._heads.get(channel) if type(channel) is str else None
        if head is None or self._admits_data is None:
            head = self._admit(channel, data)
        elif not self._admits_data(data):
            self._refuse(channel, data)
        # Encoded anew: the plugin's own text may hold a member twice, of which only the last was seen.
        return CheckedEnvelope(channel, frames.text(head + _encode(data) + b"}"))

    def _admit(self, channel: str, data: Any) -> bytes:
        """Check the whole envelope of a channel not seen before; returns what stands before the data."""
        if type(channel) is not str or self._form.match(channel) is None:
            raise EnvelopeRefused("$.channel", f"is not of the form {self._form.text}")
        whole = {"type": self._type, "channel": channel}
        if not self._envelope.admits({**whole, "data": data}):
            self._refuse(channel, data)
        if len(self._heads) >= _MAX_CHANNELS:
            self._heads.clear()
        head = self._heads[channel] = _encode(whole)[:-1] + b',"data":'
        return head

    def _refuse(self, channel: str, data: Any) -> NoReturn:
        path, keyword = self._envelope.first_fault({"type": self._type, "channel": channel, "data": data})
        raise EnvelopeRefused(path, f"breaks the schema's {keyword}")


# Far more channels than any exchange has; past it the set starts anew.
_MAX_CHANNELS = 65_536


_UNDECLARED = "has a member that is not declared"


def _data_validator(schema: dict[str, Any]) -> Validator:
    shared = {"$defs": schema["$defs"]} if "$defs" in schema else {}
    return Validator({**shared, **schema["properties"]["data"]})


def _check_names(value: Any, names: "closed_schema.Names | None", path: str) -> None:
    if isinstance(value, dict):
        declared = names or {}
        if not value.keys() <= declared.keys():
            raise EnvelopeRefused(path, _UNDECLARED)
        for name, member in value.items():
            if type(member) is not str:
                _check_names(member, declared[name], f"{path}.{name}")
    elif isinstance(value, list):
        for item in value:
            _check_names(item, names, f"{path}[]")

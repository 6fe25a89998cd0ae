"""The egress firewall: an envelope leaves through it, or not at all.

The firewall checks the text that is sent. It encodes the data, decodes the result, checks that and encodes it again, so
no object of a plugin can show the checks one value and the socket another. There are two independent checks: the member
names against the declared ones, and the whole envelope against the event type's JSON Schema.
"""

from typing import Any, NoReturn

import msgspec

from tornado_bridge.errors import BridgeError
from tornado_bridge.events import Envelope, EventType
from tornado_bridge.redaction import closed_schema
from tornado_bridge.redaction.validation import Validator

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_decode_texts = msgspec.json.Decoder(dict[str, str]).decode


class EnvelopeRefused(BridgeError):
    """An envelope that may not leave. `path` says where it breaks `rule`; no value is in either."""

    def __init__(self, path: str, rule: str) -> None:
        super().__init__(f"{path}: {rule}")
        self.path = path
        self.rule = rule


class CheckedEnvelope(msgspec.Struct, frozen=True, gc=False):
    """An envelope that has passed its firewall, as JSON text in UTF-8. The hub publishes nothing else."""

    channel: str
    text: bytes


class Firewall:
    """Decides which envelopes of one event type may leave.

    Raises ValueError if the event type's schema is open anywhere, or is not the schema of an envelope.
    """

    def __init__(self, event_type: EventType) -> None:
        try:
            schema = _decode(_encode(event_type.emits))
        except (TypeError, ValueError, ArithmeticError, RecursionError) as error:
            raise ValueError(f"the schema of {event_type.name!r} is not JSON ({error})") from None
        for finding in closed_schema.findings(schema):
            raise ValueError(f"the schema of {event_type.name!r} is open at {finding}")
        try:
            self._envelope = Validator(schema)
        except ValueError as error:
            raise ValueError(f"the schema of {event_type.name!r} {error}") from None
        names = closed_schema.member_names(schema)
        if not isinstance(names, dict) or names.keys() != {"type", "channel", "data"}:
            raise ValueError(
                f"the schema of {event_type.name!r} is not the schema of an envelope (type, channel, data)"
            )
        # All envelopes of a channel have the same type and channel, so only their data is left to check. A union is
        # checked whole, since its branches may tie the data to the channel.
        self._admits_data = _data_validator(schema).admits_decoded if "properties" in schema else None
        self._names = names["data"]
        self._declares = frozenset(names["data"] or ()).issuperset
        self._type = event_type.name
        self._form = event_type.channel_form
        # The text before the data, for each channel that has passed. In practice the form's rules bound their number.
        self._heads: dict[str, bytes] = {}

    def check(self, envelope: Envelope) -> CheckedEnvelope:
        """Return the checked envelope.

        Raises EnvelopeRefused if a check fails, and what the encoder raises for data that JSON cannot hold.
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
        # The type comes first: a plugin's own subclass of str can claim to equal any text.
        head = self._heads.get(channel) if type(channel) is str else None
        if head is None or self._admits_data is None:
            head = self._admit(channel, data)
        elif not self._admits_data(data):
            self._refuse(channel, data)
        # The data is encoded again: the first text may hold a member twice, and the checks saw only the last one.
        return CheckedEnvelope(channel, head + _encode(data) + b"}")

    def _admit(self, channel: str, data: Any) -> bytes:
        """Check the whole envelope of a new channel, and return the text before the data."""
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


# Far more channels than any exchange has. Beyond them the table is emptied.
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

"""The egress firewall: an envelope leaves through here, or not at all.

What is checked is what is sent: unless it is nothing but texts, the data is encoded first and decoded again, and what
came of it is checked and sent, so that no object of a plugin can show the checks one face and the socket another. Two
checks are made, independent of each other: the member names against the declared set, and the whole against the event
type's JSON Schema.
"""

from typing import Any, Final

import msgspec

from tornado_bridge import frames, lint
from tornado_bridge.errors import BridgeError
from tornado_bridge.events import Envelope, EventType
from tornado_bridge.validation import Validator

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class EnvelopeRefused(BridgeError):
    """An envelope that may not leave; `path` is where, never what."""

    def __init__(self, path: str, rule: str) -> None:
        super().__init__(f"{path}: {rule}")
        self.path = path
        self.rule = rule


class CheckedEnvelope:
    """An envelope that has passed its firewall: the only thing the hub publishes."""

    __slots__ = ("channel", "frame")

    def __init__(self, channel: str, frame: bytes) -> None:
        self.channel: Final = channel
        self.frame: Final = frame


class Firewall:
    """What may leave for one event type.

    Raises ValueError, in one clause, for an event type whose schema is open anywhere or is not that of its envelope.
    """

    def __init__(self, event_type: EventType) -> None:
        try:
            schema = _decode(_encode(event_type.emits))
        except (TypeError, ValueError, ArithmeticError, RecursionError) as error:
            raise ValueError(f"the schema of {event_type.name!r} is no JSON ({error})") from None
        for finding in lint.findings(schema):
            raise ValueError(f"the schema of {event_type.name!r} is open at {finding}")
        try:
            self._validator = Validator(schema)
        except ValueError as error:
            raise ValueError(f"the schema of {event_type.name!r} {error}") from None
        names = lint.member_names(schema)
        if not isinstance(names, dict) or names.keys() != {"type", "channel", "data"}:
            raise ValueError(f"the schema of {event_type.name!r} is not that of an envelope: type, channel, data")
        self._names = names["data"]
        self._members = (names["data"] or {}).keys()
        self._type = event_type.name
        self._form = event_type.channel_form
        # Concrete channels seen to be of the form; the form's rules bound how many there can be in practice.
        self._channels: set[str] = set()

    def check(self, envelope: Envelope) -> CheckedEnvelope:
        """Return the envelope, ready to send.

        Raises EnvelopeRefused where a check fails, and whatever the encoder raises for what is no JSON.
        """
        channel = envelope.channel
        # The type first: a text of a plugin's own class can claim to be any other.
        if type(channel) is not str or channel not in self._channels:
            self._admit(channel)
        data = _texts(envelope.data)
        if data is None:
            data = _decode(_encode(envelope.data))
            _check_names(data, self._names, "$.data")
        elif not data.keys() <= self._members:
            raise EnvelopeRefused("$.data", _UNDECLARED)
        whole = {"type": self._type, "channel": channel, "data": data}
        if not self._validator.admits(whole):
            path, keyword = self._validator.first_fault(whole)
            raise EnvelopeRefused(path, f"breaks the schema's {keyword}")
        # Encoded anew: the plugin's own text may hold a member twice, of which only the last was seen.
        return CheckedEnvelope(channel, frames.text(_encode(whole)))

    def _admit(self, channel: str) -> None:
        if type(channel) is not str or self._form.match(channel) is None:
            raise EnvelopeRefused("$.channel", f"is not of the form {self._form.text}")
        if len(self._channels) >= _MAX_CHANNELS:
            self._channels.clear()
        self._channels.add(channel)


# Far more channels than any exchange has; past it the set starts anew.
_MAX_CHANNELS = 65_536


_TEXT = frozenset({str})
_UNDECLARED = "has a member that is not declared"


def _texts(data: Any) -> dict[str, str] | None:
    """Return a copy of data that is nothing but texts, which have no second face; None for any other."""
    if type(data) is not dict:
        return None
    copy = data.copy()
    return copy if _TEXT.issuperset(map(type, copy)) and _TEXT.issuperset(map(type, copy.values())) else None


def _check_names(value: Any, names: "lint.Names | None", path: str) -> None:
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

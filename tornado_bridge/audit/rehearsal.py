"""Runs events on their real way, from the message of Redis to the frame, and reads what a client would get."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from tornado_bridge.channels import Grammar
from tornado_bridge.ingest.relay import Outcome, Relay
from tornado_bridge.logs import ThrottledLog
from tornado_bridge.redaction.declaration import CHANNEL, ENVELOPES, ORDER, PRESENCE
from tornado_bridge.redaction.firewall import CheckedEnvelope
from tornado_bridge.redaction.shapes import below
from tornado_bridge.registry import Route
from tornado_bridge.stream.hub import Hub

# Between two events, in seconds: none is counted against the next, none is throttled in the log.
_PAUSE = 3600.0

_COUNTED = (Outcome.RELAYED, Outcome.INVALID, Outcome.FAILED, Outcome.REFUSED)

# What an event gives: for each output its values, in order.
Outputs = Mapping[str, tuple[str, ...]]

_decode = msgspec.json.Decoder().decode


class Result(NamedTuple):
    """The fate of one event: its outcome, its envelopes as text, and the cause if it has no envelope."""

    outcome: Outcome
    envelopes: tuple[str, ...]
    cause: str


class Rehearsal:
    """The way of one event type, with everything on it but sockets."""

    def __init__(self, route: Route, exchange: str) -> None:
        self.route = route
        self._now = 0.0
        self._cause = ""
        self._hub = _Ear(Grammar([route.event_type.channel_form]))
        log = ThrottledLog(self, self._clock)
        self._relay = Relay([route], self._hub, exchange=exchange, log=log, clock=self._clock)
        self._tally = self._relay.tallies[route.event_type.name]

    def run(self, source: str, payload: bytes) -> Result:
        """Return what becomes of one message of Redis."""
        self._now += _PAUSE
        self._cause = ""
        self._hub.texts.clear()
        before = self._counts()
        self._relay.relay([(source.encode(), payload)])
        counted = zip(_COUNTED, before, self._counts(), strict=True)
        outcome = next((outcome for outcome, old, new in counted if new > old), Outcome.UNROUTED)
        return Result(outcome, tuple(text.decode() for text in self._hub.texts), self._cause)

    def _counts(self) -> Sequence[int]:
        return [self._tally.of(outcome) for outcome in _COUNTED]

    def _clock(self) -> float:
        return self._now

    def warning(self, _: str, **fields: Any) -> None:
        """Take a line of the relay's log."""
        self._cause = str(fields["cause"])

    error = warning


class _Ear(Hub):
    """A hub that keeps the checked texts instead of sending them."""

    def __init__(self, grammar: Grammar) -> None:
        super().__init__(grammar)
        self.texts: list[bytes] = []

    def publish(self, envelope: CheckedEnvelope) -> None:
        self.texts.append(envelope.text)


def differing(before: Outputs, after: Outputs) -> set[str]:
    """Return the outputs that two events differ in."""
    if before[PRESENCE] != after[PRESENCE]:
        return {PRESENCE}
    if ENVELOPES not in before:
        return set()
    if before[ENVELOPES] != after[ENVELOPES]:
        # The values of other envelopes cannot be compared with these.
        return {ENVELOPES}
    names = {output for output in {*before, *after} if before.get(output) != after.get(output)}
    if [sorted(members.split()) for members in before[ORDER]] != [sorted(members.split()) for members in after[ORDER]]:
        # Members that have come or gone are outputs of their own.
        names.discard(ORDER)
    # Where an array or an object has come or gone, its members have too.
    return {output for output in names if not any(output.startswith(f"{other}.") for other in names)}


def outputs_of(result: Result) -> Outputs:
    """Return the values of every output of an event."""
    found: dict[str, list[str]] = {PRESENCE: [str(bool(result.envelopes))]}
    if result.envelopes:
        found[ENVELOPES] = [str(len(result.envelopes))]
        found[ORDER] = []
    for envelope in map(_decode, result.envelopes):
        found.setdefault(CHANNEL, []).append(envelope["channel"])
        _collect(envelope["data"], "", found)
    return {output: tuple(values) for output, values in found.items()}


def _collect(value: Any, path: str, found: dict[str, list[str]]) -> None:
    if isinstance(value, dict):
        found[ORDER].append(" ".join(value))
        if path:
            found.setdefault(path, []).append("an object")
        for name, member in value.items():
            _collect(member, below(path, name), found)
    elif isinstance(value, list):
        found.setdefault(path, []).append(f"{len(value)} items")
        for item in value:
            _collect(item, path, found)
    else:
        # Not the value alone: 1, 1.0 and true are equal.
        found.setdefault(path, []).append(repr(value))

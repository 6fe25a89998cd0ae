"""From a source's messages to the hub: one decode, one hook call, one check and one frame an event."""

import dataclasses
import time
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import structlog

from tornado_bridge.errors import InvalidEvent
from tornado_bridge.events import Envelope, Event
from tornado_bridge.ingest.quarantine import PAUSE, SLOW_BYTE, SLOW_CALL, Quarantine
from tornado_bridge.logs import ThrottledLog
from tornado_bridge.redaction.firewall import CheckedEnvelope, EnvelopeRefused
from tornado_bridge.registry import Route
from tornado_bridge.stream.hub import Hub

log = structlog.get_logger(__name__)

# An event is no document: a plugin that returns more than this has failed.
MAX_ENVELOPES = 256

# Source channels whose route is remembered; past it the table starts anew.
_MAX_WAYS = 65_536


@dataclasses.dataclass
class Tally:
    """What became of the events of one type.

    `relayed` gave envelopes or none, `invalid` broke their contract, `failed` made the plugin fail, `refused` were
    stopped by the egress firewall, `quarantined` were dropped while their plugin was.
    """

    relayed: int = 0
    envelopes: int = 0
    invalid: int = 0
    failed: int = 0
    refused: int = 0
    quarantined: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class _Way:
    """What is known of one source channel."""

    route: Route
    source: str
    parameters: Mapping[str, str]
    channel: str
    tally: Tally
    quarantine: Quarantine
    type: str
    decode: Callable[[str], Any]
    transform: Callable[[Event[Any]], Any]
    check: Callable[[Envelope], CheckedEnvelope]


class Relay:
    """Turns the messages of one read into frames, in order; nothing that an event does harms the next.

    `exchange` is the configured name of the bridge's exchange; `clock` is monotonic, in seconds.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        hub: Hub,
        *,
        exchange: str,
        log: ThrottledLog,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._routes = routes
        self._hub = hub
        self._exchange = exchange
        self._log = log
        self._ways: dict[bytes, _Way | None] = {}
        self._clock = clock
        self.quarantines = {route.plugin.name: Quarantine(clock) for route in routes}
        self.tallies = {route.event_type.name: Tally() for route in routes}
        self.unrouted = 0

    def relay(self, messages: Iterable[tuple[bytes, bytes]]) -> None:
        """Relay source channels and payloads to the hub, whose flush writes them."""
        ways = self._ways
        for source, payload in messages:
            try:
                way = ways[source]
            except KeyError:
                way = self._find(source)
            if way is None:
                self.unrouted += 1
                self._log.warning("event dropped", cause="its source channel is of no declared form")
            else:
                self._relay(way, payload)

    def _find(self, source: bytes) -> _Way | None:
        if len(self._ways) >= _MAX_WAYS:
            self._ways.clear()
        way = self._ways[source] = self._way(source)
        return way

    def _way(self, source: bytes) -> _Way | None:
        try:
            text = source.decode()
        except UnicodeDecodeError:
            return None
        for route in self._routes:
            parameters = route.match(text)
            if parameters is not None:
                return _Way(
                    route=route,
                    source=text,
                    parameters=types.MappingProxyType(parameters),
                    channel=route.event_type.channel_of(parameters),
                    tally=self.tallies[route.event_type.name],
                    quarantine=self.quarantines[route.plugin.name],
                    type=route.event_type.name,
                    decode=route.decode,
                    transform=route.plugin.call,
                    check=route.firewall.check,
                )
        return None

    def _relay(self, way: _Way, payload: bytes) -> None:
        tally = way.tally
        quarantine = way.quarantine
        if quarantine.closed and not quarantine.admits():
            tally.quarantined += 1
            return
        checked: Sequence[CheckedEnvelope] = ()
        failed = False
        quarantine.calls += 1
        started = self._clock()
        try:
            try:
                read = way.decode(payload.decode())
            except (UnicodeDecodeError, msgspec.DecodeError, RecursionError) as error:
                raise InvalidEvent(_decoding_fault(error)) from None
            event = Event(way.type, way.source, way.parameters, way.channel, read, self._exchange)
            result = way.transform(event)
            checked = (way.check(result),) if isinstance(result, Envelope) else _checked(way, result)
        except InvalidEvent as error:
            tally.invalid += 1
            self._log.warning("event dropped", event_type=way.type, cause=error.reason)
        except EnvelopeRefused as error:
            failed = True
            tally.refused += 1
            self._log.error("envelope refused", cause=str(error), **_named(way.route))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # one event: whatever a plugin raises costs its event, nothing else
            failed = True
            tally.failed += 1
            self._log.error("plugin failed", cause=_place(error), **_named(way.route))
        else:
            tally.relayed += 1
            tally.envelopes += len(checked)
        seconds = self._clock() - started
        if failed or seconds > SLOW_CALL or quarantine.closed:
            self._judge(way, failed, max(0.0, seconds - len(payload) * SLOW_BYTE))
        for envelope in checked:
            self._hub.publish(envelope)

    def _judge(self, way: _Way, failed: bool, seconds: float) -> None:
        """Hold a call against the plugin's record; `seconds` are those that the payload's size does not excuse."""
        quarantine = way.quarantine
        closed = quarantine.closed
        caught = False
        if seconds > SLOW_CALL:
            self._log.warning("plugin is slow: every client waits for it", **_named(way.route))
            caught = quarantine.note_slow(seconds)
        elif failed:
            caught = quarantine.note_failure()
        elif closed:
            quarantine.release()
            log.warning("plugin released from quarantine", plugin=way.route.plugin.name)
        if caught and not closed:
            log.error("plugin quarantined: its events are dropped", plugin=way.route.plugin.name, seconds=PAUSE)


def _checked(way: _Way, result: Any) -> Sequence[CheckedEnvelope]:
    """Check all that a plugin returned, other than one envelope, before any of it is published."""
    if result is None:
        return ()
    checked: list[CheckedEnvelope] = []
    for envelope in result:
        if not isinstance(envelope, Envelope):
            raise EnvelopeRefused("$", "is no Envelope")
        if len(checked) == MAX_ENVELOPES:
            raise EnvelopeRefused("$", f"is one of more than {MAX_ENVELOPES} from one event")
        checked.append(way.check(envelope))
    return checked


def _named(route: Route) -> dict[str, str]:
    plugin = route.plugin
    return {"plugin": plugin.name, "distribution": plugin.distribution, "event_type": route.event_type.name}


def _decoding_fault(error: Exception) -> str:
    """Say what is wrong with a payload, with nothing of what is in it."""
    if isinstance(error, UnicodeDecodeError):
        return "the payload is not UTF-8"
    if isinstance(error, msgspec.ValidationError):
        return "a member that is read is missing or of the wrong kind"
    if isinstance(error, RecursionError):
        return "the payload is nested too deep"
    return "the payload is not JSON"


def _place(error: BaseException) -> str:
    """Say what a plugin raised and where; its text stays inside, it may quote the payload."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    assert traceback is not None  # it was raised
    code = traceback.tb_frame.f_code
    return f"{type(error).__name__} in {code.co_name}, line {traceback.tb_lineno}"

"""The relay: reads the events of a source, has plugins transform them, checks the envelopes and publishes them."""

import dataclasses
import enum
import time
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import structlog

from tornado_bridge.errors import InvalidEvent
from tornado_bridge.events import Envelope, Event
from tornado_bridge.ingest import decoding
from tornado_bridge.ingest.decoding import member_names
from tornado_bridge.ingest.quarantine import PAUSE, SLOW_BYTE, SLOW_CALL, Quarantine, Watch
from tornado_bridge.logs import ThrottledLog
from tornado_bridge.redaction.firewall import CheckedEnvelope, EnvelopeRefused
from tornado_bridge.registry import Route
from tornado_bridge.stream.hub import Hub

log = structlog.get_logger(__name__)

# A plugin that returns more envelopes than this for one event has failed.
MAX_ENVELOPES = 256

# The relay remembers the route of so many source channels. When the table is full, it is emptied.
_MAX_SOURCES = 65_536


class Outcome(enum.StrEnum):
    """The fate of an event."""

    RELAYED = "relayed"  # the plugin returned envelopes or nothing
    INVALID = "invalid"  # the event broke its contract
    FAILED = "failed"  # the plugin raised
    REFUSED = "refused"  # the egress firewall stopped an envelope
    QUARANTINED = "quarantined"  # dropped while its plugin was in quarantine
    UNROUTED = "unrouted"  # on a source channel that no event type declares, so counted for none


@dataclasses.dataclass
class Tally:
    """The number of events of one type with each outcome, and the number of envelopes made from them."""

    relayed: int = 0
    invalid: int = 0
    failed: int = 0
    refused: int = 0
    quarantined: int = 0
    envelopes: int = 0

    def of(self, outcome: Outcome) -> int:
        """Return the number of events with an outcome."""
        count: int = getattr(self, outcome.value)
        return count


@dataclasses.dataclass(frozen=True, slots=True)
class _Source:
    """One source channel with all that is needed to relay its events."""

    route: Route
    name: str
    parameters: Mapping[str, str]
    channel: str
    tally: Tally
    quarantine: Quarantine
    type: str
    decode: Callable[[str], Any]
    declared: frozenset[str]
    transform: Callable[[Event[Any]], Any]
    check: Callable[[Envelope], CheckedEnvelope]


class Relay:
    """Relays the messages of one read in their order. An event that fails does not affect the others.

    `exchange` is the configured name of the bridge's exchange. `clock` is monotonic, in seconds.
    `cpu` returns the CPU time of the calling thread, in seconds.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        hub: Hub,
        *,
        exchange: str,
        log: ThrottledLog,
        clock: Callable[[], float] = time.perf_counter,
        cpu: Callable[[], float] = time.thread_time,
    ) -> None:
        self._routes = routes
        self._hub = hub
        self._exchange = exchange
        self._log = log
        self._sources: dict[bytes, _Source | None] = {}
        self._clock = clock
        self._watch = Watch(cpu)
        self.quarantines = {route.plugin.name: Quarantine(clock) for route in routes}
        self.tallies = {route.event_type.name: Tally() for route in routes}
        self._declared = {route.event_type.name: member_names(route.event_type.reads) for route in routes}
        # The number of events whose source channel is not declared by any event type.
        self.unrouted = 0

    def relay(self, messages: Iterable[tuple[bytes, bytes]]) -> None:
        """Relay pairs of a source channel and a payload to the hub. The hub sends the frames on its next `flush`."""
        sources = self._sources
        for name, payload in messages:
            try:
                source = sources[name]
            except KeyError:
                source = self._remember(name)
            if source is None:
                self.unrouted += 1
                self._log.warning("event dropped", cause="its source channel is of no declared form")
            elif source.quarantine.watched:
                self._relay_watched(source, payload)
            else:
                self._relay(source, payload)

    def _remember(self, name: bytes) -> _Source | None:
        if len(self._sources) >= _MAX_SOURCES:
            self._sources.clear()
        source = self._sources[name] = self._resolve(name)
        return source

    def _resolve(self, name: bytes) -> _Source | None:
        """Return a source channel with its route, or None if no event type declares it."""
        try:
            text = name.decode()
        except UnicodeDecodeError:
            return None
        for route in self._routes:
            parameters = route.match(text)
            if parameters is not None:
                return _Source(
                    route=route,
                    name=text,
                    parameters=types.MappingProxyType(parameters),
                    channel=route.event_type.channel_of(parameters),
                    tally=self.tallies[route.event_type.name],
                    quarantine=self.quarantines[route.plugin.name],
                    type=route.event_type.name,
                    decode=route.decode,
                    declared=self._declared[route.event_type.name],
                    transform=route.plugin.call,
                    check=route.firewall.check,
                )
        return None

    def _relay_watched(self, source: _Source, payload: bytes) -> None:
        """Relay an event if its plugin may get one, and measure the call."""
        if not source.quarantine.admits():
            source.tally.quarantined += 1
            return
        self._watch.begin()
        try:
            self._relay(source, payload)
        finally:
            self._watch.end()

    def _relay(self, source: _Source, payload: bytes) -> None:
        quarantine = source.quarantine
        checked: Sequence[CheckedEnvelope] = ()
        failed = False
        quarantine.calls += 1
        started = self._clock()
        try:
            checked = _check(source, source.transform(self._read(source, payload)))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a plugin may raise anything: it costs this event only
            failed = self._note(source, error)
        else:
            source.tally.relayed += 1
            source.tally.envelopes += len(checked)
        seconds = self._clock() - started
        if failed or seconds > SLOW_CALL or quarantine.closed:
            self._judge(source, failed, seconds, len(payload) * SLOW_BYTE)
        for envelope in checked:
            self._hub.publish(envelope)

    def _read(self, source: _Source, payload: bytes) -> Event[Any]:
        """Return the event of a payload. Raises InvalidEvent if the payload breaks the event type's contract."""
        try:
            members = source.decode(payload.decode())
        except (UnicodeDecodeError, msgspec.DecodeError, RecursionError) as error:
            raise InvalidEvent(decoding.explain(error, source.declared)) from None
        return Event(source.type, source.name, source.parameters, source.channel, members, self._exchange)

    def _note(self, source: _Source, error: BaseException) -> bool:
        """Count and log an event that was not relayed. Returns whether its plugin is to blame."""
        tally = source.tally
        if isinstance(error, InvalidEvent):
            tally.invalid += 1
            self._log.warning(
                "event dropped", event_type=source.type, source=source.route.event_type.source, cause=error.reason
            )
            return False
        if isinstance(error, EnvelopeRefused):
            tally.refused += 1
            self._log.error("envelope refused", cause=str(error), **_named(source.route))
        else:
            tally.failed += 1
            self._log.error("plugin failed", cause=_place(error), **_named(source.route))
        return True

    def _judge(self, source: _Source, failed: bool, seconds: float, excused: float) -> None:
        """Record a call that failed or was slow. `excused` are the seconds that the payload's size explains."""
        quarantine = source.quarantine
        closed = quarantine.closed
        # The first slow call was not measured. It only starts the watch.
        blocked = self._watch.blocked(seconds) - excused if quarantine.watched else 0.0
        if seconds - excused > SLOW_CALL:
            self._log.warning("plugin is slow: every client waits for it", **_named(source.route))
            quarantine.note_slow()
        caught = False
        if blocked > SLOW_CALL:
            caught = quarantine.note_blocked(blocked)
        elif failed:
            caught = quarantine.note_failure()
        elif closed:
            quarantine.release()
            log.warning("plugin released from quarantine", plugin=source.route.plugin.name)
        if caught and not closed:
            log.error("plugin quarantined: its events are dropped", plugin=source.route.plugin.name, seconds=PAUSE)


def _check(source: _Source, result: Any) -> Sequence[CheckedEnvelope]:
    """Check all envelopes that a plugin returned before the first one is published."""
    if isinstance(result, Envelope):
        return (source.check(result),)
    if result is None:
        return ()
    checked: list[CheckedEnvelope] = []
    for envelope in result:
        if not isinstance(envelope, Envelope):
            raise EnvelopeRefused("$", "is not an Envelope")
        if len(checked) == MAX_ENVELOPES:
            raise EnvelopeRefused("$", f"is one of more than {MAX_ENVELOPES} from one event")
        checked.append(source.check(envelope))
    return checked


def _named(route: Route) -> dict[str, str]:
    plugin = route.plugin
    return {"plugin": plugin.name, "distribution": plugin.distribution, "event_type": route.event_type.name}


def _place(error: BaseException) -> str:
    """Name the exception and its place. The exception's text is left out because it may quote the payload."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    assert traceback is not None  # the exception was raised
    code = traceback.tb_frame.f_code
    return f"{type(error).__name__} in {code.co_name}, line {traceback.tb_lineno}"

"""Channels to cohorts, and the one write a connection and turn.

A cohort is the connections whose subscriptions are the same set, and that have agreed on the same compression. An
event's frame is appended once to each cohort that matches its channel; a flush joins what a cohort has pending once,
and writes it with one `send` a connection.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

from tornado_bridge.channels import Grammar
from tornado_bridge.redaction.firewall import CheckedEnvelope
from tornado_bridge.wire.deflate import Compression

# Frames written together count as one for a slow client, up to this many bytes (PROTOCOL.md section 6).
MAX_BATCH = 65_536

# Past this many channels the table of matches starts anew.
_MAX_MATCHES = 65_536

Send = Callable[[bytes], int]
Subscriptions = frozenset[str]
NO_SUBSCRIPTIONS: Subscriptions = frozenset()


class Subscriber(Protocol):
    """What the hub needs of a connection's outlet."""

    cohort: "Cohort | None"

    @property
    def window(self) -> int | None:
        """The window of permessage-deflate in bits, None where frames are sent as they are."""

    @property
    def idle_send(self) -> Send | None:
        """The socket's own `send` while nothing is held back for the connection, else None."""

    def offer(self, batch: bytes, frames: int) -> None:
        """Take or skip a batch behind what is held back."""

    def fell_short(self, batch: bytes, sent: int) -> None:
        """Hold back what the socket did not take of a batch; `sent` is -1 where the socket is gone."""


class Cohort:
    """Connections of equal subscriptions: those that can be written at once, apart from the busy ones."""

    __slots__ = ("busy", "idle", "pending", "subscriptions", "window")

    def __init__(self, subscriptions: Subscriptions, window: int | None = None) -> None:
        self.subscriptions = subscriptions
        self.window = window
        self.idle: dict[Subscriber, Send] = {}
        self.busy: set[Subscriber] = set()
        self.pending: list[bytes] = []

    def __len__(self) -> int:
        return len(self.idle) + len(self.busy)

    def place(self, subscriber: Subscriber) -> None:
        """Put a subscriber of this cohort where its state says."""
        send = subscriber.idle_send
        if send is None:
            self.idle.pop(subscriber, None)
            self.busy.add(subscriber)
        else:
            self.busy.discard(subscriber)
            self.idle[subscriber] = send

    def remove(self, subscriber: Subscriber) -> None:
        self.idle.pop(subscriber, None)
        self.busy.discard(subscriber)

    def write(self, batch: bytes, frames: int) -> None:
        """Write one batch to every connection; nothing in here may add or remove one before the loop is over."""
        if self.busy:
            for subscriber in tuple(self.busy):
                subscriber.offer(batch, frames)
        size = len(batch)
        short: list[tuple[Subscriber, int]] = []
        for subscriber, send in self.idle.items():
            try:
                sent = send(batch)
            except BlockingIOError:
                sent = 0
            except OSError:
                sent = -1
            if sent != size:
                short.append((subscriber, sent))
        for subscriber, sent in short:
            subscriber.fell_short(batch, sent)


class Hub:
    """The subscriptions of one bridge."""

    def __init__(self, grammar: Grammar) -> None:
        self._grammar = grammar
        self._cohorts: dict[tuple[Subscriptions, int | None], Cohort] = {}
        self._index: dict[str, dict[Cohort, None]] = {}
        self._matches: dict[str, tuple[Cohort, ...]] = {}
        self._dirty: list[Cohort] = []
        # Events since the last flush, and cohorts that agreed on compression.
        self._published = 0
        self._deflating = 0
        self.due = 0

    @property
    def cohorts(self) -> int:
        return len(self._cohorts)

    def assign(self, subscriber: Subscriber, subscriptions: Subscriptions) -> None:
        """Make `subscriptions` those of the subscriber; none of them takes it out of the hub."""
        if self._dirty:
            # What is pending was published to the subscriptions as they were.
            self.flush()
        old = subscriber.cohort
        if old is not None:
            if old.subscriptions == subscriptions:
                return
            old.remove(subscriber)
            subscriber.cohort = None
            if not len(old):
                self._dissolve(old)
        if subscriptions:
            cohort = self._cohorts.get((subscriptions, subscriber.window))
            if cohort is None:
                cohort = self._found(subscriptions, subscriber.window)
            subscriber.cohort = cohort
            cohort.place(subscriber)

    def _found(self, subscriptions: Subscriptions, window: int | None) -> Cohort:
        cohort = self._cohorts[subscriptions, window] = Cohort(subscriptions, window)
        self._deflating += window is not None
        for subscription in subscriptions:
            self._index.setdefault(subscription, {})[cohort] = None
        self._forget_matches(subscriptions)
        return cohort

    def _dissolve(self, cohort: Cohort) -> None:
        del self._cohorts[cohort.subscriptions, cohort.window]
        self._deflating -= cohort.window is not None
        for subscription in cohort.subscriptions:
            cohorts = self._index[subscription]
            del cohorts[cohort]
            if not cohorts:
                del self._index[subscription]
        self._forget_matches(cohort.subscriptions)

    def _forget_matches(self, subscriptions: Subscriptions) -> None:
        for subscription in subscriptions:
            if "*" in subscription:
                self._matches.clear()
                return
            self._matches.pop(subscription, None)

    def _match(self, channel: str) -> tuple[Cohort, ...]:
        if len(self._matches) >= _MAX_MATCHES:
            self._matches.clear()
        found: dict[Cohort, None] = {}
        for subscription in self._grammar.subscriptions(channel):
            found.update(self._index.get(subscription, {}))
        cohorts = self._matches[channel] = tuple(found)
        return cohorts

    def publish(self, envelope: CheckedEnvelope) -> None:
        """Put an envelope's frame before every cohort that subscribes to its channel, to be sent by `flush`."""
        cohorts = self._matches.get(envelope.channel)
        if cohorts is None:
            cohorts = self._match(envelope.channel)
        self._published += 1
        frame = envelope.frame
        for cohort in cohorts:
            if not cohort.pending:
                self._dirty.append(cohort)
            cohort.pending.append(frame)

    def flush(self) -> None:
        """Write what is pending, in the order of the source."""
        compression = self._compression() if self._deflating else None
        self._published = 0
        while self._dirty:
            # Taken out first: should a write raise, the other cohorts are still due.
            cohort = self._dirty.pop()
            pending, cohort.pending = cohort.pending, []
            self.due += len(pending) * len(cohort)
            if compression is not None and cohort.window is not None:
                for frames in batches(pending):
                    cohort.write(compression.batch(frames, cohort.window, len(cohort)), len(frames))
                continue
            batch = b"".join(pending)
            if len(batch) <= MAX_BATCH:
                cohort.write(batch, len(pending))
                continue
            for frames in batches(pending):
                cohort.write(b"".join(frames), len(frames))

    def _compression(self) -> Compression:
        deflating = (cohort for cohort in self._dirty if cohort.window is not None)
        return Compression(self._published, ((len(cohort.pending), len(cohort)) for cohort in deflating))


def batches(frames: list[bytes]) -> Iterator[list[bytes]]:
    """Yield the frames in runs of at most 64 KiB; a larger frame is a run of its own."""
    if sum(map(len, frames)) <= MAX_BATCH:
        yield frames
        return
    run: list[bytes] = []
    size = 0
    for frame in frames:
        if run and size + len(frame) > MAX_BATCH:
            yield run
            run, size = [], 0
        run.append(frame)
        size += len(frame)
    yield run

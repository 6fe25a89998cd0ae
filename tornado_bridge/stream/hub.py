"""Who gets an envelope: channels to cohorts, and one write per connection and turn of the loop."""

from collections.abc import Iterator

from tornado_bridge.channels import Grammar
from tornado_bridge.redaction.firewall import CheckedEnvelope
from tornado_bridge.stream.cohort import Cohort, Subscriber, Subscriptions
from tornado_bridge.wire import frames
from tornado_bridge.wire.deflate import Compression

# Frames that are written together count as one for a slow client, up to this many bytes (docs/protocol.md section 6).
MAX_BATCH = 65_536

# Beyond this many cohorts in all its rows the table of matches is emptied. That bounds the table to some 10 MB, and a
# change of subscriptions to a few milliseconds. To match an event anew costs less than to send it to its cohorts.
_MAX_MATCHES = 1_000_000

# The cohorts that get a channel's frames, and those that get its texts to compress.
_Matches = tuple[tuple[Cohort, ...], tuple[Cohort, ...]]


def _size(matches: _Matches) -> int:
    """Return how much a row counts. A channel without cohorts takes memory too."""
    return 16 + len(matches[0]) + len(matches[1])


class Hub:
    """The subscriptions of one bridge. `due` counts the frames that were due to clients, the skipped ones included."""

    def __init__(self, grammar: Grammar) -> None:
        self._grammar = grammar
        self._cohorts: dict[tuple[Subscriptions, int | None], Cohort] = {}
        self._index: dict[str, dict[Cohort, None]] = {}
        # The cohorts of each channel seen lately, and how many these are in all rows together.
        self._matches: dict[str, _Matches] = {}
        self._matched = 0
        self._dirty: list[Cohort] = []
        # Events since the last flush, and the number of cohorts with compression.
        self._published = 0
        self._deflating = 0
        self.due = 0

    @property
    def cohorts(self) -> int:
        return len(self._cohorts)

    def assign(self, subscriber: Subscriber, subscriptions: Subscriptions) -> None:
        """Give a subscriber its subscriptions. Without any it leaves the hub."""
        if self._dirty:
            # Pending events were published to the old subscriptions.
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
                cohort = self._create(subscriptions, subscriber.window)
            subscriber.cohort = cohort
            cohort.place(subscriber)

    def _create(self, subscriptions: Subscriptions, window: int | None) -> Cohort:
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
                self._forget_all_matches()
                return
            matches = self._matches.pop(subscription, None)
            if matches is not None:
                self._matched -= _size(matches)

    def _forget_all_matches(self) -> None:
        self._matches.clear()
        self._matched = 0

    def _match(self, channel: str) -> _Matches:
        matching: dict[Cohort, None] = {}
        for subscription in self._grammar.subscriptions(channel):
            matching.update(self._index.get(subscription, {}))
        plain = tuple(cohort for cohort in matching if cohort.window is None)
        deflating = tuple(cohort for cohort in matching if cohort.window is not None)
        matches = plain, deflating
        if self._matched + _size(matches) > _MAX_MATCHES:
            self._forget_all_matches()
        self._matches[channel] = matches
        self._matched += _size(matches)
        return matches

    def publish(self, envelope: CheckedEnvelope) -> None:
        """Queue an envelope for every cohort that subscribes to its channel. `flush` sends it."""
        matches = self._matches.get(envelope.channel)
        if matches is None:
            matches = self._match(envelope.channel)
        self._published += 1
        plain, deflating = matches
        if plain:
            frame = frames.text(envelope.text)
            for cohort in plain:
                if not cohort.pending:
                    self._dirty.append(cohort)
                cohort.pending.append(frame)
        for cohort in deflating:
            if not cohort.pending:
                self._dirty.append(cohort)
            cohort.pending.append(envelope.text)

    def flush(self) -> None:
        """Write what is pending, in the order of the source."""
        compression = self._compression() if self._deflating else None
        self._published = 0
        while self._dirty:
            # The cohort is taken out first. If a write raises, the other cohorts are still due.
            cohort = self._dirty.pop()
            pending, cohort.pending = cohort.pending, []
            self.due += len(pending) * len(cohort)
            if compression is not None and cohort.window is not None:
                for texts in batches(pending, frames.MEDIUM_HEADER):
                    cohort.write(compression.batch(texts, cohort.window, len(cohort)), len(texts))
                continue
            batch = b"".join(pending)
            if len(batch) <= MAX_BATCH:
                cohort.write(batch, len(pending))
                continue
            for run in batches(pending):
                cohort.write(b"".join(run), len(run))

    def _compression(self) -> Compression:
        deflating = (cohort for cohort in self._dirty if cohort.window is not None)
        return Compression(self._published, ((len(cohort.pending), len(cohort)) for cohort in deflating))


def batches(pieces: list[bytes], header: int = 0) -> Iterator[list[bytes]]:
    """Yield the pieces in runs of at most 64 KiB. A larger piece is a run of its own.

    `header` is the size in bytes of what each piece still gets in front of it.
    """
    if sum(map(len, pieces)) + header * len(pieces) <= MAX_BATCH:
        yield pieces
        return
    run: list[bytes] = []
    size = 0
    for piece in pieces:
        if run and size + len(piece) + header > MAX_BATCH:
            yield run
            run, size = [], 0
        run.append(piece)
        size += len(piece) + header
    yield run

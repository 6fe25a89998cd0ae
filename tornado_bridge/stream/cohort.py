"""Connections with equal subscriptions: an event is appended once to each cohort, and each member gets one write."""

from collections.abc import Callable
from typing import Protocol

Send = Callable[[bytes], int]
Subscriptions = frozenset[str]
NO_SUBSCRIPTIONS: Subscriptions = frozenset()


class Subscriber(Protocol):
    """What the hub needs of a connection's outlet."""

    cohort: "Cohort | None"

    @property
    def window(self) -> int | None:
        """The window of permessage-deflate in bits, or None if frames are sent plain."""

    @property
    def idle_send(self) -> Send | None:
        """The socket's own `send` while nothing is buffered for the connection, else None."""

    def offer(self, batch: bytes, frames: int) -> None:
        """Take or skip a batch behind what is already buffered."""

    def fell_short(self, batch: bytes, sent: int) -> None:
        """Buffer the bytes of a batch that the socket did not take. `sent` is -1 if the socket is gone."""


class Cohort:
    """Connections with equal subscriptions and the same window of compression.

    The `idle` ones are written at once with their socket's `send`; the `busy` ones have bytes waiting. `pending` holds
    frames, or with a window texts, which are compressed before they become frames.
    """

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
        """Put a member among the idle or the busy ones, as its state demands."""
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
        """Write one batch to every connection. Nothing in the loop may add or remove one."""
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

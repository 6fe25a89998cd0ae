"""The workloads: the subscriptions of the clients, and the events that are published, with their times."""

import random
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from itertools import accumulate

from benchmarks.rig.market import TIMEFRAMES, Instrument, instruments

Sets = list[tuple[str, ...]]


class Kind(Enum):
    """Kinds of workloads: each counts its own unit."""

    BURSTS = "bursts"  # processor seconds per million deliveries
    INGEST = "ingest"  # processor microseconds per event
    CONNECT = "connect"  # processor microseconds per handshake
    IDLE = "idle"  # bytes per connection


def everything(listed: Sequence[Instrument], clients: int) -> Sets:
    """All clients subscribe to all channels."""
    return [tuple(instrument.channel for instrument in listed)]


def own_twenty(listed: Sequence[Instrument], clients: int) -> Sets:
    """Each client subscribes to twenty channels of its own choice."""
    chance = random.Random(20)
    channels = [instrument.channel for instrument in listed]
    return [tuple(chance.sample(channels, 20)) for _ in range(clients)]


def popular(listed: Sequence[Instrument], clients: int) -> Sets:
    """Each client has 5 to 30 subscriptions, drawn by Zipf's law. Every fifth client has a wildcard as one of them."""
    chance = random.Random(30)
    order = list(listed)
    chance.shuffle(order)
    weights = list(accumulate(1 / rank for rank in range(1, len(order) + 1)))
    sets: Sets = []
    for client in range(clients):
        wanted = chance.randint(5, 30)
        chosen: dict[str, None] = {}
        if client % 5 == 0:
            one = chance.choices(order, cum_weights=weights)[0]
            wide = f"candles:*:{one.timeframe}" if client % 10 else f"candles:{one.symbol}:*"
            chosen[wide] = None
        while len(chosen) < wanted:
            chosen[chance.choices(order, cum_weights=weights)[0].channel] = None
        sets.append(tuple(chosen))
    return sets


def the_last(listed: Sequence[Instrument], clients: int) -> Sets:
    """Clients subscribe to the last channel alone: once its event has arrived, all events before it are relayed."""
    return [(listed[-1].channel,)]


def nothing(listed: Sequence[Instrument], clients: int) -> Sets:
    """No client subscribes to anything."""
    return [()]


@dataclass(frozen=True)
class Workload:
    """Bursts of `burst` events, in turn on the channels of `symbols` in `timeframes`.

    The next burst leaves `pause` seconds after every client has the burst before. With an `interval`, it leaves that
    many seconds after the burst before, or once every client has that, whichever is later. A measurement takes at least
    `least_seconds`. A `pipelined` burst leaves in one write; otherwise each PUBLISH waits for the reply to the last.
    """

    name: str
    title: str
    kind: Kind = Kind.BURSTS
    symbols: int = 50
    timeframes: tuple[str, ...] = ("1m",)
    burst: int = 50
    sets: Callable[[Sequence[Instrument], int], Sets] = everything
    pause: float = 0.01
    interval: float | None = None
    least_seconds: float = 0.0
    least_warmup: int = 3  # bursts
    pipelined: bool = True
    deaf: float = 0.0  # share of the clients that subscribe and then never read
    absent: float = 0.0  # share of the clients that never connect
    clients: int | None = None  # set where the workload itself fixes the number
    baseline: str | None = None  # the workload that is measured beside it for comparison

    @property
    def instruments(self) -> list[Instrument]:
        return instruments(self.symbols, self.timeframes)

    def numbers(self, clients: Sequence[int]) -> Sequence[int]:
        """Return the numbers of clients to measure with, for the numbers that were asked for."""
        return clients if self.clients is None else (self.clients,)

    def connected(self, clients: int) -> int:
        """Return how many of the clients connect."""
        return clients - int(clients * self.absent)

    def not_reading(self, clients: int) -> int:
        """Return how many of the clients never read."""
        return int(clients * self.deaf)


SLOW_INTERVAL = 0.05
UNTIL_SLOW = 40  # bursts until the buffers of the kernel and the server are full for a client that never reads

WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("burst", "50 events at once, all clients on the same 50 channels"),
        Workload(
            "mixed",
            "500 events at once, each client on 20 of 500 channels of its own",
            symbols=100,
            timeframes=TIMEFRAMES,
            burst=500,
            sets=own_twenty,
        ),
        Workload(
            "zipf",
            "500 events at once, each client on 5 to 30 of 500 channels by popularity, a fifth with a wildcard",
            symbols=100,
            timeframes=TIMEFRAMES,
            burst=500,
            sets=popular,
        ),
        Workload("lone", "one event at a time, all clients on the same 50 channels", burst=1, pause=0.0),
        Workload("paced", "50 events at once every second, all clients on them", interval=1.0, least_seconds=5.0),
        Workload(
            "unpipelined",
            "50 events every second, each PUBLISH awaited before the next, all clients on them",
            interval=1.0,
            least_seconds=5.0,
            pipelined=False,
        ),
        Workload(
            "slow",
            "50 events at once, 20 times per second, a tenth of the clients never reads",
            interval=SLOW_INTERVAL,
            least_warmup=UNTIL_SLOW,
            deaf=0.1,
            baseline="slow_baseline",
        ),
        Workload(
            "slow_baseline",
            "50 events at once, 20 times per second, without the tenth that never reads",
            interval=SLOW_INTERVAL,
            least_warmup=UNTIL_SLOW,
            absent=0.1,
        ),
        Workload(
            "ingest",
            "5,000 events at once on 500 channels, one client on one of them",
            kind=Kind.INGEST,
            symbols=100,
            timeframes=TIMEFRAMES,
            burst=5000,
            sets=the_last,
            clients=1,
        ),
        Workload("connect", "handshakes, 64 at a time, no subscriptions", kind=Kind.CONNECT, sets=nothing),
        Workload("idle", "connections subscribed to the same 50 channels, nothing published", kind=Kind.IDLE),
    )
}


@cache
def deliveries(workload: Workload, clients: int, events: int) -> int:
    """Return how many deliveries events 0 to `events` - 1 make to those of the clients that read."""
    listed = workload.instruments
    connected, deaf = workload.connected(clients), workload.not_reading(clients)
    cycles, rest = divmod(events, len(listed))
    due = [
        cycles * len(numbers) + bisect_left(numbers, rest)
        for numbers in matched(workload.sets(listed, connected), listed)
    ]
    return sum(due[client % len(due)] for client in range(connected) if not is_deaf(client, connected, deaf))


def is_deaf(client: int, clients: int, deaf: int) -> bool:
    """Whether a client is deaf. Deaf clients are spread evenly, as in the load generator's main.c."""
    return (client + 1) * deaf // clients != client * deaf // clients


def matched(sets: Sequence[Sequence[str]], listed: Sequence[Instrument]) -> list[list[int]]:
    """Return the numbers of the channels that each set of subscriptions covers, ascending."""
    covered: dict[str, list[int]] = {}
    for number, one in enumerate(listed):
        for subscription in (one.channel, f"candles:*:{one.timeframe}", f"candles:{one.symbol}:*", "candles:*:*"):
            covered.setdefault(subscription, []).append(number)
    return [sorted({number for one in subscriptions for number in covered.get(one, ())}) for subscriptions in sets]

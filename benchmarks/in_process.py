"""Bursts through relay and hub in one process, without Redis or sockets, for tools that count instructions.

`python -m benchmarks.in_process` calls MARK before and after the bursts of each case, and nowhere else.
"""

import gc
import os
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from benchmarks.rig.market import (
    EXCHANGE_ID,
    EXCHANGE_NAME,
    MICROSECONDS,
    MILLISECONDS,
    TIMEFRAMES,
    Market,
    instruments,
)
from tornado_bridge.ingest.relay import Relay
from tornado_bridge.logs import ThrottledLog
from tornado_bridge.registry import Registry
from tornado_bridge.stream.cohort import Cohort, Send
from tornado_bridge.stream.hub import Hub

# A function of the C library that nothing else in this process calls.
MARK = "getppid"

# Per burst, each on a channel of its own.
EVENTS = 50
# Events of a burst that a client with a set of its own receives.
OWN_EVENTS = 20
BURSTS = 2
# After a few bursts Python has specialized its bytecode, and the tables have grown.
WARM_UP = 4

Messages = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Case:
    """`clients` subscribe to the whole burst; `own` further ones each subscribe to a set of their own."""

    clients: int = 0
    own: int = 0


NOBODY = Case()
FEW, MANY = Case(clients=50), Case(clients=500)
FEW_SETS, MANY_SETS = Case(own=10), Case(own=210)
CASES = (NOBODY, FEW, MANY, FEW_SETS, MANY_SETS)


class Reader:
    """A subscriber whose socket takes all bytes at once."""

    window: int | None = None

    def __init__(self, send: Send) -> None:
        self.idle_send: Send | None = send
        self.cohort: Cohort | None = None

    def offer(self, batch: bytes, frames: int) -> None:
        raise AssertionError("a batch was held back for a reader")

    def fell_short(self, batch: bytes, sent: int) -> None:
        raise AssertionError("the socket did not take all bytes")


def bursts(market: Market, count: int) -> list[Messages]:
    """Return that many bursts as Redis delivers them, all with the same moment."""
    return [
        [
            (candle.instrument.source_channel.encode(), _stamped(candle.payload).encode())
            for candle in market.next_burst(EVENTS).candles
        ]
        for _ in range(count)
    ]


def _stamped(payload: str) -> str:
    return payload.replace(MILLISECONDS, "1708264800123").replace(MICROSECONDS, "456")


class Bridge:
    """A relay and a hub with the clients of one case. `send` stands for their sockets."""

    def __init__(self, registry: Registry, case: Case, channels: Sequence[str], send: Send) -> None:
        self._case = case
        self._hub = Hub(registry.grammar)
        self._relay = Relay(
            registry.routes(str(EXCHANGE_ID)),
            self._hub,
            exchange=EXCHANGE_NAME,
            log=ThrottledLog(structlog.get_logger(__name__)),
            # The clock stands still, because under valgrind every call would look slow to the relay.
            clock=float,
        )
        choice = random.Random(0)
        for _ in range(case.clients):
            self._hub.assign(Reader(send), frozenset(channels))
        for _ in range(case.own):
            self._hub.assign(Reader(send), frozenset(choice.sample(channels, OWN_EVENTS)))

    def run(self, reads: Sequence[Messages]) -> None:
        """Relay and flush each burst."""
        relay, flush = self._relay.relay, self._hub.flush
        for messages in reads:
            relay(messages)
            flush()

    def check(self, reads: int) -> None:
        """Exit unless every event of that many bursts went to every client that subscribes to it."""
        case, relayed = self._case, sum(tally.envelopes for tally in self._relay.tallies.values())
        if relayed != reads * EVENTS:
            sys.exit(f"{relayed} of {reads * EVENTS} events were relayed")
        due = reads * (case.clients * EVENTS + case.own * OWN_EVENTS)
        if self._hub.due != due:
            sys.exit(f"{self._hub.due} of {due} deliveries were made")


def main() -> None:
    # Like a socket's send, the write of an unbuffered file is a method in C with one system call.
    with open(os.devnull, "wb", buffering=0) as nowhere:
        run(nowhere.write)


def run(send: Send) -> None:
    """Run all cases, each after a warm-up."""
    market = Market(instruments(EVENTS // len(TIMEFRAMES), TIMEFRAMES))
    registry = Registry(["candle"])
    bridges = [Bridge(registry, case, market.channels, send) for case in CASES]
    warm_up, measured = bursts(market, WARM_UP), bursts(market, BURSTS)
    gc.collect()
    # A collection would fall into one case or another by chance.
    gc.disable()
    for bridge in bridges:
        bridge.run(warm_up)
        os.getppid()
        bridge.run(measured)
        os.getppid()
        bridge.check(WARM_UP + BURSTS)


if __name__ == "__main__":
    main()

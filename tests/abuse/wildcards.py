"""The table of matches under many sets of subscriptions with wildcards."""

import random
import statistics
import time
import tracemalloc

from tests.abuse.rows import Check, at_most
from tests.support.subscriber import Subscriber
from tornado_bridge.channels import Form, Grammar
from tornado_bridge.stream.hub import Hub

SETS = 5_000
CHANNELS = 6_000
CHANGES = 51

GRAMMAR = Grammar(
    [Form("candles:{symbol}:{timeframe}", {"symbol": "[A-Z0-9]{1,20}-[A-Z]{1,20}", "timeframe": ("1m", "1h")})]
)


def _filled() -> Hub:
    hub = Hub(GRAMMAR)
    for number in range(SETS):
        hub.assign(Subscriber(), frozenset({"candles:*:1h", f"candles:{number}-A:1m"}))
    return hub


def _table_bytes(hub: Hub) -> int:
    """Return the bytes that the hub takes at most while every channel is seen, beyond those of the subscriptions."""
    most = 0
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(CHANNELS):
            hub._match(f"candles:{number}-A:1h")
            most = max(most, tracemalloc.get_traced_memory()[0] - before)
    finally:
        tracemalloc.stop()
    return most


def _change_times(hub: Hub) -> list[float]:
    """Return the seconds of CPU of each change of subscriptions, made while the table is as full as it gets."""
    choice = random.Random(1)
    times: list[float] = []
    for change in range(CHANGES):
        for number in choice.sample(range(CHANNELS), 190):
            hub._match(f"candles:{number}-A:1h")
        subscriber = Subscriber()
        start = time.thread_time()
        hub.assign(subscriber, frozenset({"candles:*:1h", f"candles:{SETS + change}-A:1m"}))
        times.append(time.thread_time() - start)
    return times


async def wildcards(_: float) -> list[Check]:
    """5,000 sets of subscriptions with wildcards, 6,000 channels"""
    hub = _filled()
    size = _table_bytes(hub)
    times = _change_times(hub)
    return [
        at_most("table of matches", size / 1e6, 30, "MB"),
        at_most("a change of subscriptions, median", 1e3 * statistics.median(times), 5, "ms"),
        at_most("and at most", 1e3 * max(times), 25, "ms"),
    ]

"""Processes that stand still: the server, and Redis."""

import asyncio
import signal
import time

from tests.abuse.clients import holds, reader
from tests.abuse.rows import Check, at_most, exactly
from tests.abuse.target import CANDLE_SOURCE, Target, candle, target, until

STALL = 5.0
EVENTS = 2_500

# A Redis that hangs must be noticed within this many seconds.
NOTICE = 5.0

PLUGIN_STALL = 0.6
PLUGIN_STALLS = 2

# A plugin whose process stands still in the middle of a call, as if the machine had been paused then.
STALLING_PLUGIN = """
import os
import signal

import msgspec

from tornado_bridge import Envelope, EventType, envelope_schema, hookimpl, values


class Stall(msgspec.Struct):
    price: msgspec.Raw


STALL = EventType(
    name="stall",
    source="channel:stalls:{symbol}",
    channel="stalls:{symbol}",
    parameters={"symbol": "[A-Z]{1,10}"},
    reads=Stall,
    emits=envelope_schema("stall", "^stalls:[A-Z]{1,10}$", {"price": values.DECIMAL}),
)


@hookimpl
def register_event_types():
    return [STALL]


@hookimpl
def transform(event):
    os.kill(os.getpid(), signal.SIGSTOP)
    return Envelope(event.channel, {"price": values.decimal(event.payload.price, "price")})
"""


def _publish(under_attack: Target, numbers: range) -> None:
    under_attack.redis.publish(*[(CANDLE_SOURCE, candle(number)) for number in numbers])


async def a_server_that_stands_still(_: float) -> list[Check]:
    """the server stands still for 5 s while 2,500 events are published"""
    with target() as under_attack:
        connects = under_attack.metric("tornado_bridge_source_subscriptions_total")
        async with reader(under_attack) as reading:
            with under_attack.stopped():
                step = EVENTS // 10
                for first in range(0, EVENTS, step):
                    _publish(under_attack, range(first, first + step))
                    await asyncio.sleep(STALL / 10)
            await holds(lambda: len(reading.prices) >= EVENTS, 10)
            again = under_attack.metric("tornado_bridge_source_subscriptions_total") - connects
            lost = len({*range(EVENTS)} - {*reading.prices})
            return [
                exactly("events lost", lost, 0),
                exactly("in order, once", reading.prices == sorted({*reading.prices}), True),
                exactly("reconnects", int(again), 0),
                exactly("client still connected", not reading.ended, True),
            ]


async def a_redis_that_hangs(_: float) -> list[Check]:
    """Redis hangs, and goes on"""
    with target() as under_attack:
        under_attack.redis.signal(signal.SIGSTOP)
        try:
            noticed = await asyncio.to_thread(until, lambda: not under_attack.ready)
        finally:
            under_attack.redis.signal(signal.SIGCONT)
        back = await asyncio.to_thread(until, lambda: under_attack.ready)
        return [at_most("noticed after", noticed, NOTICE, "s"), at_most("back after", back, 3, "s")]


async def a_plugin_that_is_stopped(_: float) -> list[Check]:
    """two stalls of 0.6 s inside of a plugin's calls within 10 s"""
    with target("--plugins", "abused", plugin=STALLING_PLUGIN) as under_attack:
        start = time.monotonic()
        for _ in range(PLUGIN_STALLS):
            under_attack.redis.publish(("channel:stalls:BTC", '{"price":1}'))
            await asyncio.to_thread(until, lambda: under_attack.stands_still)
            await asyncio.sleep(PLUGIN_STALL)
            under_attack.signal(signal.SIGCONT)
        within = time.monotonic() - start
        quarantined = under_attack.metric('tornado_bridge_plugin_quarantined{plugin="abused"}')
        return [exactly("quarantined", int(quarantined), 0), at_most("stalls within", within, 10, "s")]

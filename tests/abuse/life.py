"""What an operator or an orchestrator does to the process: signals, and variables of its environment."""

import asyncio
import signal

from tests.abuse.clients import holds, reader, round_trip, subscribed
from tests.abuse.rows import Check, at_least, exactly
from tests.abuse.target import CANDLE_SOURCE, candle, target

SIGNALS = 100

SERVICE_LINKS = {
    "TORNADO_BRIDGE_PORT": "tcp://10.0.0.1:8765",
    "TORNADO_BRIDGE_SERVICE_HOST": "10.0.0.1",
    "TORNADO_BRIDGE_SERVICE_PORT": "8765",
}
MISTYPED = {"TORNADO_BRIDGE_PING_INTERVALL": "7"}


async def signals(_: float) -> list[Check]:
    """100 SIGHUP and 100 SIGUSR1"""
    with target() as under_attack:
        async with reader(under_attack) as reading:
            with await subscribed(under_attack) as client:
                for _ in range(SIGNALS):
                    under_attack.signal(signal.SIGHUP)
                    under_attack.signal(signal.SIGUSR1)
                    await asyncio.sleep(0.005)
                await holds(lambda: under_attack.logged("SIGHUP"), 5)
                trip = await round_trip(client)
            under_attack.redis.publish((CANDLE_SOURCE, candle(7)))
            await holds(lambda: reading.prices, 5)
            return [
                exactly("process lives", under_attack.lives, True),
                at_least("reloads logged", under_attack.logged("SIGHUP"), 1),
                exactly("clients cut", int(reading.ended) + (trip > 5), 0),
                exactly("events afterwards", reading.prices, [7]),
            ]


async def a_polluted_environment(_: float) -> list[Check]:
    """service links of Kubernetes and a mistyped variable in the environment"""
    with target(environment={**SERVICE_LINKS, **MISTYPED}) as under_attack:
        await holds(lambda: under_attack.logged("service links"), 5)
        return [
            exactly("starts", await asyncio.to_thread(lambda: under_attack.ready), True),
            exactly("lines about the links", under_attack.logged("service links"), 1),
            exactly("lines about the mistyped variable", under_attack.logged("PING_INTERVALL"), 1),
            exactly("suggestions", under_attack.logged("nearest=TORNADO_BRIDGE_PING_INTERVAL"), 1),
        ]

"""A relay with a healthy plugin, in a process whose machine stalls in the middle of its calls.

`python -m tests.support.stalls STALL` relays events and prints the number of slow calls and whether the plugin is in
quarantine. STALL is one of these:

- `stopped`: the process stops itself in three calls. Its parent must continue it each time.
- `unreported`: the same, but the stopped time looks like CPU time. A virtual machine that was paused can look so.
- `busy`: the process shares one CPU with four others that compute all the time.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import msgspec
import structlog

from tornado_bridge import Event, EventType, envelope_schema, hookimpl
from tornado_bridge.ingest.relay import Relay
from tornado_bridge.logs import ThrottledLog
from tornado_bridge.registry import Registry
from tornado_bridge.stream.hub import Hub

SLOW_CALLS = 3
# Seconds: this process and its busy neighbours end by themselves, should the parent not end them.
LIFETIME = 30
NEIGHBOURS = 4

# A call stays below the 50 ms of a slow call in CPU time, and takes longer among the neighbours.
CALL = 0.03
# Together the calls take more seconds than the 1 s that quarantines a plugin which blocks.
TOTAL = 2.0


class Tick(msgspec.Struct):
    pass


TICK = EventType(
    name="tick",
    source="ticks:{exchange_id}",
    channel="ticks:all",
    reads=Tick,
    emits=envelope_schema("tick", "^ticks:all$", {}),
)


class Stopped:
    """A plugin whose calls are stopped with the process."""

    @hookimpl
    def register_event_types(self) -> list[EventType]:
        return [TICK]

    @hookimpl
    def transform(self, event: Event[Tick]) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)


class Computing(Stopped):
    """A plugin that computes for 30 ms per call, which is allowed."""

    @hookimpl
    def transform(self, event: Event[Tick]) -> None:
        end = time.thread_time() + CALL
        while time.thread_time() < end:
            pass


def relay_to(plugin: object, cpu: Callable[[], float] = time.thread_time) -> Relay:
    registry = Registry([plugin])
    log = ThrottledLog(structlog.get_logger())
    return Relay(registry.routes("1"), Hub(registry.grammar), exchange="coinbase", log=log, cpu=cpu)


def stopped(cpu: Callable[[], float]) -> Relay:
    relay = relay_to(Stopped(), cpu)
    relay.relay([(b"ticks:1", b"{}")] * SLOW_CALLS)
    return relay


def busy() -> Relay:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    program = f"import time\nprint(flush=True)\nend = time.time() + {LIFETIME}\nwhile time.time() < end: pass"
    neighbours = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) for _ in range(NEIGHBOURS)]
    try:
        for neighbour in neighbours:
            assert neighbour.stdout is not None
            neighbour.stdout.readline()
        relay = relay_to(Computing())
        (quarantine,) = relay.quarantines.values()
        end = time.perf_counter() + TOTAL
        while time.perf_counter() < end or quarantine.slow_calls < SLOW_CALLS:
            relay.relay([(b"ticks:1", b"{}")])
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.wait()
    return relay


def main() -> None:
    signal.alarm(LIFETIME)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    match sys.argv[1]:
        case "stopped":
            relay = stopped(time.thread_time)
        case "unreported":
            relay = stopped(time.perf_counter)
        case _:
            relay = busy()
    (quarantine,) = relay.quarantines.values()
    print(quarantine.slow_calls, "closed" if quarantine.closed else "open")


if __name__ == "__main__":
    main()

"""Whether a server keeps its memory, its descriptors and every event over a long time with faults.

`python -m benchmarks.soak --seconds 60` runs `tornado-bridge serve` on a redis-server of its own. It publishes 2,000
events per second and opens 20 connections per second; half of them end abruptly. From 300 seconds on there is a fault
per minute, in a shorter run there are two. The exit status is 1 if a limit is passed.
"""

import argparse
import asyncio
import multiprocessing
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.soak.figures import Sample, drained, probe, slope
from benchmarks.soak.load import FAULTS, RECOVERY, SLOW_TIMEOUT, Soak
from tests.support.servers import RedisServer, serving

# What the server may not pass. A new server still fills its tables and its heap, so the line through its memory rises
# at first. A leak of 100 bytes per event would raise it by 12 MB per minute.
MAX_RISE = 8 << 20
MAX_DESCRIPTORS_LEFT = 4
MAX_LOST = 0

PROBE_SECONDS = 15.0  # for the last answer of /healthz


@dataclass(frozen=True)
class Plan:
    """How long a run takes, in seconds, and its faults."""

    seconds: float
    warm_up: float
    pause: float
    faults: tuple[str, ...]


def plan(seconds: float) -> Plan:
    """Return the plan of a run: a fault per minute in a long one, two faults in a short one."""
    names = tuple(FAULTS)
    warm_up = min(30.0, seconds / 3)
    measured = seconds - warm_up
    if seconds < 300:
        return Plan(measured, warm_up, measured / 4, names[:2])
    count = int(measured // 60)
    return Plan(measured, warm_up, 60.0, tuple(names[number % len(names)] for number in range(count)))


@dataclass(frozen=True)
class Row:
    """One line of the report. `passed` is None for a figure without a limit."""

    name: str
    value: str
    limit: str = ""
    passed: bool | None = None


def report(soak: Soak, trips: Sequence[float], log: Counter[str]) -> list[Row]:
    """Return the figures of a run with their limits."""
    account, samples = soak.account, soak.samples
    seconds = samples[-1].at - samples[0].at
    growth, most = slope(samples), MAX_RISE / seconds
    left = soak.after.descriptors - soak.before.descriptors
    p50, p99 = (sorted(trips)[int(len(trips) * part)] * 1e3 for part in (0.5, 0.99))
    return [
        Row("memory after the warm-up", mib(samples[0].memory)),
        Row("memory at the end of the load", mib(samples[-1].memory)),
        Row(
            "slope of the memory", per_hour(growth), f"{per_hour(most)} ({mib(MAX_RISE)} in this time)", growth <= most
        ),
        Row("descriptors before, most, after", spread(soak, lambda one: one.descriptors)),
        Row("descriptors left", str(left), str(MAX_DESCRIPTORS_LEFT), left <= MAX_DESCRIPTORS_LEFT),
        Row("threads before, most, after", spread(soak, lambda one: one.threads)),
        Row("/healthz p50, p99, most", f"{p50:.1f}, {p99:.1f}, {max(trips) * 1e3:.1f} ms"),
        Row("events published, counted", f"{account.published}, {account.counted}"),
        Row("events lost", str(account.lost), str(MAX_LOST), account.lost <= MAX_LOST),
        Row("events repeated", str(account.repeated), "0", account.repeated == 0),
        Row("lines of the log, errors", f"{log['lines']}, {log['errors']}"),
        Row("tracebacks in the log", str(log["tracebacks"]), "0", log["tracebacks"] == 0),
        *(
            Row(f"fault: {name}", f"over after {seconds:.1f} s", f"{RECOVERY:g} s", seconds < RECOVERY)
            for name, seconds in soak.faults
        ),
        *(Row(f"client: {name}", str(count)) for name, count in sorted(soak.outcomes.items())),
    ]


def mib(size: float) -> str:
    return f"{size / 2**20:.1f} MiB"


def per_hour(bytes_per_second: float) -> str:
    return f"{mib(bytes_per_second * 3600)}/hour"


def spread(soak: Soak, figure: Callable[[Sample], int]) -> str:
    return f"{figure(soak.before)}, {max(map(figure, soak.samples))}, {figure(soak.after)}"


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    verdicts = {None: "", True: "kept", False: "EXCEEDED"}
    lines = ["| figure | value | limit | |", "|---|---|---|---|"]
    return "\n".join(lines + [f"| {row.name} | {row.value} | {row.limit} | {verdicts[row.passed]} |" for row in rows])


def run(planned: Plan) -> list[Row]:
    """Run a server by a plan, and return the report."""
    binary = shutil.which("redis-server")
    if binary is None:
        raise SystemExit("redis-server is not installed")
    options = ("--max-connections-per-key", "5000", "--rate-limit", "100000", "--rate-burst", "5000")
    here, there = multiprocessing.get_context("spawn").Pipe()
    with (
        tempfile.TemporaryDirectory(prefix="soak-") as directory,
        RedisServer(binary) as redis_server,
        serving(Path(directory), redis_server.url, *options, "--slow-timeout", str(SLOW_TIMEOUT)) as (server, url, key),
        drained(server.process.stderr) as log,
    ):
        port = int(url.split(":")[2].partition("/")[0])
        prober = multiprocessing.get_context("spawn").Process(target=probe, args=(port, there), daemon=True)
        prober.start()
        try:
            soak = Soak(server, redis_server, port, key, Path(directory))
            asyncio.run(soak.run(planned.seconds, warm_up=planned.warm_up, faults=planned.faults, pause=planned.pause))
            here.send(None)
            if not here.poll(PROBE_SECONDS):
                raise SystemExit("/healthz does not answer")
            trips: list[float] = here.recv()
        finally:
            prober.kill()
            prober.join()
            server.process.terminate()
    return report(soak, trips, log)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description="Prints a Markdown table.")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the load; 1800 for a run by hand")
    options = parser.parse_args()
    # Otherwise a SIGTERM would leave the processes behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    rows = run(plan(options.seconds))
    print(table(rows))
    return 0 if all(row.passed is not False for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())

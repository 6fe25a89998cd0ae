"""One measurement, and many of them in turns."""

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from benchmarks import load
from benchmarks.bus import Publisher, redis_server
from benchmarks.market import Candle, Market
from benchmarks.processes import processor_seconds
from benchmarks.systems import System, serving

BURST_SECONDS = 30.0  # a burst that has not arrived by then has lost something
LOAD_SECONDS = 600
LEAST_BURSTS = 3


@dataclass(frozen=True)
class Workload:
    """`burst` events at once, in turn on `channels` channels; every client has all channels.

    The next burst leaves `pause` seconds after every client has the one before, so bursts never merge.
    """

    name: str
    channels: int
    burst: int
    pause: float


WORKLOADS = (Workload(name="burst", channels=50, burst=50, pause=0.01),)


@dataclass(frozen=True)
class Extent:
    """How much is measured: after `warmup` bursts, `bursts` more or as many as fit in `seconds`."""

    clients: int
    rounds: int
    bursts: int
    seconds: float
    warmup: int


@dataclass(frozen=True)
class Processors:
    server: int
    load: int


@dataclass(frozen=True)
class Measurement:
    """What one system did with one workload once; times in seconds, of the measured bursts alone."""

    system: str
    bursts: int
    deliveries: int
    server_cpu: float
    load_cpu: float
    under_way: float  # from the publishing of a burst to its last delivery, summed
    elapsed: float
    other_cpu: float  # what others took of the server's processor
    report: load.Report
    faults: tuple[str, ...]

    @property
    def cost(self) -> float:
        """Processor seconds of the server per million deliveries."""
        return self.server_cpu / self.deliveries * 1e6

    @property
    def server_busy(self) -> float:
        return self.server_cpu / self.under_way

    @property
    def load_busy(self) -> float:
        return self.load_cpu / self.under_way

    @property
    def disturbed(self) -> float:
        return self.other_cpu / self.elapsed


def measure_in_turns(
    systems: Sequence[System],
    workload: Workload,
    extent: Extent,
    processors: Processors,
    progress: Callable[[str], None],
) -> list[list[Measurement]]:
    """Measures A B A B …, each with new processes; returns the measurements of each system."""
    measured: list[list[Measurement]] = [[] for _ in systems]
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as name:
        directory = Path(name)
        program = load.build(directory)
        with redis_server(directory, processors.load) as redis_port:
            for turn in range(extent.rounds):
                for system, results in zip(systems, measured, strict=True):
                    place = directory / f"{system.name}-{turn}"
                    place.mkdir()
                    result = _measure(system, workload, extent, processors, program, redis_port, place)
                    results.append(result)
                    outcome = "void" if result.faults else f"{result.cost:.3f} s per million deliveries"
                    progress(f"round {turn + 1} {system.name}: {outcome}")
    return measured


def _measure(
    system: System,
    workload: Workload,
    extent: Extent,
    processors: Processors,
    program: Path,
    redis_port: int,
    directory: Path,
) -> Measurement:
    market = Market(workload.channels)
    with (
        serving(system, redis_port, directory, processors.server) as server,
        load.connected(
            program,
            server,
            clients=extent.clients,
            channels=market.channels,
            max_events=(extent.warmup + extent.bursts) * workload.burst,
            timeout=LOAD_SECONDS,
            directory=directory,
            processor=processors.load,
        ) as clients,
        closing(Publisher(redis_port)) as publisher,
    ):
        run = _Run(workload, market, clients, publisher)
        warm = all(run.send_burst() for _ in range(extent.warmup))
        clients.measure()
        run.under_way, run.bursts = 0.0, 0
        cpu_before, processor_before = server.process.cpu_seconds(), processor_seconds(processors.server)
        began = time.monotonic()
        while warm and run.bursts < extent.bursts:
            if run.bursts >= LEAST_BURSTS and time.monotonic() - began > extent.seconds:
                break
            if not run.send_burst():
                break
        elapsed = time.monotonic() - began
        server_cpu = server.process.cpu_seconds() - cpu_before
        other_cpu = processor_seconds(processors.server) - processor_before - server_cpu
        report = clients.finish()
    return Measurement(
        system=system.name,
        bursts=run.bursts,
        deliveries=run.bursts * workload.burst * extent.clients,
        server_cpu=server_cpu,
        load_cpu=report.cpu_seconds,
        under_way=run.under_way,
        elapsed=elapsed,
        other_cpu=max(0.0, other_cpu),
        report=report,
        faults=(*report.faults, *run.sample_faults()),
    )


class _Run:
    """Bursts sent one after the other to clients that are ready."""

    def __init__(self, workload: Workload, market: Market, clients: load.Load, publisher: Publisher) -> None:
        self._workload = workload
        self._market = market
        self._clients = clients
        self._publisher = publisher
        self._first: Candle | None = None
        self._events = 0
        self.bursts = 0
        self.under_way = 0.0

    def send_burst(self) -> bool:
        """Publishes the next burst and waits until all have it; False if they had not in BURST_SECONDS."""
        time.sleep(self._workload.pause)
        self._events += self._workload.burst
        self._clients.expect(self._events)
        began = time.monotonic()
        candles = self._market.next_candles(self._workload.burst)
        self._first = self._first or candles[0]
        self._publisher.publish([(candle.source_channel, candle.payload) for candle in candles])
        received = self._clients.wait(self._events, BURST_SECONDS)
        self.under_way += time.monotonic() - began
        self.bursts += 1
        return received

    def sample_faults(self) -> list[str]:
        """Compares the first event as the first client got it with the contract, to the byte."""
        if self._first is None or self._clients.sample == self._first.envelope:
            return []
        return [f"the first envelope is {self._clients.sample!r}, not {self._first.envelope!r}"]

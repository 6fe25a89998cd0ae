"""One measurement: a server is started, clients connect, a workload runs, and its cost is read."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.rig import load
from benchmarks.rig.bus import Publisher
from benchmarks.rig.market import Candle, Market
from benchmarks.rig.processes import processor_seconds
from benchmarks.rig.records import Measurement, Scenario
from benchmarks.rig.system import Installed, Serving, serving
from benchmarks.rig.workloads import Kind, Workload

BURST_SECONDS = 30.0  # after this a burst counts as lost
LEAST_BURSTS = 3
WARMUP_SECONDS = 1.0  # at most, whatever the workload asks for
LEAST_CYCLES = 2  # of opening all clients
WARM_CLIENTS = 50
SETTLE_SECONDS = 0.02  # in which a server ends the work that follows the last delivery
CLOSE_SECONDS = 0.05  # in which a server forgets the clients that have gone
IDLE_SECONDS = 0.5


@dataclass(frozen=True)
class Processors:
    """The numbers of the processor of the server, and of that of everything else."""

    server: int
    load: int


@dataclass(frozen=True)
class Extent:
    """How much is measured: rounds, seconds per measurement, and seconds of warm-up before bursts."""

    rounds: int = 3
    seconds: float = 1.5
    warmup: float = 0.3


@dataclass(frozen=True)
class Rig:
    """The parts that all measurements of a run share."""

    processors: Processors
    redis_port: int
    generator: Path
    generator_with_deflate: Path | None
    extent: Extent


@dataclass
class _Usage:
    """The time that the measured blocks took, in seconds."""

    server_cpu: float = 0.0
    load_cpu: float = 0.0
    elapsed: float = 0.0
    other_cpu: float = 0.0


class _Trial:
    """One server with its clients, and the counts of a workload that runs on it."""

    def __init__(self, scenario: Scenario, rig: Rig, server: Serving, clients: load.Load, publisher: Publisher) -> None:
        self._workload: Workload = scenario.record
        self._connected = scenario.record.connected(scenario.clients)
        self._rig = rig
        self._server = server
        self._clients = clients
        self._publisher = publisher
        self._market = Market(scenario.record.instruments)
        self._first: dict[int, tuple[Candle, int]] = {}  # the first burst, by number
        self._due = 0.0
        self.events = 0
        self.bursts = 0
        self.late = 0
        self.under_way = 0.0
        self.amount = 0
        self.growth = 0
        self.usage = _Usage()

    def run(self) -> None:
        if self._workload.kind is Kind.CONNECT:
            self._open_and_close()
        elif self._workload.kind is Kind.IDLE:
            self._hold()
        else:
            self._send_bursts()

    @contextmanager
    def _measuring(self) -> Iterator[None]:
        time.sleep(SETTLE_SECONDS)
        server = self._server.process
        cpu, processor = server.cpu_seconds(), processor_seconds(self._rig.processors.server)
        load_cpu = self._clients.cpu_seconds()
        began = time.monotonic()
        yield
        self.usage.load_cpu += self._clients.cpu_seconds() - load_cpu
        time.sleep(SETTLE_SECONDS)
        used = server.cpu_seconds() - cpu
        self.usage.elapsed += time.monotonic() - began
        self.usage.server_cpu += used
        others = processor_seconds(self._rig.processors.server) - processor - used
        self.usage.other_cpu += max(0.0, others)

    # --- bursts

    def _send_bursts(self) -> None:
        self._clients.open(self._connected)
        if not self._warm_up():
            return
        self._clients.measure()
        self.events = self.bursts = self.late = 0
        self.under_way = 0.0
        seconds = max(self._rig.extent.seconds, self._workload.least_seconds)
        with self._measuring():
            began = self._due = time.monotonic()
            while self.bursts < LEAST_BURSTS or time.monotonic() - began <= seconds:
                if not self._send_burst(self._workload.interval):
                    break

    def _warm_up(self) -> bool:
        began = time.monotonic()
        while self._send_burst(None):
            elapsed = time.monotonic() - began
            if elapsed > self._rig.extent.warmup and (
                self.bursts >= self._workload.least_warmup or elapsed > WARMUP_SECONDS
            ):
                return True
        return False

    def _send_burst(self, interval: float | None) -> bool:
        """Publish the next burst and wait for its deliveries. Return False when some are missing in the end."""
        burst = self._market.next_burst(self._workload.burst)
        last = burst.candles[-1].number + 1
        self._wait_for_turn(interval)
        self._clients.expect(last)
        publish = self._publisher.publish if self._workload.pipelined else self._publisher.publish_in_turn
        began = time.monotonic()
        published = publish(burst)
        received = self._clients.wait(last, BURST_SECONDS)
        self.under_way += time.monotonic() - began
        if not self._first:
            self._first = {candle.number: (candle, published) for candle in burst.candles}
        self.bursts += 1
        self.events += len(burst)
        return received

    def _wait_for_turn(self, interval: float | None) -> None:
        if interval is None:
            time.sleep(self._workload.pause)
            return
        left = self._due - time.monotonic()
        if left > 0:
            time.sleep(left)
        elif self.bursts:
            self.late += 1
        self._due = max(self._due, time.monotonic()) + interval

    def sample_faults(self) -> list[str]:
        """Compare the first event that arrived with the contract, byte by byte."""
        sample = self._clients.sample
        if not sample:
            return []
        expected = [candle.envelope(published) for candle, published in self._first.values()]
        if not self._workload.pipelined:  # only the first event has a known moment
            expected = expected[:1]
        return [] if sample in expected else [f"the first envelope is {sample!r}, not one of the published"]

    # --- connections

    def _open_and_close(self) -> None:
        self._clients.open(min(self._connected, WARM_CLIENTS))
        self._clients.close()
        self._clients.measure()
        began, cycles = time.monotonic(), 0
        while True:
            time.sleep(CLOSE_SECONDS)
            with self._measuring():
                self.under_way += self._clients.open(self._connected)
            self.amount += self._connected
            cycles += 1
            if cycles >= LEAST_CYCLES and time.monotonic() - began > self._rig.extent.seconds:
                return
            self._clients.close()

    def _hold(self) -> None:
        self._clients.open(WARM_CLIENTS)
        self._clients.measure()
        time.sleep(IDLE_SECONDS)
        before = self._server.process.memory_bytes()
        with self._measuring():
            self.under_way = self._clients.open(WARM_CLIENTS + self._connected)
            time.sleep(IDLE_SECONDS)
        self.growth = self._server.process.memory_bytes() - before
        self.amount = self._connected


def measure(installed: Installed, scenario: Scenario, turn: int, rig: Rig, directory: Path) -> Measurement:
    """Run a workload once on a server of its own, with its files in `directory`.

    Lost or wrong messages become faults of the measurement. Raises ProcessFailed when a process fails.
    """
    workload, processors = scenario.record, rig.processors
    connected = workload.connected(scenario.clients)
    generator = rig.generator_with_deflate if scenario.deflate else rig.generator
    assert generator is not None
    spare = WARM_CLIENTS if workload.kind is Kind.IDLE else 0
    with ExitStack() as stack:
        server = stack.enter_context(
            serving(installed, rig.redis_port, directory, processors.server, deflate=scenario.deflate)
        )
        clients = stack.enter_context(
            load.generating(
                generator,
                port=server.port,
                key=server.key,
                clients=connected + spare,
                channels=[instrument.channel for instrument in workload.instruments],
                sets=workload.sets(workload.instruments, connected),
                directory=directory,
                processor=processors.load,
                deaf=workload.not_reading(scenario.clients),
                dialect=installed.system.dialect,
                deflate=scenario.deflate,
            )
        )
        publisher = stack.enter_context(closing(Publisher(rig.redis_port)))
        trial = _Trial(scenario, rig, server, clients, publisher)
        trial.run()
        report = clients.finish()
    faults = [*report.faults, *trial.sample_faults()]
    if scenario.deflate and report.deflated < connected:
        faults.append("did not agree to permessage-deflate")
    if workload.kind is Kind.BURSTS:
        trial.amount = report.measured_deliveries
    elif workload.kind is Kind.INGEST:
        trial.amount = trial.events
    if not trial.amount and not faults:
        faults.append("nothing was measured")
    return Measurement(
        workload=workload.name,
        clients=scenario.clients,
        deflate=scenario.deflate,
        system=installed.system.name,
        turn=turn,
        faults=tuple(faults),
        amount=max(trial.amount, 1),
        server_cpu=trial.usage.server_cpu,
        load_cpu=trial.usage.load_cpu,
        under_way=trial.under_way or 1.0,
        elapsed=trial.usage.elapsed or 1.0,
        other_cpu=trial.usage.other_cpu,
        bursts=trial.bursts,
        late=trial.late,
        p50_us=report.p50_us,
        p99_us=report.p99_us,
        max_us=report.max_us,
        compressed=report.compressed,
        wire_bytes=report.wire_bytes,
        growth=trial.growth,
    )

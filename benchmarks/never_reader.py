"""The memory that a client holds which never reads, and its cost for the other clients.

`python -m benchmarks.never_reader` sends bursts to 99 clients. Every other round, a further client subscribes and then
never reads. The table has the time until the last of the 99 has a burst, the most that the kernel held for the client
that never reads (`ss -tm`), and the growth of the server's memory.
"""

import argparse
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from benchmarks.floods import opened, processors, resident
from benchmarks.rig import load
from benchmarks.rig.bus import Publisher, redis_server
from benchmarks.rig.market import Market, instruments
from benchmarks.rig.system import Installed, Serving, serving
from benchmarks.systems import BRIDGE

CLIENTS = 99
BURST = 50
PAUSE = 0.01
LISTED = instruments(BURST, ("1m",))


@contextmanager
def never_reader(server: Serving) -> Iterator[socket.socket]:
    """Open a client that subscribes to all candles and then never reads."""
    with opened(server, server.key) as connection:
        text = b'{"action":"subscribe","channels":["candles:*:*"]}'
        connection.sendall(bytes((0x81, 0x80 | len(text), 0, 0, 0, 0)) + text)
        connection.recv(2)
        yield connection


def held_by_kernel(server: Serving, client: socket.socket) -> int:
    """Return the bytes that the kernel holds for a client in the server's send buffer, 0 once it is gone."""
    ends = f"sport = :{server.port} and dport = :{client.getsockname()[1]}"
    shown = subprocess.run(["ss", "-tmn", ends], capture_output=True, text=True, timeout=10, check=True).stdout
    found = re.search(r"t(\d+),tb\d+,f\d+,w(\d+)", shown)
    return int(found[1]) + int(found[2]) if found else 0


def bursts(server: Serving, clients: load.Load, redis_port: int, number: int, beside: socket.socket | None) -> None:
    """Send bursts and print a row of the table. `beside` is the client that never reads."""
    market = Market(LISTED)
    durations: list[float] = []
    most = 0
    before = resident(server.process.pid)
    grown = 0
    with closing(Publisher(redis_port)) as publisher:
        for i in range(number):
            time.sleep(PAUSE)
            burst = market.next_burst(BURST)
            clients.expect((i + 1) * BURST)
            began = time.perf_counter()
            publisher.publish(burst)
            if not clients.wait((i + 1) * BURST, 30):
                raise AssertionError("a client that reads has lost a message")
            durations.append(time.perf_counter() - began)
            if beside is not None and i % 20 == 0:
                most = max(most, held_by_kernel(server, beside))
                grown = max(grown, resident(server.process.pid) - before)
    durations.sort()
    p50, p99 = (durations[int(number * part)] * 1e3 for part in (0.5, 0.99))
    name = "alone" if beside is None else "beside a client that never reads"
    print(f"| {name} | {p50:.2f} | {p99:.2f} | {most / 1024:.0f} | {grown / 1024:.0f} |", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.never_reader", description="Prints a Markdown table.")
    parser.add_argument("--bursts", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    server_processor, other = processors()
    os.sched_setaffinity(0, {other})
    print("| 99 clients | burst p50 ms | burst p99 ms | kernel KiB | process growth KiB |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        program = load.build(Path(name))
        for turn in range(options.rounds * 2):
            directory = Path(name) / str(turn)
            directory.mkdir()
            with ExitStack() as stack:
                redis_port = stack.enter_context(redis_server(directory, other))
                server = stack.enter_context(serving(Installed(BRIDGE), redis_port, directory, server_processor))
                clients = stack.enter_context(
                    load.generating(
                        program,
                        port=server.port,
                        key=server.key,
                        clients=CLIENTS,
                        channels=Market(LISTED).channels,
                        sets=[Market(LISTED).channels],
                        directory=directory,
                        processor=other,
                    )
                )
                clients.open(CLIENTS)
                beside = stack.enter_context(never_reader(server)) if turn % 2 else None
                bursts(server, clients, redis_port, options.bursts, beside)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Runs the Autobahn cases against an echo server on the bridge's own handler, reader and outlet.

`python -m tests.conformance` prints the cases that fail, and exits with 1 if there are any. It needs `kosoku`.
Section 9 (limits and performance) is left out. Sections 12 and 13 (compression) take minutes, so only their cases of
256 bytes to 8 KiB run, without 12.2, 12.3 and 12.5, which kosoku 0.1.0 cannot run, and without 13.2, 13.5 and 13.6,
whose offers the bridge declines.
"""

import asyncio
import contextlib
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream
from tornado.netutil import bind_sockets
from tornado.web import Application

from tornado_bridge.bridge import Limits
from tornado_bridge.connections.heartbeat import Pings
from tornado_bridge.connections.outlet import Outlet, SlowRule
from tornado_bridge.connections.websocket import WebSocket
from tornado_bridge.web.stream import StreamHandler
from tornado_bridge.wire import deflate, frames
from tornado_bridge.wire.frames import Opcode

COMPRESSION = (
    f"{section}.{number}" for section in ("12.1", "12.4", "13.1", "13.3", "13.4", "13.7") for number in (3, 4, 5, 11)
)
INCLUDED = ("1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*", *COMPRESSION)
CASES = 271
MAX_MESSAGE = 1 << 20
TIMEOUT = 300

PASSED = {"OK", "INFORMATIONAL", "NON-STRICT"}


class EchoWebSocket(WebSocket):
    """Sends every message back as it was received, text or binary."""

    __slots__ = ()

    def _on_binary(self, payload: bytes) -> None:
        self._outlet.write(frames.message(Opcode.BINARY, payload))


class EchoBridge:
    """Stands in for the bridge behind its own StreamHandler, and echoes."""

    compression = True
    full = False
    limits = Limits()

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[None]] = set()

    def add_client(self, stream: IOStream, key: str | None, window: int | None, *, pings: Pings, address: str) -> None:
        task = asyncio.create_task(echo(stream, window))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)


async def echo(stream: IOStream, window: int | None) -> None:
    def send_back(text: str) -> None:
        payload = text.encode()
        frame = frames.text(payload) if window is None else deflate.compress((payload,), window)
        outlet.write(frame)

    stream.set_nodelay(True)
    rule = SlowRule(skip_bytes=MAX_MESSAGE, abort_bytes=16 * MAX_MESSAGE, timeout=30)
    outlet = Outlet(stream, rule, clock=time.monotonic, on_slow=lambda _: None, window=window)
    await EchoWebSocket(
        stream,
        outlet,
        max_message=MAX_MESSAGE,
        on_text=send_back,
        on_pong=lambda: None,
        on_closing=lambda: None,
        # The suite sends thousands of messages at once.
        budget=math.inf,
    ).run()


async def run(directory: Path) -> dict[str, Any]:
    """Serve while the suite runs, and return its index of results."""
    bridge = EchoBridge()
    server = HTTPServer(Application([("/", StreamHandler, {"bridge": bridge, "allow_origin": frozenset()})]))
    sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    port = sockets[0].getsockname()[1]
    inclusions = [part for case in INCLUDED for part in ("--include", case)]
    suite = await asyncio.create_subprocess_exec(
        "kosoku", "--outdir", str(directory), *inclusions, f"127.0.0.1:{port}", stdout=subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(TIMEOUT):
            await suite.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            suite.kill()
        server.stop()
        await server.close_all_connections()
        await asyncio.gather(*bridge.tasks)
    [agent] = json.loads((directory / "index.json").read_text()).values()
    return dict(agent)


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        results = asyncio.run(run(Path(name)))
    failed = {
        case: result
        for case, result in results.items()
        if result["behavior"] not in PASSED or result["behaviorClose"] not in PASSED
    }
    for case, result in failed.items():
        print(f"case {case}: {result['behavior']}, close {result['behaviorClose']}")
    print(f"{len(results) - len(failed)} passed, {len(failed)} failed")
    return 0 if len(results) == CASES and not failed else 1


if __name__ == "__main__":
    sys.exit(main())

"""The servers that tests run, redis-server and the bridge as a process, and the log lines of a test."""

import contextlib
import gc
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, MutableMapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import redis

from tornado_bridge.key_file import KeyFile

CANDLE_SOURCE = "channel:exchange:1:candle:close:{symbol}:{timeframe}"
ALERT_SOURCE = "channel:alerts:exchange:1"


def free_port() -> int:
    """Return a loopback port that no other process is given while this one lives; nothing listens on it.

    A socket stays bound to it, so that neither another worker of the tests nor an outgoing connection gets it. A server
    can listen on it nevertheless, if it sets SO_REUSEADDR as redis-server, Tornado and socketserver do.
    """
    reservation = socket.socket()
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reservation.bind(("127.0.0.1", 0))
    port = int(reservation.getsockname()[1])
    reservation.detach()
    return port


@contextlib.contextmanager
def socket_left_by_tornado() -> Iterator[None]:
    """Collect the socket that Tornado leaves open if it cannot bind it: its ResourceWarning would fail a test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


class RedisServer:
    """A redis-server for tests, on a free loopback port, which keeps nothing on disk."""

    def __init__(self, binary: str, *arguments: str, username: str | None = None, password: str | None = None) -> None:
        self._binary = binary
        self._arguments = arguments
        self._credentials = {"username": username, "password": password}
        self._directory = tempfile.TemporaryDirectory(prefix="redis-")
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        options = ("--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
        self._process = subprocess.Popen(
            [self._binary, *options, "--dir", self._directory.name, *self._arguments], stdout=subprocess.DEVNULL
        )
        self.wait()

    def wait(self) -> None:
        """Wait until it answers."""
        deadline = time.monotonic() + 20
        with self.client() as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.RedisError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.02)

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, **self._credentials)  # type: ignore[arg-type]

    def publish(self, *messages: tuple[str, str | bytes]) -> None:
        """Publish source channels and payloads in one write."""
        with self.client() as client, client.pipeline(transaction=False) as pipeline:
            for source, payload in messages:
                pipeline.publish(source, payload)
            pipeline.execute()

    def subscribers(self) -> int:
        """Return how many patterns are subscribed to."""
        with self.client() as client:
            return int(client.pubsub_numpat())

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it as `kill -9` does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._directory.cleanup()


class LogLines:
    """The log lines of one test."""

    def __init__(self, captured: Sequence[MutableMapping[str, Any]]) -> None:
        self._captured = captured
        self._taken: list[int] = []

    def take(self, event: str, **fields: Any) -> MutableMapping[str, Any]:
        """Return the first line with this event and these fields that was not taken before."""
        for i, line in enumerate(self._captured):
            if i not in self._taken and line["event"] == event and fields.items() <= line.items():
                self._taken.append(i)
                return line
        raise AssertionError(f"no log line {event!r} {fields} among {list(self._captured)}")

    def all(self) -> list[MutableMapping[str, Any]]:
        return list(self._captured)

    def unexpected(self) -> list[MutableMapping[str, Any]]:
        return [
            line
            for i, line in enumerate(self._captured)
            if i not in self._taken and line["log_level"] in ("warning", "error", "critical")
        ]


class BridgeProcess:
    """`tornado-bridge` as a process. Its output is read line by line, and no wait is unbounded.

    `under` is a command that runs the one behind it.
    """

    def __init__(self, *arguments: str, environment: dict[str, str] | None = None, under: Sequence[str] = ()) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("TORNADO_BRIDGE_")}
        self.process = subprocess.Popen(
            [*under, sys.executable, "-m", "tornado_bridge", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Unbuffered: select does not see a line that is already in a buffer.
            bufsize=0,
            env={**clean, "PYTHONUNBUFFERED": "1", **(environment or {})},
        )

    def line(self, timeout: float = 15) -> str:
        """Return the next line of stdout, without its end."""
        return _line(self.process.stdout, timeout)

    def error_line(self, timeout: float = 15) -> str:
        """Return the next line of stderr, without its end."""
        return _line(self.process.stderr, timeout)

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout: float = 10) -> tuple[int, str, str]:
        """Send a signal, and return the exit status and the rest of stdout and stderr."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.finish(timeout)

    def finish(self, timeout: float = 15) -> tuple[int, str, str]:
        """Wait until it exits, and return the exit status and the rest of stdout and stderr."""
        out, err = self.process.communicate(timeout=timeout)
        return self.process.returncode, out.decode(), err.decode()


def _line(stream: IO[bytes] | None, timeout: float) -> str:
    assert stream is not None
    readable, _, _ = select.select([stream], [], [], timeout)
    if not readable:
        raise AssertionError("no line in time")
    return stream.readline().decode().rstrip("\n")


@contextlib.contextmanager
def bridge_process(
    *arguments: str, environment: dict[str, str] | None = None, under: Sequence[str] = ()
) -> Iterator[BridgeProcess]:
    """Run `tornado-bridge` with these arguments, and kill it if the test has not stopped it."""
    started = BridgeProcess(*arguments, environment=environment, under=under)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.process.kill()
        started.process.communicate()


@contextlib.contextmanager
def serving(
    directory: Path,
    redis_url: str,
    *options: str,
    environment: dict[str, str] | None = None,
    under: Sequence[str] = (),
) -> Iterator[tuple[BridgeProcess, str, str]]:
    """Run `tornado-bridge serve` on a free port with one key; yield the process, the stream's URL and the key."""
    path = directory / "keys.toml"
    key = KeyFile(path).create("tests")
    arguments = ["--port", "0", "--redis-url", redis_url, "--exchange", "1:coinbase", "--api-keys", str(path)]
    with bridge_process("serve", *arguments, *options, environment=environment, under=under) as started:
        line = started.line()
        assert line.startswith("listening on http://"), line
        yield started, f"ws{line.removeprefix('listening on http')}/public/v1/stream", key

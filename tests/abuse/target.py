"""The server under attack: a `tornado-bridge serve` process, its Redis, and what can be read of it from outside."""

import contextlib
import os
import re
import resource
import shutil
import signal
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.support.servers import BridgeProcess, RedisServer, bridge_process
from tornado_bridge.key_file import KeyFile

CANDLE_CHANNEL = "candles:BTC-USD:1h"
CANDLE_SOURCE = "channel:exchange:1:candle:close:BTC-USD:1h"

# Many clients share the key of the good clients, so it has more than a key usually has.
ROOMY = ("--max-connections-per-key", "5000", "--rate-limit", "600000", "--rate-burst", "10000")

# How long an attack waits for something that must happen, in seconds.
PATIENCE = 15.0


def redis_binary() -> str:
    """Return the path of redis-server. Raises RuntimeError if it is not installed."""
    binary = shutil.which("redis-server")
    if binary is None:
        raise RuntimeError("redis-server is not installed")
    return binary


def candle(number: int) -> str:
    """Return the payload of a candle that carries `number` as its closing price."""
    return f'{{"timestamp":1708264800000,"open":1,"high":2,"low":0.50,"close":{number},"volume":3,"macdV":77.5}}'


def until(condition: Callable[[], object], within: float = PATIENCE) -> float:
    """Wait until the condition holds, and return how many seconds that took. Raises TimeoutError."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > within:
            raise TimeoutError(f"a condition did not hold within {within} s")
        time.sleep(0.01)
    return time.monotonic() - start


class Target:
    """A running server. `key` is a good API key in `key_file`, and `directory` is where attacks may write."""

    def __init__(self, process: BridgeProcess, redis: RedisServer, directory: Path, key: str) -> None:
        self._process = process
        self.redis = redis
        self.directory = directory
        self.key_file = directory / "keys.toml"
        self.key = key
        self.lines: list[str] = []
        self._reading = threading.Thread(target=self._read_log, daemon=True)
        self._reading.start()
        line = process.line()
        self.port = urllib.parse.urlsplit(line.removeprefix("listening on ")).port or 0
        self.metrics_port = self._logged_metrics_port()

    def _read_log(self) -> None:
        assert self._process.process.stderr is not None
        left = b""
        with contextlib.suppress(ValueError):
            while data := self._process.process.stderr.read(65_536):
                *lines, left = (left + data).split(b"\n")
                self.lines += [line.decode() for line in lines]

    def _logged_metrics_port(self) -> int:
        def found() -> re.Match[str] | None:
            return re.search(r"http://127\.0\.0\.1:(\d+)/metrics", "\n".join(self.lines))

        until(found)
        match = found()
        assert match is not None
        return int(match[1])

    @property
    def pid(self) -> int:
        return self._process.process.pid

    @property
    def lives(self) -> bool:
        return self._process.process.poll() is None

    def end(self) -> None:
        """Kill the process, and wait until its log has been read to the end."""
        if self.lives:
            self._process.process.kill()
        self._reading.join(10)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Let the process stand still."""
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)

    @property
    def stands_still(self) -> bool:
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def cpu(self) -> float:
        """Return the seconds of CPU time that the process has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident(self) -> int:
        """Return the size of the resident set in bytes."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def metric(self, name: str) -> float:
        """Return the value of one metric, by its name with its labels."""
        for line in self._get(self.metrics_port, "/metrics").splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
        raise LookupError(name)

    @property
    def ready(self) -> bool:
        """Whether /readyz answers 200 within 2 s."""
        try:
            self._get(self.port, "/readyz", timeout=2)
        except OSError:
            return False
        return True

    def _get(self, port: int, path: str, timeout: float = 10) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=timeout) as answer:
            return str(answer.read().decode())

    def logged(self, text: str) -> int:
        """Return how many log lines hold a text."""
        return sum(text in line for line in tuple(self.lines))


@contextlib.contextmanager
def target(
    *options: str,
    open_files: int | None = None,
    environment: dict[str, str] | None = None,
    redis_url: Callable[[int], str] | None = None,
    plugin: str | None = None,
) -> Iterator[Target]:
    """Run a server with a Redis of its own.

    `open_files` is its hard limit of open files. `redis_url` makes the URL that the server gets of the port of Redis,
    and `plugin` is the text of a further plugin.
    """
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="abuse-")))
        key = KeyFile(directory / "keys.toml").create("good")
        redis = stack.enter_context(RedisServer(redis_binary()))
        url = redis.url if redis_url is None else redis_url(redis.port)
        arguments = ["--port", "0", "--metrics-port", "0", "--redis-url", url, "--exchange", "1:coinbase"]
        arguments += ["--api-keys", str(directory / "keys.toml"), *ROOMY, *options]
        if plugin is not None:
            (directory / "plugins").mkdir()
            (directory / "plugins" / "abused.py").write_text(plugin, encoding="utf-8")
            arguments += ["--plugins-dir", str(directory / "plugins")]
        process = stack.enter_context(bridge_process("serve", *arguments, environment=environment))
        if open_files is not None:
            # The interpreter has only just begun to start, and the server reads the limit much later.
            resource.prlimit(process.process.pid, resource.RLIMIT_NOFILE, (open_files, open_files))
        started = Target(process, redis, directory, key)
        stack.callback(started.end)
        until(lambda: started.ready)
        yield started

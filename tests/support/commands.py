"""What a run of the command line ends with, and a server to run it beside."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.support.servers import CANDLE_SOURCE, BridgeProcess, RedisServer

CANDLE = '{"timestamp":1708264800000,"open":1,"high":2,"low":0.50,"close":1.5,"volume":3,"macdV":77.5}'


class Outcome(NamedTuple):
    status: object
    out: str
    err: str


Command = Callable[..., Outcome]


class Running(NamedTuple):
    """A server on the tests' Redis, for an exchange of its own."""

    process: BridgeProcess
    url: str
    key: str
    keys: Path
    redis: RedisServer

    def publish(self) -> None:
        source = CANDLE_SOURCE.replace("exchange:1", "exchange:cli").format(symbol="BTC-USD", timeframe="1h")
        self.redis.publish((source, CANDLE))


def program(arguments: Sequence[str], redirection: str) -> subprocess.CompletedProcess[str]:
    """Run `tornado-bridge` as a process to its end, with a redirection of the shell, such as `>&-`."""
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-m", "tornado_bridge", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
    )

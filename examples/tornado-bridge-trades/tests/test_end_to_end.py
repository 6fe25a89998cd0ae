"""The installed plugin in a server: a Redis client publishes, and WebSocket clients receive."""

import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import redis
from websockets.sync.client import ClientConnection, connect

SOURCE = "channel:exchange:1:trades:{}"
PAYLOAD = json.dumps(
    {
        "symbol": "BTC-USD",
        "trades": [
            {
                "price": 42350.5,
                "size": 0.25,
                "side": "buy",
                "timestamp": 1708264800000,
                "tradeId": "T-SECRET",
                "makerAccountId": "ACC-SECRET",
                "takerAccountId": "ACC-SECRET",
                "feeTier": 3,
            },
            {"price": 42349.0, "size": 1.5, "side": "sell", "timestamp": 1708264800100, "tradeId": "T-SECRET"},
        ],
        "venueLatencyUs": 812,
        "internalScore": 0.771,
    }
)
BOUGHT = (
    '{"type":"trades","channel":"trades:BTC-USD","data":{"side":"buy","count":1,"volume":"0.25","high":"42350.5",'
    '"low":"42350.5","last":"42350.5","timestamp":"2024-02-18T14:00:00.000Z"}}'
)
SOLD = (
    '{"type":"trades","channel":"trades:BTC-USD","data":{"side":"sell","count":1,"volume":"1.5","high":"42349",'
    '"low":"42349","last":"42349","timestamp":"2024-02-18T14:00:00.100Z"}}'
)


class Server(NamedTuple):
    url: str
    redis_port: int
    key: str
    limited_key: str

    def publish(self, symbol: str = "BTC-USD") -> None:
        with redis.Redis(port=self.redis_port) as client:
            client.publish(SOURCE.format(symbol), PAYLOAD)


def run(*arguments: str) -> str:
    command = [sys.executable, "-m", "tornado_bridge", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.strip()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`tornado-bridge serve`, as an operator runs it after `pip install tornado-bridge-trades`."""
    keys = str(tmp_path_factory.mktemp("server") / "keys.toml")
    key = run("keys", "create", "everything", "--api-keys", keys)
    limited = run("keys", "create", "limited", "--api-keys", keys, "--channels", "trades:BTC-USD")
    port = free_port()
    command = [sys.executable, "-m", "tornado_bridge", "serve", "--port", "0", "--exchange", "1:coinbase"]
    command += ["--api-keys", keys, "--redis-url", f"embedded://127.0.0.1:{port}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        try:
            assert line.startswith("listening on http://")
            yield Server(f"ws{line.removeprefix('listening on http')}/public/v1/stream", port, key, limited)
        finally:
            process.terminate()


@contextlib.contextmanager
def subscribed(server: Server, *channels: str, key: str | None = None) -> Iterator[tuple[ClientConnection, list[Any]]]:
    """A client that has subscribed, and the answers that it received up to the confirmation."""
    with connect(server.url, additional_headers={"X-API-Key": key or server.key}) as client:
        client.send(json.dumps({"action": "subscribe", "channels": channels}))
        answers = [json.loads(client.recv(timeout=10))]
        while answers[-1]["type"] != "subscribed":
            answers.append(json.loads(client.recv(timeout=10)))
        yield client, answers


def test_an_installed_plugin_is_listed() -> None:
    listed = {plugin["name"]: plugin for plugin in json.loads(run("plugins", "--json"))}
    assert (listed["trades"]["distribution"], listed["trades"]["event_types"][0]["reads"]) == (
        "tornado-bridge-trades",
        ["trades"],
    )


@pytest.mark.parametrize("channel", ["trades:BTC-USD", "trades:*"])
def test_a_client_receives_the_envelopes_of_an_event_in_their_order(server: Server, channel: str) -> None:
    with subscribed(server, channel) as (client, _):
        server.publish()
        assert [client.recv(timeout=10), client.recv(timeout=10)] == [BOUGHT, SOLD]


def test_a_client_of_another_symbol_receives_nothing(server: Server) -> None:
    with subscribed(server, "trades:ETH-USD") as (client, _):
        server.publish()
        server.publish("ETH-USD")
        assert json.loads(client.recv(timeout=10))["channel"] == "trades:ETH-USD"


def test_a_limited_key_is_granted_its_own_channel_alone(server: Server) -> None:
    with subscribed(server, "trades:*", "trades:BTC-USD", key=server.limited_key) as (_, answers):
        assert answers == [
            {"type": "error", "code": "INVALID_CHANNEL", "message": "Not permitted: trades:*"},
            {"type": "subscribed", "channels": ["trades:BTC-USD"]},
        ]


def test_a_limited_key_receives_what_it_was_granted(server: Server) -> None:
    with subscribed(server, "trades:BTC-USD", key=server.limited_key) as (client, _):
        server.publish()
        assert client.recv(timeout=10) == BOUGHT

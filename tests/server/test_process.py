"""tornado_bridge.server.process: a server from its settings to its end."""

import asyncio
import contextlib
import fcntl
import gc
import http.client
import json
import os
import pty
import re
import resource
import signal
import socket
import subprocess
import sys
import termios
import time
import urllib.parse
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import websockets
from websockets.sync.client import connect

from tests.support.raw import until
from tests.support.servers import (
    CANDLE_SOURCE,
    BridgeProcess,
    LogLines,
    RedisServer,
    bridge_process,
    free_port,
    serving,
    socket_left_by_tornado,
)
from tornado_bridge import bridge
from tornado_bridge.bridge import Limits
from tornado_bridge.errors import BridgeError, ConfigurationError, PluginError
from tornado_bridge.ingest.source import Source
from tornado_bridge.key_file import KeyFile, KeyWatch
from tornado_bridge.server import descriptors, process
from tornado_bridge.server.settings import Settings, settle

CANDLE = '{"timestamp":1708264800000,"open":1,"high":2,"low":0.50,"close":1.5,"volume":3,"macdV":77.5}'
ENVELOPE = (
    '{"type":"candle_close","channel":"candles:BTC-USD:1h","data":{"timestamp":"2024-02-18T14:00:00.000Z",'
    '"open":"1","high":"2","low":"0.5","close":"1.5","volume":"3"}}'
)
SOURCE_DOWN = "source down: trying again until it is back"
VISIBLE_PASSWORD = "a password in the Redis URL can be seen by others: use --redis-password-file"


@pytest.fixture(autouse=True)
def _file_limit() -> Iterator[None]:
    """Give back the limit that a server raises."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys.toml"
    KeyFile(path).create("tests")
    return path


def settings(keys: Path, redis_url: str, environment: dict[str, str] | None = None, **options: str) -> Settings:
    given = {"port": "0", "exchange": "server:coinbase", "api_keys": str(keys), "redis_url": redis_url, **options}
    return settle({name: value for name, value in given.items() if value}, None, environment or {})


class Listening:
    """What a server has said; `url` is awaited."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.event = asyncio.Event()

    def __call__(self, url: str) -> None:
        self.said.append(url)
        self.event.set()

    async def url(self) -> str:
        async with asyncio.timeout(10):
            await self.event.wait()
        return self.said[0]


@contextlib.asynccontextmanager
async def serve(settled: Settings) -> AsyncIterator[Listening]:
    """Run a server in this process; a signal ends it."""
    listening = Listening()
    running = asyncio.create_task(process.serve(settled, listening))
    try:
        yield listening
    finally:
        await asyncio.sleep(0)
        if not running.done():
            os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(10):
            await running


async def refusal(settled: Settings) -> str:
    with socket_left_by_tornado():
        with pytest.raises(ConfigurationError) as caught:
            await process.serve(settled, Listening())
        said = str(caught.value)
        del caught
    return said


def answer(url: str, path: str, **headers: str) -> tuple[int, str]:
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=5)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


async def get(url: str, path: str, **headers: str) -> tuple[int, str]:
    return await asyncio.to_thread(answer, url, path, **headers)


# From start to end, in this process


@pytest.mark.gen_test(timeout=20)
async def test_port_zero_takes_a_free_port_and_tells_it(keys: Path, redis_server: RedisServer) -> None:
    async with serve(settings(keys, redis_server.url)) as listening:
        assert await get(await listening.url(), "/healthz") == (200, '{"status": "ok"}')


@pytest.mark.gen_test(timeout=20)
async def test_it_is_ready_when_it_says_that_it_listens(keys: Path, redis_server: RedisServer) -> None:
    async with serve(settings(keys, redis_server.url)) as listening:
        assert await get(await listening.url(), "/readyz") == (200, '{"status": "ready"}')


@pytest.mark.gen_test(timeout=20)
async def test_an_embedded_redis_is_started_at_the_port_of_the_url(keys: Path) -> None:
    port = free_port()
    async with serve(settings(keys, f"embedded://127.0.0.1:{port}")) as listening:
        await listening.url()
        with redis.Redis(port=port) as client:
            channels = await asyncio.to_thread(client.pubsub_channels, "channel:alerts:*")
    assert channels == [b"channel:alerts:exchange:server"]


@pytest.mark.gen_test(timeout=20)
async def test_an_embedded_redis_ends_with_the_server(keys: Path) -> None:
    port = free_port()
    async with serve(settings(keys, f"embedded://127.0.0.1:{port}")) as listening:
        await listening.url()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


@pytest.mark.gen_test(timeout=20)
async def test_an_embedded_redis_asks_for_no_password(keys: Path) -> None:
    environment = {"TORNADO_BRIDGE_REDIS_PASSWORD": "hunter2"}
    async with serve(settings(keys, "embedded://127.0.0.1:0", environment)) as listening:
        assert await get(await listening.url(), "/readyz") == (200, '{"status": "ready"}')


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this machine")
@pytest.mark.gen_test(timeout=20)
async def test_an_ipv6_host_stands_in_brackets_and_is_served(keys: Path) -> None:
    async with serve(settings(keys, "embedded://[::1]:0", host="::1")) as listening:
        url = await listening.url()
        assert re.fullmatch(r"http://\[::1\]:\d+", url)
        assert await get(url, "/readyz") == (200, '{"status": "ready"}')


class Gate:
    """Stands before a redis-server; what it answers to a subscriber passes once the gate is open."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._tasks: list[asyncio.Task[None]] = []
        self.asked = asyncio.Event()
        self.open = asyncio.Event()
        self.url = ""

    async def __aenter__(self) -> "Gate":
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, requests = await asyncio.open_connection("127.0.0.1", self._port)
        self._tasks += [
            asyncio.create_task(self._pass(reader, requests, watched=True)),
            asyncio.create_task(self._pass(answers, writer, watched=False)),
        ]

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, watched: bool) -> None:
        try:
            while data := await reader.read(65_536):
                if watched and b"SUBSCRIBE" in data:
                    self.asked.set()
                elif not watched and self.asked.is_set():
                    await self.open.wait()
                writer.write(data)
        finally:
            writer.close()


@pytest.mark.gen_test(timeout=20)
async def test_it_does_not_say_that_it_listens_before_the_subscription_is_confirmed(
    keys: Path, redis_server: RedisServer
) -> None:
    async with Gate(redis_server.port) as gate, serve(settings(keys, gate.url)) as listening:
        async with asyncio.timeout(5):
            await gate.asked.wait()
        # Long enough for an answer, had the gate been open; far below the 3.5 s of a hung Redis.
        await asyncio.sleep(0.3)
        assert listening.said == []
        gate.open.set()
        await listening.url()


@pytest.mark.gen_test(timeout=20)
async def test_without_a_redis_it_listens_after_the_first_try_with_one_warning(keys: Path, log_lines: LogLines) -> None:
    async with serve(settings(keys, f"redis://127.0.0.1:{free_port()}")) as listening:
        assert await get(await listening.url(), "/readyz") == (503, '{"status": "unavailable"}')
    log_lines.take(SOURCE_DOWN)


@pytest.mark.gen_test(timeout=20)
async def test_a_signal_before_the_first_try_has_ended_ends_it_unsaid(keys: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        async with serve(settings(keys, url)) as listening:
            silent.settimeout(5)
            peer, _ = await asyncio.to_thread(silent.accept)
    peer.close()
    assert listening.said == []


@pytest.mark.gen_test(timeout=20)
async def test_it_takes_as_many_files_as_it_may(keys: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
    async with serve(settings(keys, "embedded://127.0.0.1:0")) as listening:
        await listening.url()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)


@pytest.mark.gen_test(timeout=20)
async def test_a_system_that_raises_no_limit_is_served_too(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("current limit exceeds maximum limit")

    with monkeypatch.context() as patch:
        patch.setattr(descriptors.resource, "setrlimit", refuse)
        async with serve(settings(keys, "embedded://127.0.0.1:0")) as listening:
            await listening.url()


@pytest.mark.gen_test(timeout=20)
async def test_another_origin_than_those_allowed_is_refused(keys: Path) -> None:
    settled = settings(keys, "embedded://127.0.0.1:0")
    settled = settled.model_copy(update={"allow_origin": ("https://app.example.com",)})
    async with serve(settled) as listening:
        url = await listening.url()
        headers = {"Upgrade": "websocket", "Origin": "https://elsewhere.example"}
        assert await get(url, "/public/v1/stream", **headers) == (403, "Origin not allowed.")


@pytest.mark.gen_test(timeout=20)
async def test_metrics_are_served_on_a_port_of_their_own_which_is_logged(keys: Path, log_lines: LogLines) -> None:
    async with serve(settings(keys, "embedded://127.0.0.1:0", metrics_port="0")) as listening:
        url = await listening.url()
        metrics = log_lines.take("metrics")["url"]
        assert (await get(metrics, "/metrics"))[1].splitlines()[-1] == "tornado_bridge_ready 1.0"
        assert (await get(url, "/metrics"))[0] == 404


@pytest.mark.gen_test(timeout=20)
async def test_the_metrics_stay_on_the_loopback_address_whatever_the_host(keys: Path, log_lines: LogLines) -> None:
    async with serve(settings(keys, "embedded://127.0.0.1:0", host="0.0.0.0", metrics_port="0")) as listening:
        port = urllib.parse.urlsplit(await listening.url()).port
        metrics = urllib.parse.urlsplit(log_lines.take("metrics")["url"])
        assert metrics.hostname == "127.0.0.1"
        # The whole of 127.0.0.0/8 leads to this machine, but only one address of it was asked for.
        socket.create_connection(("127.0.0.2", port), timeout=5).close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", metrics.port), timeout=5)


@pytest.mark.gen_test(timeout=20)
async def test_the_metrics_may_have_an_address_of_their_own(keys: Path, log_lines: LogLines) -> None:
    settled = settings(keys, "embedded://127.0.0.1:0", metrics_port="0", metrics_host="127.0.0.2")
    async with serve(settled) as listening:
        await listening.url()
        metrics = log_lines.take("metrics")["url"]
        assert metrics.startswith("http://127.0.0.2:")
        assert (await get(metrics, "/metrics"))[0] == 200


@pytest.mark.gen_test(timeout=20)
async def test_a_metrics_host_that_is_not_of_this_machine_is_refused_as_that(keys: Path) -> None:
    said = await refusal(settings(keys, "embedded://127.0.0.1:0", metrics_port="0", metrics_host="192.0.2.1"))
    assert said == (
        "--metrics-host on the command line: 192.0.2.1 port 0 cannot be listened on (Cannot assign requested address)"
    )


@pytest.mark.gen_test(timeout=20)
async def test_there_are_no_metrics_unless_asked_for(keys: Path, log_lines: LogLines) -> None:
    async with serve(settings(keys, "embedded://127.0.0.1:0")) as listening:
        await listening.url()
    assert [line for line in log_lines.all() if line["event"] == "metrics"] == []


@pytest.mark.gen_test(timeout=20)
async def test_each_unknown_variable_is_one_warning(keys: Path, log_lines: LogLines) -> None:
    environment = {
        "TORNADO_BRIDGE_PROT": "hunter2",
        f"TORNADO_BRIDGE_{'X' * 100}": "hunter2",
        "TORNADO_BRIDGE_COLOUR\n": "hunter2",
    }
    async with serve(settings(keys, "embedded://127.0.0.1:0", environment)) as listening:
        await listening.url()
    event = "unknown variable in the environment: it is ignored"
    assert [dict(log_lines.take(event)) for _ in environment] == [
        {"event": event, "log_level": "warning", "variable": r"TORNADO_BRIDGE_COLOUR\n"},
        {
            "event": event,
            "log_level": "warning",
            "variable": "TORNADO_BRIDGE_PROT",
            "nearest": "TORNADO_BRIDGE_PORT",
        },
        {"event": event, "log_level": "warning", "variable": f"TORNADO_BRIDGE_{'X' * 48}…"},
    ]


@pytest.mark.gen_test(timeout=20)
async def test_the_service_links_of_kubernetes_are_one_line(keys: Path, log_lines: LogLines) -> None:
    environment = {"TORNADO_BRIDGE_SERVICE_HOST": "10.0.0.1", "TORNADO_BRIDGE_PORT": "tcp://10.0.0.1:8765"}
    async with serve(settings(keys, "embedded://127.0.0.1:0", environment)) as listening:
        await listening.url()
    lines = [line for line in log_lines.all() if "Kubernetes" in line["event"]]
    assert lines == [
        {
            "event": "service links of Kubernetes in the environment: they are ignored",
            "log_level": "info",
            "variables": "TORNADO_BRIDGE_PORT TORNADO_BRIDGE_SERVICE_HOST",
        }
    ]


class Seen(Exception):
    """What a bridge was made with is known."""


@pytest.mark.gen_test
async def test_every_setting_of_the_bridge_reaches_it(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def bridge(**given: Any) -> None:
        seen.update(given)
        raise Seen

    monkeypatch.setattr(process, "WebSocketBridge", bridge)
    settled = settings(
        keys,
        "redis://cache:6380",
        {"TORNADO_BRIDGE_REDIS_PASSWORD": "hunter2"},
        exchange="7:kraken",
        plugins="candle",
        ping_interval="1",
        max_connections="2",
        max_connections_per_key="3",
        max_subscriptions="4",
        skip_bytes="5",
        abort_bytes="6",
        slow_timeout="7",
        rate_limit="8",
        rate_burst="9",
        max_buffered_bytes="10",
        compression="true",
        log_addresses="true",
    )
    with pytest.raises(Seen):
        await process.serve(settled, Listening())
    assert [key.name for key in seen.pop("keys").ring.active()] == ["tests"]
    assert [candidate.name for candidate in seen.pop("plugins")] == ["candle"]
    assert seen == {
        "redis_url": "redis://cache:6380",
        "redis_password": "hunter2",
        "exchange_id": "7",
        "exchange_name": "kraken",
        "limits": Limits(
            ping_interval=1.0,
            max_connections=2,
            max_connections_per_key=3,
            max_subscriptions=4,
            skip_bytes=5,
            abort_bytes=6,
            slow_timeout=7.0,
            rate_limit=8.0,
            rate_burst=9,
            max_buffered_bytes=10,
        ),
        "compression": True,
        "log_addresses": True,
    }


@pytest.mark.gen_test(timeout=20)
async def test_a_bridge_that_fails_ends_the_server_with_an_error_that_quotes_nothing(
    keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refresh(_: KeyWatch) -> None:
        raise RuntimeError("something private")

    monkeypatch.setattr(KeyWatch, "refresh", refresh)
    with pytest.raises(BridgeError, match=r"^the bridge has failed: RuntimeError$"):
        await process.serve(settings(keys, "embedded://127.0.0.1:0"), Listening())


@pytest.mark.gen_test(timeout=20)
async def test_a_bridge_that_fails_before_its_first_try_ends_the_server_unsaid(
    keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(_: Source) -> None:
        raise RuntimeError("something private")

    monkeypatch.setattr(Source, "run", run)
    listening = Listening()
    with pytest.raises(BridgeError, match=r"^the bridge has failed: RuntimeError$"):
        await process.serve(settings(keys, "embedded://127.0.0.1:0"), listening)
    assert listening.said == []


# What cannot be used


@pytest.fixture
def taken() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as occupant:
        yield str(occupant.getsockname()[1])


@pytest.mark.gen_test
async def test_a_port_that_is_taken_is_refused(keys: Path, taken: str) -> None:
    assert await refusal(settings(keys, "embedded://127.0.0.1:0", port=taken)) == (
        f"--port on the command line: 127.0.0.1 port {taken} cannot be listened on (Address already in use)"
    )


@pytest.mark.gen_test
async def test_a_metrics_port_that_is_taken_is_refused_as_that(keys: Path, taken: str) -> None:
    assert await refusal(settings(keys, "embedded://127.0.0.1:0", metrics_port=taken)) == (
        f"--metrics-port on the command line: 127.0.0.1 port {taken} cannot be listened on (Address already in use)"
    )


@pytest.mark.gen_test
async def test_a_refused_metrics_port_leaves_the_port_free(keys: Path, taken: str) -> None:
    port = free_port()
    await refusal(settings(keys, "embedded://127.0.0.1:0", port=str(port), metrics_port=taken))
    socket.create_server(("127.0.0.1", port)).close()


@pytest.mark.parametrize(
    ("host", "problem"),
    [
        ("no-such-host.invalid", "Name or service not known"),
        # TEST-NET-1 (RFC 5737) is nobody's.
        ("192.0.2.1", "Cannot assign requested address"),
        ("a" * 64, "no such name"),
    ],
)
@pytest.mark.gen_test
async def test_a_host_that_is_not_of_this_machine_is_refused(host: str, problem: str, keys: Path) -> None:
    said = await refusal(settings(keys, "embedded://127.0.0.1:0", host=host))
    assert re.fullmatch(rf"--host on the command line: {re.escape(host)} port 0 cannot be listened on \((.+)\)", said)
    if host != "no-such-host.invalid":  # what a resolver says of that is its own
        assert said.endswith(f"({problem})")


@pytest.mark.gen_test
async def test_an_embedded_redis_whose_port_is_taken_is_refused(keys: Path, taken: str) -> None:
    assert await refusal(settings(keys, f"embedded://127.0.0.1:{taken}")) == (
        f"--redis-url on the command line: embedded Redis cannot listen on 127.0.0.1:{taken}: Address already in use"
    )


@pytest.mark.gen_test
async def test_an_embedded_redis_at_no_host_name_is_refused(keys: Path) -> None:
    assert await refusal(settings(keys, f"embedded://{'a' * 64}:0")) == (
        "--redis-url on the command line: expected a host name of this machine"
    )


@pytest.mark.parametrize(
    ("exchange", "problem"),
    [
        ("a b:coinbase", "the exchange id must be 1 to 64 letters, digits, _ or -, and not begin with -"),
        ("-1:x", "the exchange id must be 1 to 64 letters, digits, _ or -, and not begin with -"),
        ("1: x", "the exchange name must be 1 to 64 letters, digits, spaces, '.', '_' or '-'"),
    ],
)
@pytest.mark.gen_test
async def test_an_exchange_that_is_none_is_refused(exchange: str, problem: str, keys: Path) -> None:
    settled = settings(keys, "redis://cache", {"TORNADO_BRIDGE_EXCHANGE": exchange}, exchange="")
    assert await refusal(settled) == f"--exchange in the environment (TORNADO_BRIDGE_EXCHANGE): {problem}"


@pytest.mark.gen_test
async def test_a_plugin_that_is_wrong_is_told_as_it_is(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def bridge(**_: Any) -> None:
        raise PluginError("candle", "tornado_bridge 0.1.0", "implements no transform hook")

    monkeypatch.setattr(process, "WebSocketBridge", bridge)
    assert await refusal(settings(keys, "redis://cache")) == (
        "plugin 'candle' of tornado_bridge 0.1.0: implements no transform hook"
    )


@pytest.mark.gen_test
async def test_a_key_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert await refusal(settings(tmp_path / "x", "redis://cache")) == (
        f"--api-keys on the command line: API key file {tmp_path / 'x'} cannot be read: No such file or directory"
    )


@pytest.fixture
def garbage(keys: Path) -> Path:
    keys.write_text("garbage [")
    return keys


@pytest.fixture
def open_to_the_world(keys: Path) -> Path:
    keys.chmod(0o644)
    return keys


@pytest.mark.gen_test
async def test_a_key_file_of_garbage_is_refused(garbage: Path) -> None:
    assert await refusal(settings(garbage, "redis://cache")) == (
        f"--api-keys on the command line: API key file {garbage} is not TOML (at line 1, column 9)"
    )


@pytest.mark.gen_test
async def test_a_key_file_that_the_world_can_read_is_refused(open_to_the_world: Path) -> None:
    path = open_to_the_world
    assert await refusal(settings(path, "redis://cache")) == (
        f"--api-keys on the command line: API key file {path} has mode 0644, so others can use it: chmod 600 it"
    )


# Secrets


@pytest.fixture(scope="module")
def locked_redis(redis_binary: str) -> Iterator[RedisServer]:
    """A redis-server that asks for a password."""
    with RedisServer(redis_binary, "--requirepass", "hunter/2", password="hunter/2") as running:
        yield running


@pytest.mark.gen_test(timeout=20)
async def test_a_password_in_the_url_of_the_command_line_is_warned_of(
    keys: Path, locked_redis: RedisServer, log_lines: LogLines
) -> None:
    async with serve(settings(keys, f"redis://:hunter%2F2@127.0.0.1:{locked_redis.port}")) as listening:
        assert await get(await listening.url(), "/readyz") == (200, '{"status": "ready"}')
    log_lines.take(VISIBLE_PASSWORD)


@pytest.mark.gen_test(timeout=20)
async def test_a_password_in_the_url_of_the_environment_is_not_warned_of(keys: Path, locked_redis: RedisServer) -> None:
    environment = {"TORNADO_BRIDGE_REDIS_URL": f"redis://:hunter%2F2@127.0.0.1:{locked_redis.port}"}
    async with serve(settings(keys, "", environment)) as listening:
        assert await get(await listening.url(), "/readyz") == (200, '{"status": "ready"}')


def ready(directory: Path, url: str, *options: str, environment: dict[str, str] | None = None) -> str:
    """Run a server as a process, assert that Redis lets it in, and return all that others may see of it."""
    options = ("--log-level", "debug", *options)
    with serving(directory, url, *options, environment=environment) as (process, stream, _):
        visible = Path(f"/proc/{process.process.pid}/cmdline").read_bytes().decode()
        assert answer(f"http{stream.removeprefix('ws')}", "/readyz") == (200, '{"status": "ready"}')
        status, out, err = process.stop()
        assert status == 0
        return visible + out + err


def test_a_password_of_a_file_opens_redis_and_is_seen_by_nobody(tmp_path: Path, locked_redis: RedisServer) -> None:
    (tmp_path / "password").write_text("hunter/2\n")
    assert "hunter" not in ready(tmp_path, locked_redis.url, "--redis-password-file", str(tmp_path / "password"))


def test_a_password_of_the_environment_opens_redis_and_is_seen_by_nobody(
    tmp_path: Path, locked_redis: RedisServer
) -> None:
    environment = {"TORNADO_BRIDGE_REDIS_PASSWORD": "hunter/2"}
    assert "hunter" not in ready(tmp_path, locked_redis.url, environment=environment)


def test_a_password_that_redis_does_not_take_is_a_warning_without_it(tmp_path: Path, locked_redis: RedisServer) -> None:
    environment = {"TORNADO_BRIDGE_REDIS_PASSWORD": "swordfish"}
    with serving(tmp_path, locked_redis.url, environment=environment) as (process, _, _):
        status, _, err = process.stop()
    assert (status, err.count("source down"), err.count("swordfish")) == (0, 1, 0)
    assert "Redis asks for another user or password" in err


def test_no_output_holds_the_keys_that_clients_brought(tmp_path: Path, redis_server: RedisServer) -> None:
    with serving(tmp_path, redis_server.url, "--log-level", "debug") as (process, url, key):
        with connect(f"{url}?apiKey={key}") as client:
            client.send('{"action":"subscribe","channels":["candles:*:*"]}')
            assert client.recv(timeout=5) == '{"type":"subscribed","channels":["candles:*:*"]}'
        with connect(f"{url}?apiKey=a-wrong-key") as client, pytest.raises(websockets.ConnectionClosed):
            client.recv(timeout=5)
        _, out, err = process.stop()
    assert [secret for secret in (key, "a-wrong-key") if secret in out + err] == []


@pytest.mark.gen_test
async def test_the_collector_passes_over_what_was_there_at_the_start(keys: Path, redis_server: RedisServer) -> None:
    before = gc.get_threshold(), gc.get_freeze_count()
    async with serve(settings(keys, redis_server.url)) as listening:
        await listening.url()
        assert gc.get_threshold() == process.COLLECT_AFTER
        assert gc.get_freeze_count() > 10_000
    assert (gc.get_threshold(), gc.get_freeze_count()) == before


# Processes


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_the_server(number: signal.Signals, tmp_path: Path, redis_server: RedisServer) -> None:
    with serving(tmp_path, redis_server.url) as (process, url, key):
        with connect(url, additional_headers={"X-API-Key": key}) as client:
            client.send('{"action":"subscribe","channels":["candles:*:*"]}')
            client.recv(timeout=5)
            process.process.send_signal(number)
            with pytest.raises(websockets.ConnectionClosed) as closed:
                client.recv(timeout=5)
        status, out, err = process.finish()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1001, "Server shutting down")
    assert (status, out) == (0, "")
    lines = [re.sub(r" +", " ", line.partition(" ")[2]) for line in err.splitlines()]
    assert [re.sub(r"seconds=[0-9.]+", "seconds=N", line) for line in lines] == [
        "[info ] source up [tornado_bridge.ingest.source]",
        "[info ] client connected [tornado_bridge.connections.visits] key=tests",
        "[info ] stopping [tornado_bridge.server.process]",
        "[info ] client left [tornado_bridge.connections.visits] code=1001 key=tests reason='Server shutting down' "
        "seconds=N",
    ]


def test_uvloop_carries_events_and_ends_by_a_signal(tmp_path: Path, redis_server: RedisServer) -> None:
    with serving(tmp_path, redis_server.url, "--event-loop", "uvloop") as (process, url, key):
        maps = Path(f"/proc/{process.process.pid}/maps").read_text()
        with connect(url, additional_headers={"X-API-Key": key}) as client, redis_server.client() as publisher:
            client.send('{"action":"subscribe","channels":["candles:BTC-USD:1h"]}')
            assert client.recv(timeout=5) == '{"type":"subscribed","channels":["candles:BTC-USD:1h"]}'
            publisher.publish(CANDLE_SOURCE.format(symbol="BTC-USD", timeframe="1h"), CANDLE)
            assert client.recv(timeout=5) == ENVELOPE
        assert process.stop(signal.SIGTERM)[0] == 0
    assert "uvloop" in maps


def test_uvloop_that_is_not_installed_is_refused_in_one_sentence(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    with pytest.raises(ConfigurationError) as raised:
        process.run(settings(keys, "redis://127.0.0.1", event_loop="uvloop"), print)
    assert str(raised.value) == "--event-loop on the command line: uvloop is not installed: pip install uvloop"


def test_a_second_signal_does_not_break_the_drain_off(tmp_path: Path, redis_server: RedisServer) -> None:
    with serving(tmp_path, redis_server.url) as (process, _, _):
        process.process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + 10
        # Until the end: Python's own handlers go before the process does.
        while process.process.poll() is None:
            assert time.monotonic() < deadline
            process.process.send_signal(signal.SIGTERM)
        assert process.finish()[0] == 0


# Signals that do not stop it


@pytest.fixture
def never_polled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bridge that looks at nothing by itself during the test."""
    monkeypatch.setattr(bridge, "WATCH_INTERVAL", 3600.0)


@pytest.mark.gen_test(timeout=20)
async def test_sighup_reads_the_keys_at_once(keys: Path, never_polled: None, log_lines: LogLines) -> None:
    settled = settings(keys, "embedded://127.0.0.1:0", slow_timeout="14400")
    async with serve(settled) as listening:
        url = await listening.url()
        key = await asyncio.to_thread(KeyFile(keys).create, "later")
        stream = f"ws{url.removeprefix('http')}/public/v1/stream"
        async with websockets.connect(stream, additional_headers={"X-API-Key": key}) as refused:
            with pytest.raises(websockets.ConnectionClosed, match="Invalid API key"):
                await refused.recv()
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: "key file read anew" in [line["event"] for line in log_lines.all()])
        async with websockets.connect(stream, additional_headers={"X-API-Key": key}) as admitted:
            await admitted.send('{"action":"subscribe","channels":["candles:*:*"]}')
            assert await admitted.recv() == '{"type":"subscribed","channels":["candles:*:*"]}'


def wait_for_line(process: BridgeProcess, text: str) -> str:
    """Read stderr up to the first line that holds a text, and return that line."""
    while text not in (line := process.error_line()):
        assert line
    return line


def test_sighup_takes_the_log_level_from_the_file_anew_and_loses_no_client(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    config = tmp_path / "settings.toml"
    config.write_text('log_level = "info"')
    with (
        serving(tmp_path, redis_server.url, "--config", str(config)) as (process, url, key),
        connect(url, additional_headers={"X-API-Key": key}) as client,
    ):
        config.write_text('log_level = "debug"')
        process.process.send_signal(signal.SIGHUP)
        wait_for_line(process, "SIGHUP: the log level and the keys are read again")
        answer(f"http{url.removeprefix('ws')}", "/healthz")
        assert "[debug" in wait_for_line(process, "request")
        config.write_text("log_level = 5")
        process.process.send_signal(signal.SIGHUP)
        line = wait_for_line(process, "settings cannot be used: the log level stays as it was")
        assert "expected debug, info, warning or error, got 5" in line
        answer(f"http{url.removeprefix('ws')}", "/healthz")
        assert "[debug" in wait_for_line(process, "request")
        client.send('{"action":"subscribe","channels":["candles:*:*"]}')
        assert client.recv(timeout=5) == '{"type":"subscribed","channels":["candles:*:*"]}'


def test_a_log_level_of_the_command_line_outlasts_sighup(tmp_path: Path, redis_server: RedisServer) -> None:
    config = tmp_path / "settings.toml"
    config.write_text("")
    options = ("--config", str(config), "--log-level", "debug")
    with serving(tmp_path, redis_server.url, *options) as (process, url, _):
        config.write_text('log_level = "error"')
        process.process.send_signal(signal.SIGHUP)
        wait_for_line(process, "SIGHUP: the log level and the keys are read again")
        answer(f"http{url.removeprefix('ws')}", "/healthz")
        assert "[debug" in wait_for_line(process, "request")


def test_sigusr1_is_ignored_with_a_line_and_loses_no_client(tmp_path: Path, redis_server: RedisServer) -> None:
    with (
        serving(tmp_path, redis_server.url) as (process, url, key),
        connect(url, additional_headers={"X-API-Key": key}) as client,
    ):
        process.process.send_signal(signal.SIGUSR1)
        assert "[info" in wait_for_line(process, "SIGUSR1 is ignored")
        client.send('{"action":"subscribe","channels":["candles:*:*"]}')
        assert client.recv(timeout=5) == '{"type":"subscribed","channels":["candles:*:*"]}'


def test_a_low_limit_of_open_files_is_one_warning_and_clients_past_it_get_503(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    lowered = ("sh", "-c", 'ulimit -n 80; exec "$@"', "sh")
    options = ("--max-connections-per-key", "100", "--log-level", "warning")
    with serving(tmp_path, redis_server.url, *options, under=lowered) as (process, url, key):
        with contextlib.ExitStack() as clients:
            for _ in range(7):
                client = clients.enter_context(connect(url, additional_headers={"X-API-Key": key}))
                client.send('{"action":"subscribe","channels":["candles:*:*"]}')
                assert client.recv(timeout=5) == '{"type":"subscribed","channels":["candles:*:*"]}'
            with pytest.raises(websockets.InvalidStatus) as refused:
                connect(url, additional_headers={"X-API-Key": key})
            assert refused.value.response.status_code == 503
        _, _, err = process.stop()
    assert [re.sub(r" +", " ", line.partition(" ")[2]) for line in err.splitlines()] == [
        "[warning ] fewer connections than set: the limit of open files is too low [tornado_bridge.server.process] "
        "max_connections=7 max_handshakes=2 open_files=80"
    ]


def test_a_terminal_that_is_closed_ends_the_server(keys: Path) -> None:
    terminal, end = pty.openpty()
    options = ("--port", "0", "--exchange", "1:a", "--api-keys", str(keys), "--redis-url", "embedded://127.0.0.1:0")
    with subprocess.Popen(
        [sys.executable, "-m", "tornado_bridge", "serve", *options],
        stdin=end,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        text=True,
    ) as server:
        os.close(end)
        assert server.stdout is not None
        assert server.stderr is not None
        assert server.stdout.readline().startswith("listening on ")
        # It is no hang-up while the terminal is there.
        server.send_signal(signal.SIGHUP)
        while "SIGHUP" not in server.stderr.readline():
            assert server.poll() is None
        os.close(terminal)
        assert server.wait(15) == 0


def test_an_embedded_redis_carries_events_of_any_client(tmp_path: Path) -> None:
    port = free_port()
    with (
        serving(tmp_path, f"embedded://127.0.0.1:{port}") as (_, url, key),
        connect(url, additional_headers={"X-API-Key": key}) as client,
        redis.Redis(port=port) as publisher,
    ):
        client.send('{"action":"subscribe","channels":["candles:BTC-USD:1h"]}')
        assert client.recv(timeout=5) == '{"type":"subscribed","channels":["candles:BTC-USD:1h"]}'
        publisher.publish(CANDLE_SOURCE.format(symbol="BTC-USD", timeframe="1h"), CANDLE)
        assert client.recv(timeout=5) == ENVELOPE


def test_redis_is_subscribed_when_the_line_is_there(tmp_path: Path, redis_server: RedisServer) -> None:
    with serving(tmp_path, redis_server.url, "--exchange", "line:coinbase"), redis_server.client() as client:
        assert client.pubsub_numsub("channel:alerts:exchange:line") == [(b"channel:alerts:exchange:line", 1)]


def test_it_is_not_ready_while_redis_is_away(tmp_path: Path, own_redis_server: RedisServer) -> None:
    with serving(tmp_path, own_redis_server.url) as (_, stream, _):
        url = f"http{stream.removeprefix('ws')}"

        def becomes(status: int) -> None:
            deadline = time.monotonic() + 10
            while answer(url, "/readyz")[0] != status:
                assert time.monotonic() < deadline
                time.sleep(0.02)

        becomes(200)
        own_redis_server.kill()
        becomes(503)
        assert answer(url, "/healthz") == (200, '{"status": "ok"}')
        own_redis_server.start()
        becomes(200)


def test_without_a_redis_there_is_one_warning_per_cause_however_often_it_is_tried(tmp_path: Path) -> None:
    port = free_port()
    with (
        serving(tmp_path, f"redis://127.0.0.1:{port}", "--log-level", "warning") as (process, _, _),
        socket.create_server(("127.0.0.1", port)) as door,
    ):
        # The next try, which is closed unanswered, and the one after that.
        door.settimeout(10)
        door.accept()[0].close()
        with door.accept()[0]:
            status, out, err = process.stop()
    assert (status, out) == (0, "")
    refused, hung_up = err.splitlines()
    assert "source down: trying again until it is back" in refused
    assert "source still down: trying again until it is back" in hung_up


def test_json_logs_are_json_line_by_line(tmp_path: Path) -> None:
    options = ("--log-format", "json", "--log-level", "debug")
    with serving(tmp_path, f"redis://127.0.0.1:{free_port()}", *options) as (process, stream, _):
        answer(f"http{stream.removeprefix('ws')}", "/healthz?apiKey=k")
        lines = [json.loads(line) for line in process.stop()[2].splitlines()]
    bridge = [line for line in lines if line["logger"].startswith("tornado_bridge.")]
    assert [(line["level"], line["event"]) for line in bridge] == [
        ("warning", SOURCE_DOWN),
        ("debug", "request"),
        ("info", "stopping"),
    ]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line["timestamp"]) for line in lines)


def test_unusable_settings_end_the_process_with_two_and_one_sentence(tmp_path: Path, keys: Path, taken: str) -> None:
    options = ("--port", taken, "--exchange", "1:a", "--api-keys", str(keys), "--redis-url", "embedded://127.0.0.1:0")
    with bridge_process("serve", *options) as process:
        assert process.finish() == (
            2,
            "",
            f"tornado-bridge: --port on the command line: 127.0.0.1 port {taken} cannot be listened on "
            "(Address already in use)\n",
        )


def test_an_output_that_nobody_reads_ends_the_process_without_a_traceback(keys: Path) -> None:
    options = ("--port", "0", "--exchange", "1:a", "--api-keys", str(keys), "--redis-url", "embedded://127.0.0.1:0")
    with bridge_process("serve", *options, "--log-level", "error") as process:
        assert process.process.stdout is not None
        process.process.stdout.close()
        process.process.wait(15)
        assert process.process.stderr is not None
        assert (process.process.returncode, process.process.stderr.read()) == (1, b"")

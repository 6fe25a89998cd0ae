"""The fixtures of all tests: a real redis-server, a bridge on a real port, the log lines that a test must expect."""

import asyncio
import logging
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import fields

import hypothesis
import pytest
import structlog
import tornado.ioloop

from tests.support.raw import NOTHING_HELD, held
from tests.support.servers import LogLines, RedisServer
from tornado_bridge.bridge import Limits, WebSocketBridge
from tornado_bridge.ingest import relay
from tornado_bridge.keys import FixedKeys, KeyRing
from tornado_bridge.web import app

KEY = "the-key-of-the-tests"

# Hypothesis measures wall time, which says nothing on a machine that runs several workers.
hypothesis.settings.register_profile("tests", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("tests")


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """Give back the signals that a server handles, and then ignores: a process inherits those that are ignored."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
    handlers = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def redis_binary() -> str:
    binary = shutil.which("redis-server")
    if binary is None:
        if os.environ.get("CI"):
            pytest.fail("redis-server is not installed")
        pytest.skip("redis-server is not installed")
    return binary


@pytest.fixture(scope="session")
def redis_server(redis_binary: str) -> Iterator[RedisServer]:
    """A redis-server that all tests of a worker share. They may neither stop it nor change it."""
    with RedisServer(redis_binary) as server:
        yield server


@pytest.fixture
def own_redis_server(redis_binary: str) -> Iterator[RedisServer]:
    """A redis-server for one test, which may stop or kill it."""
    with RedisServer(redis_binary) as server:
        yield server


@pytest.fixture
def io_loop() -> Iterator[tornado.ioloop.IOLoop]:
    """The event loop of one test; fails if the test has left a task behind."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    io_loop = tornado.ioloop.IOLoop.current()
    yield io_loop
    pending = asyncio.all_tasks(loop)
    # As asyncio.run does: generators and threads that are still closing can finish.
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    io_loop.close(all_fds=True)
    asyncio.set_event_loop(None)
    assert not pending


@pytest.fixture(autouse=True)
def log_lines(caplog: pytest.LogCaptureFixture) -> Iterator[LogLines]:
    """The log lines of a test; fails if there is a line at WARNING or above that the test has not taken."""
    with structlog.testing.capture_logs() as captured:
        lines = LogLines(captured)
        yield lines
    assert lines.unexpected() == []
    # By now `caplog.records` has those of the teardown alone.
    records = [*caplog.get_records("call"), *caplog.records]
    assert [record for record in records if record.levelno >= logging.WARNING] == []


@pytest.fixture
def key() -> str:
    return KEY


@pytest.fixture
def bridge(
    request: pytest.FixtureRequest,
    io_loop: tornado.ioloop.IOLoop,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[WebSocketBridge]:
    """A started bridge. `@pytest.mark.bridge(ping_interval=0.2)` sets options, `redis=…` chooses a Redis fixture."""
    # On a busy machine any call may take longer than a plugin's may, and the bridge would log that.
    monkeypatch.setattr(relay, "SLOW_CALL", 60.0)
    marker = request.node.get_closest_marker("bridge")
    options = dict(marker.kwargs) if marker else {}
    server = request.getfixturevalue(options.pop("redis")) if "redis" in options else redis_server
    options.setdefault("keys", FixedKeys(KeyRing.single("tests", KEY)))
    limits = Limits(**{field.name: options.pop(field.name) for field in fields(Limits) if field.name in options})
    bridge = WebSocketBridge(redis_url=server.url, exchange_id=1, exchange_name="coinbase", limits=limits, **options)
    io_loop.run_sync(bridge.start, timeout=10)
    yield bridge
    io_loop.run_sync(bridge.stop, timeout=10)
    assert held(bridge) == NOTHING_HELD


@pytest.fixture
def http_port(bridge: WebSocketBridge, io_loop: tornado.ioloop.IOLoop) -> Iterator[int]:
    """The port of an HTTP server with the bridge's routes, started as `serve` starts it."""
    server, port = app.serve(bridge, host="127.0.0.1", port=0)
    yield port
    server.stop()
    io_loop.run_sync(server.close_all_connections, timeout=10)


@pytest.fixture
def stream_url(http_port: int) -> str:
    return f"ws://127.0.0.1:{http_port}{app.STREAM_PATH}"

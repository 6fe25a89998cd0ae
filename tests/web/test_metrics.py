"""tornado_bridge.web.metrics: the counts of a bridge, as Prometheus reads them."""

import asyncio
import contextlib
import http.client
import re
import resource
import socket
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import tornado.ioloop
import websockets
from prometheus_client.parser import text_string_to_metric_families

from tests.support.raw import RawClient, text, until
from tests.support.servers import ALERT_SOURCE, CANDLE_SOURCE, LogLines, RedisServer, serving, socket_left_by_tornado
from tornado_bridge import Envelope, Event, EventType, envelope_schema, hookimpl
from tornado_bridge.bridge import WebSocketBridge
from tornado_bridge.ingest import relay
from tornado_bridge.ingest.quarantine import SLOW_CALL
from tornado_bridge.web.metrics import serve_metrics

CANDLE = '{"timestamp":1708264800000,"open":1,"high":2,"low":0.50,"close":1.5,"volume":3,"macdV":77.5}'
SOURCE = CANDLE_SOURCE.format(symbol="BTC-USD", timeframe="1h")
SUBSCRIBE = '{"action":"subscribe","channels":["candles:BTC-USD:1h"]}'
SUBSCRIBED = '{"type":"subscribed","channels":["candles:BTC-USD:1h"]}'

Samples = dict[str, float]


class Metrics:
    """A client of a bridge's metrics port."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def get(self, path: str = "/metrics", method: str = "GET") -> tuple[int, str, str]:
        """Return status, content type and body."""
        return await asyncio.to_thread(self._get, path, method)

    async def scrape(self) -> Samples:
        """Return every sample by its name, followed by its labels."""
        _, _, body = await self.get()
        return {
            " ".join((sample.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items())))): sample.value
            for family in text_string_to_metric_families(body)
            for sample in family.samples
        }

    def _get(self, path: str, method: str) -> tuple[int, str, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, response.headers["Content-Type"], response.read().decode()
        finally:
            connection.close()


@pytest.fixture
def metrics(bridge: WebSocketBridge, io_loop: tornado.ioloop.IOLoop) -> Iterator[Metrics]:
    server, port = serve_metrics(bridge, "127.0.0.1", 0)
    yield Metrics(port)
    server.stop()
    io_loop.run_sync(server.close_all_connections, timeout=10)


async def publish(server: RedisServer, *messages: tuple[str, str | bytes]) -> None:
    await asyncio.to_thread(server.publish, *messages)


class Trial(msgspec.Struct):
    """The payload for the plugin of these tests. It says what the plugin must do."""

    do: str


TRIAL = EventType(
    name="trial",
    source="channel:trials:{exchange_id}:{name}",
    channel="trials:{name}",
    parameters={"name": "[a-z]{1,20}"},
    reads=Trial,
    emits=envelope_schema("trial", "^trials:[a-z]{1,20}$", {"done": {"enum": ["yes"]}}),
)
TRIAL_SOURCE = "channel:trials:1:one"


class Plugin:
    @hookimpl
    def register_event_types(self) -> list[EventType]:
        return [TRIAL]

    @hookimpl
    def transform(self, event: Event[Trial]) -> list[Envelope]:
        if event.payload.do == "raise":
            raise RuntimeError("something private")
        if event.payload.do == "block":
            time.sleep(0.06)
        done = "no" if event.payload.do == "leak" else "yes"
        return [Envelope("trials:one", {"done": done})] * 2


def trial(do: str) -> tuple[str, str]:
    return TRIAL_SOURCE, f'{{"do":"{do}"}}'


@pytest.mark.gen_test
async def test_a_scrape_is_in_the_format_of_prometheus(metrics: Metrics) -> None:
    status, content_type, body = await metrics.get()
    assert (status, content_type) == (200, "text/plain; version=1.0.0; charset=utf-8")
    assert [family.name for family in text_string_to_metric_families(body)] == [
        "tornado_bridge_events",
        "tornado_bridge_envelopes",
        "tornado_bridge_plugin_slow_calls",
        "tornado_bridge_plugin_quarantined",
        "tornado_bridge_refused_clients",
        "tornado_bridge_unrouted_events",
        "tornado_bridge_frames_due",
        "tornado_bridge_frames_skipped",
        "tornado_bridge_slow_clients_aborted",
        "tornado_bridge_source_subscriptions",
        "tornado_bridge_connections",
        "tornado_bridge_cohorts",
        "tornado_bridge_ready",
    ]


@pytest.mark.gen_test
async def test_every_metric_is_explained(metrics: Metrics) -> None:
    _, _, body = await metrics.get()
    assert [family.name for family in text_string_to_metric_families(body) if not family.documentation] == []


@pytest.mark.gen_test
async def test_a_new_bridge_has_counted_only_its_subscription(metrics: Metrics) -> None:
    counted = {name: value for name, value in (await metrics.scrape()).items() if value}
    assert counted == {"tornado_bridge_source_subscriptions_total": 1, "tornado_bridge_ready": 1}


@pytest.mark.gen_test
async def test_an_event_without_subscribers_is_counted_with_its_envelope(
    metrics: Metrics, bridge: WebSocketBridge, redis_server: RedisServer
) -> None:
    await publish(redis_server, (SOURCE, CANDLE))
    await until(lambda: bridge.relay.tallies["candle_close"].relayed)
    samples = await metrics.scrape()
    assert samples["tornado_bridge_events_total outcome=relayed type=candle_close"] == 1
    assert samples["tornado_bridge_envelopes_total type=candle_close"] == 1
    assert samples["tornado_bridge_frames_due_total"] == 0


@pytest.mark.gen_test
async def test_types_are_counted_apart(
    metrics: Metrics, bridge: WebSocketBridge, redis_server: RedisServer, log_lines: LogLines
) -> None:
    await publish(redis_server, (ALERT_SOURCE, "{}"), (SOURCE, CANDLE))
    await until(lambda: bridge.relay.tallies["candle_close"].relayed)
    log_lines.take("event dropped", event_type="trade_signal")
    samples = await metrics.scrape()
    assert samples["tornado_bridge_events_total outcome=invalid type=candle_close"] == 0
    assert samples["tornado_bridge_events_total outcome=invalid type=trade_signal"] == 1


@pytest.mark.gen_test
async def test_an_event_of_an_unknown_form_is_counted(
    metrics: Metrics, bridge: WebSocketBridge, redis_server: RedisServer, log_lines: LogLines
) -> None:
    await publish(redis_server, (CANDLE_SOURCE.format(symbol="BTC-USD", timeframe="2h"), CANDLE))
    await until(lambda: bridge.relay.unrouted)
    log_lines.take("event dropped")
    assert (await metrics.scrape())["tornado_bridge_unrouted_events_total"] == 1


@pytest.mark.bridge(plugins=[Plugin()])
@pytest.mark.gen_test
async def test_each_outcome_of_a_plugin_is_counted(
    metrics: Metrics, bridge: WebSocketBridge, redis_server: RedisServer, log_lines: LogLines
) -> None:
    await publish(redis_server, trial("raise"), trial("leak"), trial("leak"), (TRIAL_SOURCE, "{}"), trial("relay"))
    await until(lambda: bridge.relay.tallies["trial"].relayed)
    log_lines.take("plugin failed")
    log_lines.take("envelope refused")
    log_lines.take("event dropped")
    samples = await metrics.scrape()
    assert {name: value for name, value in samples.items() if "type=trial" in name} == {
        "tornado_bridge_events_total outcome=relayed type=trial": 1,
        "tornado_bridge_events_total outcome=invalid type=trial": 1,
        "tornado_bridge_events_total outcome=failed type=trial": 1,
        "tornado_bridge_events_total outcome=refused type=trial": 2,
        "tornado_bridge_events_total outcome=quarantined type=trial": 0,
        "tornado_bridge_envelopes_total type=trial": 2,
    }


@pytest.mark.bridge(plugins=[Plugin()])
@pytest.mark.gen_test
async def test_a_quarantine_is_shown_with_the_events_that_it_cost(
    metrics: Metrics, bridge: WebSocketBridge, redis_server: RedisServer, log_lines: LogLines
) -> None:
    await publish(redis_server, *[trial("raise")] * 20, *[trial("relay")] * 3)
    await until(lambda: bridge.relay.tallies["trial"].quarantined == 3)
    log_lines.take("plugin failed")
    log_lines.take("plugin quarantined: its events are dropped")
    samples = await metrics.scrape()
    assert samples["tornado_bridge_plugin_quarantined plugin=Plugin"] == 1
    assert samples["tornado_bridge_events_total outcome=quarantined type=trial"] == 3


@pytest.mark.bridge(plugins=[Plugin()])
@pytest.mark.gen_test
async def test_a_slow_call_of_a_plugin_is_counted(
    metrics: Metrics,
    bridge: WebSocketBridge,
    redis_server: RedisServer,
    log_lines: LogLines,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relay, "SLOW_CALL", SLOW_CALL)
    await publish(redis_server, trial("block"), trial("relay"))
    await until(lambda: bridge.relay.tallies["trial"].relayed == 2)
    log_lines.take("plugin is slow: every client waits for it")
    assert (await metrics.scrape())["tornado_bridge_plugin_slow_calls_total plugin=Plugin"] >= 1


@pytest.mark.gen_test
async def test_a_client_its_cohort_and_its_frame_are_counted(
    metrics: Metrics, stream_url: str, key: str, redis_server: RedisServer
) -> None:
    async with websockets.connect(stream_url, additional_headers={"X-API-Key": key}) as client:
        await client.send(SUBSCRIBE)
        assert await client.recv() == SUBSCRIBED
        await publish(redis_server, (SOURCE, CANDLE))
        await client.recv()
        samples = await metrics.scrape()
    assert samples["tornado_bridge_connections"] == 1
    assert samples["tornado_bridge_cohorts"] == 1
    assert samples["tornado_bridge_frames_due_total"] == 1


@pytest.mark.gen_test
async def test_a_client_that_has_gone_is_no_longer_counted(
    metrics: Metrics, bridge: WebSocketBridge, stream_url: str, key: str
) -> None:
    async with websockets.connect(stream_url, additional_headers={"X-API-Key": key}) as client:
        await client.send(SUBSCRIBE)
        await client.recv()
    await until(lambda: not len(bridge.connections))
    samples = await metrics.scrape()
    assert (samples["tornado_bridge_connections"], samples["tornado_bridge_cohorts"]) == (0, 0)


@pytest.mark.gen_test
async def test_refused_clients_are_counted_by_close_code(metrics: Metrics, stream_url: str) -> None:
    for headers in ({}, {"X-API-Key": "wrong"}):
        async with websockets.connect(stream_url, additional_headers=headers) as client:
            await client.wait_closed()
    samples = await metrics.scrape()
    assert {name: value for name, value in samples.items() if "refused_clients" in name} == {
        "tornado_bridge_refused_clients_total code=4001": 2
    }


@pytest.mark.bridge(skip_bytes=1_000, slow_timeout=0.4)
@pytest.mark.gen_test(timeout=30)
async def test_a_slow_client_is_counted_with_the_frames_that_it_lost(
    metrics: Metrics, bridge: WebSocketBridge, http_port: int, key: str, redis_server: RedisServer, log_lines: LogLines
) -> None:
    client = await RawClient.open(http_port, key, then=text(SUBSCRIBE), receive_buffer=4_096)
    await until(lambda: bridge.hub.cohorts)
    while not bridge.slow_rule.aborted:
        await publish(redis_server, *[(SOURCE, CANDLE)] * 1_000)
    client.socket.close()
    await until(lambda: not len(bridge.connections))
    log_lines.take("slow client lost frames")
    samples = await metrics.scrape()
    assert samples["tornado_bridge_slow_clients_aborted_total"] == 1
    assert 0 < samples["tornado_bridge_frames_skipped_total"] < samples["tornado_bridge_frames_due_total"]


@pytest.mark.bridge(redis="own_redis_server")
@pytest.mark.gen_test(timeout=30)
async def test_a_redis_that_comes_back_is_counted(
    metrics: Metrics, bridge: WebSocketBridge, own_redis_server: RedisServer, log_lines: LogLines
) -> None:
    own_redis_server.kill()
    await until(lambda: not bridge.ready)
    assert (await metrics.scrape())["tornado_bridge_ready"] == 0
    await asyncio.to_thread(own_redis_server.start)
    await until(lambda: bridge.ready, within=10)
    samples = await metrics.scrape()
    assert (samples["tornado_bridge_ready"], samples["tornado_bridge_source_subscriptions_total"]) == (1, 2)
    log_lines.take("source down: trying again until it is back")
    log_lines.take("source up again: events published meanwhile are lost")


@pytest.mark.gen_test
async def test_no_metric_holds_a_key_a_channel_or_anything_of_a_payload(
    metrics: Metrics, stream_url: str, key: str, redis_server: RedisServer
) -> None:
    async with websockets.connect(stream_url, additional_headers={"X-API-Key": key}) as client:
        await client.send(SUBSCRIBE)
        await client.recv()
        await publish(redis_server, (SOURCE, CANDLE))
        await client.recv()
        async with websockets.connect(f"{stream_url}?apiKey=a-wrong-key") as refused:
            await refused.wait_closed()
        _, _, body = await metrics.get()
    private = (key, "a-wrong-key", "BTC", "candles:", "channel:", "1h", "77.5", "macdV", "1708264800000", "127.0.0.1")
    assert [word for word in private if word in body] == []


@pytest.mark.gen_test
async def test_there_is_nothing_else_on_the_port(metrics: Metrics) -> None:
    assert [(await metrics.get(path))[0] for path in ("/", "/healthz", "/public/v1/stream")] == [404, 404, 404]


@pytest.mark.gen_test
async def test_a_scrape_is_not_logged(metrics: Metrics, log_lines: LogLines, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    before = log_lines.all()
    await metrics.get()
    assert log_lines.all() == before
    assert [record for record in caplog.records if record.name.startswith("tornado")] == []


@pytest.mark.gen_test
async def test_a_port_that_is_taken_raises(bridge: WebSocketBridge) -> None:
    with (
        socket_left_by_tornado(),
        socket.create_server(("127.0.0.1", 0)) as occupant,
        pytest.raises(OSError, match="in use"),
    ):
        serve_metrics(bridge, "127.0.0.1", occupant.getsockname()[1])


# Strangers on the port of the metrics


@pytest.mark.gen_test
async def test_a_scraper_may_use_head(metrics: Metrics) -> None:
    status, content_type, body = await metrics.get(method="HEAD")
    assert (status, content_type, body) == (200, "text/plain; version=1.0.0; charset=utf-8", "")


@pytest.mark.gen_test
async def test_a_scrape_is_served_while_silent_connections_take_all_places(
    metrics: Metrics, log_lines: LogLines
) -> None:
    with contextlib.ExitStack() as crowd:
        clients = [crowd.enter_context(await RawClient.connect(metrics.port)) for _ in range(40)]
        assert (await metrics.get())[0] == 200
        assert await clients[0].rest() == b""
    log_lines.take("waiting connection closed: all places for requests are taken")


@pytest.mark.gen_test
@pytest.mark.parametrize("size", ["2", "100000000"])
async def test_a_request_with_a_body_is_refused_by_its_header(metrics: Metrics, size: str) -> None:
    with await RawClient.connect(metrics.port) as client:
        await client.send(f"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode())
        assert await client.status() == 400


@pytest.mark.gen_test
async def test_headers_over_8_kib_are_refused(metrics: Metrics) -> None:
    with await RawClient.connect(metrics.port) as client:
        await client.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 8_200)
        assert await client.rest() == b""


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def test_bodies_without_end_take_no_memory(tmp_path: Path, redis_server: RedisServer) -> None:
    with (
        serving(tmp_path, redis_server.url, "--metrics-port", "0") as (process, url, _),
        contextlib.ExitStack() as peers,
    ):
        while (found := re.search(r"url=http://127\.0\.0\.1:(\d+)/metrics", process.error_line())) is None:
            pass
        before = resident_bytes(process.process.pid)
        for port in (int(found[1]), urllib.parse.urlsplit(url).port):
            for _ in range(3):
                peer = peers.enter_context(socket.create_connection(("127.0.0.1", port), timeout=1))
                peer.sendall(b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
                # The server answers 400 and closes the connection with bytes unread.
                with contextlib.suppress(OSError):
                    peer.sendall(bytes(20_000_000))
        assert resident_bytes(process.process.pid) - before < 4_000_000

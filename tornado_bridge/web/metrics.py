"""What a bridge has counted, for Prometheus.

The bridge counts in plain integers. They are read when a scrape asks for them.
"""

from collections import Counter
from collections.abc import Iterator

import prometheus_client
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler

from tornado_bridge.bridge import WebSocketBridge
from tornado_bridge.ingest.relay import Outcome
from tornado_bridge.web.listener import Listener
from tornado_bridge.web.quiet import QuietHandler

# Bounds on the connections of scrapers. A scrape has no body. Seconds; a scraper keeps its connection between scrapes.
MAX_SCRAPERS = 32
MAX_HEADER_BYTES = 8_192
MAX_BODY_BYTES = 1
IDLE_TIMEOUT = 120.0
REQUEST_TIMEOUT = 10.0

Metric = CounterMetricFamily | GaugeMetricFamily


class BridgeCollector(Collector):
    """The metrics of one bridge. No label holds a channel, a key or a part of a payload."""

    def __init__(self, bridge: WebSocketBridge) -> None:
        self._bridge = bridge

    def collect(self) -> Iterator[Metric]:
        bridge = self._bridge
        events = CounterMetricFamily(
            "tornado_bridge_events", "Events from Redis, by what became of them.", labels=("type", "outcome")
        )
        for name, tally in bridge.relay.tallies.items():
            for outcome in Outcome:
                if outcome is not Outcome.UNROUTED:
                    events.add_metric((name, outcome.value), tally.of(outcome))
        yield events
        envelopes = CounterMetricFamily("tornado_bridge_envelopes", "Envelopes published.", labels=("type",))
        for name, tally in bridge.relay.tallies.items():
            envelopes.add_metric((name,), tally.envelopes)
        yield envelopes
        slow_calls = CounterMetricFamily(
            "tornado_bridge_plugin_slow_calls", "Calls of a plugin over 50 ms.", labels=("plugin",)
        )
        quarantined = GaugeMetricFamily(
            "tornado_bridge_plugin_quarantined", "1 while a plugin gets no events.", labels=("plugin",)
        )
        for name, quarantine in bridge.relay.quarantines.items():
            slow_calls.add_metric((name,), quarantine.slow_calls)
            quarantined.add_metric((name,), float(quarantine.closed))
        yield slow_calls
        yield quarantined
        refusals = CounterMetricFamily(
            "tornado_bridge_refused_clients", "Clients refused, by close code.", labels=("code",)
        )
        by_code: Counter[int] = Counter()
        for why, count in bridge.refusals.counts.items():
            by_code[why.code] += count
        for code, count in by_code.items():
            refusals.add_metric((str(int(code)),), count)
        yield refusals
        for name, text, count in (
            ("tornado_bridge_unrouted_events", "Events on a source channel of no form.", bridge.relay.unrouted),
            ("tornado_bridge_frames_due", "Frames due to clients.", bridge.hub.due),
            ("tornado_bridge_frames_skipped", "Frames that slow clients lost.", bridge.slow_rule.skipped),
            ("tornado_bridge_slow_clients_aborted", "Clients cut off for being slow.", bridge.slow_rule.aborted),
            (
                "tornado_bridge_source_subscriptions",
                "Times Redis has confirmed all subscriptions.",
                bridge.source.connects,
            ),
        ):
            yield CounterMetricFamily(name, text, value=count)
        yield GaugeMetricFamily("tornado_bridge_connections", "Live client connections.", value=len(bridge.connections))
        yield GaugeMetricFamily(
            "tornado_bridge_cohorts",
            "Different sets of subscriptions; with compression, of each window by itself.",
            value=bridge.hub.cohorts,
        )
        yield GaugeMetricFamily("tornado_bridge_ready", "1 while events can reach clients.", value=float(bridge.ready))


class MetricsHandler(QuietHandler):
    """The bridge's metrics as text."""

    def initialize(self, bridge: WebSocketBridge) -> None:
        self._registry = prometheus_client.CollectorRegistry()
        self._registry.register(BridgeCollector(bridge))

    def head(self) -> None:
        self.get()

    def get(self) -> None:
        self.set_header("Content-Type", prometheus_client.CONTENT_TYPE_LATEST)
        self.finish(prometheus_client.generate_latest(self._registry))


def serve_metrics(bridge: WebSocketBridge, host: str, port: int) -> tuple[HTTPServer, int]:
    """Serve `/metrics` on a port of its own. Return the server and the port; port 0 lets the kernel choose one.

    Raises OSError if the port cannot be had.
    """
    application = Application(
        [("/metrics", MetricsHandler, {"bridge": bridge})], log_function=_no_log, serve_traceback=False
    )
    server = Listener(
        application,
        max_pending=MAX_SCRAPERS,
        max_header_size=MAX_HEADER_BYTES,
        max_body_size=MAX_BODY_BYTES,
        idle_connection_timeout=IDLE_TIMEOUT,
        body_timeout=REQUEST_TIMEOUT,
    )
    return server, server.listen_on(host, port)


def _no_log(_: RequestHandler) -> None:
    """Log no scrape: one comes every few seconds."""

"""tornado_bridge.testing.fixtures: the fixtures that every pytest next to the bridge has."""

import importlib.metadata
import subprocess
import sys
from collections.abc import Sequence

import pytest

from tests.support.planted import SIGNALS
from tornado_bridge.testing.bridge_client import BridgeClient

ALERT = '{"symbol":"BTC-USD","timeframe":"15m","price":1,"triggeredAt":0,"triggerValue":85}'


class TestOfAClass:
    plugin = SIGNALS

    def test_the_plugin_is_that_of_the_class(self, bridge_client: BridgeClient) -> None:
        bridge_client.publish("channel:alerts:exchange:1", ALERT)
        assert bridge_client.receive()["data"]["strength"] == "strong"


class TestWithPluginsOfItsOwn:
    @pytest.fixture
    def bridge_plugins(self) -> Sequence[str | object]:
        return ["candle", "signals"]

    def test_a_fixture_may_name_others(self, bridge_client: BridgeClient) -> None:
        bridge_client.publish("channel:alerts:exchange:1", ALERT)
        assert bridge_client.receive()["type"] == "trade_signal"


def test_pytest_finds_the_fixtures_by_entry_point() -> None:
    (point,) = importlib.metadata.entry_points(group="pytest11", name="tornado_bridge")
    assert point.value == "tornado_bridge.testing.fixtures"


def test_the_entry_point_starts_no_server_and_loads_none() -> None:
    loaded = "import sys, tornado_bridge.testing.fixtures; print({'tornado', 'redis', 'fakeredis'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "set()\n"

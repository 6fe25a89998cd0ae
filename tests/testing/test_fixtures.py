"""tornado_bridge.testing.fixtures: the fixtures that pytest has wherever the bridge is installed."""

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


# The suite, and what it and the client stand on.
HEAVY = {"tornado", "redis", "fakeredis", "structlog", "tornado_bridge.audit", "tornado_bridge.testing.suite"}


def heavy_modules_after(statement: str) -> set[str]:
    """Return which of the heavy modules a new interpreter has loaded after a statement."""
    code = f"import sys\n{statement}\nprint(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return HEAVY & {*done.stdout.split()}


def test_the_entry_point_loads_neither_the_server_nor_the_audit() -> None:
    assert heavy_modules_after("import tornado_bridge.testing.fixtures") == set()


def test_the_names_of_the_package_load_them() -> None:
    assert heavy_modules_after("from tornado_bridge.testing import BridgeClient, PluginSuite") == HEAVY

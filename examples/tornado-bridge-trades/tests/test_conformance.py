"""tornado_bridge_trades passes the tests that every plugin must pass."""

from tornado_bridge.testing import PluginSuite

import tornado_bridge_trades


class TestTrades(PluginSuite):
    plugin = tornado_bridge_trades

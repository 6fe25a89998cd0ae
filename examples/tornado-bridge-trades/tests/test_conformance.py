"""tornado_bridge_trades, held to what every plugin is held to."""

from tornado_bridge.testing import PluginSuite

import tornado_bridge_trades


class TestTrades(PluginSuite):
    plugin = tornado_bridge_trades

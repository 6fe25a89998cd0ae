"""tornado_bridge.testing: the built-in plugins pass the suite, and a plugin that is wrong fails at the right test."""

from tornado_bridge.plugins import candle, signals

from tornado_bridge.testing import PluginSuite


class TestCandle(PluginSuite):
    plugin = candle


class TestSignals(PluginSuite):
    plugin = signals

"""tornado_bridge.testing: the two names that plugin authors import, each loaded when it is used."""

import importlib

import pytest

from tornado_bridge import testing
from tornado_bridge.testing import bridge_client, suite


def test_it_offers_the_suite_and_the_client() -> None:
    assert testing.__all__ == ["BridgeClient", "PluginSuite"]


def test_its_names_are_those_of_its_modules() -> None:
    assert (testing.PluginSuite, testing.BridgeClient) == (suite.PluginSuite, bridge_client.BridgeClient)


def test_it_has_no_other_name() -> None:
    with pytest.raises(AttributeError) as raised:
        importlib.import_module("tornado_bridge.testing").Suite  # noqa: B018
    assert str(raised.value) == "module 'tornado_bridge.testing' has no attribute 'Suite'"

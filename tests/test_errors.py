"""tornado_bridge.errors: the tree, and the texts."""

import pytest

from tornado_bridge.errors import BridgeError, ConfigurationError, InvalidEvent, PluginError


@pytest.mark.parametrize("kind", [ConfigurationError, PluginError, InvalidEvent])
def test_every_failure_of_the_package_is_a_bridge_error(kind: type[Exception]) -> None:
    assert issubclass(kind, BridgeError)


def test_a_wrong_plugin_is_an_unusable_configuration() -> None:
    assert issubclass(PluginError, ConfigurationError)


def test_an_invalid_event_is_not_a_configuration_error() -> None:
    assert not issubclass(InvalidEvent, ConfigurationError)


def test_a_plugin_error_says_which_plugin_of_which_distribution_and_why() -> None:
    error = PluginError("trades", "tornado-bridge-trades 1.2", "implements no transform hook")
    assert str(error) == "plugin 'trades' of tornado-bridge-trades 1.2: implements no transform hook"


def test_a_plugin_error_carries_its_data() -> None:
    error = PluginError("trades", "tornado-bridge-trades 1.2", "implements no transform hook")
    assert (error.plugin, error.distribution, error.reason) == (
        "trades",
        "tornado-bridge-trades 1.2",
        "implements no transform hook",
    )


def test_an_invalid_event_carries_its_reason() -> None:
    assert InvalidEvent("price is not a decimal number").reason == "price is not a decimal number"


def test_the_text_of_an_invalid_event_is_its_reason() -> None:
    assert str(InvalidEvent("price is not a decimal number")) == "price is not a decimal number"

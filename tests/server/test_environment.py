"""tornado_bridge.server.environment."""

import pytest

from tornado_bridge.server.environment import Environment, environment_variable, read

SETTINGS = ("host", "port", "metrics_port", "ping_interval", "plugins")


def test_variables_are_named_after_the_setting() -> None:
    assert environment_variable("ping_interval") == "TORNADO_BRIDGE_PING_INTERVAL"


def test_the_text_of_each_setting_is_found_by_its_name() -> None:
    found = read({"TORNADO_BRIDGE_HOST": "cache", "TORNADO_BRIDGE_PORT": "80", "HOME": "/root"}, SETTINGS)
    assert found == Environment({"host": "cache", "port": "80"}, {}, ())


@pytest.mark.parametrize(
    "name",
    [
        "TORNADO_BRIDGE_API_KEY",
        "TORNADO_BRIDGE_CONFIG",
        "TORNADO_BRIDGE_PLUGIN_CANDLE_DEPTH",
        "TORNADO_BRIDGE_TEST_SEED",
        "TORNADO_BRIDGES",
        "tornado_bridge_prot",
        "PORT",
    ],
)
def test_a_variable_of_others_is_passed_over(name: str) -> None:
    assert read({name: "x"}, SETTINGS) == Environment({}, {}, ())


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("TORNADO_BRIDGE_PROT", "TORNADO_BRIDGE_PORT"),
        ("TORNADO_BRIDGE_PING_INTERVALL", "TORNADO_BRIDGE_PING_INTERVAL"),
        ("TORNADO_BRIDGE_PLUGIN", "TORNADO_BRIDGE_PLUGINS"),
        ("TORNADO_BRIDGE_APIKEY", "TORNADO_BRIDGE_API_KEY"),
        ("TORNADO_BRIDGE_CONFIG_FILE", "TORNADO_BRIDGE_CONFIG"),
        ("TORNADO_BRIDGE_port", None),
        ("TORNADO_BRIDGE_", None),
        ("TORNADO_BRIDGE_COLOUR", None),
    ],
)
def test_any_other_variable_is_unknown_and_has_the_nearest_known_name(name: str, nearest: str | None) -> None:
    assert read({name: "x"}, SETTINGS) == Environment({}, {name: nearest}, ())


SERVICE_LINKS = {
    "TORNADO_BRIDGE_SERVICE_HOST": "10.0.0.1",
    "TORNADO_BRIDGE_SERVICE_PORT": "8765",
    "TORNADO_BRIDGE_SERVICE_PORT_STREAM": "8765",
    "TORNADO_BRIDGE_PORT": "tcp://10.0.0.1:8765",
    "TORNADO_BRIDGE_PORT_8765_TCP": "tcp://10.0.0.1:8765",
    "TORNADO_BRIDGE_PORT_8765_TCP_PROTO": "tcp",
    "TORNADO_BRIDGE_PORT_8765_TCP_PORT": "8765",
    "TORNADO_BRIDGE_PORT_8765_TCP_ADDR": "10.0.0.1",
    # Of a service that is called tornado-bridge-metrics.
    "TORNADO_BRIDGE_METRICS_SERVICE_HOST": "fd00::1",
    "TORNADO_BRIDGE_METRICS_PORT": "tcp://[fd00::1]:9100",
    "TORNADO_BRIDGE_METRICS_PORT_9100_UDP_ADDR": "fd00::1",
}


@pytest.mark.parametrize("name", SERVICE_LINKS)
def test_a_service_link_of_kubernetes_is_neither_a_setting_nor_unknown(name: str) -> None:
    assert read({name: SERVICE_LINKS[name]}, SETTINGS) == Environment({}, {}, (name,))


@pytest.mark.parametrize("text", ["8765", "", "tcp", "http://10.0.0.1:8765", "\ntcp://10.0.0.1:8765"])
def test_a_port_that_is_no_service_link_is_a_setting(text: str) -> None:
    assert read({"TORNADO_BRIDGE_PORT": text}, SETTINGS) == Environment({"port": text}, {}, ())

"""tornado_bridge.testing.bridge_client: a bridge of the test's own process, and a client of it."""

import json

import pytest

from tests.support.planted import Quotes, clean
from tornado_bridge.errors import ConfigurationError
from tornado_bridge.testing.bridge_client import BridgeClient

CANDLE = "channel:exchange:1:candle:close:BTC-USD:1h"
PAYLOAD = '{"timestamp":1708264800000,"open":1,"high":2,"low":0.50,"close":1.5,"volume":3}'


def test_what_is_published_is_received() -> None:
    with BridgeClient(["candle", "signals"]) as client:
        client.publish(CANDLE, PAYLOAD)
        assert client.receive()["channel"] == "candles:BTC-USD:1h"


def test_envelopes_come_in_the_order_of_their_events() -> None:
    with BridgeClient(["candle"]) as client:
        for volume in range(3):
            client.publish(CANDLE, PAYLOAD.replace(":3}", f":{volume}}}"))
        assert [client.receive()["data"]["volume"] for _ in range(3)] == ["0", "1", "2"]


def test_a_plugin_may_be_an_object() -> None:
    with BridgeClient([Quotes(clean)]) as client:
        client.publish("channel:exchange:1:quotes:BTC", json.dumps({"price": 1.5, "at": 0}).encode())
        assert client.receive()["data"] == {"price": "1.5", "at": "1970-01-01T00:00:00.000Z"}


def test_where_nothing_comes_the_wait_ends() -> None:
    with BridgeClient(["candle"]) as client, pytest.raises(TimeoutError):
        client.receive(timeout=0.05)


def test_a_bridge_that_cannot_be_made_leaves_nothing_behind() -> None:
    with pytest.raises(ConfigurationError, match="no installed distribution"), BridgeClient(["none of these"]):
        raise AssertionError("it was made")


def test_two_bridges_live_in_one_process() -> None:
    with BridgeClient(["candle"]) as one, BridgeClient(["candle"]) as other:
        other.publish(CANDLE, PAYLOAD)
        assert other.receive()["type"] == "candle_close"
        with pytest.raises(TimeoutError):
            one.receive(timeout=0.05)

"""tornado_bridge_trades: the envelopes of a batch of trades, and invalid batches."""

import itertools
import json
from typing import Any

import msgspec
import pytest
from tornado_bridge import Envelope, Event, InvalidEvent
from tornado_bridge.channels import contains
from tornado_bridge.registry import Registry

import tornado_bridge_trades
from tornado_bridge_trades import Batch, transform

PRIVATE = ("tradeId", "makerAccountId", "takerAccountId", "feeTier", "venueLatencyUs", "internalScore")

# Each trade gets an id of its own.
_ids = itertools.count(1)


def trade(side: str = "buy", price: str = "42350.50", size: str = "0.5", timestamp: str = "1708264800000") -> str:
    private = f'"tradeId":"T-{next(_ids)}","makerAccountId":"ACC-7","takerAccountId":"ACC-9","feeTier":3'
    return f'{{"price":{price},"size":{size},"side":"{side}","timestamp":{timestamp},{private}}}'


def batch(*trades: str) -> bytes:
    text = f'{{"symbol":"BTC-USD","trades":[{",".join(trades)}],"venueLatencyUs":812,"internalScore":0.771}}'
    return text.encode()


def transformed(*trades: str) -> list[Envelope]:
    event = Event(
        type="trades",
        source="channel:exchange:1:trades:BTC-USD",
        parameters={"symbol": "BTC-USD"},
        channel="trades:BTC-USD",
        payload=msgspec.json.decode(batch(*trades), type=Batch),
        exchange="coinbase",
    )
    return list(transform(event))


def data(*trades: str) -> dict[str, Any]:
    (envelope,) = transformed(*trades)
    return envelope.data


def test_each_side_of_a_batch_has_its_envelope() -> None:
    assert transformed(
        trade("buy", "42350.50", "0.25", "1708264800000"),
        trade("sell", "42349.00", "1.5", "1708264800100"),
        trade("buy", "42351.00", "0.75", "1708264800200"),
    ) == [
        Envelope(
            "trades:BTC-USD",
            {
                "side": "buy",
                "count": 2,
                "volume": "1",
                "high": "42351",
                "low": "42350.5",
                "last": "42351",
                "timestamp": "2024-02-18T14:00:00.200Z",
            },
        ),
        Envelope(
            "trades:BTC-USD",
            {
                "side": "sell",
                "count": 1,
                "volume": "1.5",
                "high": "42349",
                "low": "42349",
                "last": "42349",
                "timestamp": "2024-02-18T14:00:00.100Z",
            },
        ),
    ]


def test_a_side_without_trades_has_no_envelope() -> None:
    assert [envelope.data["side"] for envelope in transformed(trade("sell"))] == ["sell"]


def test_a_batch_without_trades_has_no_envelope() -> None:
    assert transformed() == []


def test_the_volume_keeps_every_digit() -> None:
    assert data(trade(size="0.1"), trade(size="0.2"), trade(size="1e-18"))["volume"] == "0.300000000000000001"


def test_prices_are_compared_as_numbers() -> None:
    found = data(trade(price="9.5"), trade(price="100"), trade(price="10.0"))
    assert (found["high"], found["low"], found["last"]) == ("100", "9.5", "10")


def test_an_envelope_has_no_private_value() -> None:
    written = json.dumps([envelope.data for envelope in transformed(trade("buy"), trade("sell"))])
    assert not [found for found in (*PRIVATE, "T-", "ACC-", "812", "0.771") if found in written]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (trade(price='"secret"'), "price is not a decimal number"),
        (trade(price="0"), "price is not above 0"),
        (trade(size="-0.5"), "size is not above 0"),
        (trade(size="null"), "size is not a decimal number"),
        (trade(timestamp='"now"'), "timestamp is not epoch milliseconds of the years 1970 to 9999"),
    ],
)
def test_a_batch_with_a_broken_trade_is_invalid(broken: str, reason: str) -> None:
    with pytest.raises(InvalidEvent) as raised:
        transformed(trade(), broken)
    assert raised.value.reason == reason


def test_a_volume_of_more_digits_than_are_sent_is_invalid() -> None:
    with pytest.raises(InvalidEvent, match="volume takes more than 64 digits"):
        transformed(trade(size="1e63"), trade(size="1e-63"))


@pytest.mark.parametrize("broken", [trade(side="short"), '{"side":"buy"}', "5"])
def test_a_trade_of_another_form_is_not_decoded(broken: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        transformed(broken)


def test_a_batch_that_is_too_long_is_not_decoded() -> None:
    with pytest.raises(msgspec.ValidationError):
        transformed(*[trade()] * 501)


# Beside the bridge, as pip installs it.


def test_the_installed_distribution_offers_the_plugin() -> None:
    (plugin,) = (plugin for plugin in Registry().plugins if plugin.name == "trades")
    assert (plugin.distribution, [event_type.name for event_type in plugin.event_types]) == (
        "tornado-bridge-trades",
        ["trades"],
    )


def test_its_channels_can_be_subscribed_beside_the_built_in_ones() -> None:
    grammar = Registry().grammar
    wanted = ("trades:BTC-USD", "trades:*", "candles:BTC-USD:1h", "trades:btc", "trades:BTC-USD:1h")
    assert [grammar.admits(channel) for channel in wanted] == [True, True, True, False, False]


def test_its_channels_are_matched_by_a_wildcard() -> None:
    assert Registry().grammar.subscriptions("trades:BTC-USD") == ("trades:BTC-USD", "trades:*")


def test_its_channels_are_limited_per_key() -> None:
    granted = [contains("trades:BTC-USD", channel) for channel in ("trades:BTC-USD", "trades:*", "trades:ETH-USD")]
    assert granted == [True, False, False]


def test_every_envelope_passes_the_firewall() -> None:
    (route,) = Registry([tornado_bridge_trades]).routes("1")
    checked = [route.firewall.check(envelope) for envelope in transformed(trade("buy"), trade("sell"))]
    assert [envelope.channel for envelope in checked] == ["trades:BTC-USD", "trades:BTC-USD"]

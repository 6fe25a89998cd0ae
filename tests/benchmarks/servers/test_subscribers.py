import pytest

from benchmarks.servers.python.subscribers import Subscribers


@pytest.mark.parametrize("subscription", ["candles:BTC-USD:1m", "candles:*:1m", "candles:BTC-USD:*", "candles:*:*"])
def test_a_subscription_matches(subscription: str) -> None:
    subscribers = Subscribers[str]()
    subscribers.answer("client", f'{{"action":"subscribe","channels":["{subscription}"]}}')
    assert subscribers.of("candles:BTC-USD:1m") == {"client"}


@pytest.mark.parametrize("subscription", ["candles:ETH-USD:1m", "candles:*:5m", "candles:ETH-USD:*"])
def test_a_subscription_to_something_else_does_not_match(subscription: str) -> None:
    subscribers = Subscribers[str]()
    subscribers.answer("client", f'{{"action":"subscribe","channels":["{subscription}"]}}')
    assert subscribers.of("candles:BTC-USD:1m") == set()


def test_the_reply_has_the_channels_in_their_order() -> None:
    reply = Subscribers[str]().answer("client", '{"action": "subscribe", "channels": ["candles:B:1m", "candles:A:1m"]}')
    assert reply == '{"type":"subscribed","channels":["candles:B:1m","candles:A:1m"]}'


def test_one_wildcard_may_go_while_another_stays() -> None:
    subscribers = Subscribers[str]()
    subscribers.answer("client", '{"action":"subscribe","channels":["candles:*:*","candles:*:1m"]}')
    subscribers.answer("client", '{"action":"unsubscribe","channels":["candles:*:*"]}')
    assert subscribers.of("candles:A:1m") == {"client"}
    assert subscribers.of("candles:A:5m") == set()


def test_a_client_that_is_gone_gets_nothing() -> None:
    subscribers = Subscribers[str]()
    subscribers.answer("client", '{"action":"subscribe","channels":["candles:*:*"]}')
    subscribers.forget("client")
    assert subscribers.of("candles:A:1m") == set()

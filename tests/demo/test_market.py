"""tornado_bridge.demo.market: a seeded market whose events have the form of a platform's."""

import asyncio
import itertools
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
import redis
import redis.asyncio

from tornado_bridge.demo.market import INSTRUMENTS, TIMEFRAMES, Candle, Market, Momentum, crossing, publish, zone_of
from tornado_bridge.server.embedded import EmbeddedRedis

CANDLE_CHANNEL = re.compile(
    r"channel:exchange:1:candle:close:([A-Za-z0-9]{1,20}-[A-Za-z0-9]{1,20}):(1m|5m|15m|1h|4h|1d)"
)
ALERT_CHANNEL = "channel:alerts:exchange:1"

CANDLE_MEMBERS = (
    "timestamp open high low close volume symbol timeframe exchange isSynthetic sequenceNum "
    "macdV fastEMA slowEMA atr informativeATR"
)
ALERT_MEMBERS = (
    "id symbol alertType timeframe price triggerValue signalDelta triggeredAt sourceExchangeId "
    "sourceExchangeName triggerLabel previousLabel"
)

Payload = dict[str, Any]


def exact(payload: bytes) -> Payload:
    decoded: Payload = json.loads(payload, parse_float=Decimal)
    return decoded


@pytest.fixture(scope="module")
def ticks() -> list[list[tuple[str, bytes]]]:
    """Five hours of the market."""
    market = Market()
    return [market.tick() for _ in range(302)]


@pytest.fixture(scope="module")
def candles(ticks: list[list[tuple[str, bytes]]]) -> dict[tuple[str, str], list[Payload]]:
    """The candles of each symbol and timeframe."""
    found = defaultdict(list)
    for channel, payload in itertools.chain.from_iterable(ticks):
        if match := CANDLE_CHANNEL.fullmatch(channel):
            found[match[1], match[2]].append(exact(payload))
    return found


@pytest.fixture(scope="module")
def alerts(ticks: list[list[tuple[str, bytes]]]) -> list[Payload]:
    return [exact(payload) for channel, payload in itertools.chain(*ticks) if channel == ALERT_CHANNEL]


def test_there_are_at_least_eight_symbols_of_the_protocols_form() -> None:
    symbols = {instrument.symbol for instrument in INSTRUMENTS}

    assert {"BTC-USD", "ETH-USD", "SOL-USD"} < symbols
    assert len(symbols) >= 8
    assert all(re.fullmatch(r"[A-Za-z0-9]{1,20}-[A-Za-z0-9]{1,20}", symbol) for symbol in symbols)


def test_every_event_is_on_a_candle_channel_or_the_alert_channel(
    ticks: list[list[tuple[str, bytes]]],
) -> None:
    channels = {channel for channel, _ in itertools.chain(*ticks)}

    assert all(CANDLE_CHANNEL.fullmatch(channel) for channel in channels - {ALERT_CHANNEL})
    assert ALERT_CHANNEL in channels


def test_each_tick_closes_a_minute_of_every_symbol(ticks: list[list[tuple[str, bytes]]]) -> None:
    symbols = [instrument.symbol for instrument in INSTRUMENTS]
    for tick in ticks:
        assert [channel.split(":")[-2] for channel, _ in tick if channel.endswith(":1m")] == symbols


def test_the_first_two_ticks_close_every_timeframe_of_every_symbol(
    ticks: list[list[tuple[str, bytes]]],
) -> None:
    channels = {channel for tick in ticks[:2] for channel, _ in tick} - {ALERT_CHANNEL}

    assert channels == {
        f"channel:exchange:1:candle:close:{instrument.symbol}:{timeframe}"
        for instrument in INSTRUMENTS
        for timeframe in ("1m", "5m", "15m", "1h", "4h", "1d")
    }


def test_a_candle_has_exactly_the_members_of_the_internal_form(
    candles: dict[tuple[str, str], list[Payload]],
) -> None:
    for candle in itertools.chain(*candles.values()):
        assert " ".join(candle) == CANDLE_MEMBERS


def test_a_candle_says_what_its_channel_says(candles: dict[tuple[str, str], list[Payload]]) -> None:
    for (symbol, timeframe), series in candles.items():
        for candle in series:
            assert (candle["symbol"], candle["timeframe"]) == (symbol, timeframe)
            assert candle["exchange"] == "coinbase"


def test_a_candle_is_stamped_with_its_opening_in_whole_milliseconds(
    candles: dict[tuple[str, str], list[Payload]],
) -> None:
    assert candles["BTC-USD", "1m"][0]["timestamp"] == 1771459080000  # 2026-02-18T23:58Z
    assert candles["BTC-USD", "1d"][0]["timestamp"] == 1771372800000  # 2026-02-18T00:00Z
    for (_, timeframe), series in candles.items():
        for candle in series:
            assert isinstance(candle["timestamp"], int)
            assert candle["timestamp"] % (TIMEFRAMES[timeframe] * 60_000) == 0


def test_candles_of_a_series_follow_each_other_without_a_gap(
    candles: dict[tuple[str, str], list[Payload]],
) -> None:
    for (_, timeframe), series in candles.items():
        for before, after in itertools.pairwise(series):
            assert after["timestamp"] - before["timestamp"] == TIMEFRAMES[timeframe] * 60_000
            assert after["open"] == before["close"]
            assert after["sequenceNum"] == before["sequenceNum"] + 1


def test_the_prices_of_a_candle_are_in_order_and_positive(
    candles: dict[tuple[str, str], list[Payload]],
) -> None:
    for candle in itertools.chain(*candles.values()):
        assert 0 < candle["low"] <= min(candle["open"], candle["close"])
        assert candle["high"] >= max(candle["open"], candle["close"])
        assert candle["volume"] >= 0


def test_prices_are_whole_ticks_and_numbers_have_no_exponent(ticks: list[list[tuple[str, bytes]]]) -> None:
    digits = {instrument.symbol: instrument.digits for instrument in INSTRUMENTS}
    for _, payload in itertools.chain(*ticks):
        assert not re.search(rb"\d[eE]", payload)
        event = exact(payload)
        price = event.get("price", event.get("close"))
        assert isinstance(price, Decimal)
        assert price.as_tuple().exponent == -digits[event["symbol"]]


@pytest.mark.parametrize("timeframe", ["5m", "15m", "1h", "4h"])
def test_a_longer_candle_is_the_sum_of_its_minutes(
    candles: dict[tuple[str, str], list[Payload]], timeframe: str
) -> None:
    compared = 0
    for instrument in INSTRUMENTS:
        minutes = {candle["timestamp"]: candle for candle in candles[instrument.symbol, "1m"]}
        for candle in candles[instrument.symbol, timeframe]:
            if candle["timestamp"] not in minutes:
                continue  # it opened before the first tick
            parts = [minutes[candle["timestamp"] + n * 60_000] for n in range(TIMEFRAMES[timeframe])]
            compared += 1
            assert candle["open"] == parts[0]["open"]
            assert candle["high"] == max(part["high"] for part in parts)
            assert candle["low"] == min(part["low"] for part in parts)
            assert candle["close"] == parts[-1]["close"]
            assert candle["volume"] == sum(part["volume"] for part in parts)
    assert compared >= len(INSTRUMENTS)


def test_a_daily_candle_is_the_sum_of_its_hours() -> None:
    market = Market(seed=3)
    hours, day = [], None
    for _ in range(1442):
        for channel, payload in market.tick():
            if channel.endswith("ETH-USD:1h"):
                hours.append(exact(payload))
            elif channel.endswith("ETH-USD:1d"):
                day = exact(payload)
    assert day is not None
    parts = hours[-24:]

    assert day["timestamp"] == parts[0]["timestamp"]
    assert (day["open"], day["close"]) == (parts[0]["open"], parts[-1]["close"])
    assert day["high"] == max(part["high"] for part in parts)
    assert day["low"] == min(part["low"] for part in parts)
    assert day["volume"] == sum(part["volume"] for part in parts)


def test_a_minute_without_a_trade_is_synthetic_and_flat(
    candles: dict[tuple[str, str], list[Payload]],
) -> None:
    minutes = [candle for series in candles.values() for candle in series if candle["timeframe"] == "1m"]
    quiet = [candle for candle in minutes if candle["isSynthetic"]]

    assert quiet
    for candle in quiet:
        assert candle["volume"] == 0
        assert candle["open"] == candle["high"] == candle["low"] == candle["close"]
    assert all(candle["volume"] > 0 for candle in minutes if not candle["isSynthetic"])


def test_the_private_averages_agree_with_each_other(candles: dict[tuple[str, str], list[Payload]]) -> None:
    for candle in itertools.chain(*candles.values()):
        macd_v = (candle["fastEMA"] - candle["slowEMA"]) / candle["atr"] * 100
        assert abs(candle["macdV"] - macd_v) < Decimal("0.1")


def test_the_informative_atr_is_that_of_the_next_longer_timeframe(
    candles: dict[tuple[str, str], list[Payload]],
) -> None:
    assert candles["BTC-USD", "1h"][1]["informativeATR"] == candles["BTC-USD", "4h"][0]["atr"]
    assert candles["BTC-USD", "1d"][0]["informativeATR"] == candles["BTC-USD", "1d"][0]["atr"]


def test_an_alert_has_exactly_the_members_of_the_internal_form(alerts: list[Payload]) -> None:
    for alert in alerts:
        assert " ".join(alert) == ALERT_MEMBERS
        assert (alert["sourceExchangeId"], alert["sourceExchangeName"]) == (1, "coinbase")


def test_an_alert_is_stamped_with_the_close_of_the_candle_that_made_it(
    ticks: list[list[tuple[str, bytes]]],
) -> None:
    candle: Payload = {}
    for channel, payload in ticks[1]:
        event = exact(payload)
        if channel != ALERT_CHANNEL:
            candle = event
            continue
        assert event["triggeredAt"] == "2026-02-19T00:00:00.000Z"
        assert (event["symbol"], event["timeframe"], event["price"]) == (
            candle["symbol"],
            candle["timeframe"],
            candle["close"],
        )


def test_the_trigger_value_is_the_macd_v_of_the_candle(ticks: list[list[tuple[str, bytes]]]) -> None:
    macd_v = Decimal(0)
    for channel, payload in itertools.chain(*ticks):
        event = exact(payload)
        if channel == ALERT_CHANNEL:
            assert abs(event["triggerValue"] - macd_v) <= Decimal("0.01")
        else:
            macd_v = event["macdV"]


def test_the_signal_delta_is_the_change_of_the_macd_v(ticks: list[list[tuple[str, bytes]]]) -> None:
    before: dict[tuple[str, str], Decimal] = {}
    delta: Decimal | None = None
    for channel, payload in itertools.chain(*ticks):
        event = exact(payload)
        if channel != ALERT_CHANNEL:
            series = event["symbol"], event["timeframe"]
            delta = event["macdV"] - before[series] if series in before else None
            before[series] = event["macdV"]
        elif delta is not None:
            assert abs(event["signalDelta"] - delta) < Decimal("0.02")


def test_alerts_are_counted_up(alerts: list[Payload]) -> None:
    assert [alert["id"] for alert in alerts] == list(range(1, len(alerts) + 1))


def test_an_alert_names_the_label_before_it(alerts: list[Payload]) -> None:
    last: dict[tuple[str, str], str] = {}
    for alert in alerts:
        series = alert["symbol"], alert["timeframe"]
        assert alert["previousLabel"] == last.get(series, alert["previousLabel"])
        last[series] = alert["triggerLabel"]


def test_alerts_show_every_direction_and_strength(alerts: list[Payload]) -> None:
    labels = {alert["triggerLabel"] for alert in alerts}
    sizes = {abs(alert["triggerValue"]) for alert in alerts}

    assert {"level_50", "level_-50", "reversal_overbought", "reversal_oversold"} < labels
    for low, high in itertools.pairwise((0, 30, 80, 150, 10_000)):
        assert any(low <= size < high for size in sizes)
    assert {alert["alertType"] for alert in alerts} == {"momentum_level", "momentum_reversal"}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_an_alert_comes_within_three_ticks_and_a_modest_number_later(seed: int) -> None:
    market = Market(seed=seed)
    counts = [sum(channel == ALERT_CHANNEL for channel, _ in market.tick()) for _ in range(120)]

    assert sum(counts[:3]) >= 1
    assert 60 <= sum(counts) <= 400
    assert max(len(list(group)) for quiet, group in itertools.groupby(counts, lambda n: n == 0) if quiet) < 12


def test_equal_seeds_make_equal_markets_and_other_seeds_others() -> None:
    one, two, other = Market(seed=7), Market(seed=7), Market(seed=8)

    first = [one.tick() for _ in range(3)]

    assert first == [two.tick() for _ in range(3)]
    assert first != [other.tick() for _ in range(3)]


def test_the_exchange_is_named_in_channels_and_payloads() -> None:
    market = Market(exchange_id=42, exchange_name="kraken")

    events = market.tick() + market.tick()

    assert {channel.split(":candle:")[0] for channel, _ in events} == {
        "channel:exchange:42",
        "channel:alerts:exchange:42",
    }
    for channel, payload in events:
        event = exact(payload)
        if channel == "channel:alerts:exchange:42":
            assert (event["sourceExchangeId"], event["sourceExchangeName"]) == (42, "kraken")
        else:
            assert event["exchange"] == "kraken"


@pytest.mark.parametrize(
    ("macd_v", "zone"),
    [(0.0, 0), (24.9, 0), (25.0, 25), (-25.0, -25), (79.9, 50), (-99.9, -80), (150.0, 150), (-900.0, -150)],
)
def test_the_zone_is_the_outermost_level_passed(macd_v: float, zone: int) -> None:
    assert zone_of(macd_v) == zone


@pytest.mark.parametrize(
    ("before", "after", "label"),
    [
        (0, 25, "level_25"),
        (0, -50, "level_-50"),
        (50, 100, "level_100"),
        (25, -25, "level_-25"),
        (150, 80, "reversal_overbought"),
        (-100, 0, "reversal_oversold"),
        (150, 100, None),
        (80, 50, None),
        (25, 25, None),
        (0, 0, None),
    ],
)
def test_going_out_is_a_level_and_coming_back_from_an_extreme_a_reversal(
    before: int, after: int, label: str | None
) -> None:
    assert crossing(before, after) == label


def test_the_momentum_of_a_price_that_never_moved_is_zero() -> None:
    momentum = Momentum(100.0, 100.0, 100.0)

    momentum.update(Candle(0, 60_000, 100, 100, 100, 100, 0))

    assert (momentum.atr, momentum.macd_v, momentum.delta) == (0.0, 0.0, 0.0)


def test_the_macd_v_is_the_distance_of_the_averages_in_hundredths_of_the_range() -> None:
    momentum = Momentum(100.0, 100.0, 100.0)

    momentum.update(Candle(0, 60_000, 100, 130, 90, 127, 1))

    assert momentum.fast == pytest.approx(100 + 27 * 2 / 13)
    assert momentum.slow == pytest.approx(102.0)
    assert momentum.atr == 40.0
    assert momentum.macd_v == pytest.approx((27 * 2 / 13 - 2) / 40 * 100)

    momentum.update(Candle(60_000, 120_000, 150, 153, 150, 152, 1))

    assert momentum.atr == pytest.approx(40 + (26 - 40) / 26)


@pytest.fixture
def server() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis() as running:
        yield running


async def receive(subscriber: redis.asyncio.client.PubSub, count: int) -> list[tuple[str, bytes]]:
    received: list[tuple[str, bytes]] = []
    async with asyncio.timeout(10):
        while len(received) < count:
            message = await subscriber.get_message(ignore_subscribe_messages=True, timeout=1)
            if message is not None:
                received.append((message["channel"].decode(), message["data"]))
    return received


async def stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_ticks_are_published_in_order(server: EmbeddedRedis) -> None:
    reference = Market(seed=5)
    expected = reference.tick() + reference.tick() + reference.tick()

    async def follow() -> list[tuple[str, bytes]]:
        async with redis.asyncio.Redis.from_url(server.url) as client, client.pubsub() as subscriber:
            await subscriber.psubscribe("channel:*")
            assert await subscriber.get_message(timeout=5) is not None
            publishing = asyncio.create_task(publish(Market(seed=5), server.url, interval=0.01))
            received = await receive(subscriber, len(expected))
            await stop(publishing)
            return received

    assert asyncio.run(follow()) == expected


def test_the_first_tick_does_not_wait_for_the_interval(server: EmbeddedRedis) -> None:
    async def follow() -> None:
        async with redis.asyncio.Redis.from_url(server.url) as client, client.pubsub() as subscriber:
            await subscriber.psubscribe("channel:*")
            assert await subscriber.get_message(timeout=5) is not None
            publishing = asyncio.create_task(publish(Market(), server.url, interval=3600))
            await receive(subscriber, len(INSTRUMENTS))
            await stop(publishing)

    asyncio.run(follow())


def test_a_cancelled_publisher_leaves_no_connection(server: EmbeddedRedis) -> None:
    async def follow() -> None:
        async with redis.asyncio.Redis.from_url(server.url) as client, client.pubsub() as subscriber:
            await subscriber.psubscribe("channel:*")
            assert await subscriber.get_message(timeout=5) is not None
            before = len(asyncio.all_tasks())
            publishing = asyncio.create_task(publish(Market(), server.url, interval=0.01))
            await receive(subscriber, 1)
            await stop(publishing)
            assert len(asyncio.all_tasks()) == before

    asyncio.run(follow())


def test_a_redis_that_is_not_there_ends_the_publisher() -> None:
    with EmbeddedRedis() as gone:
        pass

    with pytest.raises(redis.ConnectionError):
        asyncio.run(publish(Market(), gone.url))

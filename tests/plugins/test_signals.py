"""tornado_bridge.plugins.signals: alerts to trade signals, through plugin and firewall."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.support import oracle, strategies
from tests.support.pipeline import relayed
from tests.support.servers import ALERT_SOURCE
from tornado_bridge.registry import Registry

DATA = Path(__file__).parents[1] / "data"
VECTORS = [
    vector
    for vector in json.loads((DATA / "transform-v1.json").read_text())["vectors"]
    if ":alerts:" in vector["source"]
]

ALERT = {
    "symbol": '"BTC-USD"',
    "timeframe": '"15m"',
    "price": "42350.50",
    "triggerValue": "85.3",
    "triggeredAt": '"2026-02-19T12:00:00.000Z"',
    "triggerLabel": '"level_3"',
}


def payload(**members: str | None) -> bytes:
    """Return an alert with members changed, each a JSON value as written; None leaves one out."""
    texts = {**ALERT, **members}
    return "{{{}}}".format(",".join(f'"{name}":{text}' for name, text in texts.items() if text is not None)).encode()


def envelope(
    symbol: str = "BTC-USD",
    timeframe: str = "15m",
    direction: str = "bullish",
    strength: str = "strong",
    price: str = "42350.5",
    timestamp: str = "2026-02-19T12:00:00.000Z",
) -> str:
    """Return the signal as it goes out."""
    return (
        f'{{"type":"trade_signal","channel":"signals:{symbol}:{timeframe}","data":{{"symbol":"{symbol}",'
        f'"exchange":"coinbase","timeframe":"{timeframe}","signal_type":"momentum_signal","direction":"{direction}",'
        f'"strength":"{strength}","price":"{price}","timestamp":"{timestamp}"}}}}'
    )


def as_text(expected: oracle.Envelope | None) -> str | None:
    return None if expected is None else json.dumps(expected, ensure_ascii=False, separators=(",", ":"))


def test_the_vectors_hold_alerts_of_both_kinds() -> None:
    assert {vector["envelope"] is None for vector in VECTORS} == {True, False}


@pytest.mark.parametrize("vector", VECTORS)
def test_a_vector_of_the_contract_holds(vector: dict[str, Any]) -> None:
    assert relayed(vector["source"], vector["payload"].encode()) == as_text(vector["envelope"])


def test_an_alert_becomes_its_envelope_to_the_byte() -> None:
    assert relayed(ALERT_SOURCE, payload()) == envelope()


def test_the_alerts_of_a_real_market_are_as_the_oracle_says() -> None:
    with gzip.open(DATA / "market.jsonl.gz", "rt", encoding="utf-8") as lines:
        events = [event for event in map(json.loads, lines) if ":alerts:" in event["source"]]
    different = []
    relayed_alerts = 0
    for event in events:
        found = relayed(event["source"], event["payload"].encode())
        relayed_alerts += found is not None
        if found != as_text(oracle.expected(event["source"], event["payload"].encode())):
            different.append(event)
    assert (different, relayed_alerts) == ([], 423)


@settings(max_examples=500, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(strategies.alert_events())
def test_an_alert_is_relayed_as_the_oracle_says(event: strategies.Event) -> None:
    assert relayed(*event) == as_text(oracle.expected(*event))


@pytest.mark.parametrize(
    ("label", "direction"),
    [
        ('"reversal_oversold"', "bullish"),
        ('"reversal_oversold_h"', "bullish"),
        ('"reversal_overbought"', "bearish"),
        ('"reversal_overbought_l"', "bearish"),
        ('"reversal_other"', "bearish"),
        ('"level_3"', "bullish"),
        ('"level_0"', "bullish"),
        ('"level_-0"', "bullish"),
        ('"level_-0.00"', "bullish"),
        ('"level_-3"', "bearish"),
        ('"level_-0.5"', "bearish"),
        ('"level_-00.10"', "bearish"),
        ('"level_-150.25"', "bearish"),
        ('"\\u006cevel_-3"', "bearish"),
        ('"level_-3."', "bullish"),
        ('"level_-.5"', "bullish"),
        ('"level_-3\\n"', "bullish"),
        ('"level_-\u0663"', "bullish"),
        ('"level_-1e5"', "bullish"),
        ('"level_"', "bullish"),
        ('"level_abc"', "bullish"),
        ('"level"', "bearish"),
        ('"Level_3"', "bearish"),
        ('" level_3"', "bearish"),
        ('""', "bearish"),
        ("null", "bearish"),
        ("5", "bearish"),
        ("true", "bearish"),
        ('["level_3"]', "bearish"),
        ('{"level_3":1}', "bearish"),
        (None, "bearish"),
    ],
)
def test_the_direction_comes_from_the_label(label: str | None, direction: str) -> None:
    assert relayed(ALERT_SOURCE, payload(triggerLabel=label)) == envelope(direction=direction)


@pytest.mark.parametrize(
    ("value", "strength"),
    [
        ("150", "extreme"),
        ("-150", "extreme"),
        ("1e400", "extreme"),
        ("149.999999999999999999999999", "strong"),
        ("80", "strong"),
        ("-80.0", "strong"),
        ("79.999999999999999999999999", "moderate"),
        ("30", "moderate"),
        ("3e1", "moderate"),
        ("29.999999999999999999999999", "weak"),
        ("0", "weak"),
        ("-0.0", "weak"),
        ("1e-400", "weak"),
        ('"150"', "extreme"),
        ('"-29.9"', "weak"),
        ('"+150"', "moderate"),
        ('" 150"', "moderate"),
        ('"150."', "moderate"),
        ('"n/a"', "moderate"),
        ('""', "moderate"),
        ("null", "moderate"),
        ("true", "moderate"),
        ("[150]", "moderate"),
        ('{"value":150}', "moderate"),
        (None, "moderate"),
    ],
)
def test_the_strength_comes_from_the_magnitude(value: str | None, strength: str) -> None:
    assert relayed(ALERT_SOURCE, payload(triggerValue=value)) == envelope(strength=strength)


@pytest.mark.parametrize(
    ("moment", "timestamp"),
    [
        ('"2026-02-19T14:00:00.5+02:00"', "2026-02-19T12:00:00.500Z"),
        ('"2026-02-19T12:00:00.123999z"', "2026-02-19T12:00:00.123Z"),
        ("1771502400000", "2026-02-19T12:00:00.000Z"),
    ],
)
def test_the_moment_is_normalised(moment: str, timestamp: str) -> None:
    assert relayed(ALERT_SOURCE, payload(triggeredAt=moment)) == envelope(timestamp=timestamp)


@pytest.mark.parametrize("symbol", ["A-B", "abc-XYZ", f"{'A' * 20}-{'9' * 20}"])
def test_every_symbol_of_the_grammar_is_relayed(symbol: str) -> None:
    assert relayed(ALERT_SOURCE, payload(symbol=f'"{symbol}"')) == envelope(symbol=symbol)


@pytest.mark.parametrize("timeframe", ["1m", "5m", "15m", "1h", "4h", "1d"])
def test_every_timeframe_of_the_grammar_is_relayed(timeframe: str) -> None:
    assert relayed(ALERT_SOURCE, payload(timeframe=f'"{timeframe}"')) == envelope(timeframe=timeframe)


@pytest.mark.parametrize("member", ["symbol", "timeframe", "price", "triggeredAt"])
def test_an_alert_without_a_needed_member_is_invalid(member: str) -> None:
    assert relayed(ALERT_SOURCE, payload(**{member: None})) is None


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("symbol", '"BTCUSD"'),
        ("symbol", '"*"'),
        ("symbol", '"BTC-USD\\n"'),
        ("symbol", '"BTC-USD:1h"'),
        ("symbol", "5"),
        ("symbol", "1e-5"),
        ("symbol", "null"),
        ("timeframe", '"2h"'),
        ("timeframe", '"*"'),
        ("timeframe", '"1h\\n"'),
        ("timeframe", "15"),
        ("price", "null"),
        ("price", '"1_0"'),
        ("price", "1e64"),
        ("triggeredAt", "null"),
        ("triggeredAt", '"yesterday"'),
        ("triggeredAt", '"2026-02-19T12:00:00"'),
        ("triggeredAt", '"1771502400000"'),
        ("triggeredAt", "1.0"),
    ],
)
def test_a_member_of_the_wrong_kind_makes_an_alert_invalid(member: str, value: str) -> None:
    assert relayed(ALERT_SOURCE, payload(**{member: value})) is None


def test_the_exchange_is_the_configured_one_and_not_what_the_payload_says() -> None:
    assert relayed(ALERT_SOURCE, payload(exchange='"other"', sourceExchangeName='"other"')) == envelope()


def test_private_members_stay_inside() -> None:
    private = {"id": "123", "alertType": '"macdv"', "signalDelta": "12.4", "sourceExchangeId": "1"}
    assert relayed(ALERT_SOURCE, payload(**private)) == envelope()


@pytest.mark.parametrize("member", ["symbol", "timeframe", "price", "triggeredAt", "triggerValue", "triggerLabel"])
@pytest.mark.parametrize("first", ["5", "null", "{}", '"*"'])
def test_of_duplicate_members_the_last_counts(member: str, first: str) -> None:
    assert relayed(ALERT_SOURCE, b'{"%b":%b,' % (member.encode(), first.encode()) + payload()[1:]) == envelope()


@pytest.mark.parametrize("text", [b"", b"not json", b"null", b"[]", b"{}", b"\xff", payload() + b"x", payload()[:-1]])
def test_a_payload_that_is_not_a_json_object_is_invalid(text: bytes) -> None:
    assert relayed(ALERT_SOURCE, text) is None


@pytest.mark.parametrize("source", [f"{ALERT_SOURCE}1", f"{ALERT_SOURCE}:1", "channel:alerts:exchange:2"])
def test_an_alert_of_another_exchange_matches_no_route(source: str) -> None:
    assert relayed(source, payload()) is None


def test_the_channels_are_those_of_the_contract() -> None:
    grammar = Registry(["signals"]).grammar
    wanted = ["signals:BTC-USD:1h", "signals:*:1h", "signals:BTC-USD:*", "signals:*:*", "signals:*", "signals:BTC:1h"]
    assert [grammar.admits(channel) for channel in wanted] == [True, True, True, True, False, False]


def test_the_source_is_asked_for_by_name() -> None:
    (route,) = Registry(["signals"]).routes("1")
    assert (route.source.is_pattern, route.source.redis_name) == (False, "channel:alerts:exchange:1")

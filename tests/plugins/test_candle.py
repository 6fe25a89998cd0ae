"""tornado_bridge.plugins.candle: candle closes, through plugin and firewall."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.support import oracle, strategies
from tests.support.pipeline import relayed
from tests.support.servers import CANDLE_SOURCE
from tornado_bridge.registry import Registry

DATA = Path(__file__).parents[1] / "data"
SOURCE = CANDLE_SOURCE.format(symbol="BTC-USD", timeframe="1h")
VECTORS = [
    vector
    for vector in json.loads((DATA / "transform-v1.json").read_text())["vectors"]
    if ":candle:close:" in vector["source"]
]

CANDLE = {"timestamp": "1708264800000", "open": "1", "high": "2.50", "low": "0.5", "close": "1.5", "volume": "1e3"}
ENVELOPE = (
    '{"type":"candle_close","channel":"candles:BTC-USD:1h","data":{"timestamp":"2024-02-18T14:00:00.000Z",'
    '"open":"1","high":"2.5","low":"0.5","close":"1.5","volume":"1000"}}'
)


def payload(**members: str | None) -> bytes:
    """Return a candle with members changed, each a JSON value as written; None leaves one out."""
    texts = {**CANDLE, **members}
    return "{{{}}}".format(",".join(f'"{name}":{text}' for name, text in texts.items() if text is not None)).encode()


def as_text(envelope: oracle.Envelope | None) -> str | None:
    return None if envelope is None else json.dumps(envelope, ensure_ascii=False, separators=(",", ":"))


def test_the_vectors_hold_candles_of_both_kinds() -> None:
    assert {vector["envelope"] is None for vector in VECTORS} == {True, False}


@pytest.mark.parametrize("vector", VECTORS)
def test_a_vector_of_the_contract_holds(vector: dict[str, Any]) -> None:
    assert relayed(vector["source"], vector["payload"].encode()) == as_text(vector["envelope"])


def test_a_candle_becomes_its_envelope_to_the_byte() -> None:
    assert relayed(SOURCE, payload()) == ENVELOPE


def test_the_candles_of_a_real_market_are_as_the_oracle_says() -> None:
    with gzip.open(DATA / "market.jsonl.gz", "rt", encoding="utf-8") as lines:
        events = [event for event in map(json.loads, lines) if ":candle:close:" in event["source"]]
    different = []
    relayed_candles = 0
    for event in events:
        found = relayed(event["source"], event["payload"].encode())
        relayed_candles += found is not None
        if found != as_text(oracle.expected(event["source"], event["payload"].encode())):
            different.append(event)
    assert (different, relayed_candles) == ([], 7148)


@settings(max_examples=500, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(strategies.candle_events())
def test_a_candle_is_relayed_as_the_oracle_says(event: strategies.Event) -> None:
    assert relayed(*event) == as_text(oracle.expected(*event))


@pytest.mark.parametrize("symbol", ["A-B", "abc-XYZ", "0-9", f"{'A' * 20}-{'9' * 20}"])
def test_every_symbol_of_the_grammar_is_relayed(symbol: str) -> None:
    text = relayed(CANDLE_SOURCE.format(symbol=symbol, timeframe="1h"), payload())
    assert text == ENVELOPE.replace("BTC-USD", symbol)


@pytest.mark.parametrize("timeframe", ["1m", "5m", "15m", "1h", "4h", "1d"])
def test_every_timeframe_of_the_grammar_is_relayed(timeframe: str) -> None:
    text = relayed(CANDLE_SOURCE.format(symbol="BTC-USD", timeframe=timeframe), payload())
    assert text == ENVELOPE.replace("1h", timeframe)


@pytest.mark.parametrize(
    ("symbol", "timeframe"),
    [
        ("BTCUSD", "1h"),
        ("BTC-USD-X", "1h"),
        (f"{'A' * 21}-B", "1h"),
        ("BTC-\u0661", "1h"),
        ("*", "1h"),
        ("BTC-USD", "2h"),
        ("BTC-USD", "1H"),
        ("BTC-USD", "*"),
        ("BTC-USD", "1h\n"),
    ],
)
def test_a_source_channel_with_another_symbol_or_timeframe_matches_no_route(symbol: str, timeframe: str) -> None:
    assert relayed(CANDLE_SOURCE.format(symbol=symbol, timeframe=timeframe), payload()) is None


def test_symbol_and_timeframe_come_from_the_source_channel_and_not_from_the_payload() -> None:
    assert relayed(SOURCE, payload(symbol='"ETH-USD"', timeframe='"1d"')) == ENVELOPE


def test_private_members_stay_inside() -> None:
    private = {"macdV": "51.7", "fastEMA": "1.1", "atr": '{"open":9}', "sequenceNum": "42", "isSynthetic": "false"}
    assert relayed(SOURCE, payload(**private)) == ENVELOPE


def test_of_duplicate_members_the_last_counts() -> None:
    assert relayed(SOURCE, payload().replace(b'"open":1,', b'"open":9,"open":1,')) == ENVELOPE


@pytest.mark.parametrize("member", list(CANDLE))
def test_a_candle_without_one_of_its_members_is_invalid(member: str) -> None:
    assert relayed(SOURCE, payload(**{member: None})) is None


@pytest.mark.parametrize("member", ["open", "high", "low", "close", "volume"])
@pytest.mark.parametrize("value", ["null", "true", '"text"', "[1]", "{}", '"1_0"', "1e64", "9" * 65])
def test_a_price_that_is_not_a_decimal_makes_a_candle_invalid(member: str, value: str) -> None:
    assert relayed(SOURCE, payload(**{member: value})) is None


@pytest.mark.parametrize("value", ["null", "1.0", "1e3", '"1708264800000"', '"2024-02-18T14:00:00Z"', "-1", "1e15"])
def test_a_timestamp_that_is_not_an_integer_makes_a_candle_invalid(value: str) -> None:
    assert relayed(SOURCE, payload(timestamp=value)) is None


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"not json",
        b"null",
        b"[]",
        b"{}",
        b"\xef\xbb\xbf" + payload(),
        payload() + b"x",
        payload()[:-1],
        payload(note='"\\ud800"'),
        payload(note="NaN"),
        payload(note='"') + b"\xff" + b'"}',
    ],
)
def test_a_payload_that_is_not_a_json_object_is_invalid(text: bytes) -> None:
    assert relayed(SOURCE, text) is None


def test_the_channels_are_those_of_the_contract() -> None:
    grammar = Registry(["candle"]).grammar
    wanted = ["candles:BTC-USD:1h", "candles:*:1h", "candles:BTC-USD:*", "candles:*:*", "candles:*", "candles:BTC:1h"]
    assert [grammar.admits(channel) for channel in wanted] == [True, True, True, True, False, False]


def test_the_source_is_asked_for_as_one_pattern() -> None:
    (route,) = Registry(["candle"]).routes("1")
    assert (route.source.is_pattern, route.source.redis_name) == (True, "channel:exchange:1:candle:close:*:*")

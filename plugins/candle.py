"""Candle closes: the open, high, low, close and volume of a symbol on a timeframe."""

import msgspec

from tornado_bridge import Envelope, Event, EventType, hookimpl, load_schema, values

SYMBOL = r"[A-Za-z0-9]{1,20}-[A-Za-z0-9]{1,20}"
TIMEFRAMES = ("1m", "5m", "15m", "1h", "4h", "1d")


class Candle(msgspec.Struct):
    """The members of a candle that are read. No other member of the payload is ever decoded."""

    timestamp: msgspec.Raw
    open: msgspec.Raw
    high: msgspec.Raw
    low: msgspec.Raw
    close: msgspec.Raw
    volume: msgspec.Raw


CANDLE_CLOSE = EventType(
    name="candle_close",
    source="channel:exchange:{exchange_id}:candle:close:{symbol}:{timeframe}",
    channel="candles:{symbol}:{timeframe}",
    parameters={"symbol": SYMBOL, "timeframe": TIMEFRAMES},
    reads=Candle,
    emits=load_schema("candle_close"),
)


@hookimpl
def register_event_types() -> list[EventType]:
    return [CANDLE_CLOSE]


@hookimpl
def transform(event: Event[Candle]) -> Envelope:
    candle = event.payload
    opening, high, low, close, volume = values.decimals(candle, "open", "high", "low", "close", "volume")
    return Envelope(
        event.channel,
        {
            "timestamp": values.epoch_timestamp(candle.timestamp, "timestamp"),
            "open": opening,
            "high": high,
            "low": low,
            "close": close,
            "volume": volume,
        },
    )

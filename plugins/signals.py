"""Trade signals: the public form of an indicator alert."""

import re

import msgspec

from tornado_bridge import Envelope, Event, EventType, InvalidEvent, hookimpl, load_schema, values

SYMBOL = r"[A-Za-z0-9]{1,20}-[A-Za-z0-9]{1,20}"
TIMEFRAMES = ("1m", "5m", "15m", "1h", "4h", "1d")

# A signal is moderate, strong or extreme from these values of |triggerValue| (docs/protocol.md section 5).
THRESHOLDS = (30, 80, 150)
STRENGTHS = ("weak", "moderate", "strong", "extreme")

_BELOW_ZERO = re.compile(r"level_-(?=[0.]*[1-9])[0-9]+(\.[0-9]+)?").fullmatch

ABSENT = msgspec.Raw(b"null")


class Alert(msgspec.Struct):
    """The members of an alert that are read. No other member of the payload is ever decoded."""

    # Raw, not str: if a member is there twice, the last one counts, and the first may be of any kind.
    symbol: msgspec.Raw
    timeframe: msgspec.Raw
    price: msgspec.Raw
    triggeredAt: msgspec.Raw
    triggerValue: msgspec.Raw = ABSENT
    triggerLabel: msgspec.Raw = ABSENT


TRADE_SIGNAL = EventType(
    name="trade_signal",
    source="channel:alerts:exchange:{exchange_id}",
    channel="signals:{symbol}:{timeframe}",
    parameters={"symbol": SYMBOL, "timeframe": TIMEFRAMES},
    reads=Alert,
    emits=load_schema("trade_signal"),
    publishes={"timestamp": "triggeredAt"},
    derives={"strength": "triggerValue", "direction": "triggerLabel"},
)


@hookimpl
def register_event_types() -> list[EventType]:
    return [TRADE_SIGNAL]


@hookimpl
def transform(event: Event[Alert]) -> Envelope:
    alert = event.payload
    symbol, timeframe = text(alert.symbol, "symbol"), text(alert.timeframe, "timeframe")
    return Envelope(
        TRADE_SIGNAL.channel_name(symbol=symbol, timeframe=timeframe),
        {
            "symbol": symbol,
            "exchange": event.exchange,
            "timeframe": timeframe,
            "signal_type": "momentum_signal",
            "direction": direction(alert.triggerLabel),
            "strength": strength(alert.triggerValue),
            "price": values.decimal(alert.price, "price"),
            "timestamp": values.timestamp(alert.triggeredAt, "triggeredAt"),
        },
    )


def text(raw: msgspec.Raw, member: str) -> str:
    """Return the text of a JSON string; raises InvalidEvent, naming `member`, for any other value."""
    string = values.text_of(raw) if bytes(raw)[:1] == b'"' else None
    if string is None:
        raise InvalidEvent(f"{member} is not a string")
    return string


def direction(label: msgspec.Raw) -> str:
    """Return `bullish` or `bearish` for a `triggerLabel` (docs/protocol.md section 5)."""
    string = values.text_of(label) if bytes(label)[:1] == b'"' else None
    if string is None:
        return "bearish"
    if string.startswith("reversal_oversold"):
        return "bullish"
    if string.startswith("level_"):
        return "bearish" if _BELOW_ZERO(string) else "bullish"
    return "bearish"


def strength(value: msgspec.Raw) -> str:
    """Return the strength for |`triggerValue`|; a value that is not a number gives `moderate`."""
    reached = values.magnitude_reaches(value, THRESHOLDS)
    return "moderate" if reached is None else STRENGTHS[reached]

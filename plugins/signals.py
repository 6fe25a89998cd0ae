"""Trade signals: the public side of an indicator alert."""

import re

import msgspec

from tornado_bridge import Envelope, Event, EventType, InvalidEvent, hookimpl, load_schema, values

SYMBOL = r"[A-Za-z0-9]{1,20}-[A-Za-z0-9]{1,20}"
TIMEFRAMES = ("1m", "5m", "15m", "1h", "4h", "1d")

# |triggerValue| from which a signal is moderate, strong, extreme (docs/protocol.md section 5).
THRESHOLDS = (30, 80, 150)
STRENGTHS = ("weak", "moderate", "strong", "extreme")

_BELOW_ZERO = re.compile(r"level_-(?=[0.]*[1-9])[0-9]+(\.[0-9]+)?").fullmatch

ABSENT = msgspec.Raw(b"null")


class Alert(msgspec.Struct):
    """What is read of an alert; every other member of the payload stays inside."""

    # As written, like the others: of duplicate members the last counts, whatever the first ones were.
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
    found = values.text_of(raw) if bytes(raw)[:1] == b'"' else None
    if found is None:
        raise InvalidEvent(f"{member} is no text")
    return found


def direction(label: msgspec.Raw) -> str:
    """Return `bullish` or `bearish` by the rules for `triggerLabel`."""
    found = values.text_of(label) if bytes(label)[:1] == b'"' else None
    if found is None:
        return "bearish"
    if found.startswith("reversal_oversold"):
        return "bullish"
    if found.startswith("level_"):
        return "bearish" if _BELOW_ZERO(found) else "bullish"
    return "bearish"


def strength(value: msgspec.Raw) -> str:
    """Return how strong by |`triggerValue`|; what is no number is moderate."""
    reached = values.magnitude_reaches(value, THRESHOLDS)
    return "moderate" if reached is None else STRENGTHS[reached]

"""Aggregated trades: totals for each side of a batch of a symbol's trades, without the accounts."""

import decimal
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

import msgspec
from tornado_bridge import Envelope, Event, EventType, InvalidEvent, envelope_schema, hookimpl, values

SYMBOL = r"[A-Z0-9]{2,10}-[A-Z0-9]{2,10}"

# A batch is handled in one turn of the event loop that serves every client. This many trades take about 2 ms.
MAX_TRADES = 500

Side = Literal["buy", "sell"]

# Enough digits for the exact sum of 500 numbers of 64 digits, wherever their points are.
_EXACT = decimal.Context(prec=200)


class Trade(msgspec.Struct):
    """The members of a trade that are read. Its id, its accounts and their fees are never decoded."""

    price: msgspec.Raw
    size: msgspec.Raw
    side: Side
    timestamp: msgspec.Raw


class Batch(msgspec.Struct):
    """The members of an event that are read. No other member of the payload is ever decoded."""

    trades: Annotated[list[Trade], msgspec.Meta(max_length=MAX_TRADES)]


TRADES = EventType(
    name="trades",
    source="channel:exchange:{exchange_id}:trades:{symbol}",
    channel="trades:{symbol}",
    parameters={"symbol": SYMBOL},
    reads=Batch,
    emits=envelope_schema(
        "trades",
        rf"^trades:{SYMBOL}$",
        {
            "side": {"enum": ["buy", "sell"]},
            "count": {"type": "integer", "minimum": 1, "maximum": MAX_TRADES},
            "volume": values.DECIMAL,
            "high": values.DECIMAL,
            "low": values.DECIMAL,
            "last": values.DECIMAL,
            "timestamp": values.TIMESTAMP,
        },
        title="Aggregated trades",
        description="The trades of one side in one batch: how many, how much, at which prices, and when the last was.",
    ),
    publishes={"volume": "trades.size", "high": "trades.price", "low": "trades.price", "last": "trades.price"},
    # The sides of the trades decide how many envelopes there are, and which trades are in each.
    derives=dict.fromkeys(("(envelopes)", "count", "volume", "high", "low", "last", "timestamp"), "trades.side"),
)


@hookimpl
def register_event_types() -> list[EventType]:
    return [TRADES]


@hookimpl
def transform(event: Event[Batch]) -> Iterator[Envelope]:
    """Return an envelope for each side that has trades."""
    for side in ("buy", "sell"):
        trades = [trade for trade in event.payload.trades if trade.side == side]
        if trades:
            yield Envelope(event.channel, {"side": side, "count": len(trades), **aggregate(trades)})


def aggregate(trades: Sequence[Trade]) -> dict[str, str]:
    """Return the volume, the prices and the time of trades in the order of their execution.

    Raises InvalidEvent for an invalid number or time, and for a size or a price that is not above zero.
    """
    prices = [positive(trade.price, "price") for trade in trades]
    volume = decimal.Decimal(0)
    for trade in trades:
        volume = _EXACT.add(volume, positive(trade.size, "size"))
    return {
        "volume": plain(volume, "volume"),
        "high": plain(max(prices), "high"),
        "low": plain(min(prices), "low"),
        "last": plain(prices[-1], "last"),
        "timestamp": values.epoch_timestamp(trades[-1].timestamp, "timestamp"),
    }


def positive(raw: msgspec.Raw, member: str) -> decimal.Decimal:
    number = decimal.Decimal(values.decimal(raw, member))
    if number <= 0:
        raise InvalidEvent(f"{member} is not above 0")
    return number


def plain(number: decimal.Decimal, member: str) -> str:
    return values.decimal(msgspec.Raw(f"{number:f}".encode()), member)

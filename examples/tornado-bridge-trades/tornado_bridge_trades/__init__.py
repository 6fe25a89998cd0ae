"""Aggregated trades: what was bought and what was sold in one batch of a symbol's trades, without who traded."""

import decimal
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

import msgspec
from tornado_bridge import Envelope, Event, EventType, InvalidEvent, envelope_schema, hookimpl, values

SYMBOL = r"[A-Z0-9]{2,10}-[A-Z0-9]{2,10}"

# A batch is worked off in one turn of the loop that serves every client; this many take about 2 ms.
MAX_TRADES = 500

Side = Literal["buy", "sell"]

# A sum of 500 numbers of 64 digits, wherever their points are, is exact in it.
_EXACT = decimal.Context(prec=200)


class Trade(msgspec.Struct):
    """What is read of a trade: not its id, nor the accounts, nor their fees."""

    price: msgspec.Raw
    size: msgspec.Raw
    side: Side
    timestamp: msgspec.Raw


class Batch(msgspec.Struct):
    """What is read of an event; every other member of the payload stays inside."""

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
    # Of which sides the trades are decides how many envelopes there are, and what each is made of.
    derives=dict.fromkeys(("(envelopes)", "count", "volume", "high", "low", "last", "timestamp"), "trades.side"),
)


@hookimpl
def register_event_types() -> list[EventType]:
    return [TRADES]


@hookimpl
def transform(event: Event[Batch]) -> Iterator[Envelope]:
    """Return an envelope of what was bought and one of what was sold; a side without trades has none."""
    for side in ("buy", "sell"):
        trades = [trade for trade in event.payload.trades if trade.side == side]
        if trades:
            yield Envelope(event.channel, {"side": side, "count": len(trades), **aggregate(trades)})


def aggregate(trades: Sequence[Trade]) -> dict[str, str]:
    """Return the volume, the prices and the time of trades in the order of their execution.

    Raises InvalidEvent for a number or a time that is none, and for a size or a price that is not above zero.
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

"""The events of a benchmark: candles with all private members, numbered so that each can be checked."""

import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

EXCHANGE_ID = 1
EXCHANGE_NAME = "coinbase"
TIMEFRAME = "1m"


@dataclass(frozen=True)
class Candle:
    """One candle close. `number` is its place among all events of a run (from 0) and travels as `volume`."""

    number: int
    symbol: str
    timestamp: int
    prices: tuple[str, str, str, str]

    @property
    def source_channel(self) -> str:
        return f"channel:exchange:{EXCHANGE_ID}:candle:close:{self.symbol}:{TIMEFRAME}"

    @property
    def channel(self) -> str:
        return f"candles:{self.symbol}:{TIMEFRAME}"

    @property
    def payload(self) -> str:
        opening, high, low, close = self.prices
        return (
            f'{{"timestamp":{self.timestamp},"open":{opening},"high":{high},"low":{low},"close":{close},'
            f'"volume":{self.number},"symbol":"{self.symbol}","timeframe":"{TIMEFRAME}",'
            f'"exchange":"{EXCHANGE_NAME}","isSynthetic":false,"sequenceNum":{self.number},"macdV":51.738201,'
            f'"fastEMA":{close}0400,"slowEMA":{opening}1200,"atr":8.14740741,"informativeATR":0.07522304}}'
        )

    @property
    def envelope(self) -> str:
        """What a client must get, to the byte (PROTOCOL.md section 5)."""
        time = datetime.fromtimestamp(self.timestamp // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        opening, high, low, close = (format(Decimal(price).normalize(), "f") for price in self.prices)
        return (
            f'{{"type":"candle_close","channel":"{self.channel}","data":{{'
            f'"timestamp":"{time}.{self.timestamp % 1000:03}Z","open":"{opening}","high":"{high}",'
            f'"low":"{low}","close":"{close}","volume":"{self.number}"}}}}'
        )


class Market:
    """Publishes on `channels` channels in turn: event number e is on channel e modulo their number."""

    def __init__(self, channels: int) -> None:
        self._symbols = [f"C{index:03}-USD" for index in range(channels)]
        self._random = random.Random(channels)
        self._published = 0

    @property
    def channels(self) -> list[str]:
        return [f"candles:{symbol}:{TIMEFRAME}" for symbol in self._symbols]

    def next_candles(self, count: int) -> list[Candle]:
        """The next events, stamped with the present moment (a real candle carries its minute's)."""
        now = time.time_ns() // 1_000_000
        return [self._next_candle(now) for _ in range(count)]

    def _next_candle(self, now: int) -> Candle:
        number = self._published
        self._published += 1
        cents = self._random.randrange(4_200_000, 4_300_000)
        up, down = self._random.randrange(9_000), self._random.randrange(9_000)
        prices = (cents, cents + up, cents - down, cents + (up - down) // 2)
        opening, high, low, close = (f"{price // 100}.{price % 100:02}" for price in prices)
        return Candle(number, self._symbols[number % len(self._symbols)], now, (opening, high, low, close))

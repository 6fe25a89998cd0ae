"""The events of a benchmark: candles with all private members, numbered so that each can be checked."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

EXCHANGE_ID = 1
EXCHANGE_NAME = "coinbase"
TIMEFRAMES = ("1m", "5m", "15m", "1h", "4h")

# Stand in a burst's commands for the moment of publication, as long as what takes their place.
MILLISECONDS = "~" * 13
MICROSECONDS = "^" * 3


@dataclass(frozen=True)
class Instrument:
    """One channel's symbol and timeframe."""

    symbol: str
    timeframe: str

    @property
    def source_channel(self) -> str:
        return f"channel:exchange:{EXCHANGE_ID}:candle:close:{self.symbol}:{self.timeframe}"

    @property
    def channel(self) -> str:
        return f"candles:{self.symbol}:{self.timeframe}"


def instruments(symbols: int, timeframes: Sequence[str]) -> list[Instrument]:
    """Every symbol in every timeframe."""
    return [Instrument(f"C{index:03}-USD", timeframe) for index in range(symbols) for timeframe in timeframes]


@dataclass(frozen=True)
class Candle:
    """One candle close, not yet published.

    `number` is its place among all events of a run (from 0) and travels as the whole part of `volume`. The
    microseconds of the moment of publication travel inside `high`, which therefore need not be the highest price.
    """

    number: int
    instrument: Instrument
    prices: tuple[str, str, str, str]
    volume: str

    @property
    def payload(self) -> str:
        """What is published, with MILLISECONDS and MICROSECONDS in place of the moment."""
        opening, high, low, close = self.prices
        return (
            f'{{"timestamp":{MILLISECONDS},"open":{opening},"high":{high},"low":{low},"close":{close},'
            f'"volume":{self.volume},"symbol":"{self.instrument.symbol}","timeframe":"{self.instrument.timeframe}",'
            f'"exchange":"{EXCHANGE_NAME}","isSynthetic":false,"sequenceNum":{self.number},"macdV":51.738201,'
            f'"fastEMA":{close}0400,"slowEMA":{opening}1200,"atr":8.14740741,"informativeATR":0.07522304}}'
        )

    def envelope(self, published_us: int) -> str:
        """What a client must get, to the byte (docs/protocol.md section 5), of a candle published at that moment."""
        milliseconds, microseconds = divmod(published_us, 1000)
        time = datetime.fromtimestamp(milliseconds // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        prices = [price.replace(MICROSECONDS, f"{microseconds:03}") for price in self.prices]
        opening, high, low, close = (format(Decimal(price).normalize(), "f") for price in prices)
        return (
            f'{{"type":"candle_close","channel":"{self.instrument.channel}","data":{{'
            f'"timestamp":"{time}.{milliseconds % 1000:03}Z","open":"{opening}","high":"{high}",'
            f'"low":"{low}","close":"{close}","volume":"{self.volume}"}}}}'
        )


class Burst:
    """Candles ready to be published: all but the moment is written."""

    def __init__(self, candles: Sequence[Candle]) -> None:
        self.candles = candles
        self._commands = [_command("PUBLISH", candle.instrument.source_channel, candle.payload) for candle in candles]

    def __len__(self) -> int:
        return len(self.candles)

    def commands(self, now_us: int) -> bytes:
        """The PUBLISH commands of all, stamped with one moment (a real candle carries its minute's)."""
        return _stamped(b"".join(self._commands), now_us)

    def command(self, index: int, now_us: int) -> bytes:
        """The PUBLISH command of one."""
        return _stamped(self._commands[index], now_us)


def _command(*words: str) -> bytes:
    parts = [f"*{len(words)}\r\n".encode()]
    for word in map(str.encode, words):
        parts.append(b"$%d\r\n%b\r\n" % (len(word), word))
    return b"".join(parts)


def _stamped(command: bytes, now_us: int) -> bytes:
    milliseconds, microseconds = divmod(now_us, 1000)
    return command.replace(MILLISECONDS.encode(), b"%d" % milliseconds).replace(
        MICROSECONDS.encode(), b"%03d" % microseconds
    )


class Market:
    """Event number e is on channel e modulo their number."""

    def __init__(self, listed: Sequence[Instrument]) -> None:
        self._listed = listed
        self._random = random.Random(len(listed))
        self._written = 0

    @property
    def channels(self) -> list[str]:
        return [instrument.channel for instrument in self._listed]

    def next_burst(self, count: int) -> Burst:
        return Burst([self._next_candle() for _ in range(count)])

    def _next_candle(self) -> Candle:
        number = self._written
        self._written += 1
        chance = self._random.random
        cents = 4_200_000 + int(chance() * 100_000)
        up, down = int(chance() * 9_000), int(chance() * 9_000)
        opening, low, close = (
            f"{price // 100}.{price % 100:02}" for price in (cents, cents - down, cents + (up - down) // 2)
        )
        # As many random digits as a price has, since those of the moment are the same throughout a burst.
        high = f"42{MICROSECONDS}.{int(chance() * 10_000):04}"
        # Three decimals, the last of them no zero: the envelope has the same text.
        volume = f"{number}.{int(chance() * 100):02}{1 + int(chance() * 9)}"
        return Candle(number, self._listed[number % len(self._listed)], (opening, high, low, close), volume)

"""A synthetic market that publishes like a platform does.

Payloads are the internal form of docs/protocol.md section 4, private members included. A tick is one minute of the
market; the second one ends at midnight UTC, which closes a candle of every timeframe.
"""

import asyncio
import bisect
import datetime
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

import msgspec
import redis.asyncio

# In minutes; each divides the next.
TIMEFRAMES = {"1m": 1, "5m": 5, "15m": 15, "1h": 60, "4h": 240, "1d": 1440}
MINUTE_MS = 60_000

# The minute that the first tick closes, and how many pass in silence before it: the averages have to settle.
FIRST_MINUTE = datetime.datetime(2026, 2, 18, 23, 58, tzinfo=datetime.UTC)
_SILENT_MINUTES = 2 * 1440 - 2

# MACD-V = (EMA12 - EMA26) / ATR26 * 100. An alert is a level passed outwards, or _EXTREME inwards.
_FAST, _SLOW, _RANGE = 12, 26, 26
_LEVELS = (25, 50, 80, 100, 150)
_EXTREME = 100

# One minute in so many passes without a trade; its candle is made up from the last price.
_QUIET = 200


@dataclass(frozen=True, slots=True)
class Instrument:
    """What is traded: near `price`, in ticks of 10**-digits, with `volume` and `volatility` a minute."""

    symbol: str
    price: float
    digits: int
    volume: float
    volatility: float

    @property
    def ticks(self) -> float:
        """The price it began at, in ticks."""
        return self.price * 10.0**self.digits


INSTRUMENTS = (
    Instrument("BTC-USD", 64_250.0, 2, 12.0, 0.0006),
    Instrument("ETH-USD", 3_120.0, 2, 160.0, 0.0007),
    Instrument("SOL-USD", 142.5, 3, 2_400.0, 0.0010),
    Instrument("XRP-USD", 0.5821, 4, 310_000.0, 0.0009),
    Instrument("ADA-USD", 0.4478, 4, 250_000.0, 0.0010),
    Instrument("DOGE-USD", 0.12345, 5, 1_900_000.0, 0.0012),
    Instrument("AVAX-USD", 35.17, 2, 1_700.0, 0.0011),
    Instrument("LINK-USD", 17.642, 3, 4_200.0, 0.0010),
    Instrument("LTC-USD", 84.31, 2, 900.0, 0.0008),
    Instrument("DOT-USD", 7.214, 3, 9_500.0, 0.0009),
)


@dataclass(slots=True)
class Candle:
    """Prices in ticks and volume in thousandths, both whole numbers, so that sums are exact."""

    opened_ms: int
    closed_ms: int
    open: int
    high: int
    low: int
    close: int
    volume: int

    def extend(self, later: "Candle") -> None:
        """Take in the candle that follows."""
        self.closed_ms = later.closed_ms
        self.high = max(self.high, later.high)
        self.low = min(self.low, later.low)
        self.close = later.close
        self.volume += later.volume


@dataclass(slots=True)
class Momentum:
    """The running averages of one series of candles, in ticks."""

    fast: float
    slow: float
    close: float
    atr: float = 0.0
    macd_v: float = 0.0
    delta: float = 0.0

    def update(self, candle: Candle) -> None:
        """Take in a closed candle."""
        true_range = max(candle.high, self.close) - min(candle.low, self.close)
        self.close = candle.close
        self.fast += (candle.close - self.fast) * 2 / (_FAST + 1)
        self.slow += (candle.close - self.slow) * 2 / (_SLOW + 1)
        self.atr += (true_range - self.atr) / _RANGE if self.atr else true_range
        before = self.macd_v
        self.macd_v = (self.fast - self.slow) / self.atr * 100 if self.atr else 0.0
        self.delta = self.macd_v - before


@dataclass(slots=True)
class Series:
    """One symbol on one timeframe; `informative` is of the next longer one, the longest has its own."""

    timeframe: str
    momentum: Momentum
    informative: Momentum
    forming: Candle | None = None
    closed: int = 0
    zone: int = 0
    label: str = "level_0"
    previous_label: str = "level_0"

    def add(self, shorter: Candle) -> Candle | None:
        """Take in a candle of the next shorter timeframe; return the candle that it closes, if it does."""
        if self.forming is None:
            self.forming = replace(shorter)
        else:
            self.forming.extend(shorter)
        if shorter.closed_ms % (TIMEFRAMES[self.timeframe] * MINUTE_MS):
            return None
        candle, self.forming = self.forming, None
        self.momentum.update(candle)
        self.closed += 1
        return candle

    def crossed(self) -> bool:
        """Tell whether the last close moved the momentum over a level that is an alert; `label` names it."""
        before, self.zone = self.zone, zone_of(self.momentum.macd_v)
        label = crossing(before, self.zone)
        if label is not None:
            self.previous_label, self.label = self.label, label
        return label is not None


def zone_of(macd_v: float) -> int:
    """Return the outermost level that a MACD-V has passed, with its sign; 0 inside the first."""
    passed = bisect.bisect_right(_LEVELS, abs(macd_v))
    level = _LEVELS[passed - 1] if passed else 0
    return level if macd_v > 0 else -level


def crossing(before: int, after: int) -> str | None:
    """Return the trigger label of a move between two zones, None for a move that is no alert."""
    if abs(after) > abs(before) or before * after < 0:
        return f"level_{after}"
    if abs(before) >= _EXTREME > abs(after):
        return "reversal_overbought" if before > 0 else "reversal_oversold"
    return None


class Walk:
    """A seeded random walk of one price: trends that come and go, and a weak pull back to where it began."""

    def __init__(self, instrument: Instrument, seed: int) -> None:
        self.instrument = instrument
        self._random = random.Random(f"{instrument.symbol} {seed}")
        self._price = instrument.ticks
        self._trend = 0.0

    def minute(self, opened_ms: int) -> Candle:
        """Return the candle of the next minute."""
        closed_ms = opened_ms + MINUTE_MS
        opened = round(self._price)
        if self._random.randrange(_QUIET) == 0:
            return Candle(opened_ms, closed_ms, opened, opened, opened, opened, 0)
        gauss, volatility = self._random.gauss, self.instrument.volatility
        self._trend = 0.95 * self._trend + 0.08 * volatility * gauss(0, 1)
        move = self._trend + volatility * gauss(0, 1) + 2e-5 * math.log(self.instrument.ticks / self._price)
        self._price *= math.exp(move)
        closed = round(self._price)
        reach = self._price * volatility
        high = max(opened, closed) + round(reach * abs(gauss(0, 0.5)))
        low = min(opened, closed) - round(reach * abs(gauss(0, 0.5)))
        traded = self.instrument.volume * self._random.lognormvariate(0, 0.6) * (1 + abs(move) / volatility)
        return Candle(opened_ms, closed_ms, opened, high, low, closed, max(1, round(traded * 1000)))


class Market:
    """The whole market: equal arguments make equal events, byte for byte."""

    def __init__(self, exchange_id: int = 1, exchange_name: str = "coinbase", seed: int = 1) -> None:
        self.exchange_id = exchange_id
        self.exchange_name = exchange_name
        self._alerts = 0
        self._now_ms = int(FIRST_MINUTE.timestamp() * 1000) - _SILENT_MINUTES * MINUTE_MS
        self._books = [(Walk(instrument, seed), _series(instrument)) for instrument in INSTRUMENTS]
        for _ in range(_SILENT_MINUTES):
            self._minute()

    def tick(self) -> list[tuple[str, bytes]]:
        """Pass one minute; return its events, each with its source channel, in the order to publish them."""
        return [event for closed in self._minute() for event in self._events(*closed)]

    def _minute(self) -> list[tuple[Instrument, Series, Candle, bool]]:
        closed = []
        for walk, book in self._books:
            candle = walk.minute(self._now_ms)
            for series in book:
                done = series.add(candle)
                if done is None:
                    break
                candle = done
                closed.append((walk.instrument, series, candle, series.crossed()))
        self._now_ms += MINUTE_MS
        return closed

    def _events(
        self, instrument: Instrument, series: Series, candle: Candle, alert: bool
    ) -> Iterator[tuple[str, bytes]]:
        yield (
            f"channel:exchange:{self.exchange_id}:candle:close:{instrument.symbol}:{series.timeframe}",
            msgspec.json.encode(self._candle(instrument, series, candle)),
        )
        if alert:
            self._alerts += 1
            yield (
                f"channel:alerts:exchange:{self.exchange_id}",
                msgspec.json.encode(self._alert(instrument, series, candle)),
            )

    def _candle(self, instrument: Instrument, series: Series, candle: Candle) -> dict[str, object]:
        digits, momentum = instrument.digits, series.momentum
        return {
            "timestamp": candle.opened_ms,
            "open": _number(candle.open, digits),
            "high": _number(candle.high, digits),
            "low": _number(candle.low, digits),
            "close": _number(candle.close, digits),
            "volume": _number(candle.volume, 3),
            "symbol": instrument.symbol,
            "timeframe": series.timeframe,
            "exchange": self.exchange_name,
            "isSynthetic": candle.volume == 0,
            "sequenceNum": series.closed,
            "macdV": _number(momentum.macd_v, 0, 4),
            "fastEMA": _number(momentum.fast, digits, 4),
            "slowEMA": _number(momentum.slow, digits, 4),
            "atr": _number(momentum.atr, digits, 4),
            "informativeATR": _number(series.informative.atr, digits, 4),
        }

    def _alert(self, instrument: Instrument, series: Series, candle: Candle) -> dict[str, object]:
        momentum = series.momentum
        return {
            "id": self._alerts,
            "symbol": instrument.symbol,
            "alertType": "momentum_level" if series.label.startswith("level_") else "momentum_reversal",
            "timeframe": series.timeframe,
            "price": _number(candle.close, instrument.digits),
            "triggerValue": _number(momentum.macd_v, 0, 2),
            "signalDelta": _number(momentum.delta, 0, 2),
            "triggeredAt": _iso(candle.closed_ms),
            "sourceExchangeId": self.exchange_id,
            "sourceExchangeName": self.exchange_name,
            "triggerLabel": series.label,
            "previousLabel": series.previous_label,
        }


async def publish(market: Market, url: str, interval: float = 1.0) -> None:
    """Publish a tick every `interval` seconds, each in one pipeline, until cancelled.

    Raises redis.RedisError once redis-py has given up on the connection; its client is closed in any case.
    """
    clock = asyncio.get_running_loop().time
    async with redis.asyncio.Redis.from_url(url) as client:
        due = clock()
        while True:
            async with client.pipeline(transaction=False) as pipeline:
                for channel, payload in market.tick():
                    pipeline.publish(channel, payload)
                await pipeline.execute()
            # A machine that slept does not catch up with a burst.
            due = max(due + interval, clock())
            await asyncio.sleep(due - clock())


def _series(instrument: Instrument) -> list[Series]:
    momenta = [Momentum(*[instrument.ticks] * 3) for _ in TIMEFRAMES]
    longer = [*momenta[1:], momenta[-1]]
    return [Series(*parts) for parts in zip(TIMEFRAMES, momenta, longer, strict=True)]


def _number(value: float, digits: int, further: int = 0) -> msgspec.Raw:
    # JSON encoders write small floats with an exponent, and a platform's decimals have none.
    return msgspec.Raw(f"{value / 10**digits:.{digits + further}f}")


def _iso(epoch_ms: int) -> str:
    return f"{datetime.datetime.fromtimestamp(epoch_ms / 1000, datetime.UTC):%Y-%m-%dT%H:%M:%S.000Z}"

"""An independent statement of docs/protocol.md sections 3 to 5: what a subscriber may get for one Redis message.

Slow and literal on purpose. It shares no line with the package, which is compared with it. The contract sets
no depth for an event: nesting that Python's `json` cannot follow is not JSON here.
"""

import json
import string
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NoReturn

Envelope = dict[str, str | dict[str, str]]

DIGITS = frozenset(string.digits)
ALPHANUMERICS = frozenset(string.ascii_letters + string.digits)
TIMEFRAMES = ("1m", "5m", "15m", "1h", "4h", "1d")
EPOCH = datetime(1970, 1, 1)
LAST_MILLISECOND = 253402300799999  # 9999-12-31T23:59:59.999Z
ABSENT = object()


class Invalid(Exception):
    """The event is invalid: nothing may be sent."""


@dataclass(frozen=True)
class NumberLiteral:
    """A JSON number as written."""

    text: str


def expected(source: str, payload: bytes, exchange_id: str = "1", exchange_name: str = "coinbase") -> Envelope | None:
    """What is sent for a payload published on a source channel, None where the event is invalid."""
    try:
        if source == f"channel:alerts:exchange:{exchange_id}":
            return _trade_signal(_json_object(payload), exchange_name)
        prefix = f"channel:exchange:{exchange_id}:candle:close:"
        if source.startswith(prefix):
            parts = source.removeprefix(prefix).split(":")
            if len(parts) == 2:
                return _candle_close(parts[0], parts[1], _json_object(payload))
    except Invalid:
        pass
    return None


def _candle_close(symbol: str, timeframe: str, members: dict[str, object]) -> Envelope:
    channel = f"candles:{_symbol(symbol)}:{_timeframe(timeframe)}"
    data = {"timestamp": _instant(_epoch_milliseconds(members.get("timestamp", ABSENT)))}
    for name in ("open", "high", "low", "close", "volume"):
        data[name] = _decimal(members.get(name, ABSENT))
    return {"type": "candle_close", "channel": channel, "data": data}


def _trade_signal(members: dict[str, object], exchange_name: str) -> Envelope:
    symbol = _symbol(members.get("symbol", ABSENT))
    timeframe = _timeframe(members.get("timeframe", ABSENT))
    data = {
        "symbol": symbol,
        "exchange": exchange_name,
        "timeframe": timeframe,
        "signal_type": "momentum_signal",
        "direction": _direction(members.get("triggerLabel", ABSENT)),
        "strength": _strength(members.get("triggerValue", ABSENT)),
        "price": _decimal(members.get("price", ABSENT)),
        "timestamp": _instant(_triggered_at(members.get("triggeredAt", ABSENT))),
    }
    return {"type": "trade_signal", "channel": f"signals:{symbol}:{timeframe}", "data": data}


def _json_object(payload: bytes) -> dict[str, object]:
    """The members of the payload, the last of duplicates; a lone surrogate anywhere is not JSON."""
    decoder = json.JSONDecoder(
        parse_int=NumberLiteral, parse_float=NumberLiteral, parse_constant=_refuse, object_pairs_hook=_members
    )
    try:
        value = decoder.decode(payload.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise Invalid from error
    if not isinstance(value, dict):
        raise Invalid
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    pending: list[object] = [part for pair in pairs for part in pair]
    while pending:
        part = pending.pop()
        if isinstance(part, str):
            part.encode("utf-8")  # raises UnicodeEncodeError, a ValueError, on a lone surrogate
        elif isinstance(part, list):
            pending.extend(part)
    return dict(pairs)


def _symbol(value: object) -> str:
    if not isinstance(value, str):
        raise Invalid
    sides = value.split("-")
    if len(sides) != 2 or not all(1 <= len(side) <= 20 and ALPHANUMERICS.issuperset(side) for side in sides):
        raise Invalid
    return value


def _timeframe(value: object) -> str:
    if not isinstance(value, str) or value not in TIMEFRAMES:
        raise Invalid
    return value


def _all_digits(text: str) -> bool:
    return text != "" and DIGITS.issuperset(text)


def _number(value: object) -> tuple[int, tuple[int, ...], int] | None:
    """Sign, digits without leading zeros and power of ten of a JSON number or of a string that is one."""
    if isinstance(value, NumberLiteral):
        text = value.text
    elif isinstance(value, str):
        text = value
    else:
        return None
    mantissa, e, exponent = text.replace("E", "e").partition("e")
    whole, point, fraction = mantissa.removeprefix("-").partition(".")
    if not _all_digits(whole) or (len(whole) > 1 and whole.startswith("0")):
        return None
    if point and not _all_digits(fraction):
        return None
    unsigned = exponent[1:] if exponent.startswith(("+", "-")) else exponent
    if e and not _all_digits(unsigned):
        return None
    magnitude = unsigned.lstrip("0") or "0"
    # int() refuses more than 4,300 digits; no payload is long enough to make up for such an exponent.
    shift = int(magnitude) if len(magnitude) < 4000 else 10**4000
    sign, digits, power = Decimal(mantissa).as_tuple()
    assert isinstance(power, int)
    return sign, digits, power - shift if exponent.startswith("-") else power + shift


def _decimal(value: object) -> str:
    number = _number(value)
    if number is None:
        raise Invalid
    sign, digits, power = number
    if not any(digits):
        return "0"
    digits_before_point = max(len(digits) + power, 1)
    digits_after_point = max(-power, 0)
    if digits_before_point + digits_after_point > 64:
        raise Invalid
    plain = format(Decimal((sign, digits, power)), "f")
    return plain.rstrip("0").removesuffix(".") if "." in plain else plain


def _strength(value: object) -> str:
    number = _number(value)
    if number is None:
        return "moderate"
    _, digits, power = number
    if not any(digits):
        return "weak"
    digits_before_point = len(digits) + power
    if digits_before_point > 3:
        return "extreme"
    if digits_before_point < 2:
        return "weak"
    magnitude = Decimal((0, digits, power))
    for threshold, strength in ((150, "extreme"), (80, "strong"), (30, "moderate")):
        if magnitude >= threshold:  # comparing Decimals never rounds
            return strength
    return "weak"


def _direction(label: object) -> str:
    if not isinstance(label, str):
        return "bearish"
    if label.startswith("reversal_oversold"):
        return "bullish"
    if label.startswith("level_"):
        return "bearish" if _below_zero(label.removeprefix("level_")) else "bullish"
    return "bearish"  # reversal_overbought and anything else


def _below_zero(text: str) -> bool:
    whole, point, fraction = text.removeprefix("-").partition(".")
    is_number = _all_digits(whole) and (not point or _all_digits(fraction))
    return is_number and text.startswith("-") and set(whole + fraction) != {"0"}


def _epoch_milliseconds(value: object) -> datetime:
    if not isinstance(value, NumberLiteral):
        raise Invalid
    digits = value.text.removeprefix("-")
    if not _all_digits(digits) or len(digits) > len(str(LAST_MILLISECOND)):
        raise Invalid
    milliseconds = int(value.text)
    if not 0 <= milliseconds <= LAST_MILLISECOND:
        raise Invalid
    return EPOCH + timedelta(milliseconds=milliseconds)


def _triggered_at(value: object) -> datetime:
    return _rfc3339(value) if isinstance(value, str) else _epoch_milliseconds(value)


def _shape(text: str) -> str:
    return "".join("0" if character in DIGITS else character for character in text)


def _rfc3339(text: str) -> datetime:
    local, rest = text[:19], text[19:]
    if _shape(local) != "0000-00-00T00:00:00":
        raise Invalid
    fraction = ""
    if rest.startswith("."):
        offset = rest[1:].lstrip(string.digits)
        fraction = rest[1 : len(rest) - len(offset)]
        if fraction == "":
            raise Invalid
    else:
        offset = rest
    try:
        instant = datetime(
            int(local[0:4]),
            int(local[5:7]),
            int(local[8:10]),
            int(local[11:13]),
            int(local[14:16]),
            int(local[17:19]),
            int(fraction[:3].ljust(3, "0")) * 1000,
        )
        return instant - _utc_offset(offset)
    except (ValueError, OverflowError) as error:
        raise Invalid from error


def _utc_offset(text: str) -> timedelta:
    if text in ("Z", "z"):
        return timedelta()
    if _shape(text) not in ("+00:00", "-00:00"):
        raise Invalid
    hours, minutes = int(text[1:3]), int(text[4:6])
    if hours > 23 or minutes > 59:
        raise Invalid
    offset = timedelta(hours=hours, minutes=minutes)
    return -offset if text.startswith("-") else offset


def _instant(instant: datetime) -> str:
    if not 1970 <= instant.year <= 9999:
        raise Invalid
    return instant.isoformat(timespec="milliseconds") + "Z"

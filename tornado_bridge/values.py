"""The value formats on the wire: exact decimals and timestamps, with the JSON Schema of each.

A member that goes out is read as `msgspec.Raw`, the text of the JSON value as it was written, so that no number
ever goes through a float. The rules are those of docs/protocol.md section 5.
"""

import datetime
import functools
import operator
import re
from collections.abc import Callable
from typing import Any

import msgspec

from tornado_bridge.errors import InvalidEvent

# Digits of a number in plain notation, before trailing zeros are dropped (docs/protocol.md section 5).
MAX_DIGITS = 64

# 9999-12-31T23:59:59.999Z in milliseconds since 1970.
MAX_EPOCH_MS = 253_402_300_799_999

# "-", 64 digits and a point.
DECIMAL: dict[str, Any] = {
    "type": "string",
    "pattern": r"^-?(0|[1-9][0-9]*)([.][0-9]*[1-9])?$",
    "maxLength": MAX_DIGITS + 2,
    "description": "A number with all its digits, in plain notation: no exponent, no trailing zeros.",
    "examples": ["42350.5", "0.0000001", "-3", "0"],
}

TIMESTAMP: dict[str, Any] = {
    "type": "string",
    "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{3}Z$",
    "maxLength": 24,
    "description": "ISO 8601 in UTC, with milliseconds.",
    "examples": ["2024-02-18T14:00:00.000Z"],
}

_NUMBER = re.compile(r"(-?)(0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?").fullmatch
# What needs no change but for trailing zeros, as most numbers do not; within 64 digits by its bounds.
_PLAIN_NUMBER = r"(?:-?[1-9][0-9]{0,31}+(?:\.[0-9]{1,32}+)?|-?0\.[0-9]{0,30}[1-9]0{0,30}|0)"
_PLAIN = re.compile(_PLAIN_NUMBER).fullmatch
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)").fullmatch
# RFC 3339 section 5.6 with an upper-case T.
_RFC3339 = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?"
    r"(?:[Zz]|([+-])([01][0-9]|2[0-3]):([0-5][0-9]))"
).fullmatch
_EPOCH = datetime.datetime(1970, 1, 1)

# No payload is long enough to make up for an exponent of more digits than this.
_EXPONENT_DIGITS = 18


def text_of(raw: msgspec.Raw) -> str | None:
    """Return the text of a JSON number as written, or of a JSON string unescaped; None for any other value."""
    text = str(raw, "utf-8")
    if text[0] == '"':
        if "\\" not in text:
            return text[1:-1]
        return msgspec.json.decode(text, type=str)
    return text if text[0] in "-0123456789" else None


def decimal(raw: msgspec.Raw, member: str) -> str:
    """Return the exact value of a JSON number, or of a string that is exactly one, in plain notation.

    Raises InvalidEvent, naming `member`, for any other value and for a number of more than 64 digits.
    """
    literal = str(raw, "utf-8")
    if _PLAIN(literal):
        return _without_zeros(literal) if literal[-1] == "0" else literal
    text = text_of(raw)
    number = _NUMBER(text) if text is not None else None
    if number is None:
        raise InvalidEvent(f"{member} is not a decimal number")
    sign, whole, fraction, exponent = number.groups()
    if exponent is not None:
        whole, fraction = _shift(whole, fraction or "", exponent, member)
    elif fraction is None:
        fraction = ""
    significant = fraction.rstrip("0")
    if not significant and whole == "0":
        return "0"
    if len(whole) + len(fraction) > MAX_DIGITS:
        raise InvalidEvent(f"{member} takes more than {MAX_DIGITS} digits")
    return f"{sign}{whole}.{significant}" if significant else sign + whole


def decimals(payload: msgspec.Struct, *members: str) -> list[str]:
    """Return what `decimal` does of two or more members of a payload, in less time than one by one.

    Raises InvalidEvent as `decimal` does, for the first member that is at fault.
    """
    raws, plain = _together(members)
    found = raws(payload)
    # None of these numbers has a comma in it, so that what matches is one number a member.
    literals = b",".join(found).decode()
    if plain(literals):
        numbers = literals.split(",")
        return [number if number[-1] != "0" else _without_zeros(number) for number in numbers]
    return [decimal(raw, member) for raw, member in zip(found, members, strict=True)]


def _without_zeros(number: str) -> str:
    return number.rstrip("0").rstrip(".") if "." in number else number


@functools.cache
def _together(members: tuple[str, ...]) -> tuple[Callable[[Any], tuple[msgspec.Raw, ...]], Callable[[str], Any]]:
    pattern = ",".join([_PLAIN_NUMBER] * len(members))
    return operator.attrgetter(*members), re.compile(pattern).fullmatch


def _shift(whole: str, fraction: str, exponent: str, member: str) -> tuple[str, str]:
    """Move the point by the exponent; bounded, so that `1e999999999` builds no long text."""
    digits = (whole + fraction).lstrip("0")
    if not digits:
        return "0", ""
    power = _power(exponent)
    if power is None:
        raise InvalidEvent(f"{member} takes more than {MAX_DIGITS} digits")
    # The value is 0.digits times ten to the power of `point`.
    point = power - len(fraction) + len(digits)
    if max(point, len(digits), len(digits) - point) > MAX_DIGITS:
        raise InvalidEvent(f"{member} takes more than {MAX_DIGITS} digits")
    if point <= 0:
        return "0", "0" * -point + digits
    return digits[:point].ljust(point, "0"), digits[point:]


def _power(exponent: str) -> int | None:
    """Return the number that an exponent is, None where it is out of all proportion."""
    # int() refuses a text of more than 4,300 digits, leading zeros among them.
    magnitude = exponent.lstrip("+-").lstrip("0") or "0"
    if len(magnitude) > _EXPONENT_DIGITS:
        return None
    return -int(magnitude) if exponent[0] == "-" else int(magnitude)


def magnitude_reaches(raw: msgspec.Raw, thresholds: tuple[int, ...]) -> int | None:
    """Return how many of the ascending whole `thresholds` the number's absolute value reaches.

    Exact for any number of digits. None where the value is neither a JSON number nor a string that is exactly one.
    """
    text = text_of(raw)
    number = _NUMBER(text) if text is not None else None
    if number is None:
        return None
    _, whole, fraction, exponent = number.groups()
    whole = _whole_part(whole, fraction or "", exponent or "0", len(str(thresholds[-1])))
    return sum(int(whole) >= threshold for threshold in thresholds)


def _whole_part(whole: str, fraction: str, exponent: str, enough: int) -> str:
    """Return the digits before the point; where they are more than `enough`, any number of that many."""
    digits = (whole + fraction).lstrip("0")
    if not digits:
        return "0"
    power = _power(exponent)
    if power is None:
        return "0" if exponent[0] == "-" else "9" * (enough + 1)
    point = power - len(fraction) + len(digits)
    if point > enough:
        return "9" * (enough + 1)
    return digits[: max(point, 0)].ljust(point, "0") or "0"


def epoch_timestamp(raw: msgspec.Raw, member: str) -> str:
    """Return the timestamp of epoch milliseconds, which must be a JSON integer of the years 1970 to 9999.

    Raises InvalidEvent, naming `member`, for anything else.
    """
    return _epoch_text(bytes(raw), member)


# The candles of one minute share their timestamp.
@functools.lru_cache(maxsize=1024)
def _epoch_text(literal: bytes, member: str) -> str:
    text = literal.decode()
    if not _INTEGER(text) or len(text) > len(str(MAX_EPOCH_MS)) or not 0 <= int(text) <= MAX_EPOCH_MS:
        raise InvalidEvent(f"{member} is not epoch milliseconds of the years 1970 to 9999")
    seconds, milliseconds = divmod(int(text), 1000)
    moment = _EPOCH + datetime.timedelta(seconds=seconds)
    return f"{moment.isoformat()}.{milliseconds:03}Z"


def timestamp(raw: msgspec.Raw, member: str) -> str:
    """Return the timestamp of RFC 3339 text with an offset, or of epoch milliseconds; further digits are cut off.

    Raises InvalidEvent, naming `member`, for anything else and for years outside 1970 to 9999.
    """
    if bytes(raw)[:1] != b'"':
        return epoch_timestamp(raw, member)
    found = _RFC3339(text_of(raw) or "")
    if found is None:
        raise InvalidEvent(f"{member} is not RFC 3339 text with an offset")
    fraction, sign, hours, minutes = found[7] or "", found[8], found[9], found[10]
    try:
        year, month, day, hour, minute, second = (int(found[i]) for i in range(1, 7))
        moment = datetime.datetime(year, month, day, hour, minute, second)
        if sign:
            offset = datetime.timedelta(hours=int(hours), minutes=int(minutes))
            moment = moment - offset if sign == "+" else moment + offset
    except (ValueError, OverflowError):
        raise InvalidEvent(f"{member} is no moment of the calendar") from None
    if moment < _EPOCH:
        raise InvalidEvent(f"{member} is before 1970")
    return f"{moment.isoformat()}.{fraction[:3]:0<3}Z"

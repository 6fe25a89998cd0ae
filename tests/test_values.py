"""tornado_bridge.values: exact decimals, timestamps, thresholds."""

import tracemalloc
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tornado_bridge import values
from tornado_bridge.errors import InvalidEvent
from tornado_bridge.redaction import closed_schema
from tornado_bridge.redaction.validation import Validator

NINES = "9" * 64


def raw(text: str) -> msgspec.Raw:
    """Return a JSON value as a transformer reads it."""
    return msgspec.json.decode(text, type=msgspec.Raw)


DECIMALS = [
    ("42400.0", "42400"),
    ("42350.5", "42350.5"),
    ("1e-7", "0.0000001"),
    ("0.1234567890123456789", "0.1234567890123456789"),
    ("6.02e5", "602000"),
    ("6.02E+5", "602000"),
    ("-0.0", "0"),
    ("0e999", "0"),
    ("0e99999999999999999999", "0"),
    ("0", "0"),
    ("-0", "0"),
    ("0.000", "0"),
    ("1.50e1", "15"),
    ("1.25e1", "12.5"),
    ("100e-2", "1"),
    ("1234e-2", "12.34"),
    ("-1234e-6", "-0.001234"),
    ("0.0001e4", "1"),
    (f"1e{'0' * 5000}2", "100"),
    (f"1e-{'0' * 5000}2", "0.01"),
    ("-5", "-5"),
    ("0.10", "0.1"),
    ("100", "100"),
    ("1e63", "1" + "0" * 63),
    ("1e-63", "0." + "0" * 62 + "1"),
    (NINES, NINES),
    ("-" + NINES, "-" + NINES),
    ("1." + "0" * 63, "1"),
    ("0." + "0" * 100, "0"),
    ("0." + "0" * 100 + "1e101", "1"),
    ('"42350.50"', "42350.5"),
    ('"1e-7"', "0.0000001"),
    ('"-0.0"', "0"),
    ('"\\u0031.50"', "1.5"),
]

NO_DECIMALS = [
    "null",
    "true",
    "false",
    "[]",
    "{}",
    "[1]",
    '{"value":1}',
    '""',
    '"10."',
    '" 1"',
    '"1 "',
    '"+1"',
    '"01"',
    '"-01"',
    '"1_0"',
    '".5"',
    '"-"',
    '"1e"',
    '"1e+"',
    '"1\\n"',
    '"0x10"',
    '"NaN"',
    '"Infinity"',
    '"-Infinity"',
    '"\u0661"',
    '"1.\u0662"',
    '"1e\u0663"',
    '"text"',
]

OVERLONG = [
    "1e64",
    "1e-64",
    "9" * 65,
    "0." + "1" * 64,
    "1." + "0" * 64,
    "1" + "0" * 80 + "e-80",
    "1e999999999999999999999",
    "1e-999999999999999999999",
    '"1e64"',
]


@pytest.mark.parametrize(("text", "plain"), DECIMALS)
def test_a_number_goes_out_exactly_and_in_plain_notation(text: str, plain: str) -> None:
    assert values.decimal(raw(text), "price") == plain


class Prices(msgspec.Struct):
    """The members of an event that a plugin reads."""

    low: msgspec.Raw
    high: msgspec.Raw
    volume: msgspec.Raw


def one_by_one(prices: Prices) -> list[str]:
    return [values.decimal(getattr(prices, name), name) for name in ("low", "high", "volume")]


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([text for text, _ in DECIMALS] + ["12.30", "1.05", "-7.5", "30"]), min_size=3, max_size=3)
)
def test_decimals_are_the_decimal_of_each_member(texts: list[str]) -> None:
    prices = Prices(*map(raw, texts))
    assert values.decimals(prices, "low", "high", "volume") == one_by_one(prices)


@pytest.mark.parametrize("wrong", [*NO_DECIMALS, *OVERLONG, '"1,2"', "[1,2]", '{"a":1,"b":2}'])
@pytest.mark.parametrize("member", ["low", "high", "volume"])
def test_decimals_name_the_member_that_is_not_a_decimal(wrong: str, member: str) -> None:
    prices = Prices(**{name: raw(wrong if name == member else "1.5") for name in ("low", "high", "volume")})
    with pytest.raises(InvalidEvent) as expected:
        one_by_one(prices)
    with pytest.raises(InvalidEvent) as raised:
        values.decimals(prices, "low", "high", "volume")
    assert raised.value.reason == expected.value.reason
    assert raised.value.reason.startswith(member)


@pytest.mark.parametrize("text", NO_DECIMALS)
def test_only_a_number_is_a_decimal(text: str) -> None:
    with pytest.raises(InvalidEvent) as raised:
        values.decimal(raw(text), "price")
    assert raised.value.reason == "price is not a decimal number"


@pytest.mark.parametrize("text", OVERLONG)
def test_a_number_of_more_than_64_digits_is_refused(text: str) -> None:
    with pytest.raises(InvalidEvent) as raised:
        values.decimal(raw(text), "price")
    assert raised.value.reason == "price takes more than 64 digits"


@pytest.mark.parametrize("text", ["1e9999999", "1e-9999999", "1.5e99999999"])
def test_a_large_exponent_takes_little_memory(text: str) -> None:
    value = raw(text)
    tracemalloc.start()
    with pytest.raises(InvalidEvent):
        values.decimal(value, "price")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 100_000


@pytest.mark.parametrize("sign", ["", "-", "+"])
def test_an_exponent_of_more_digits_than_an_integer_may_have_is_refused(sign: str) -> None:
    with pytest.raises(InvalidEvent) as raised:
        values.decimal(raw(f"1e{sign}{'9' * 5000}"), "price")
    assert raised.value.reason == "price takes more than 64 digits"


@pytest.mark.parametrize(("text", "plain"), DECIMALS)
def test_every_decimal_is_admitted_by_its_schema(text: str, plain: str) -> None:
    assert Validator(values.DECIMAL).admits(values.decimal(raw(text), "price"))


@pytest.mark.parametrize(
    "text", ["", "1.", ".5", "01", "-", "1.0", "1.50", "1e5", "+1", " 1", "1\n", "1.5\n", "NaN", "1" * 67, 1, None]
)
def test_the_schema_of_decimals_admits_nothing_else(text: object) -> None:
    assert not Validator(values.DECIMAL).admits(text)


def test_the_schema_of_timestamps_admits_a_timestamp() -> None:
    assert Validator(values.TIMESTAMP).admits("2024-02-18T14:00:00.000Z")


@pytest.mark.parametrize(
    "text",
    [
        "2024-02-18T14:00:00Z",
        "2024-02-18T14:00:00.000",
        "2024-02-18T14:00:00.000Z\n",
        "2024-02-18 14:00:00.000Z",
        "2024-02-18T14:00:00.0000Z",
        1708264800000,
    ],
)
def test_the_schema_of_timestamps_admits_nothing_else(text: object) -> None:
    assert not Validator(values.TIMESTAMP).admits(text)


@pytest.mark.parametrize("name", ["DECIMAL", "TIMESTAMP"])
def test_the_schemas_for_plugins_are_closed(name: str) -> None:
    assert list(closed_schema.findings(getattr(values, name))) == []


@pytest.mark.parametrize("name", ["DECIMAL", "TIMESTAMP"])
def test_the_examples_of_the_schemas_for_plugins_are_valid(name: str) -> None:
    schema = getattr(values, name)
    assert [example for example in schema["examples"] if not Validator(schema).admits(example)] == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1.50", "1.50"),
        ("-3", "-3"),
        ('"text"', "text"),
        ('""', ""),
        ('"\\u0031\\n"', "1\n"),
        ('"\u00e9\\ud83d\\ude00"', "\u00e9\U0001f600"),
        ("null", None),
        ("true", None),
        ("[1]", None),
        ('{"a":1}', None),
    ],
)
def test_the_text_of_a_number_is_as_written_and_of_a_string_unescaped(text: str, found: str | None) -> None:
    assert values.text_of(raw(text)) == found


@pytest.mark.parametrize(
    ("text", "reached"),
    [
        ("29.99", 0),
        ("30", 1),
        ("79.9999999999999999999999999999", 1),
        ("80", 2),
        ("149.99", 2),
        ("150", 3),
        ("-150", 3),
        ("-29.9", 0),
        ("0", 0),
        ("0.0", 0),
        ("0e5", 0),
        ("3e1", 1),
        ("300e-1", 1),
        ("2999e-2", 0),
        ("0.003e4", 1),
        ("0.001e4", 0),
        ("0.5", 0),
        ("5e-10", 0),
        ("1e3", 3),
        ("1e400", 3),
        ("1e-400", 0),
        ("1e" + "0" * 5000 + "2", 2),
        ("1e" + "9" * 5000, 3),
        ("1e-" + "9" * 5000, 0),
        ("1" * 5000, 3),
        ("0." + "0" * 5000 + "8e5002", 2),
        ('"150"', 3),
        ('"-80.5"', 2),
        ('"+80"', None),
        ('"80."', None),
        ('"n/a"', None),
        ("null", None),
        ("true", None),
        ("[80]", None),
    ],
)
def test_the_thresholds_that_a_magnitude_reaches_are_counted_exactly(text: str, reached: int | None) -> None:
    assert values.magnitude_reaches(raw(text), (30, 80, 150)) == reached


@pytest.mark.parametrize(
    ("text", "timestamp"),
    [
        ("0", "1970-01-01T00:00:00.000Z"),
        ("-0", "1970-01-01T00:00:00.000Z"),
        ("1", "1970-01-01T00:00:00.001Z"),
        ("1708264800123", "2024-02-18T14:00:00.123Z"),
        ("253402300799999", "9999-12-31T23:59:59.999Z"),
    ],
)
def test_epoch_milliseconds_become_a_timestamp(text: str, timestamp: str) -> None:
    assert values.epoch_timestamp(raw(text), "timestamp") == timestamp


NO_EPOCHS = [
    "-1",
    "253402300800000",
    "9" * 5000,
    "1.0",
    "1e3",
    "0.0",
    "null",
    "true",
    "[]",
    "{}",
]


@pytest.mark.parametrize("text", [*NO_EPOCHS, '"1708264800000"', '"2024-02-18T14:00:00Z"'])
def test_epoch_milliseconds_are_a_json_integer_of_the_years_1970_to_9999(text: str) -> None:
    with pytest.raises(InvalidEvent) as raised:
        values.epoch_timestamp(raw(text), "timestamp")
    assert raised.value.reason == "timestamp is not epoch milliseconds of the years 1970 to 9999"


@pytest.mark.parametrize(
    ("text", "timestamp"),
    [
        ('"2026-02-19T12:00:00.000Z"', "2026-02-19T12:00:00.000Z"),
        ('"2026-02-19T12:00:00Z"', "2026-02-19T12:00:00.000Z"),
        ('"2026-02-19T12:00:00z"', "2026-02-19T12:00:00.000Z"),
        ('"2026-02-19T12:00:00.5Z"', "2026-02-19T12:00:00.500Z"),
        ('"2026-02-19T12:00:00.999999Z"', "2026-02-19T12:00:00.999Z"),
        ('"2026-02-19T14:00:00+02:00"', "2026-02-19T12:00:00.000Z"),
        ('"2026-02-19T06:30:00-05:30"', "2026-02-19T12:00:00.000Z"),
        ('"2026-02-19T12:00:00-00:00"', "2026-02-19T12:00:00.000Z"),
        ('"2024-02-29T23:59:59.001+23:59"', "2024-02-29T00:00:59.001Z"),
        ('"1969-12-31T23:00:00-01:00"', "1970-01-01T00:00:00.000Z"),
        ('"2026-02-19\\u005412:00:00Z"', "2026-02-19T12:00:00.000Z"),
        ("1771502400000", "2026-02-19T12:00:00.000Z"),
    ],
)
def test_a_time_becomes_a_timestamp(text: str, timestamp: str) -> None:
    assert values.timestamp(raw(text), "triggeredAt") == timestamp


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "1771502400000",
        "2026-02-19",
        "2026-02-19T12:00:00",
        "2026-02-19t12:00:00Z",
        "2026-02-19 12:00:00Z",
        "2026-02-19T12:00Z",
        "2026-02-19T12:00:00.Z",
        "2026-02-19T12:00:00,5Z",
        "2026-02-19T12:00:00+0200",
        "2026-02-19T12:00:00+02",
        "2026-02-19T12:00:00+24:00",
        "2026-02-19T12:00:00+00:60",
        "2026-02-19T12:00:00Z ",
        " 2026-02-19T12:00:00Z",
        "20260219T120000Z",
        "2026-050T12:00:00Z",
        "10000-01-01T00:00:00Z",
        "202\u0666-02-19T12:00:00Z",
    ],
)
def test_a_time_that_is_not_rfc_3339_is_invalid(text: str) -> None:
    with pytest.raises(InvalidEvent) as raised:
        values.timestamp(msgspec.Raw(msgspec.json.encode(text)), "triggeredAt")
    assert raised.value.reason == "triggeredAt is not RFC 3339 text with an offset"


def test_a_newline_after_a_time_is_invalid() -> None:
    with pytest.raises(InvalidEvent):
        values.timestamp(raw('"2026-02-19T12:00:00Z\\n"'), "triggeredAt")


@pytest.mark.parametrize(
    "text",
    [
        "2026-02-30T12:00:00Z",
        "2026-13-01T12:00:00Z",
        "2026-00-01T12:00:00Z",
        "2100-02-29T12:00:00Z",
        "2026-02-19T24:00:00Z",
        "2026-02-19T12:60:00Z",
        "2016-12-31T23:59:60Z",
        "0000-01-01T00:00:00Z",
        "9999-12-31T23:30:00-01:00",
        "0001-01-01T00:00:00+00:01",
    ],
)
def test_a_time_that_is_not_in_the_calendar_of_the_years_1_to_9999_is_invalid(text: str) -> None:
    with pytest.raises(InvalidEvent) as raised:
        values.timestamp(raw(f'"{text}"'), "triggeredAt")
    assert raised.value.reason == "triggeredAt is not a date and time of the calendar"


@pytest.mark.parametrize("text", ["1969-12-31T23:59:59.999Z", "1970-01-01T00:30:00+01:00", "0001-01-01T00:00:00Z"])
def test_a_time_before_1970_is_invalid(text: str) -> None:
    with pytest.raises(InvalidEvent) as raised:
        values.timestamp(raw(f'"{text}"'), "triggeredAt")
    assert raised.value.reason == "triggeredAt is before 1970"


@pytest.mark.parametrize("text", NO_EPOCHS)
def test_a_time_that_is_not_a_string_is_epoch_milliseconds(text: str) -> None:
    with pytest.raises(InvalidEvent) as raised:
        values.timestamp(raw(text), "triggeredAt")
    assert raised.value.reason == "triggeredAt is not epoch milliseconds of the years 1970 to 9999"


# A member of type Raw may have an empty default, so its plugin sees one where the payload lacks the member.
EMPTY = msgspec.Raw(b"")


@pytest.mark.parametrize(
    ("read", "reason"),
    [
        (values.decimal, "price is not a decimal number"),
        (values.epoch_timestamp, "price is not epoch milliseconds of the years 1970 to 9999"),
        (values.timestamp, "price is not epoch milliseconds of the years 1970 to 9999"),
    ],
)
def test_an_empty_value_is_invalid(read: Callable[[msgspec.Raw, str], str], reason: str) -> None:
    with pytest.raises(InvalidEvent) as raised:
        read(EMPTY, "price")
    assert raised.value.reason == reason


def test_decimals_name_the_member_that_is_empty() -> None:
    with pytest.raises(InvalidEvent) as raised:
        values.decimals(Prices(raw("1"), EMPTY, raw("2")), "low", "high", "volume")
    assert raised.value.reason == "high is not a decimal number"


def test_an_empty_value_has_neither_text_nor_magnitude() -> None:
    assert (values.text_of(EMPTY), values.magnitude_reaches(EMPTY, (1,))) == (None, None)

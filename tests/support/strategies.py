"""Hypothesis strategies for Redis messages, valid and nearly valid, built from pieces of JSON text."""

import string
from collections.abc import Mapping

from hypothesis import strategies as st

Event = tuple[str, bytes]
Json = st.SearchStrategy[str]
Needed = Mapping[str, tuple[Json, Json]]  # a member's valid values, and its flawed ones

ALPHANUMERIC = string.ascii_letters + string.digits
TIMEFRAMES = ("1m", "5m", "15m", "1h", "4h", "1d")
TOO_DEEP = 100_000

# fmt: off
PRIVATE = (
    "macdV", "fastEMA", "slowEMA", "atr", "informativeATR", "isSynthetic", "sequenceNum", "alertType",
    "signalDelta", "sourceExchangeId", "sourceExchangeName", "id", "exchange", "previousLabel", "data",
    "channel", "type",
)
BAD_SYMBOLS = (
    "", "*", "-", "BTCUSD", "BTC-", "-USD", "BTC--USD", "BTC-USD-X", "BTC_USD", "BTC-*", "BTC/USD", "BTC USD",
    "BTC-USD\n", "\nBTC-USD", " BTC-USD", "BTC-USD ", "BTC-USD\0", "BTC-\u00dcSD", "\uff22\uff34\uff23-USD",
    "BTC-\u0661\u0662", "BTC\u2010USD", "B" * 21 + "-USD", "BTC-" + "U" * 21, "BTC-USD:1h", "BTC-\u00b2",
)
BAD_TIMEFRAMES = (
    "", "*", "2h", "1H", "1w", "60m", "01h", "1h\n", " 1h", "1h ", "1 h", "\uff11h", "\u0661h", "1h:",
    "1d:1h", "1",
)

ODD_KINDS = (
    "null", "true", "false", '""', '"text"', '"null"', "[]", "{}", "[1]", '["1"]', '{"value":1}', '"\\u0000"',
    '"NaN"', '"Infinity"', '"\U0001f600"', '"\\ud83d\\ude00"',
)
NOT_JSON = (
    "NaN", "-NaN", "Infinity", "-Infinity", "nan", "+1", "01", "-01", "1.", "-.5", ".5", "1e", "1e+", "1.e5",
    "--1", "- 1", "-", "1_0", "0x10", "1e5.0", "\uff11", "\u0661", "1.\u0662", "1e\u0663", "None", "True",
    "undefined", "'1'", "1 2", "", '"\\ud800"', '"\\udc00\\ud800"', '"\\ud83d\\u0041"', '"\\uD83D"',
    '"\\x31"', '"\\u12g4"', '"\\u 123"', '"\\u00', '"\t"', '"\n"', '"\0"', '"', "[1,]", "[,1]", '{"a":1,}',
    "{a:1}", '{"a"}', '{"\\udfff":1}', "[NaN]", '{"a":[NaN]}', '["\\ud800"]', '[[{"a":["\\udbff"]}]]', "[1",
    "{", "]", "1/**/", "\u00a01", "\ufeff1", "\x0b1", "\u20281", "[" * TOO_DEEP,
    "[" * TOO_DEEP + "]" * TOO_DEEP, '{"a":' * TOO_DEEP + "1" + "}" * TOO_DEEP,
)
ZEROS = (
    "0", "-0", "0.0", "-0.0", "0e0", "0E+5", "0e999", "-0e-999999999", "0.000e-5", "0e99999999999999999999",
    "0." + "0" * 100, "0e" + "9" * 5000, "-0.00E00",
)
EDGE_DECIMALS = (
    "1.0", "10.00", "1.50e1", "1e-7", "6.02e5", "100e-2", "0.10", "0.0001e4", "0.10e1", "123E00005", "1E-0",
    "-5", "1e63", "1e-63", "9" * 64, "-" + "9" * 64, "1" + "0" * 63, "0." + "1" * 63, "1." + "0" * 63,
    "1." + "0" * 62 + "1", "1e" + "0" * 5000 + "1", "0." + "0" * 100 + "1e101", "0." + "0" * 5000 + "1e5001",
    "0.1234567890123456789",
)
OVERLONG_DECIMALS = (
    "1e64", "1e-64", "-1e64", "9" * 65, "1" + "0" * 64, "0." + "1" * 64, "1." + "0" * 64,
    "1" + "0" * 80 + "e-80", "0." + "0" * 63 + "1", "1e400", "1e-400", "-1e308", "1e999999999",
    "1e-999999999999", "1E+" + "9" * 30, "1" * 5000, "0." + "1" * 5000, "1e" + "9" * 5000, "1e-" + "9" * 5000,
)
ALMOST_NUMBERS = (
    "", " ", "10.", " 1", "1 ", "+1", "01", "-01", "1_0", "1,0", ".5", "-.5", "-", "1e", "1e+", "1.e5", "e5",
    "1e5.0", "1\n", "\n1", "1\0", "0x10", "\u0661", "\uff11", "1.\u0662", "1e\u0663", "\u00b2", "NaN",
    "-Infinity", "inf", "n/a", "1e5e5", "--1", "\u22121", "1d", "1f", "1\u00a0", "\ufeff1", "00", "-00",
    "0.0.0", "1__0",
)
EDGE_EPOCHS = ("0", "-0", "1", "999", "1708264800123", "253402300799999", "253402300799000")
BAD_EPOCHS = (
    "-1", "253402300800000", "-253402300799999", "9" * 15, "9" * 16, "9" * 30, "1" * 5000, "-" + "1" * 5000,
    "1.0", "0.0", "-0.0", "1e3", "0e0", "1708264800000.0", "1708264800e3", "1.7082648e12", "1E0",
    "9223372036854775808",
)
EDGE_TIMES = (
    "1970-01-01T00:00:00Z", "1970-01-01T00:00:00-00:00", "1970-01-01T00:00:00.000999Z",
    "1969-12-31T23:00:00-01:00", "9999-12-31T23:59:59.9999999Z", "9999-12-31T23:59:59+00:00",
    "9999-12-31T23:30:00+23:59", "2024-02-29T00:00:00z", "2000-02-29T23:59:59.1-23:59",
    "1970-01-01T00:00:00.5Z", "2026-02-19T12:00:00.123456789012z",
)
BAD_TIMES = (
    "1969-12-31T23:59:59.999Z", "1970-01-01T00:30:00+01:00", "9999-12-31T23:30:00-01:00",
    "9999-12-31T23:59:59-00:01", "0001-01-01T00:00:00+23:59", "0000-01-01T00:00:00Z", "1900-02-28T00:00:00Z",
    "10000-01-01T00:00:00Z", "2026-02-19t12:00:00Z", "2026-02-19 12:00:00Z", "2026-02-19_12:00:00Z",
    "2026-02-19T12:00:00", "2026-02-19", "2026-06-30T23:59:60Z", "2016-12-31T23:59:60Z",
    "2026-02-19T24:00:00Z", "2026-02-19T12:60:00Z", "2026-02-29T12:00:00Z", "2100-02-29T12:00:00Z",
    "2026-02-30T12:00:00Z", "2026-04-31T12:00:00Z", "2026-13-01T12:00:00Z", "2026-00-01T12:00:00Z",
    "2026-01-00T12:00:00Z", "2026-2-19T12:00:00Z", "20260219T120000Z", "20260219T120000.000Z",
    "2026-02-19T120000Z", "2026-W08-4T12:00:00Z", "2026-050T12:00:00Z", "2026-02-19T12:00Z", "2026-02-19T12Z",
    "2026-02-19T12:00:00,5Z", "2026-02-19T12:00:00.Z", "2026-02-19T12:00:00.", "2026-02-19T12:00:00+0200",
    "2026-02-19T12:00:00+02", "2026-02-19T12:00:00+24:00", "2026-02-19T12:00:00-00:60",
    "2026-02-19T12:00:00+2:00", "2026-02-19T12:00:00+02:00:00", "2026-02-19T12:00:00\u221202:00",
    "2026-02-19T12:00:00+ 2:00", "2026-02-19T12:00:00 Z", "2026-02-19T12:00:00Z ", " 2026-02-19T12:00:00Z",
    "2026-02-19T12:00:00Z\n", "2026-02-19T12:00:00UTC", "2026-02-19T12:00:00ZZ", "2026-02-19T12:00:00Z+00:00",
    "+2026-02-19T12:00:00Z", "-2026-02-19T12:00:00Z", "\u0662\u0660\u0662\u0666-02-19T12:00:00Z",
    "2026-02-19T12:00:00.\uff15Z", "2026-02-19T12:00:00.5.5Z", "2026-02-19T12:00:00[UTC]", "1708264800000",
    "0", "yesterday", "", "now", "Z",
)
LABELS = (
    "level_5", "level_-3", "level_-0", "level_-0.0", "level_-0.5", "level_-00.10", "level_007", "level_0",
    "level_abc", "level_", "level", "level_-", "level_--3", "level_-3.", "level_-.5", "level_-3x",
    "level_-3\n", "level_ -3", "level_- 3", "level_-1e5", "level_-\u0663", "level_-\uff13", "level_\u22123",
    "Level_-3", " level_-3", "xlevel_-3", "level_-" + "9" * 5000, "level_-0." + "0" * 400 + "1",
    "level_-" + "0" * 5000, "level-3", "level_-1_0", "reversal_oversold", "reversal_oversold_h",
    "reversal_oversoldX", "reversal_oversol", "Reversal_oversold", "reversal_overbought",
    "reversal_overbought_l", "reversal_", "reversal_other", "", "none", "\uff2c\uff25\uff36\uff25\uff2c_3",
)
NOT_UTF8 = (
    b"\xff", b"\xc3", b"\x80", b"\xc0\x80", b"\xe2\x82", b"\xed\xa0\x80", b"\xed\xb0\x80",
    b"\xf4\x90\x80\x80",
)
NO_OBJECT = (
    b"", b" ", b"null", b"42", b'"text"', b"[]", b"not json", b"{}", b"\xef\xbb\xbf{}", b"\x00", b"NaN",
)
NESTINGS = (
    "[@]", "[[],[@]]", "[@,@]", '{"a":@}', '{"price":1,"price":@}', '{"\u00e9\U0001f600":{"timestamp":[@]}}',
    '{ "" : [ {"x":@} , null ] }', '{"\\u0070rice":{},"":@}',
)
# fmt: on
FLAWS = ("source", "member", "member", "member", "missing", "repeated", "poison", "damage", "damage")

SIGNS = st.sampled_from(("", "-"))
SPELLINGS = st.sampled_from((*["plain"] * 5, "first", "last", "all", "ALL"))
GAPS = st.sampled_from(("", "", " ", "\n", "\r\n\t "))


def candle_events() -> st.SearchStrategy[Event]:
    """A candle close. About half of them are valid."""
    prices = dict.fromkeys(("open", "high", "low", "close", "volume"), (DECIMALS, ODD_DECIMALS))
    needed = {"timestamp": (EPOCHS, ODD_EPOCHS), **prices}
    ignored = {"symbol": VALUES, "timeframe": VALUES}
    return _events(_candle_sources(), _odd_candle_sources(), needed, ignored)


def alert_events() -> st.SearchStrategy[Event]:
    """An alert. About half of them are valid."""
    source = "channel:alerts:exchange:1"
    odd_sources = ("channel:alerts:exchange:2", f"{source}\n", f"{source}1", f"{source}:1", source[:-1] + "*")
    timeframes, odd_timeframes = st.sampled_from(TIMEFRAMES), st.sampled_from(BAD_TIMEFRAMES)
    needed = {
        "symbol": (_quoted(SYMBOLS), _quoted(st.sampled_from(BAD_SYMBOLS)) | st.sampled_from(ODD_KINDS)),
        "timeframe": (_quoted(timeframes), _quoted(odd_timeframes) | st.sampled_from(ODD_KINDS)),
        "price": (DECIMALS, ODD_DECIMALS),
        "triggeredAt": (TIMES | EPOCHS, ODD_TIMES),
    }
    optional = {"triggerValue": TRIGGER_VALUES, "triggerLabel": TRIGGER_LABELS}
    return _events(st.just(source), st.sampled_from(odd_sources), needed, optional)


@st.composite
def _events(
    draw: st.DrawFn,
    sources: st.SearchStrategy[str],
    odd_sources: st.SearchStrategy[str],
    needed: Needed,
    optional: Mapping[str, Json],
) -> Event:
    """An event with at most one flaw. A few of the flaws are harmless."""
    flaw = draw(st.sampled_from(FLAWS)) if draw(st.booleans()) else ""
    target = draw(st.sampled_from(sorted(needed)))
    values = {name: draw(good) for name, (good, _) in needed.items()}
    values |= {name: draw(strategy) for name, strategy in optional.items() if draw(OFTEN)}
    if flaw == "member":
        values[target] = draw(needed[target][1])
    elif flaw == "missing":
        del values[target]
    members = draw(st.permutations([*values.items(), *draw(EXTRA_MEMBERS)]))
    if draw(OFTEN):
        # Harmless: the last of duplicate members counts.
        members.insert(0, (draw(st.sampled_from(sorted(values))), draw(VALUES)))
    if flaw == "repeated":
        members.append((target, draw(needed[target][1])))
    elif flaw == "poison":
        name = draw(st.sampled_from((*PRIVATE, *needed)))
        members.insert(draw(st.integers(0, len(members))), (name, draw(st.sampled_from(NOT_JSON))))
    gap = draw(GAPS)
    texts = [gap.join(("", _spell(name, draw(SPELLINGS)), ":", value, "")) for name, value in members]
    payload = f"{gap}{{{','.join(texts)}}}{gap}".encode()
    if flaw == "damage":
        payload = draw(_damaged(payload))
    return draw(odd_sources if flaw == "source" else sources), payload


@st.composite
def _damaged(draw: st.DrawFn, payload: bytes) -> bytes:
    """Bytes of a damaged JSON object."""
    at = draw(st.integers(0, len(payload) - 1))
    head, tail = payload[:at], payload[at:]
    encodings = ("utf-8-sig", "utf-16", "utf-16-le", "utf-32-be")
    ends = (b"x", b"\0", b",", b"{}", b"\xc2\xa0", b"\x0c", b"//", payload)
    frames = (b"[%b]", b"(%b)", b"'%b'", b'{"data":%b}', b",%b", b"\0%b")
    damaged: bytes = draw(
        st.one_of(
            st.just(head),
            st.sampled_from(NOT_UTF8).map(lambda piece: head + piece + tail),
            st.sampled_from(string.printable).map(lambda piece: head + piece.encode() + tail[1:]),
            st.sampled_from(encodings).map(payload.decode().encode),
            st.sampled_from(ends).map(lambda end: payload + end),
            st.sampled_from(frames).map(lambda frame: frame % payload),
            st.sampled_from(NO_OBJECT),
            st.binary(max_size=40),
        )
    )
    return damaged


def _candle_sources() -> st.SearchStrategy[str]:
    parts = st.tuples(SYMBOLS, st.sampled_from(TIMEFRAMES))
    return parts.map(lambda part: "channel:exchange:1:candle:close:{}:{}".format(*part))


def _odd_candle_sources() -> st.SearchStrategy[str]:
    bad_symbols = st.sampled_from([f"channel:exchange:1:candle:close:{symbol}:1h" for symbol in BAD_SYMBOLS])
    bad_timeframes = st.sampled_from([f"channel:exchange:1:candle:close:BTC-USD:{x}" for x in BAD_TIMEFRAMES])
    bad_forms = st.sampled_from(
        (
            "channel:exchange:1:candle:close:BTC-USD",
            "channel:exchange:1:candle:close::BTC-USD:1h",
            "channel:exchange:1:candle:close:x:BTC-USD:1h",
            "channel:exchange:1:candle:open:BTC-USD:1h",
            "channel:exchange:2:candle:close:BTC-USD:1h",
            "channel:exchange:11:candle:close:BTC-USD:1h",
            "channel:exchange:1:1:candle:close:BTC-USD:1h",
            " channel:exchange:1:candle:close:BTC-USD:1h",
            "candle:close:BTC-USD:1h",
        )
    )
    return st.one_of(bad_symbols, bad_timeframes, bad_forms)


def _spell(text: str, spelling: str) -> str:
    """A text as a JSON string, plain or with its first, its last or all characters escaped."""
    must = {'"', "\\", *map(chr, range(32))}
    last = len(text) - 1
    escaped = {"plain": (), "first": (0,), "last": (last,), "all": range(len(text)), "ALL": range(len(text))}
    pieces = [_escape(c, spelling) if i in escaped[spelling] or c in must else c for i, c in enumerate(text)]
    return '"' + "".join(pieces) + '"'


def _escape(character: str, spelling: str) -> str:
    units = character.encode("utf-16-be").hex(" ", 2).split()
    return "".join("\\u" + (unit.upper() if spelling == "ALL" else unit) for unit in units)


def _quoted(texts: st.SearchStrategy[str]) -> Json:
    return st.builds(_spell, texts, SPELLINGS)


def _or_quoted(literals: Json) -> Json:
    return st.one_of(literals, literals, _quoted(literals))


def _digits(least: int, most: int) -> st.SearchStrategy[str]:
    return st.text(string.digits, min_size=least, max_size=most)


def _number_literals() -> Json:
    """A JSON number of less than 50 digits in plain notation."""
    whole = st.just("0") | st.integers(1, 999_999_999_999).map(str)
    fraction = st.just("") | _digits(1, 20).map(lambda digits: "." + digits)
    exponent_signs = st.sampled_from(("e", "E", "e+", "E-", "e-", "e00", "E+00", "e-0"))
    exponent = st.just("") | st.builds("{}{}".format, exponent_signs, st.integers(0, 14))
    return st.tuples(SIGNS, whole, fraction, exponent).map("".join)


def _limit_literal(sign: str, size: int, split: int, digit: str, tail: str, shape: int) -> str:
    shapes = (
        digit * size,
        digit + tail * (size - 1),
        f"{digit * split}.{tail * (size - split)}",
        f"0.{tail * (size - 2)}{digit}",
        f"{digit}e{size - 1}",
        f"{digit}e-{size - 1}",
        f"{digit}.{tail * split}e{size - 1}",
        f"{digit}{tail * split}E-{size - 1}",
        f"0.{'0' * split}{digit}e+{size + split}",
    )
    return sign + shapes[shape]


def _limit_literals() -> Json:
    """A number of about 64 digits in plain notation."""
    sizes, splits, shapes = st.integers(61, 67), st.integers(1, 60), st.integers(0, 8)
    return st.builds(_limit_literal, SIGNS, sizes, splits, st.sampled_from("123456789"), st.sampled_from("01"), shapes)


def _threshold_literal(sign: str, threshold: int, count: int, shape: int) -> str:
    shapes = (
        str(threshold),
        str(threshold - 1),
        str(threshold + 1),
        f"{threshold}.{'0' * count}",
        f"{threshold}.{'0' * count}1",
        f"{threshold - 1}.{'9' * count}",
        f"{threshold // 10}e1",
        f"{threshold}{'0' * count}E-{count}",
        f"0.{'0' * count}{threshold}e{count + len(str(threshold))}",
        f"{threshold - 1}{'9' * count}e-{count:03}",
    )
    return sign + shapes[shape]


def _threshold_literals() -> Json:
    """A number at, just below or just above a threshold of strength."""
    thresholds, counts, shapes = st.sampled_from((30, 80, 150)), st.integers(1, 40), st.integers(0, 9)
    return st.builds(_threshold_literal, SIGNS, thresholds, counts, shapes)


def _values() -> Json:
    """Any JSON value that is at most a few levels deep."""
    numbers = st.one_of(NUMBER_LITERALS, st.sampled_from(ZEROS + EDGE_DECIMALS + OVERLONG_DECIMALS))
    scalars = st.one_of(numbers, st.sampled_from(ODD_KINDS), _quoted(st.text(max_size=8)))
    nested = st.builds(lambda frame, inner: frame.replace("@", inner), st.sampled_from(NESTINGS), scalars)
    return scalars | nested


def _symbols() -> st.SearchStrategy[str]:
    part = st.one_of(
        st.sampled_from(("BTC", "USD", "ETH", "x", "0")),
        st.text(ALPHANUMERIC, min_size=1, max_size=20),
        st.text(ALPHANUMERIC, min_size=20, max_size=20),
    )
    return st.tuples(part, part).map("-".join)


def _odd_decimals() -> Json:
    almost = _quoted(st.sampled_from(ALMOST_NUMBERS))
    long = _or_quoted(_limit_literals() | st.sampled_from(OVERLONG_DECIMALS))
    return st.one_of(long, almost, st.sampled_from(ODD_KINDS), st.sampled_from(NOT_JSON))


def _odd_epochs() -> Json:
    texts = _quoted(EPOCHS | st.sampled_from(EDGE_TIMES))
    return st.one_of(st.sampled_from(BAD_EPOCHS + ODD_KINDS + NOT_JSON), texts, NUMBER_LITERALS)


def _dates(first_year: int, last_year: int) -> st.SearchStrategy[str]:
    parts = st.tuples(st.integers(first_year, last_year), st.integers(1, 12), st.integers(1, 28))
    return parts.map(lambda date: "{:04}-{:02}-{:02}".format(*date))


def _time_texts(dates: st.SearchStrategy[str], most_hours: int = 23, most_minutes: int = 59) -> Json:
    """RFC 3339 text on a date."""
    hours, minutes = st.integers(0, most_hours), st.integers(0, most_minutes)
    times = st.builds("T{:02}:{:02}:{:02}".format, hours, minutes, minutes)
    fractions = st.just("") | _digits(1, 12).map(lambda digits: "." + digits)
    offsets = st.builds("{}{:02}:{:02}".format, st.sampled_from("+-"), hours, minutes)
    zones = st.sampled_from(("Z", "z", "-00:00")) | offsets
    return _quoted(st.tuples(dates, times, fractions, zones).map("".join))


def _times() -> Json:
    # In these years no offset can move a time out of 1970 to 9999.
    return _time_texts(_dates(1971, 9998)) | _quoted(st.sampled_from(EDGE_TIMES))


def _odd_times() -> Json:
    bounds = st.sampled_from(("0001-01-01", "1969-12-31", "1970-01-01", "9999-12-31"))
    beyond = _time_texts(_dates(1971, 9998), most_hours=24, most_minutes=60)
    bad = _quoted(st.sampled_from(BAD_TIMES))
    others = st.sampled_from(BAD_EPOCHS + ODD_KINDS + NOT_JSON)
    return st.one_of(bad, bad, _time_texts(bounds | _dates(0, 1969)), beyond, others)


def _trigger_values() -> Json:
    huge = _or_quoted(st.sampled_from(ZEROS + EDGE_DECIMALS + OVERLONG_DECIMALS))
    almost_thresholds = (" 80", "+150", "150.", "080", "8_0", "\uff18\uff10", "80\n")
    almost = _quoted(st.sampled_from(ALMOST_NUMBERS + almost_thresholds))
    near = _or_quoted(_threshold_literals())
    return st.one_of(near, near, near, near, _or_quoted(NUMBER_LITERALS), huge, almost, VALUES)


def _trigger_labels() -> Json:
    whole = st.tuples(st.sampled_from(("level_", "level_-")), _digits(1, 6)).map("".join)
    fractions = st.tuples(whole, _digits(1, 6)).map(".".join)
    labels = st.sampled_from(LABELS)
    return st.one_of(_quoted(labels), _quoted(labels), _quoted(whole | fractions), VALUES)


OFTEN = st.sampled_from((True, True, True, False))
NUMBER_LITERALS = _number_literals()
VALUES = _values()
EXTRA_MEMBERS = st.lists(st.tuples(st.sampled_from(PRIVATE) | st.text(max_size=6), VALUES), max_size=4)
SYMBOLS = _symbols()
DECIMALS = _or_quoted(st.one_of(NUMBER_LITERALS, NUMBER_LITERALS, st.sampled_from(ZEROS + EDGE_DECIMALS)))
ODD_DECIMALS = _odd_decimals()
EPOCHS = st.integers(0, 253402300799999).map(str) | st.sampled_from(EDGE_EPOCHS)
ODD_EPOCHS = _odd_epochs()
TIMES = _times()
ODD_TIMES = _odd_times()
TRIGGER_VALUES = _trigger_values()
TRIGGER_LABELS = _trigger_labels()

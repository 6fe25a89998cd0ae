"""Redis messages for hypothesis, valid and nearly valid, made of literal pieces of JSON text."""

import string
from collections.abc import Mapping, Sequence

from hypothesis import strategies as st

Event = tuple[str, bytes]
Json = st.SearchStrategy[str]
Needed = Mapping[str, tuple[Json, Json]]  # what a member may be, and what it may be where it is the flaw

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
# fmt: on
FLAWS = ("source", "member", "member", "member", "missing", "repeated", "poison", "damage", "damage")


def candle_events() -> st.SearchStrategy[Event]:
    """A candle close, about half of them valid."""
    prices = {name: (_decimals(), _odd_decimals()) for name in ("open", "high", "low", "close", "volume")}
    return _candle_events({"timestamp": (_epochs(), _odd_epochs()), **prices})


def alert_events() -> st.SearchStrategy[Event]:
    """An alert, about half of them valid."""
    return _alert_events(
        {
            "symbol": (_quoted(_symbols()), _quoted(st.sampled_from(BAD_SYMBOLS)) | _odd_kinds()),
            "timeframe": (
                _quoted(st.sampled_from(TIMEFRAMES)),
                _quoted(st.sampled_from(BAD_TIMEFRAMES)) | _odd_kinds(),
            ),
            "price": (_decimals(), _odd_decimals()),
            "triggeredAt": (_times() | _epochs(), _odd_times()),
        },
        {"triggerValue": _trigger_values(), "triggerLabel": _trigger_labels()},
    )


@st.composite
def _candle_events(draw: st.DrawFn, needed: Needed) -> Event:
    flaw = draw(_flaws())
    symbol, timeframe = draw(_symbols()), draw(st.sampled_from(TIMEFRAMES))
    source = f"channel:exchange:1:candle:close:{symbol}:{timeframe}"
    if flaw == "source":
        bad_symbol, bad_timeframe = draw(st.sampled_from(BAD_SYMBOLS)), draw(st.sampled_from(BAD_TIMEFRAMES))
        other_sources = (
            f"channel:exchange:1:candle:close:{bad_symbol}:{timeframe}",
            f"channel:exchange:1:candle:close:{symbol}:{bad_timeframe}",
            f"channel:exchange:1:candle:close:{symbol}",
            f"channel:exchange:1:candle:close::{symbol}:{timeframe}",
            f"channel:exchange:1:candle:open:{symbol}:{timeframe}",
            f"channel:exchange:2:candle:close:{symbol}:{timeframe}",
            f"channel:exchange:1:1:candle:close:{symbol}:{timeframe}",
            f"candle:close:{symbol}:{timeframe}",
            f" {source}",
            f"{source}:x",
        )
        source = draw(st.sampled_from(other_sources))
    ignored = {"symbol": _values(), "timeframe": _values()}
    return source, draw(_payloads(needed, ignored, flaw))


@st.composite
def _alert_events(draw: st.DrawFn, needed: Needed, optional: Mapping[str, Json]) -> Event:
    flaw = draw(_flaws())
    source = "channel:alerts:exchange:1"
    if flaw == "source":
        other_sources = (
            "channel:alerts:exchange:2",
            f"{source}\n",
            f"{source}1",
            f"{source}:1",
            "channel:alerts:exchange:*",
        )
        source = draw(st.sampled_from(other_sources))
    return source, draw(_payloads(needed, optional, flaw))


def _flaws() -> st.SearchStrategy[str | None]:
    return st.booleans().flatmap(lambda flawed: st.sampled_from(FLAWS) if flawed else st.none())


@st.composite
def _payloads(draw: st.DrawFn, needed: Needed, optional: Mapping[str, Json], flaw: str | None) -> bytes:
    values = {name: draw(good) for name, (good, _) in needed.items()}
    target = draw(st.sampled_from(sorted(needed)))
    if flaw == "member":
        values[target] = draw(needed[target][1])
    elif flaw == "missing":
        del values[target]
    for name, strategy in optional.items():
        if draw(st.integers(0, 3)):
            values[name] = draw(strategy)
    extra = draw(st.lists(st.tuples(st.sampled_from(PRIVATE) | st.text(max_size=6), _values()), max_size=4))
    members = draw(st.permutations([*values.items(), *extra]))
    # The last of duplicates counts: these come first and change nothing.
    overruled = draw(st.lists(st.tuples(st.sampled_from(sorted(values)), _values()), max_size=1))
    members = [*overruled, *members]
    if flaw == "repeated":
        members.append((target, draw(needed[target][1])))
    elif flaw == "poison":
        name = draw(st.sampled_from([*PRIVATE, *needed]))
        members.insert(draw(st.integers(0, len(members))), (name, draw(st.sampled_from(NOT_JSON))))
    payload = draw(_objects(members)).encode()
    if flaw == "damage":
        payload = draw(_damaged(payload))
    return payload


@st.composite
def _objects(draw: st.DrawFn, members: Sequence[tuple[str, str]]) -> str:
    """The text of an object, its names plain or with escapes, with or without whitespace."""
    gap = st.just("") if draw(st.booleans()) else st.sampled_from(("", "", " ", "\n", "\r\n\t", "  "))
    parts = []
    for name, value in members:
        parts.append(draw(gap) + draw(_spelled(name)) + draw(gap) + ":" + draw(gap) + value + draw(gap))
    return draw(gap) + "{" + ",".join(parts) + "}" + draw(gap)


@st.composite
def _damaged(draw: st.DrawFn, payload: bytes) -> bytes:
    """Bytes that are no JSON object any more, or nearly none."""
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


@st.composite
def _spelled(draw: st.DrawFn, text: str) -> str:
    """A text as a JSON string: plain, with one character as an escape, or all of them."""
    how = draw(st.sampled_from(("plain", "plain", "plain", "one", "all")))
    upper = how != "plain" and draw(st.booleans())
    if how == "all":
        return '"' + "".join(_escape(character, upper) for character in text) + '"'
    at = draw(st.integers(0, len(text) - 1)) if how == "one" and text else -1
    must = '"\\' + "".join(map(chr, range(32)))
    pieces = [_escape(c, upper) if i == at or c in must else c for i, c in enumerate(text)]
    return '"' + "".join(pieces) + '"'


def _escape(character: str, upper: bool) -> str:
    units = character.encode("utf-16-be").hex(" ", 2)
    return "".join("\\u" + unit for unit in (units.upper() if upper else units).split())


def _quoted(texts: st.SearchStrategy[str]) -> Json:
    return texts.flatmap(_spelled)


def _digits(least: int, most: int) -> st.SearchStrategy[str]:
    return st.text(string.digits, min_size=least, max_size=most)


@st.composite
def _number_literals(draw: st.DrawFn) -> str:
    """A JSON number of at most 50 digits in plain notation."""
    sign = draw(st.sampled_from(("", "-")))
    whole = draw(st.just("0") | st.integers(1, 999_999_999_999).map(str))
    fraction = draw(st.just("") | _digits(1, 20).map(lambda digits: "." + digits))
    signs = st.sampled_from(("e", "E", "e+", "E-", "e-"))
    exponent = draw(st.just("") | st.tuples(signs, st.integers(0, 14).map(str), st.booleans()).map(_exponent))
    return sign + whole + fraction + exponent


def _exponent(parts: tuple[str, str, bool]) -> str:
    sign, digits, padded = parts
    return sign + ("00" if padded else "") + digits


@st.composite
def _limit_literals(draw: st.DrawFn) -> str:
    """A number around 64 digits."""
    size = draw(st.integers(61, 67))
    split = draw(st.integers(1, size - 1))
    digit = draw(st.sampled_from("123456789"))
    tail = draw(st.sampled_from("01"))
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
    return draw(st.sampled_from(("", "-"))) + draw(st.sampled_from(shapes))


def _or_quoted(literals: Json) -> Json:
    return st.one_of(literals, literals, _quoted(literals))


def _decimals() -> Json:
    return _or_quoted(
        st.one_of(_number_literals(), _number_literals(), st.sampled_from(ZEROS + EDGE_DECIMALS))
    )


def _odd_decimals() -> Json:
    almost = _quoted(st.sampled_from(ALMOST_NUMBERS))
    overlong = _or_quoted(st.sampled_from(OVERLONG_DECIMALS))
    return st.one_of(_or_quoted(_limit_literals()), overlong, almost, _odd_kinds(), st.sampled_from(NOT_JSON))


def _odd_kinds() -> Json:
    return st.sampled_from(ODD_KINDS)


def _values() -> Json:
    """Any JSON value, none deeper than a few levels."""
    numbers = st.one_of(_number_literals(), st.sampled_from(ZEROS + EDGE_DECIMALS + OVERLONG_DECIMALS))
    scalars = st.one_of(numbers, _odd_kinds(), _quoted(st.text(max_size=8)))
    names = st.sampled_from(["price", "timestamp", *PRIVATE]) | st.text(max_size=4)
    return st.recursive(
        scalars,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3).map(lambda items: "[" + ",".join(items) + "]"),
            st.lists(st.tuples(names, inner), max_size=3).flatmap(_objects),
        ),
        max_leaves=4,
    )


def _symbols() -> st.SearchStrategy[str]:
    part = st.one_of(
        st.sampled_from(("BTC", "USD", "ETH", "x", "0")),
        st.text(ALPHANUMERIC, min_size=1, max_size=20),
        st.text(ALPHANUMERIC, min_size=20, max_size=20),
    )
    return st.tuples(part, part).map("-".join)


def _epochs() -> Json:
    edges = ("0", "-0", "1", "999", "1708264800123", "253402300799999", "253402300799000")
    return st.integers(0, 253402300799999).map(str) | st.sampled_from(edges)


def _odd_epochs() -> Json:
    texts = _quoted(_epochs() | st.sampled_from(EDGE_TIMES))
    return st.one_of(
        st.sampled_from(BAD_EPOCHS), texts, _number_literals(), _odd_kinds(), st.sampled_from(NOT_JSON)
    )


def _dates(first_year: int, last_year: int) -> st.SearchStrategy[str]:
    parts = st.tuples(st.integers(first_year, last_year), st.integers(1, 12), st.integers(1, 28))
    return parts.map(lambda date: "{:04}-{:02}-{:02}".format(*date))


@st.composite
def _time_texts(draw: st.DrawFn, dates: st.SearchStrategy[str]) -> str:
    """RFC 3339 as the contract takes it, if the instant is in its years."""
    hour, minute, second = draw(st.integers(0, 23)), draw(st.integers(0, 59)), draw(st.integers(0, 59))
    fraction = draw(st.just("") | _digits(1, 12).map(lambda digits: "." + digits))
    sign, hours, minutes = draw(st.sampled_from("+-")), draw(st.integers(0, 23)), draw(st.integers(0, 59))
    offset = draw(st.sampled_from(("Z", "z", "-00:00", f"{sign}{hours:02}:{minutes:02}")))
    return f"{draw(dates)}T{hour:02}:{minute:02}:{second:02}{fraction}{offset}"


def _times() -> Json:
    # No offset carries an instant of these years past 1970 or 9999.
    return _quoted(_time_texts(_dates(1971, 9998)) | st.sampled_from(EDGE_TIMES))


def _odd_times() -> Json:
    bound_dates = st.sampled_from(("0001-01-01", "1969-12-31", "1970-01-01", "9999-12-31"))
    bounds = _quoted(_time_texts(bound_dates | _dates(0, 1969)))
    bad = _quoted(st.sampled_from(BAD_TIMES))
    return st.one_of(bad, bad, bounds, st.sampled_from(BAD_EPOCHS), _odd_kinds(), st.sampled_from(NOT_JSON))


@st.composite
def _threshold_literals(draw: st.DrawFn) -> str:
    """A number at, just below or just above a threshold of strength."""
    threshold = draw(st.sampled_from((30, 80, 150)))
    count = draw(st.integers(1, 40))
    shapes = (
        str(threshold),
        f"{threshold}.{'0' * count}",
        f"{threshold}.{'0' * count}1",
        f"{threshold - 1}.{'9' * count}",
        f"{threshold // 10}e1",
        f"{threshold}{'0' * count}E-{count}",
        f"0.{'0' * count}{threshold}e{count + len(str(threshold))}",
        f"{threshold - 1}{'9' * count}e-{count:03}",
        str(threshold - 1),
        str(threshold + 1),
    )
    return draw(st.sampled_from(("", "-"))) + draw(st.sampled_from(shapes))


def _trigger_values() -> Json:
    huge = _or_quoted(st.sampled_from(ZEROS + EDGE_DECIMALS + OVERLONG_DECIMALS))
    almost = _quoted(
        st.sampled_from((*ALMOST_NUMBERS, " 80", "+150", "150.", "080", "8_0", "\uff18\uff10", "80\n"))
    )
    near = _or_quoted(_threshold_literals())
    return st.one_of(near, near, near, _or_quoted(_number_literals()), huge, almost, _values())


def _trigger_labels() -> Json:
    signed = st.tuples(st.sampled_from(("level_", "level_-")), _digits(1, 6)).map("".join)
    fractions = st.tuples(signed, _digits(1, 6)).map(".".join)
    return st.one_of(_quoted(st.sampled_from(LABELS)), _quoted(signed | fractions), _values())

import json
import math
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tornado_bridge.connections import strict_json

# The reference is the standard library's parser. The code below refuses the invalid texts that this parser accepts.


class Members(list[tuple[str, Any]]):
    """All members of an object, with the duplicates."""


class NotStrictError(Exception):
    """Raised for a text that the reference refuses."""


def reference(text: str) -> Any:
    """Return the value that a strict parser reads from `text`."""
    try:
        text.encode()
        value = json.loads(text, object_pairs_hook=Members, parse_float=finite, parse_constant=finite)
    except (ValueError, RecursionError):
        raise NotStrictError from None
    return strict(value, 1)


def finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError("cannot be represented")
    return value


def strict(value: Any, depth: int) -> Any:
    if isinstance(value, list) and depth > 32:
        raise NotStrictError
    if isinstance(value, Members):
        return {strict(name, 0): strict(member, depth + 1) for name, member in value}
    if isinstance(value, list):
        return [strict(item, depth + 1) for item in value]
    if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
        raise NotStrictError
    return value


def outcome(text: str) -> str:
    """Return the value of a text with its types, or "refused"."""
    try:
        return repr(strict_json.parse(text))
    except ValueError:
        return "refused"


def expected(text: str) -> str:
    try:
        return repr(reference(text))
    except NotStrictError:
        return "refused"


# Valid JSON


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("null", None),
        ("true", True),
        ("false", False),
        ("0", 0),
        ("-12", -12),
        ("1.5", 1.5),
        ("1E+2", 100.0),
        ("1e-2", 0.01),
        ('""', ""),
        ('"é\U0001f600"', "é\U0001f600"),
        ('"\\u00e9\\/\\n\\u0000"', "é/\n\0"),
        ('"\\ud83d\\ude00"', "\U0001f600"),
        ('"\x7f\u2028"', "\x7f\u2028"),
        ("[]", []),
        ("{}", {}),
        ('{"a":[1,{"b":null}]}', {"a": [1, {"b": None}]}),
        (" \t\r\n[ 1 , 2 ] \t\r\n", [1, 2]),
        ("1.7976931348623157e308", 1.7976931348623157e308),
    ],
)
def test_json_is_read(text: str, value: object) -> None:
    assert strict_json.parse(text) == value


def test_a_large_integer_keeps_its_digits() -> None:
    assert strict_json.parse("123456789012345678901234567890") == 123456789012345678901234567890


def test_of_duplicate_members_the_last_counts() -> None:
    assert strict_json.parse('{"a":1,"b":2,"a":3}') == {"a": 3, "b": 2}


# Invalid JSON


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "NaN",
        "-NaN",
        "Infinity",
        "-Infinity",
        "[NaN]",
        '{"a":Infinity}',
        "1e400",
        "-1e400",
        "1" * 400 + ".0",
        "[1e309]",
        "01",
        "-01",
        "+1",
        ".5",
        "1.",
        "1e",
        "-",
        "--1",
        "1_0",
        "0x10",
        "\uff11",
        "1\u0661",
        '"',
        '"a',
        "'a'",
        '"\\x41"',
        '"\\u12g4"',
        '"\\u12"',
        '"\n"',
        '"\x00"',
        '"\x1f"',
        "[",
        "]",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[}",
        "{]",
        '{"a"}',
        '{"a":}',
        '{"a":1,}',
        "{a:1}",
        "{1:1}",
        "1 2",
        "{}{}",
        "nul",
        "True",
        "undefined",
        "//\n1",
        "1/**/",
        "\xa01",
        "\x0c1",
        "\u20281",
        "1\0",
    ],
)
def test_invalid_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        strict_json.parse(text)


@pytest.mark.parametrize("text", ["\ufeff1", "\ufeff{}", " \ufeff1", "1\ufeff"])
def test_a_byte_order_mark_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        strict_json.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        '"\\ud800"',
        '"\\udc00"',
        '"\\uDBFF"',
        '"\\ud83d\\u0041"',
        '"\\ud83dx"',
        '"\\ude00\\ud83d"',
        '"\\ud83d\\ud83d\\ude00"',
        '["\\ud800"]',
        '{"\\udfff":1}',
        '{"a":"\\ud800","a":1}',
        '"\ud800"',
    ],
)
def test_a_lone_surrogate_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        strict_json.parse(text)


def test_an_integer_that_python_will_not_write_again_is_refused() -> None:
    with pytest.raises(ValueError):
        strict_json.parse("1" * 4301)


# Depth


@pytest.mark.parametrize(
    "text",
    [
        "[" * 32 + "]" * 32,
        '{"a":' * 32 + "1" + "}" * 32,
        '[{"a":' * 16 + "1" + "}]" * 16,
    ],
)
def test_nesting_32_deep_is_read(text: str) -> None:
    assert outcome(text) == expected(text) != "refused"


@pytest.mark.parametrize(
    "text",
    [
        "[" * 33 + "]" * 33,
        '{"a":' * 33 + "1" + "}" * 33,
        '[{"a":' * 16 + "[]" + "}]" * 16,
        "[1,[2]," + "[" * 32 + "]" * 32 + "]",
        '["\\\\",' + "[" * 32 + "]" * 32 + "]",
        '{"":1,"a":1,"a":' + "[" * 32 + "]" * 32 + ',"a":2}',
    ],
)
def test_nesting_33_deep_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^nested over 32 deep$"):
        strict_json.parse(text)


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":', " [", "[[],"])
def test_deep_nesting_is_refused_before_a_recursive_parser_reads_it(opening: str) -> None:
    with pytest.raises(ValueError, match=r"^nested over 32 deep$"):
        strict_json.parse(opening * 100_000)


@pytest.mark.parametrize("text", ["[" + "[]," * 100 + "{}]", "[" + '{"a":[]},' * 100 + "{}]"])
def test_many_arrays_beside_each_other_are_not_nested(text: str) -> None:
    assert outcome(text) == expected(text) != "refused"


@pytest.mark.parametrize("string", ["[" * 100, "{" * 100, '\\"' + "[" * 100, "\\\\\\" + '"' + "[" * 100, "]" * 100])
def test_brackets_in_a_string_do_not_count_as_nesting(string: str) -> None:
    assert outcome(f'["{string}"]') == expected(f'["{string}"]') != "refused"


@pytest.mark.parametrize("end", ["", "\\", "\\\\", '\\"', "\n", "\\\n"])
def test_brackets_in_an_unterminated_string_do_not_count_as_nesting(end: str) -> None:
    # If such a string did not match as a token, every quote in it would start another search to the end of the text.
    with pytest.raises(ValueError) as caught:
        strict_json.parse('"' + '\\"' * 3 + "[" * 33 + end)

    assert "nested" not in str(caught.value)


def test_closing_brackets_in_excess_do_not_make_room() -> None:
    with pytest.raises(ValueError):
        strict_json.parse("]" * 100 + "[" * 33 + "]" * 33)


HOSTILE = [
    '"' + '\\"' * 32_700 + "[" * 33 + "\\",
    '"' * 32_700 + "[" * 33 + "\\",
    '"' + "\\" * 65_000 + "[" * 33,
    "[" * 33 + '"' + "a" * 65_000,
    "[]" * 32_700,
    "[" + "[]," * 21_800 + "[]]",
    '["' + '","' * 21_800 + "[" * 33,
    "[" + '"\\u' * 16_000 + "[" * 33,
    '{"":' * 16_000,
    "1" * 65_000,
    "1e" + "1" * 65_000,
    "0." + "1" * 65_000,
    " " * 65_000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_text_takes_linear_time(text: str) -> None:
    # Each text takes milliseconds now. An earlier pattern took 19 seconds for the first one.
    started = time.process_time()

    outcome(text)

    assert time.process_time() - started < 2


# Against the reference

values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(),
        st.sampled_from(["[", "{", '"', "\\", "]}"]),
    ),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=20,
)
valid = st.builds(
    lambda value, ascii_only, indent: json.dumps(value, ensure_ascii=ascii_only, indent=indent),
    values,
    st.booleans(),
    st.sampled_from([None, 0, "\t"]),
)
nested = st.builds(
    lambda levels, inner: "".join(o for o, _ in levels) + inner + "".join(c for _, c in reversed(levels)),
    st.lists(st.sampled_from([("[", "]"), ('{"a":', "}"), ("[[],", "]"), ('{"[":"{","]":', "}")]), max_size=36),
    st.sampled_from(["1", '"["', "[]", "{}", '"\\""', ""]),
)
# fmt: off
tokens = st.lists(
    st.sampled_from((
        "[", "]", "{", "}", ",", ":", '"', '"a"', '"b"', '"a":', "\\", "\\\\", '\\"', "\\u", "d800", "\\ud800",
        "\\udc00", "\\u0000", "0", "-", "1", "12", ".", "e", "E+", "e-", "400", "true", "false", "null", "NaN",
        "Infinity", " ", "\t", "\n", "\r", "\x0b", "\x00", "\ufeff", "\u00a0", "\u2028", "\u0661",
        "\ud800", "é", "\U0001f600", "[" * 33,
    )),
    max_size=30,
).map("".join)
# fmt: on


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """Return a text with a few characters inserted, removed or doubled."""
    text = draw(st.one_of(valid, nested))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(text)))
        gone = draw(st.integers(0, 2))
        put = draw(
            st.sampled_from(
                ["", "[", "]", "{", "}", '"', "\\", ",", ":", "0", "-", ".", "e9", "\n", "\ufeff", "\\ud83d"]
            )
        )
        text = text[:at] + put + text[at + gone :]
    return text


@settings(deadline=None, max_examples=300)
@given(st.one_of(valid, nested, mutated(), tokens, st.text()))
def test_every_text_is_read_as_the_reference_reads_it(text: str) -> None:
    assert outcome(text) == expected(text)

"""tornado_bridge.audit.literals: JSON values of every kind."""

import json
import random
import re
from collections.abc import Callable

import msgspec
import pytest

from tornado_bridge import values
from tornado_bridge.audit.literals import Literals, escaped
from tornado_bridge.audit.vocabulary import Vocabulary

WORDS = Vocabulary(words=("level_",), numbers=(150, 0.5), patterns=("side_[ab]",))


def literals(vocabulary: Vocabulary = WORDS, seed: int = 1) -> Literals:
    return Literals(vocabulary, {"symbol": "[A-Z]{3}-[A-Z]{3}", "timeframe": ("1m", "1h")}, random.Random(seed))


def is_decimal(text: str) -> bool:
    return values.decimal(msgspec.Raw(text.encode()), "it") != ""


def is_moment(text: str) -> bool:
    return values.timestamp(msgspec.Raw(text.encode()), "it") != ""


@pytest.mark.parametrize(
    ("kind", "holds"),
    [
        ("number", is_decimal),
        ("number text", is_decimal),
        ("integer", lambda text: re.fullmatch("-?[0-9]+", text) is not None),
        ("epoch", is_moment),
        ("moment", is_moment),
        ("boolean", lambda text: text in ("true", "false")),
        ("null", lambda text: text == "null"),
        ("text", lambda text: isinstance(json.loads(text), str)),
        ("label", lambda text: isinstance(json.loads(text), str)),
        ("array", lambda text: isinstance(json.loads(text), list)),
        ("object", lambda text: isinstance(json.loads(text), dict)),
        ("part:timeframe", lambda text: json.loads(text) in ("1m", "1h")),
        ("part:symbol", lambda text: re.fullmatch("[A-Z]{3}-[A-Z]{3}", json.loads(text)) is not None),
        ("date", lambda text: re.fullmatch('"[0-9]{4}-[0-9]{2}-[0-9]{2}"', text) is not None),
        ("time", lambda text: re.fullmatch('"[0-9]{2}:[0-9]{2}:[0-9]{2}"', text) is not None),
        ("duration", lambda text: re.fullmatch('"PT[0-9]+S"', text) is not None),
        ("uuid", lambda text: re.fullmatch('"[0-9a-f]{8}-0000-4000-8000-[0-9a-f]{12}"', text) is not None),
        ("base64", lambda text: len(text) == 10),
    ],
)
def test_a_value_is_of_its_kind(kind: str, holds: Callable[[str], bool]) -> None:
    written = literals()
    assert all(holds(written.write(kind)) for _ in range(300))


def test_a_choice_is_one_of_those_given() -> None:
    assert {literals(seed=seed).write("choice", ('"a"', '"b"')) for seed in range(20)} == {'"a"', '"b"'}


def test_a_pattern_is_that_given() -> None:
    assert json.loads(literals().write("pattern", pattern="^a$")) == "a"


def test_numbers_are_near_those_of_the_code() -> None:
    written = literals()
    numbers = {abs(float(written.write("number"))) for _ in range(500)}
    assert {149, 149.999, 150, 150.001, 151} <= numbers


def test_numbers_are_in_many_spellings() -> None:
    written = literals()
    spellings = {re.sub("[0-9]+", "9", written.write("number")) for _ in range(500)}
    assert {"9", "9.9", "-9.9", "9.9e9", "9.9E-9", "9.9e+9"} <= spellings


def test_labels_are_the_words_of_the_code_and_texts_like_its_patterns() -> None:
    written = literals()
    labels = {json.loads(written.write("label")) for _ in range(300)}
    assert ({"level_", "side_a", "side_b"} <= labels, any(re.match("level_-?[0-9]", label) for label in labels)) == (
        True,
        True,
    )


def test_a_code_without_words_has_labels_too() -> None:
    assert json.loads(literals(Vocabulary()).write("label"))


def test_strings_are_escaped_now_and_then() -> None:
    written = literals()
    assert any("\\u" in written.write("part:timeframe") for _ in range(100))


def test_an_escaped_text_is_the_text() -> None:
    assert (escaped("a\U0001f600"), json.loads(escaped("a\U0001f600"))) == ('"\\u0061\U0001f600"', "a\U0001f600")


def test_the_same_seed_writes_the_same() -> None:
    assert [literals(seed=5).write("number") for _ in range(3)] == [literals(seed=5).write("number") for _ in range(3)]

"""tornado_bridge.audit.vocabulary: the constants of a transformer's code, and texts like a pattern."""

import functools
import random
import re

import pytest

from tests.support.planted import SIGNALS
from tornado_bridge.audit import vocabulary
from tornado_bridge.audit.vocabulary import Vocabulary, text_like

LIMITS = {"low": 11, "high": [22.5, True]}
LEVEL = re.compile("level_[0-9]+").fullmatch
SIDE = re.compile("buy|sell")
FAR_TOO_LONG = "x" * 65


@functools.lru_cache
def cached(text: str) -> bool:
    return text == "from a cached function"


def named(text: str) -> object:
    return LIMITS, LEVEL(text), SIDE, FAR_TOO_LONG, cached(text), recursive, re.compile, 2**60


def recursive(text: str) -> object:
    """Return what is no word of its code."""
    return recursive(text) or [word for word in ("in a tuple", "nested") if word == "in a comprehension"]


class Transformer:
    """A plugin that is an object."""

    word = "of the class"

    def __init__(self) -> None:
        self.other = "of the object"

    def transform(self, text: str) -> object:
        return text in (self.word, self.other, self.helper())

    def helper(self) -> str:
        return "of another method"


def test_the_words_of_a_function_are_those_of_all_that_it_names() -> None:
    assert {"low", "high", "in a tuple", "nested", "in a comprehension", "from a cached function"} <= {
        *vocabulary.of(named).words
    }


def test_a_docstring_is_no_word() -> None:
    assert "Return what is no word of its code." not in vocabulary.of(named).words


def test_a_long_text_is_no_word() -> None:
    assert FAR_TOO_LONG not in vocabulary.of(named).words


def test_the_numbers_are_those_of_tables_too() -> None:
    assert {11, 22.5} <= {*vocabulary.of(named).numbers}


def test_a_number_that_json_readers_do_not_keep_is_none() -> None:
    assert 2**60 not in vocabulary.of(named).numbers


def test_a_pattern_is_found_itself_or_by_its_method() -> None:
    assert vocabulary.of(named).patterns == ("buy|sell", "level_[0-9]+")


def test_a_method_names_its_class_its_object_and_other_methods() -> None:
    words = vocabulary.of(Transformer().transform).words
    assert {"of the class", "of the object", "of another method"} <= {*words}


def test_what_has_no_code_has_no_vocabulary() -> None:
    assert vocabulary.of(len) == Vocabulary()


def test_the_signals_of_the_bridge_compare_with_their_thresholds_and_labels() -> None:
    found = vocabulary.of(SIGNALS.transform)
    assert ({30, 80, 150} <= {*found.numbers}, {"reversal_oversold", "level_"} <= {*found.words}) == (True, True)


def test_names_are_the_words_that_could_be_one() -> None:
    assert Vocabulary(words=("a b", "side", "9", "taker-side")).names == ("side", "taker-side")


@pytest.mark.parametrize(
    "pattern",
    [
        "[A-Za-z0-9]{1,20}-[A-Za-z0-9]{1,20}",
        "level_-?[0-9]+(?:[.][0-9]+)?",
        "(?:1m|5m)|[^a-z]x",
        r"\d\w\s.*?y++",
        "(?>ab)(c)(?i:d)[^q]",
        "[^:]",
        "^start$",
        "",
    ],
)
def test_a_text_is_like_its_pattern(pattern: str) -> None:
    chance = random.Random(1)
    assert all(re.fullmatch(pattern, text_like(pattern, chance)) for _ in range(200))


def test_texts_of_a_pattern_differ() -> None:
    chance = random.Random(1)
    assert len({text_like("[A-Z]{3}", chance) for _ in range(50)}) > 40


def test_a_class_without_a_printable_character_is_a_blank() -> None:
    assert text_like("[ü-ý]", random.Random(1)) == " "


def test_a_character_that_is_not_one_is_another() -> None:
    assert text_like("[^a]", random.Random(1)) != "a"


def test_what_is_no_pattern_is_refused() -> None:
    with pytest.raises(ValueError, match="unterminated"):
        text_like("(", random.Random(1))

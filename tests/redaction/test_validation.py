"""tornado_bridge.redaction.validation: schema files, and two validators that read a schema in the same way."""

import re
import time
from typing import Any

import pytest

from tornado_bridge.redaction.validation import Validator, load_schema

MESSAGE = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 8},
        "prices": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 9}, "maxItems": 2},
    },
    "required": ["name"],
    "additionalProperties": False,
}

VALID: list[Any] = [{"name": "abc"}, {"name": "abc", "prices": [0, 9]}, {"name": "abc", "prices": []}]

# An invalid instance, the path of its error, and the keyword that it breaks.
INVALID: list[tuple[Any, str, str]] = [
    ([], "$", "type"),
    ({}, "$", "required"),
    ({"name": "abc", "secret": 1}, "$", "additionalProperties"),
    ({"name": 5}, "$.name", "type"),
    ({"name": "ABC"}, "$.name", "pattern"),
    ({"name": "abc\n"}, "$.name", "pattern"),
    ({"name": "abcdefghi"}, "$.name", "maxLength"),
    ({"name": "abc", "prices": [1, 2, 3]}, "$.prices", "maxItems"),
    ({"name": "abc", "prices": [1, 10]}, "$.prices[1]", "maximum"),
    ({"name": "abc", "prices": [1, "2"]}, "$.prices[1]", "type"),
    ({"name": "abc", "prices": [True]}, "$.prices[0]", "type"),
]


def text_of(pattern: str) -> Validator:
    return Validator({"type": "string", "pattern": pattern})


def test_a_schema_file_is_loaded_by_its_name() -> None:
    assert load_schema("error")["title"] == "Error"


def test_a_schema_file_that_does_not_exist_is_not_found() -> None:
    with pytest.raises(FileNotFoundError):
        load_schema("nothing")


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "text"},
        {"type": "string", "pattern": "["},
        {"maxLength": "3"},
        {"properties": []},
        {"required": "name"},
        {"enum": "a"},
    ],
)
def test_an_invalid_schema_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^is not a valid draft 2020-12 schema \(.+\)$"):
        Validator(schema)


@pytest.mark.parametrize("instance", VALID)
def test_a_valid_instance_is_admitted(instance: Any) -> None:
    assert Validator(MESSAGE).admits(instance)


@pytest.mark.parametrize("instance", [instance for instance, _, _ in INVALID])
def test_an_invalid_instance_is_not_admitted(instance: Any) -> None:
    assert not Validator(MESSAGE).admits(instance)


@pytest.mark.parametrize("instance", VALID)
def test_nothing_is_wrong_with_a_valid_instance(instance: Any) -> None:
    assert Validator(MESSAGE).first_error(instance) is None


@pytest.mark.parametrize(("instance", "path", "keyword"), INVALID)
def test_the_first_error_has_a_path_and_a_keyword(instance: Any, path: str, keyword: str) -> None:
    error = Validator(MESSAGE).first_error(instance)
    assert error is not None
    assert (error.json_path, error.validator) == (path, keyword)


@pytest.mark.parametrize(("instance", "path", "keyword"), INVALID)
def test_the_first_fault_has_a_path_and_a_keyword(instance: Any, path: str, keyword: str) -> None:
    assert Validator(MESSAGE).first_fault(instance) == (path, keyword)


def test_a_fault_in_a_hostile_text_is_found_at_once() -> None:
    validator = text_of("^(?:[a-z]+)+$")
    started = time.monotonic()
    assert validator.first_fault("a" * 1000 + "!") == ("$", "pattern")
    assert time.monotonic() - started < 1


@pytest.mark.parametrize("text", ["\ud800", "a\udfff", "\udc00\ud800"])
def test_a_lone_surrogate_is_not_admitted(text: str) -> None:
    assert not Validator({"type": "string"}).admits(text)


def test_a_lone_surrogate_in_a_name_is_not_admitted() -> None:
    assert not Validator({"properties": {"a": {}}, "additionalProperties": False}).admits({"\ud800": 1})


@pytest.mark.parametrize("text", ["a\n", "a\r", "a\u2028", "\na", "b\na"])
@pytest.mark.parametrize("pattern", ["^a$", "^(?:a)$", "^[a]$", "^a$|^a$"])
def test_a_dollar_is_the_very_end_for_both_validators(pattern: str, text: str) -> None:
    validator = text_of(pattern)
    assert (validator.admits(text), validator.first_error(text) is None) == (False, False)


@pytest.mark.parametrize("text", ["a", "$", "^"])
@pytest.mark.parametrize("pattern", [r"^[a$^]$", r"^(?:a|\$|\^)$", r"^[\]a$^]$", r"^[\\$a^]$"])
def test_a_dollar_in_a_class_or_after_a_backslash_is_a_dollar_for_both_validators(pattern: str, text: str) -> None:
    validator = text_of(pattern)
    assert (validator.admits(text), validator.first_error(text) is None) == (True, True)


@pytest.mark.parametrize(("pattern", "text"), [(r"^\d$", "\u0661"), (r"^\w$", "\u00e9"), (r"^[\d]$", "\uff11")])
def test_digits_and_letters_are_those_of_ascii_for_both_validators(pattern: str, text: str) -> None:
    validator = text_of(pattern)
    assert (validator.admits(text), validator.first_error(text) is None) == (False, False)


def test_a_pattern_without_anchors_matches_anywhere() -> None:
    validator = text_of("b")
    assert (validator.admits("abc"), validator.first_error("abc") is None) == (True, True)


def test_a_pattern_applies_only_to_texts() -> None:
    validator = Validator({"pattern": "^a$"})
    assert (validator.admits(5), validator.first_error(5) is None) == (True, True)


def test_the_reason_of_a_pattern_names_the_pattern() -> None:
    error = text_of("^a$").first_error("b")
    assert error is not None
    assert re.fullmatch(r"does not match \^a\$", error.message)

"""tornado_bridge.excerpts."""

import tomllib

import pytest

from tornado_bridge.excerpts import excerpt, printable, toml_place


def test_printable_text_is_left_alone() -> None:
    assert printable("Größe 42350.5 €, 日本") == "Größe 42350.5 €, 日本"


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a\nb", r"a\nb"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\x9b31m", r"\x9b31m"),
        ("\u202e", r"\u202e"),
        ("\ud800", r"\ud800"),
        ("\U000e0001", r"\U000e0001"),
    ],
)
def test_a_character_that_could_do_something_to_a_terminal_is_escaped(text: str, escaped: str) -> None:
    assert printable(text) == escaped


def test_an_excerpt_of_64_characters_is_whole() -> None:
    assert excerpt("x" * 64) == "x" * 64


def test_a_longer_text_is_cut_to_64_characters_with_an_ellipsis() -> None:
    assert excerpt("x" * 65) == "x" * 63 + "…"


def test_an_excerpt_is_escaped_after_the_cut() -> None:
    assert excerpt("\n" * 65) == r"\n" * 63 + "…"


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ("port = ", " (at end of document)"),
        ("port 1", " (at line 1, column 6)"),
        ("[secret]\n[secret]\n", " (at line 2, column 8)"),
        ("port = " + "9" * 5_000, ""),
    ],
)
def test_the_place_of_a_toml_error_is_all_that_is_kept_of_it(document: str, place: str) -> None:
    with pytest.raises(ValueError) as error:
        tomllib.loads(document)
    assert toml_place(error.value) == place


def test_the_place_of_an_error_that_names_none_is_empty() -> None:
    assert toml_place(RecursionError("maximum recursion depth exceeded")) == ""

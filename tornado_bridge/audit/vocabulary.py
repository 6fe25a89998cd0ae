"""The words and numbers that a transformer compares with: what its events must say to take all of its ways.

A transformer that looks for `reversal_oversold`, or for 150, has it among the constants of its code. Nothing is run
to find them.
"""

import dataclasses
import functools
import importlib
import random
import re
import string
from collections.abc import Callable, Iterator, Mapping
from types import CodeType
from typing import Any, NamedTuple

# The parser of `re`: the one that reads every pattern that Python does. Without types in typeshed.
_parser: Any = importlib.import_module("re._parser")

# Longer constants are documentation.
_MAX_WORD = 64

# A quantifier without an end is repeated so much oftener than it must be, at most.
_MORE = 8

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*").fullmatch


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Texts, numbers and patterns of a transformer's code."""

    words: tuple[str, ...] = ()
    numbers: tuple[int | float, ...] = ()
    patterns: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The words that could name a member."""
        return tuple(word for word in self.words if _IDENTIFIER(word))


def of(function: Callable[..., Any]) -> Vocabulary:
    """Return the vocabulary of a function and of all that it names in its own module."""
    words: set[str] = set()
    numbers: set[int | float] = set()
    patterns: set[str] = set()
    for constant in _constants(function, set()):
        if isinstance(constant, re.Pattern):
            patterns.add(constant.pattern)
        elif isinstance(constant, str) and 0 < len(constant) <= _MAX_WORD:
            words.add(constant)
        elif isinstance(constant, int | float) and not isinstance(constant, bool) and abs(constant) < 2**53:
            numbers.add(constant)
    return Vocabulary(tuple(sorted(words)), tuple(sorted(numbers)), tuple(sorted(patterns)))


def _constants(function: Any, seen: set[int]) -> Iterator[Any]:
    code = getattr(function, "__code__", None)
    if not isinstance(code, CodeType) or id(code) in seen:
        return
    seen.add(id(code))
    # A method names others of its object.
    owner = getattr(function, "__self__", None)
    namespace = {**vars(type(owner)), **getattr(owner, "__dict__", {}), **function.__globals__}
    for part in _nested(code):
        for constant in part.co_consts:
            if constant != function.__doc__:
                yield from _flat(constant)
        for name in part.co_names:
            if name in namespace:
                yield from _named(namespace[name], function.__module__, seen)


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)


def _named(value: Any, module: str, seen: set[int]) -> Iterator[Any]:
    # The bound method of a compiled pattern, `re.compile(…).fullmatch`, stands for the pattern.
    owner = getattr(value, "__self__", None)
    if isinstance(owner, re.Pattern):
        yield owner
    elif getattr(value, "__module__", None) == module:
        yield from _constants(getattr(value, "__wrapped__", value), seen)
    else:
        yield from _flat(value)


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple | list | frozenset | set):
        for item in value:
            yield from _flat(item)
    elif isinstance(value, Mapping):
        for item in (*value.keys(), *value.values()):
            yield from _flat(item)
    elif isinstance(value, str | int | float | re.Pattern):
        yield value


def text_like(pattern: str, chance: random.Random) -> str:
    """Return a text that matches a regular expression, wherever it asks for no look-around or back reference.

    Raises ValueError for what is no regular expression.
    """
    return "".join(_text(piece, chance) for piece in _parsed(pattern))


@functools.lru_cache(maxsize=256)
def _parsed(pattern: str) -> tuple["_Piece", ...]:
    try:
        return _pieces(_parser.parse(pattern, re.ASCII))
    except re.error as error:
        raise ValueError(str(error)) from None


class _Piece(NamedTuple):
    """A run of characters, each one of `characters`, or else one of `branches`; from `low` to `high` times."""

    characters: str
    branches: tuple[tuple["_Piece", ...], ...]
    low: int = 1
    high: int = 1


def _text(piece: _Piece, chance: random.Random) -> str:
    times = piece.low if piece.low == piece.high else chance.randint(piece.low, piece.high)
    if piece.characters:
        return "".join(chance.choices(piece.characters, k=times))
    return "".join(_text(inner, chance) for _ in range(times) for inner in chance.choice(piece.branches))


_PRINTABLE = "".join(chr(code) for code in range(33, 127))
_CATEGORIES = {
    "CATEGORY_DIGIT": string.digits,
    "CATEGORY_WORD": f"{string.ascii_letters}{string.digits}_",
    "CATEGORY_SPACE": " ",
}


def _pieces(parsed: Any) -> tuple[_Piece, ...]:
    return tuple(piece for operation, argument in parsed for piece in _piece(str(operation), argument))


def _piece(operation: str, argument: Any) -> Iterator[_Piece]:
    """Take what the parser of `re` makes of a pattern; what asks for no text of its own gives nothing."""
    match operation:
        case "LITERAL":
            yield _Piece(chr(argument), ())
        case "NOT_LITERAL":
            yield _Piece(_PRINTABLE.replace(chr(argument), ""), ())
        case "ANY":
            yield _Piece(_PRINTABLE, ())
        case "IN":
            yield _Piece(_class(argument), ())
        case "BRANCH":
            yield _Piece("", tuple(_pieces(branch) for branch in argument[1]))
        case "SUBPATTERN":
            yield _Piece("", (_pieces(argument[-1]),))
        case "ATOMIC_GROUP":
            yield _Piece("", (_pieces(argument),))
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            low, high, inside = argument
            yield _Piece("", (_pieces(inside),), low, min(int(high), low + _MORE))


def _class(members: list[tuple[Any, Any]]) -> str:
    """Return the printable characters of a class."""
    named: set[str] = set()
    complement = False
    for kind, argument in members:
        match str(kind):
            case "NEGATE":
                complement = True
            case "LITERAL":
                named.add(chr(argument))
            case "RANGE":
                named |= {character for character in _PRINTABLE if argument[0] <= ord(character) <= argument[1]}
            case _:
                named |= set(_CATEGORIES.get(str(argument), "~"))
    return "".join(character for character in _PRINTABLE if (character in named) != complement) or " "

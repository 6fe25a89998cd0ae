"""Finds whatever a schema leaves open.

A closed schema spells out everything that it admits. Every object lists its members. Every text has an enum, or an
anchored pattern and a maximum length. Every number and every array has bounds. A keyword that a validator would ignore
is refused.
"""

import functools
import re
import string
from collections.abc import Iterator, Mapping
from typing import Any

# More than any public text or list needs. A schema that needs more describes a document, not an event.
MAX_LENGTH = 1024
MAX_ITEMS = 1024

# Clients whose JSON numbers are doubles lose digits of larger integers.
MAX_NUMBER = 2**53 - 1

# How many different characters a pattern may name. Letters, digits and some signs fit; printable ASCII has 95.
MAX_ALPHABET = 80

DIALECT = "https://json-schema.org/draft/2020-12/schema"

# `$id` is not among them, since it changes the target of every `$ref` below it.
_ANNOTATIONS = {"$comment", "title", "description", "examples"}
_KEYWORDS: dict[str, set[str]] = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "minItems", "maxItems", "uniqueItems"},
    "string": {"pattern", "minLength", "maxLength"},
    "integer": {"minimum", "maximum"},
    "number": {"minimum", "maximum"},
    "boolean": set(),
    "null": set(),
}

# The name must be plain: in a JSON Pointer, `a/b`, `a~1b` and `%61` stand for something else.
_REFERENCE = re.compile(r"#/\$defs/([A-Za-z0-9_-]+)")

# The member names that a closed schema admits, as a tree. None is a leaf. An array has the tree of its items.
Names = dict[str, "Names | None"]


def findings(schema: Any, root: Any = None, path: str = "$", refs: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield each fault that leaves `schema` open, as `path: reason`. A closed schema has no faults."""
    if not isinstance(schema, Mapping):
        yield f"{path}: a schema must be an object"
        return
    keywords = schema.keys() - _ANNOTATIONS
    if root is None:
        root = schema
        keywords -= {"$schema", "$defs"}
        yield from _root_findings(schema)
    if "$ref" in schema:
        yield from _ref_findings(schema, keywords, root, path, refs)
    elif "const" in schema or "enum" in schema:
        yield from _choice_findings(schema, keywords, path)
    elif "anyOf" in schema or "oneOf" in schema:
        yield from _union_findings(schema, keywords, root, path, refs)
    elif not isinstance(schema.get("type"), str) or schema["type"] not in _KEYWORDS:
        yield f"{path}: a schema needs one known type, an enum, a const, a union or a $ref"
    else:
        kind = schema["type"]
        for keyword in sorted(keywords - {"type"} - _KEYWORDS[kind]):
            yield f"{path}: the keyword {keyword!r} is not allowed for the type {kind!r}"
        if kind == "object":
            yield from _object_findings(schema, root, path, refs)
        elif kind == "array":
            yield from _array_findings(schema, root, path, refs)
        elif kind == "string":
            yield from _string_findings(schema, path)
        elif kind in ("integer", "number") and not all(
            type(schema.get(bound)) in (int, float) and abs(schema[bound]) <= MAX_NUMBER
            for bound in ("minimum", "maximum")
        ):
            yield f"{path}: a number needs a minimum and a maximum, both between -{MAX_NUMBER} and {MAX_NUMBER}"


def _root_findings(schema: Mapping[str, Any]) -> Iterator[str]:
    if schema.get("$schema", DIALECT) != DIALECT:
        yield f"$: the $schema must be {DIALECT}"
    definitions = schema.get("$defs", {})
    if not isinstance(definitions, Mapping):
        yield "$.$defs: the $defs must be an object"
        return
    # Definitions that no $ref names are checked too: with an `$id`, one of them could replace another.
    for name, definition in definitions.items():
        yield from findings(definition, schema, f"$.$defs.{name}")


def _ref_findings(
    schema: Mapping[str, Any], keywords: set[str], root: Any, path: str, refs: tuple[str, ...]
) -> Iterator[str]:
    target = schema["$ref"]
    if keywords != {"$ref"}:
        yield f"{path}: no other keyword is allowed beside a $ref"
    if target in refs:
        yield f"{path}: the $ref {target!r} refers back to itself"
    elif _resolve(root, target) is None:
        yield f"{path}: the $ref {target!r} does not refer to a schema in $defs"
    else:
        yield from findings(_resolve(root, target), root, path, (*refs, target))


def _resolve(root: Any, target: Any) -> Any:
    reference = _REFERENCE.fullmatch(target) if isinstance(target, str) else None
    if reference is None or not isinstance(root.get("$defs"), Mapping):
        return None
    return root["$defs"].get(reference[1])


def _choice_findings(schema: Mapping[str, Any], keywords: set[str], path: str) -> Iterator[str]:
    for keyword in sorted(keywords - {"const", "enum", "type"}):
        yield f"{path}: the keyword {keyword!r} is not allowed beside an enum or a const"
    choices = schema["enum"] if "enum" in schema else [schema["const"]]
    if not isinstance(choices, list) or not choices:
        yield f"{path}: an enum must list at least one value"
    elif any(isinstance(choice, (dict, list)) for choice in choices):
        yield f"{path}: an enum or a const may have only texts, numbers, booleans and null as values"


def _union_findings(
    schema: Mapping[str, Any], keywords: set[str], root: Any, path: str, refs: tuple[str, ...]
) -> Iterator[str]:
    if len(keywords) != 1:
        yield f"{path}: no other keyword is allowed beside anyOf or oneOf"
    for keyword in keywords & {"anyOf", "oneOf"}:
        branches = schema[keyword]
        if not isinstance(branches, list) or not branches:
            yield f"{path}: {keyword} must list at least one schema"
            continue
        for i, branch in enumerate(branches):
            yield from findings(branch, root, f"{path}.{keyword}[{i}]", refs)


def _object_findings(schema: Mapping[str, Any], root: Any, path: str, refs: tuple[str, ...]) -> Iterator[str]:
    properties = schema.get("properties")
    if schema.get("additionalProperties") is not False:
        yield f"{path}: an object must set additionalProperties to false"
    if not isinstance(properties, Mapping):
        yield f"{path}: an object must list its properties"
        return
    required = schema.get("required", [])
    if not isinstance(required, list) or any(type(name) is not str or name not in properties for name in required):
        yield f"{path}: required must be a list of names from the properties"
    for name, member in properties.items():
        yield from findings(member, root, f"{path}.{name}", refs)


def _array_findings(schema: Mapping[str, Any], root: Any, path: str, refs: tuple[str, ...]) -> Iterator[str]:
    if type(schema.get("maxItems")) is not int or not 0 <= schema["maxItems"] <= MAX_ITEMS:
        yield f"{path}: an array needs a maxItems of at most {MAX_ITEMS}"
    if "items" not in schema:
        yield f"{path}: an array needs a schema for its items"
    else:
        yield from findings(schema["items"], root, f"{path}[]", refs)


def _string_findings(schema: Mapping[str, Any], path: str) -> Iterator[str]:
    if type(schema.get("maxLength")) is not int or not 0 <= schema["maxLength"] <= MAX_LENGTH:
        yield f"{path}: a text without an enum needs a maxLength of at most {MAX_LENGTH}"
    pattern = schema.get("pattern")
    if not isinstance(pattern, str):
        yield f"{path}: a text needs an enum or a pattern"
        return
    reason = _pattern_fault(pattern)
    if reason:
        yield f"{path}: the pattern {reason}"


# A subset of the patterns of ECMA-262. Every engine reads it in the same way, and it names each character that it
# admits: characters, classes that list their characters, \d and \w, groups and quantifiers. The dot, complements,
# look-around and set operations are left out.
_ESCAPED = r"\\[\^$\\.*+?()\[\]{}|/]"
_IN_CLASS = rf"(?:{_ESCAPED}|\\-|[^\\\[\]])"
_PIECE = re.compile(
    rf"(?P<listed>\[(?!\^)(?:(?!--|&&|~~|\|\|)(?:\\[dw]|{_IN_CLASS}))+\])"
    rf"|(?P<char>{_ESCAPED}|[^\^$\\.*+?()\[\]{{}}|])"
    r"|(?P<shorthand>\\[dw])"
    r"|(?P<open>\((?:\?:|(?!\?)))"
    r"|(?P<close>\))"
    r"|(?P<bar>\|)"
    r"|(?P<quantifier>(?:[*+?]|\{[0-9]+(?:,[0-9]*)?\})\??(?![*+?{]))",
)
_LISTED = re.compile(rf"(?P<shorthand>\\[dw])|(?P<low>{_IN_CLASS})(?:-(?P<high>{_IN_CLASS}))?")
_SHORTHANDS = {r"\d": set(string.digits), r"\w": set(string.ascii_letters + string.digits + "_")}


def _pattern_fault(pattern: str) -> str | None:
    """Return the reason why a pattern admits more than it names, or None if it does not."""
    at, end, depth = 1, len(pattern) - 1, 0
    alphabet: set[str] = set()
    if end < 1 or pattern[0] != "^" or pattern[end] != "$":
        return "is not anchored at both ends"
    while at < end:
        piece = _PIECE.match(pattern, at)
        if piece is None:
            return f"has {pattern[at : at + 4]!r}, but may have only characters, listed classes, groups and quantifiers"
        text = piece[0]
        match piece.lastgroup:
            case "open":
                depth += 1
            case "close":
                depth -= 1
            case "bar" if depth == 0:
                return "has an alternative outside a group, so neither alternative is anchored at both ends"
            case "listed":
                alphabet |= _listed(text)
            case "shorthand":
                alphabet |= _SHORTHANDS[text]
            case "char":
                alphabet.add(text[-1])
        at = piece.end()
    if at != end:
        return "is not anchored at both ends"
    if len(alphabet) > MAX_ALPHABET:
        return f"names more than {MAX_ALPHABET} different characters, so it admits nearly any text"
    try:
        re.compile(pattern)
    except re.error:
        return "is not a valid regular expression"
    return None


def _listed(text: str) -> set[str]:
    """Return the characters of a class. A long range is cut where it already has too many."""
    characters: set[str] = set()
    for item in _LISTED.finditer(text[1:-1]):
        if item["shorthand"]:
            characters |= _SHORTHANDS[item["shorthand"]]
        else:
            low = ord(item["low"][-1])
            high = ord(item["high"][-1]) if item["high"] else low
            characters.update(map(chr, range(low, min(high, low + MAX_ALPHABET) + 1)))
    return characters


def member_names(schema: Mapping[str, Any], root: Mapping[str, Any] | None = None) -> Names | None:
    """Return the tree of the member names that a closed schema admits, None for a leaf."""
    root = schema if root is None else root
    if "$ref" in schema:
        return member_names(_resolve(root, schema["$ref"]), root)
    branches = schema.get("anyOf") or schema.get("oneOf")
    if branches:
        return functools.reduce(_merged, (member_names(branch, root) for branch in branches))
    if "properties" in schema:
        return {name: member_names(member, root) for name, member in schema["properties"].items()}
    if "items" in schema:
        return member_names(schema["items"], root)
    return None


def _merged(mine: Names | None, theirs: Names | None) -> Names | None:
    if not mine or not theirs:
        return mine or theirs
    return {name: _merged(mine.get(name), theirs.get(name)) for name in {**mine, **theirs}}


def choices(schema: Mapping[str, Any], path: tuple[str, ...], root: Mapping[str, Any] | None = None) -> int | None:
    """Return the largest number of values that a closed schema admits for the member at `path`.

    The number is 0 if the schema has no such member. None stands for a text without an enum, a number that may have a
    fraction, an object or an array.
    """
    root = schema if root is None else root
    if "$ref" in schema:
        return choices(_resolve(root, schema["$ref"]), path, root)
    branches = schema.get("anyOf") or schema.get("oneOf")
    if branches:
        counts = [choices(branch, path, root) for branch in branches]
        return None if None in counts else sum(count for count in counts if count is not None)
    if "items" in schema:
        return choices(schema["items"], path, root) if path else None
    if path:
        member = schema.get("properties", {}).get(path[0])
        return 0 if member is None else choices(member, path[1:], root)
    if "const" in schema or "enum" in schema:
        return len(schema["enum"]) if "enum" in schema else 1
    if schema.get("type") == "integer":
        return int(schema["maximum"] - schema["minimum"]) + 1
    return {"boolean": 2, "null": 1}.get(schema["type"])

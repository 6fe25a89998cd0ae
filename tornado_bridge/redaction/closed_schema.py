"""Refuses schemas that leave anything open.

Whatever such a schema admits is spelled out in it: every object lists its members, every text is an enum or an
anchored pattern of bounded length, every number and array has its bounds, and no keyword is one that a validator
would pass over.
"""

import functools
import re
import string
from collections.abc import Iterator, Mapping
from typing import Any

# Longer than any public text; a schema that needs more is a document, not an event.
MAX_LENGTH = 1024
MAX_ITEMS = 1024

# Past it the JSON readers of clients lose digits.
MAX_NUMBER = 2**53 - 1

# How many different characters a pattern may name: letters, digits and some signs; printable ASCII is 95.
MAX_ALPHABET = 80

DIALECT = "https://json-schema.org/draft/2020-12/schema"

# `$id` is none of them: it changes what every `$ref` below it means.
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

# A plain name: a JSON Pointer reads `a/b`, `a~1b` and `%61` as something else.
_REFERENCE = re.compile(r"#/\$defs/([A-Za-z0-9_-]+)")

# The member names that a closed schema admits, as a tree: None is a leaf, the tree of an array that of its items.
Names = dict[str, "Names | None"]


def findings(schema: Any, root: Any = None, path: str = "$", refs: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield what leaves `schema` open, each as `path: reason`; nothing where it is closed."""
    if not isinstance(schema, Mapping):
        yield f"{path}: is no schema object"
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
        yield f"{path}: has no single type"
    else:
        kind = schema["type"]
        for keyword in sorted(keywords - {"type"} - _KEYWORDS[kind]):
            yield f"{path}: the keyword {keyword!r} is not checked for a {kind}"
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
            yield f"{path}: a number needs a minimum and a maximum, neither beyond {MAX_NUMBER}"


def _root_findings(schema: Mapping[str, Any]) -> Iterator[str]:
    if schema.get("$schema", DIALECT) != DIALECT:
        yield f"$: the $schema is not {DIALECT}"
    definitions = schema.get("$defs", {})
    if not isinstance(definitions, Mapping):
        yield "$.$defs: is no object"
        return
    # Also those that nothing refers to: an `$id` in one of them could take the place of another.
    for name, definition in definitions.items():
        yield from findings(definition, schema, f"$.$defs.{name}")


def _ref_findings(
    schema: Mapping[str, Any], keywords: set[str], root: Any, path: str, refs: tuple[str, ...]
) -> Iterator[str]:
    target = schema["$ref"]
    if keywords != {"$ref"}:
        yield f"{path}: a $ref stands alone"
    if target in refs:
        yield f"{path}: the $ref {target!r} leads back to itself"
    elif _resolve(root, target) is None:
        yield f"{path}: the $ref {target!r} leads out of the file's $defs"
    else:
        yield from findings(_resolve(root, target), root, path, (*refs, target))


def _resolve(root: Any, target: Any) -> Any:
    found = _REFERENCE.fullmatch(target) if isinstance(target, str) else None
    if found is None or not isinstance(root.get("$defs"), Mapping):
        return None
    return root["$defs"].get(found[1])


def _choice_findings(schema: Mapping[str, Any], keywords: set[str], path: str) -> Iterator[str]:
    for keyword in sorted(keywords - {"const", "enum", "type"}):
        yield f"{path}: the keyword {keyword!r} beside an enum"
    choices = schema["enum"] if "enum" in schema else [schema["const"]]
    if not isinstance(choices, list) or not choices:
        yield f"{path}: an enum lists its values"
    elif any(isinstance(choice, (dict, list)) for choice in choices):
        yield f"{path}: an enum lists texts, numbers, booleans or null"


def _union_findings(
    schema: Mapping[str, Any], keywords: set[str], root: Any, path: str, refs: tuple[str, ...]
) -> Iterator[str]:
    if len(keywords) != 1:
        yield f"{path}: anyOf or oneOf stands alone"
    for keyword in keywords & {"anyOf", "oneOf"}:
        branches = schema[keyword]
        if not isinstance(branches, list) or not branches:
            yield f"{path}: {keyword} lists schemas"
            continue
        for i, branch in enumerate(branches):
            yield from findings(branch, root, f"{path}.{keyword}[{i}]", refs)


def _object_findings(schema: Mapping[str, Any], root: Any, path: str, refs: tuple[str, ...]) -> Iterator[str]:
    properties = schema.get("properties")
    if schema.get("additionalProperties") is not False:
        yield f"{path}: the object is open (additionalProperties is not false)"
    if not isinstance(properties, Mapping):
        yield f"{path}: the object lists no properties"
        return
    required = schema.get("required", [])
    if not isinstance(required, list) or any(type(name) is not str or name not in properties for name in required):
        yield f"{path}: required names a member that is not among the properties"
    for name, member in properties.items():
        yield from findings(member, root, f"{path}.{name}", refs)


def _array_findings(schema: Mapping[str, Any], root: Any, path: str, refs: tuple[str, ...]) -> Iterator[str]:
    if type(schema.get("maxItems")) is not int or not 0 <= schema["maxItems"] <= MAX_ITEMS:
        yield f"{path}: an array needs a maxItems of at most {MAX_ITEMS}"
    if "items" not in schema:
        yield f"{path}: an array needs the schema of its items"
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


# The part of ECMA-262's patterns that every engine reads alike and that names what it admits: characters, classes that
# list theirs, \d and \w, groups, quantifiers. No dot, no complement, no look-around, no set operation.
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
    """Return why a pattern admits more than it names; None where it does not."""
    at, end, depth = 1, len(pattern) - 1, 0
    alphabet: set[str] = set()
    if end < 1 or pattern[0] != "^" or pattern[end] != "$":
        return "is not anchored at both ends"
    while at < end:
        piece = _PIECE.match(pattern, at)
        if piece is None:
            return f"has {pattern[at : at + 4]!r}, which is no character, listed class, group or quantifier"
        text = piece[0]
        match piece.lastgroup:
            case "open":
                depth += 1
            case "close":
                depth -= 1
            case "bar" if depth == 0:
                return "has an alternative outside a group, which is not anchored"
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
        return f"names over {MAX_ALPHABET} different characters, which is nearly any text"
    try:
        re.compile(pattern)
    except re.error:
        return "is no regular expression"
    return None


def _listed(text: str) -> set[str]:
    """Return the characters of a class; of a range that is too long, enough to be too many."""
    found: set[str] = set()
    for part in _LISTED.finditer(text[1:-1]):
        if part["shorthand"]:
            found |= _SHORTHANDS[part["shorthand"]]
        else:
            low = ord(part["low"][-1])
            high = ord(part["high"][-1]) if part["high"] else low
            found.update(map(chr, range(low, min(high, low + MAX_ALPHABET) + 1)))
    return found


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
    """Return how many values a closed schema admits at the most for the member at `path`, 0 where it has none there.

    None for a text without an enum, a fraction, an object or an array.
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

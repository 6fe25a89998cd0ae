"""Refuses schemas that leave anything open.

Whatever such a schema admits is spelled out in it: every object lists its members, every text is an enum or an
anchored pattern of bounded length, every number and array has its bounds, and no keyword is one that a validator
would pass over.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

# Longer than any public text; a schema that needs more is a document, not an event.
MAX_LENGTH = 1024
MAX_ITEMS = 1024

_ANNOTATIONS = {"$schema", "$id", "$comment", "$defs", "title", "description", "examples"}
_KEYWORDS: dict[str, set[str]] = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "minItems", "maxItems", "uniqueItems"},
    "string": {"pattern", "minLength", "maxLength"},
    "integer": {"minimum", "maximum"},
    "number": {"minimum", "maximum"},
    "boolean": set(),
    "null": set(),
}

# The member names that a closed schema admits, as a tree: None is a leaf, the tree of an array that of its items.
Names = dict[str, "Names | None"]


def findings(schema: Any, root: Any = None, path: str = "$", refs: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield what leaves `schema` open, each as `path: reason`; nothing where it is closed."""
    root = schema if root is None else root
    if not isinstance(schema, Mapping):
        yield f"{path}: is no schema object"
        return
    keywords = schema.keys() - _ANNOTATIONS
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
            type(schema.get(bound)) in (int, float) for bound in ("minimum", "maximum")
        ):
            yield f"{path}: a number needs a minimum and a maximum"


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
    prefix = "#/$defs/"
    if not isinstance(target, str) or not target.startswith(prefix) or not isinstance(root.get("$defs"), Mapping):
        return None
    return root["$defs"].get(target.removeprefix(prefix))


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
    if not isinstance(required, list) or not set(required) <= properties.keys():
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


_TOKEN = re.compile(r"\\.|\[(?:\\.|[^\]\\])*\]|\(\?.?|.", re.DOTALL)


def _pattern_fault(pattern: str) -> str | None:
    """Return why a pattern admits more than it names; None where it does not."""
    try:
        re.compile(pattern)
    except re.error:
        return "is no regular expression"
    tokens: list[str] = _TOKEN.findall(pattern)
    if len(tokens) < 2 or tokens[0] != "^" or tokens[-1] != "$":
        return "is not anchored at both ends"
    depth = 0
    for token in tokens[1:-1]:
        if token == "(?:" or token == "(":
            depth += 1
        elif token == ")":
            depth -= 1
        elif token == "|" and depth == 0:
            return "has an alternative outside a group, which is not anchored"
        elif token in ("^", "$"):
            return "has an anchor inside"
        elif token == "." or token.startswith("[^") or token in (r"\S", r"\W", r"\D"):
            return f"has {token!r}, which admits nearly any text"
        elif token.startswith("(?") or (token[0] == "\\" and token[1] in "bBkpP123456789"):
            return f"has {token!r}, which validators read differently"
        elif token[0] == "[" and any(escape in token for escape in (r"\S", r"\W", r"\D")):
            return f"has {token!r}, which admits nearly any text"
    return None


def member_names(schema: Mapping[str, Any], root: Mapping[str, Any] | None = None) -> Names | None:
    """Return the tree of the member names that a closed schema admits, None for a leaf."""
    root = schema if root is None else root
    if "$ref" in schema:
        return member_names(_resolve(root, schema["$ref"]), root)
    branches = schema.get("anyOf") or schema.get("oneOf")
    if branches:
        merged: Names = {}
        for branch in branches:
            merged.update(member_names(branch, root) or {})
        return merged or None
    if "properties" in schema:
        return {name: member_names(member, root) for name, member in schema["properties"].items()}
    if "items" in schema:
        return member_names(schema["items"], root)
    return None

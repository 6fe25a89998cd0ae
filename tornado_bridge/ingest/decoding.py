"""Says what is wrong with a payload, and quotes nothing of it."""

import re
from typing import Any

import msgspec
from msgspec import inspect

# A longer path is left out: a type that contains itself has paths of any length.
_MAX_PATH = 128

_MISSING = re.compile(r"Object missing required field `([^`]+)`(?: - at `([^`]+)`)?").fullmatch
_WRONG = re.compile(r".* - at `([^`]+)`", re.DOTALL).fullmatch
_PATH = re.compile(r"\$(?:\.[A-Za-z_][A-Za-z0-9_-]*|\[\d+\]|\[\.\.\.\])*").fullmatch
_NAME = re.compile(r"\.([A-Za-z_][A-Za-z0-9_-]*)")
_INDEX = re.compile(r"\[\d+\]")


def explain(error: Exception, declared: frozenset[str]) -> str:
    """Return the fault of a payload in one clause, with the path of the member where the decoder gives it.

    `declared` are the names of members that may appear in the path. The decoder's own text may quote the payload.
    """
    if isinstance(error, UnicodeDecodeError):
        return "the payload is not UTF-8"
    if isinstance(error, msgspec.ValidationError):
        path = _path(str(error), declared)
        return f"a member that is read is missing or of the wrong kind{path and f': {path}'}"
    if isinstance(error, RecursionError):
        return "the payload is nested too deep"
    return "the payload is not JSON"


def member_names(reads: type[msgspec.Struct]) -> frozenset[str]:
    """Return the names of all members that a type declares, at any depth, as they are in a payload."""
    names: set[str] = set()
    seen: list[Any] = []
    waiting: list[Any] = [inspect.type_info(reads)]
    while waiting:
        kind = waiting.pop()
        if any(kind is known for known in seen):
            continue
        seen.append(kind)
        match kind:
            case inspect.StructType(fields=fields, tag_field=tag_field):
                names.update(field.encode_name for field in fields)
                if tag_field is not None:
                    names.add(tag_field)
                waiting += [field.type for field in fields]
            case (
                inspect.TypedDictType(fields=fields)
                | inspect.DataclassType(fields=fields)
                | inspect.NamedTupleType(fields=fields)
            ):
                names.update(field.encode_name for field in fields)
                waiting += [field.type for field in fields]
            case inspect.CollectionType(item_type=item):
                waiting.append(item)
            case inspect.TupleType(item_types=items):
                waiting += items
            case inspect.DictType(key_type=key, value_type=value):
                waiting += (key, value)
            case inspect.UnionType(types=types):
                waiting += types
            case inspect.Metadata(type=inner):
                waiting.append(inner)
    return frozenset(names)


def _path(text: str, declared: frozenset[str]) -> str:
    """Return the path of the member at fault out of the decoder's text, empty if it is not there or not declared."""
    if found := _MISSING(text):
        path = f"{found[2] or '$'}.{found[1]}"
    elif found := _WRONG(text):
        path = found[1]
    else:
        return ""
    if len(path) > _MAX_PATH or not _PATH(path) or not declared.issuperset(_NAME.findall(path)):
        return ""
    # The index of an item is not declared, and each would be a fault of its own in the log.
    return _INDEX.sub("[...]", path)

"""What an event type reads, as a tree: members, items, and the values at the leaves."""

import dataclasses
from typing import Any

import msgspec
from msgspec import inspect

# Kinds of JSON values that tornado_bridge.audit.literals can write.
TEXTS = ("label", "text", "number text", "moment")
ANYTHING = ("number", "integer", "epoch", *TEXTS, "boolean", "null", "array", "object")

# Structures that hold themselves are followed so far.
_MAX_DEPTH = 6


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One value that is read.

    `path` is dotted, `item_path` the same within the item of an array, where it is in one. `kinds` are those that
    the annotation admits, `choices` the JSON texts of an enumeration, `pattern` the annotation's own. Below an `open`
    one, such as a `dict` or a Raw, the annotation says nothing of the members.
    """

    path: str
    item_path: str
    kinds: tuple[str, ...]
    choices: tuple[str, ...] = ()
    pattern: str | None = None
    open: bool = False


@dataclasses.dataclass(frozen=True)
class Members:
    """An object of declared members, or an array of them where they are not `named`; a `closed` one refuses others."""

    path: str
    members: tuple[tuple[str, "Shape"], ...]
    closed: bool = False
    named: bool = True


@dataclasses.dataclass(frozen=True)
class Items:
    """An array of `item`s, from `low` to `high` of them."""

    path: str
    item: "Shape"
    low: int
    high: int


Shape = Leaf | Members | Items


def shape_of(reads: type[msgspec.Struct]) -> Shape:
    """Return the tree of a structure; raises TypeError or NameError for annotations that cannot be used."""
    return _shape(inspect.type_info(reads), "", "", 0)


def _shape(kind: inspect.Type, path: str, item_path: str, depth: int) -> Shape:
    if isinstance(kind, inspect.Metadata):
        return _shape(kind.type, path, item_path, depth)
    if depth > _MAX_DEPTH:
        return Leaf(path, item_path, ("null",))
    match kind:
        case inspect.StructType():
            tag = _tag(kind, path, item_path)
            members = tuple((field.encode_name, field.type) for field in kind.fields)
            return _members(
                path, item_path, members, depth, tag=tag, closed=kind.forbid_unknown_fields, named=not kind.array_like
            )
        case inspect.TypedDictType() | inspect.DataclassType():
            return _members(path, item_path, tuple((field.encode_name, field.type) for field in kind.fields), depth)
        case inspect.NamedTupleType():
            members = tuple((field.encode_name, field.type) for field in kind.fields)
            return _members(path, item_path, members, depth, named=False)
        case inspect.TupleType():
            members = tuple((str(i), item) for i, item in enumerate(kind.item_types))
            return _members(path, item_path, members, depth, named=False)
        case inspect.CollectionType():
            low = kind.min_length or 0
            high = max(low, min(3, 3 if kind.max_length is None else kind.max_length))
            return Items(path, _shape(kind.item_type, path, "", depth + 1), low, high)
        case inspect.UnionType():
            return _union(kind, path, item_path, depth)
    return _leaf(kind, path, item_path)


def _tag(kind: inspect.StructType, path: str, item_path: str) -> tuple[tuple[str, Shape], ...]:
    """Return the member that names the structure, where one does: it has one value."""
    if kind.tag_field is None:
        return ()
    name = kind.tag_field
    return ((name, Leaf(below(path, name), below(item_path, name), ("choice",), _json(kind.tag))),)


def _members(
    path: str,
    item_path: str,
    fields: tuple[tuple[str, inspect.Type], ...],
    depth: int,
    *,
    tag: tuple[tuple[str, Shape], ...] = (),
    closed: bool = False,
    named: bool = True,
) -> Members:
    members = tuple((name, _shape(kind, below(path, name), below(item_path, name), depth + 1)) for name, kind in fields)
    return Members(path, (*tag, *members), closed, named)


def _union(kind: inspect.UnionType, path: str, item_path: str, depth: int) -> Shape:
    """Return the first alternative that has parts; of plain values, one that may be any of them."""
    shapes = [_shape(alternative, path, item_path, depth) for alternative in kind.types]
    leaves = [shape for shape in shapes if isinstance(shape, Leaf)]
    if len(leaves) < len(shapes):
        return next(shape for shape in shapes if not isinstance(shape, Leaf))
    return Leaf(
        path,
        item_path,
        tuple(dict.fromkeys(kind for leaf in leaves for kind in leaf.kinds)),
        tuple(choice for leaf in leaves for choice in leaf.choices),
        next((leaf.pattern for leaf in leaves if leaf.pattern), None),
        any(leaf.open for leaf in leaves),
    )


def _leaf(kind: inspect.Type, path: str, item_path: str) -> Leaf:
    match kind:
        case inspect.LiteralType():
            return Leaf(path, item_path, ("choice",), tuple(text for value in kind.values for text in _json(value)))
        case inspect.EnumType():
            members = tuple(text for member in kind.cls for text in _json(member.value))
            return Leaf(path, item_path, ("choice",), members)
        case inspect.StrType():
            kinds = ("pattern", *TEXTS) if kind.pattern else TEXTS
            return Leaf(path, item_path, kinds, pattern=kind.pattern)
        case inspect.DictType():
            return Leaf(path, item_path, ("object",), open=True)
    plain = _PLAIN.get(type(kind))
    return Leaf(path, item_path, plain or ANYTHING, open=plain is None)


_PLAIN: dict[type[inspect.Type], tuple[str, ...]] = {
    inspect.NoneType: ("null",),
    inspect.BoolType: ("boolean",),
    inspect.IntType: ("integer", "epoch"),
    inspect.FloatType: ("number", "integer", "epoch"),
    inspect.DecimalType: ("number", "integer", "number text", "epoch"),
    inspect.DateTimeType: ("moment", "epoch"),
    inspect.DateType: ("date",),
    inspect.TimeType: ("time",),
    inspect.TimeDeltaType: ("duration",),
    inspect.UUIDType: ("uuid",),
    inspect.BytesType: ("base64",),
}


def _json(value: Any) -> tuple[str, ...]:
    return (msgspec.json.encode(value).decode(),)


def below(path: str, name: str) -> str:
    """Return the dotted path of a member."""
    return f"{path}.{name}" if path else name


def leaves(shape: Shape) -> list[Leaf]:
    """Return every value of a tree, in order."""
    match shape:
        case Leaf():
            return [shape]
        case Items():
            return leaves(shape.item)
    return [leaf for _, member in shape.members for leaf in leaves(member)]


def arrays(shape: Shape) -> list[str]:
    """Return the path of every array of a tree."""
    match shape:
        case Leaf():
            return []
        case Items():
            return [shape.path, *arrays(shape.item)]
    return [path for _, member in shape.members for path in arrays(member)]

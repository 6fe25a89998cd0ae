"""tornado_bridge.redaction.shapes: the members that a structure reads, as a tree."""

import dataclasses
import datetime
import decimal
import enum
import uuid
from typing import Annotated, Any, Literal, NamedTuple, Optional, TypedDict

import msgspec
import pytest

from tornado_bridge.redaction.shapes import ANYTHING, Items, Leaf, Members, arrays, below, leaves, shape_of


class Side(enum.Enum):
    BUY = "buy"
    SELL = "sell"


class Level(msgspec.Struct, rename="camel"):
    best_price: msgspec.Raw


class Pair(NamedTuple):
    price: float
    size: float


class Typed(TypedDict):
    inner: int


@dataclasses.dataclass
class Data:
    inner: bool


class Node(msgspec.Struct):
    child: Optional["Node"] = None


class Tagged(msgspec.Struct, tag_field="kind", tag="trade", forbid_unknown_fields=True):
    value: int


class Row(msgspec.Struct, array_like=True):
    first: int
    second: str


class Deep(msgspec.Struct):
    levels: list[Level]
    pair: Pair
    both: tuple[int, str]
    typed: Typed
    data: Data
    row: Row
    tagged: Tagged


def shape(annotation: Any) -> Any:
    """Return the shape of a member with that annotation."""
    structure = msgspec.defstruct("Structure", [("member", annotation)])
    whole = shape_of(structure)
    assert isinstance(whole, Members)
    return whole.members[0][1]


@pytest.mark.parametrize(
    ("annotation", "kinds"),
    [
        (int, ("integer", "epoch")),
        (float, ("number", "integer", "epoch")),
        (decimal.Decimal, ("number", "integer", "number text", "epoch")),
        (str, ("label", "text", "number text", "moment")),
        (bool, ("boolean",)),
        (None, ("null",)),
        (datetime.datetime, ("moment", "epoch")),
        (datetime.date, ("date",)),
        (datetime.time, ("time",)),
        (datetime.timedelta, ("duration",)),
        (uuid.UUID, ("uuid",)),
        (bytes, ("base64",)),
        (dict[str, int], ("object",)),
        (msgspec.Raw, ANYTHING),
        (Any, ANYTHING),
        (int | None, ("integer", "epoch", "null")),
        (Annotated[int, msgspec.Meta(ge=1)], ("integer", "epoch")),
        (Annotated[bool, msgspec.Meta(title="It")], ("boolean",)),
        (Side, ("choice",)),
        (Literal["a", 1], ("choice",)),
        (Literal["a"] | bool, ("boolean", "choice")),
    ],
)
def test_an_annotation_gives_the_kinds_of_a_value(annotation: Any, kinds: tuple[str, ...]) -> None:
    assert sorted(shape(annotation).kinds) == sorted(kinds)


@pytest.mark.parametrize(("annotation", "open"), [(msgspec.Raw, True), (dict[str, int], True), (str, False)])
def test_what_leaves_its_members_open_is_open(annotation: Any, open: bool) -> None:
    assert shape(annotation).open is open


def test_an_enumeration_has_its_values_as_json() -> None:
    assert (shape(Side).choices, shape(Literal["a", 1]).choices) == (('"buy"', '"sell"'), ("1", '"a"'))


def test_a_text_has_its_pattern() -> None:
    found = shape(Annotated[str, msgspec.Meta(pattern="^a$")])
    assert (found.pattern, found.kinds[0]) == ("^a$", "pattern")


def test_a_pattern_survives_a_union() -> None:
    assert shape(Annotated[str, msgspec.Meta(pattern="^a$")] | None).pattern == "^a$"


@pytest.mark.parametrize(
    ("annotation", "bounds"),
    [
        (list[int], (0, 3)),
        (set[int], (0, 3)),
        (Annotated[list[int], msgspec.Meta(min_length=2, max_length=500)], (2, 3)),
        (Annotated[list[int], msgspec.Meta(min_length=5)], (5, 5)),
        (Annotated[list[int], msgspec.Meta(max_length=1)], (0, 1)),
    ],
)
def test_an_array_has_few_items(annotation: Any, bounds: tuple[int, int]) -> None:
    found = shape(annotation)
    assert (found.low, found.high) == bounds


def test_a_union_with_a_structure_is_the_structure() -> None:
    assert isinstance(shape(Level | None), Members)


def test_paths_are_dotted_and_named_as_in_the_payload() -> None:
    paths = [leaf.path for leaf in leaves(shape_of(Deep))]
    assert paths == [
        "levels.bestPrice",
        "pair.0",
        "pair.1",
        "both.0",
        "both.1",
        "typed.inner",
        "data.inner",
        "row.first",
        "row.second",
        "tagged.kind",
        "tagged.value",
    ] or paths == [path.replace("pair.0", "pair.price").replace("pair.1", "pair.size") for path in paths]


def test_a_path_within_an_item_leaves_out_the_array() -> None:
    (price, *_) = leaves(shape_of(Deep))
    assert (price.path, price.item_path) == ("levels.bestPrice", "bestPrice")


def test_what_is_written_as_an_array_has_no_names() -> None:
    members = dict(shape_of(Deep).members)  # type: ignore[union-attr]
    assert [name for name, member in members.items() if isinstance(member, Members) and not member.named] == [
        "pair",
        "both",
        "row",
    ]


def test_a_structure_that_refuses_others_is_closed() -> None:
    assert (shape(Tagged).closed, shape(Level).closed) == (True, False)


def test_a_tag_is_a_member_of_one_value() -> None:
    assert shape(Tagged).members[0] == ("kind", Leaf("member.kind", "member.kind", ("choice",), ('"trade"',)))


def test_a_structure_that_holds_itself_ends() -> None:
    assert [leaf.kinds for leaf in leaves(shape_of(Node))] == [("null",)]


def test_arrays_are_found_by_their_path() -> None:
    nested = shape(list[list[int]])
    assert (arrays(shape_of(Deep)), arrays(nested), isinstance(nested.item, Items)) == (
        ["levels"],
        ["member", "member"],
        True,
    )


def test_below_nothing_is_the_name() -> None:
    assert (below("", "a"), below("a", "b")) == ("a", "a.b")

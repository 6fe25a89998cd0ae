"""Events as they are made: a tree of parts, any of which can be written otherwise."""

import dataclasses
from collections.abc import Iterator, Mapping

from tornado_bridge.redaction.declaration import Input
from tornado_bridge.redaction.shapes import Leaf


@dataclasses.dataclass(frozen=True, eq=False)
class Slot:
    """One value of an event; `leaf` is its declaration, None for what is not read."""

    given: Input
    literal: str
    leaf: Leaf | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """An object of members, whose names are JSON texts, or an array, whose items have none.

    `given` is for an array of any length: the length is an input too.
    """

    members: tuple[tuple[str, "Part"], ...]
    array: bool = False
    given: Input | None = None


Part = Slot | Group

# What stands for a part instead; None leaves it out.
Changes = Mapping[Part, str | None]
UNCHANGED: Changes = {}


@dataclasses.dataclass(frozen=True)
class Draft:
    """An event that can be written with single parts changed."""

    source: tuple[str | Slot, ...]
    payload: Part

    def write(self, changes: Changes = UNCHANGED) -> tuple[str, bytes]:
        """Return the source channel and the payload."""
        pieces = (piece if isinstance(piece, str) else changes.get(piece, piece.literal) or "" for piece in self.source)
        return ":".join(pieces), (_written(self.payload, changes) or "").encode()

    def slots(self) -> list[Slot]:
        return [*(piece for piece in self.source if isinstance(piece, Slot)), *_slots(self.payload)]

    def arrays(self) -> list[tuple[Group, Input]]:
        """Return the arrays whose length an event may choose."""
        return [(part, part.given) for part in _groups(self.payload) if part.given is not None]


def literal(part: Part) -> str:
    """Return the JSON text of a part."""
    return _written(part, UNCHANGED) or ""


def _written(part: Part, changes: Changes) -> str | None:
    if part in changes:
        return changes[part]
    if isinstance(part, Slot):
        return part.literal
    texts = [(name, _written(member, changes)) for name, member in part.members]
    if part.array:
        return f"[{','.join('null' if text is None else text for _, text in texts)}]"
    return f"{{{','.join(f'{name}:{text}' for name, text in texts if text is not None)}}}"


def _slots(part: Part) -> Iterator[Slot]:
    if isinstance(part, Slot):
        yield part
    else:
        for _, member in part.members:
            yield from _slots(member)


def _groups(part: Part) -> Iterator[Group]:
    if isinstance(part, Group):
        yield part
        for _, member in part.members:
            yield from _groups(member)

"""What an event type declares to let out, and of what: the flows from its inputs to its outputs.

An input is a member that is read, by its dotted path, or a named part of the source channel. An output is a member of
`data`, by its dotted path, or `channel`, or `(envelopes)`, their number. Two more are looked at and cannot be declared:
`(presence)`, whether there is an envelope at all, and `(order)`, that of the members.
"""

import dataclasses
import json
import re

from tornado_bridge.events import EventType
from tornado_bridge.redaction import closed_schema
from tornado_bridge.redaction.shapes import Items, Members, Shape, arrays, leaves, shape_of

CHANNEL = "channel"
ENVELOPES = "(envelopes)"
PRESENCE = "(presence)"
ORDER = "(order)"
EXCHANGE = "(exchange)"
EARLIER = "(earlier events)"

PUBLISHED = "published"
DERIVED = "derived"
CONFIGURED = "configured"
VALIDITY = "validity"
UNDECLARED = "undeclared"

# A shorter name is in many a word.
_MIN_NAME = 4


@dataclasses.dataclass(frozen=True)
class Input:
    """Where a value of an event comes from.

    `path` is dotted; `item_path` the same within the item of the innermost array. `read` is false for a member that
    the event type does not read; a `part` is one of the source channel's.
    """

    path: str
    item_path: str = ""
    read: bool = True
    part: bool = False

    @property
    def label(self) -> str:
        return f"{{{self.path}}}" if self.part else self.path


class Declaration:
    """The flows that an event type declares.

    Raises ValueError, in one clause, where it names what is neither read nor a part of its source, or neither a member
    of its schema nor its channel; TypeError or NameError for a structure with annotations that cannot be used.
    """

    def __init__(self, event_type: EventType) -> None:
        self.shape = shape_of(event_type.reads)
        self.parts = tuple(name for name in event_type.source_form.parameters if name != "exchange_id")
        self.published = {output: (source,) for output, source in event_type.publishes.items()}
        self.derived = {
            output: (sources,) if isinstance(sources, str) else tuple(sources)
            for output, sources in event_type.derives.items()
        }
        self._channel_parts = event_type.channel_form.parameters
        self._event_type = event_type
        names = closed_schema.member_names(event_type.emits) or {}
        self.outputs = tuple(_paths(names.get("data"), ""))
        self._check(event_type.name)

    def _check(self, name: str) -> None:
        for output, sources in (*self.published.items(), *self.derived.items()):
            if output not in (CHANNEL, ENVELOPES, *self.outputs):
                raise ValueError(f"{name!r} declares where {output!r} comes from, which its schema does not list")
            for source in sources:
                if source not in self.parts and not _reaches(self.shape, source):
                    raise ValueError(f"{name!r} declares {output!r} to come from {source!r}, which it does not read")

    def flow(self, output: str, given: Input) -> str:
        """Return as what a flow is declared; UNDECLARED where it is not."""
        if given.path == EXCHANGE:
            return CONFIGURED
        if given.path == EARLIER:
            return UNDECLARED
        if output == PRESENCE:
            return VALIDITY if given.read else UNDECLARED
        if not given.read:
            return UNDECLARED
        if self._same_name(output, given) or _above(given.path, self.published.get(output, ())):
            return PUBLISHED
        if _above(given.path, self.derived.get(output, ())):
            return DERIVED
        if given.path in arrays(self.shape):
            # How many items there are shows in whatever any of them shows in.
            items = [
                Input(leaf.path, leaf.item_path) for leaf in leaves(self.shape) if _above(given.path, (leaf.path,))
            ]
            inside = [self.flow(output, item) for item in items if item.path != given.path]
            return next((kind for kind in (PUBLISHED, DERIVED) if kind in inside), UNDECLARED)
        return UNDECLARED

    def _same_name(self, output: str, given: Input) -> bool:
        if output == CHANNEL:
            return given.path in self._channel_parts or given.item_path in self._channel_parts
        if output == ENVELOPES:
            # Nor is it hidden how many envelopes they make.
            return given.path in arrays(self.shape) and any(
                self.flow(member, given) != UNDECLARED for member in self.outputs
            )
        return output in (given.path, given.item_path) or output.startswith(f"{given.path}.")

    def explains(self, output: str) -> bool:
        """Tell whether any flow to an output is declared."""
        inputs = [
            *(Input(leaf.path, leaf.item_path) for leaf in leaves(self.shape)),
            *(Input(name) for name in self.parts),
        ]
        return any(self.flow(output, given) != UNDECLARED for given in inputs)

    def choices(self, output: str) -> int | None:
        """Return how many values the schema admits for an output at the most; None for a text or a fraction."""
        if output not in self.outputs:
            return None
        return closed_schema.choices(self._event_type.emits, ("data", *output.split(".")))

    def private_names(self) -> re.Pattern[str]:
        """Return a pattern of the names that are read and stand in nothing public."""
        event_type = self._event_type
        public = json.dumps([event_type.name, event_type.channel, event_type.emits])
        names = {leaf.path.rpartition(".")[2] for leaf in leaves(self.shape)}
        private = sorted(name for name in names if len(name) >= _MIN_NAME and not re.search(_word(name), public))
        return re.compile("|".join(map(_word, private)) or "(?!)")

    def inputs(self) -> set[str]:
        """Return the label of every input that is declared, those below open members among them."""
        reads = {leaf.path for leaf in leaves(self.shape)} | {source for _, source in self.pairs()}
        return reads | {Input(name, part=True).label for name in self.parts}

    def pairs(self) -> list[tuple[str, str]]:
        """Return each output that is declared by name, with each input declared for it."""
        declared = (*self.published.items(), *self.derived.items())
        return [(output, source) for output, sources in declared for source in sources]


def _word(name: str) -> str:
    return rf"\b{re.escape(name)}\b"


def _paths(names: "closed_schema.Names | None", path: str) -> list[str]:
    found: list[str] = []
    for name, inner in (names or {}).items():
        whole = f"{path}.{name}" if path else name
        found += [whole, *_paths(inner, whole)]
    return found


def _above(path: str, declared: tuple[str, ...]) -> bool:
    """Tell whether a path is one of those declared, or holds one: the length of an array shows with its items."""
    return any(source == path or source.startswith(f"{path}.") for source in declared)


def _reaches(shape: Shape, path: str) -> bool:
    match shape:
        case Items():
            return shape.path == path or _reaches(shape.item, path)
        case Members():
            return shape.path == path != "" or any(_reaches(member, path) for _, member in shape.members)
    return shape.path == path or (shape.open and path.startswith(f"{shape.path}."))

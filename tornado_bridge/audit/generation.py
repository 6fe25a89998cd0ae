"""Events out of a seed: what an event type reads, learned by trying, amid members that it does not read.

Every value that is not read is a canary, and so is every name: a mark of its own that `canaries` finds again.
"""

import json
import random
import re
from collections.abc import Iterator
from typing import Any

from tornado_bridge.audit import vocabulary
from tornado_bridge.audit.drafts import Draft, Group, Part, Slot, literal
from tornado_bridge.audit.literals import PART, Literals, escaped
from tornado_bridge.audit.rehearsal import Rehearsal
from tornado_bridge.redaction.declaration import Declaration, Input
from tornado_bridge.redaction.shapes import ANYTHING, Items, Leaf, Members, Shape, below
from tornado_bridge.registry import Route

# Neither is in what is generated for public members, but once in some 10**11 characters.
TEXT_MARK = "canaryq"
NUMBER_MARK = "770077007700"

# The path of a member whose name is a canary.
UNKNOWN = "(unknown members)"

_CANARY = re.compile(rf"{TEXT_MARK}\w*|7[.]?{NUMBER_MARK[1:]}[0-9]*", re.IGNORECASE)

# The exchange of generated events. The routes of an audit and the bridge of a plugin's tests are made for it.
EXCHANGE_ID = "1"
EXCHANGE_NAME = "coinbase"

# Attempts to find a valid event; and values tried of each kind, once there is one.
_ATTEMPTS = 20_000
_VALID_ATTEMPTS = 500
_SAMPLES = 6

# Names of the code that are tried as members of an open object.
_MAX_NAMES = 6


def canaries(text: str) -> list[str]:
    """Return the marks of what is not read in a text."""
    return _CANARY.findall(text)


class Generator:
    """Makes events of one type for one exchange; the same seed makes the same ones."""

    def __init__(self, route: Route, declaration: Declaration, seed: int) -> None:
        self._chance = random.Random(seed)
        event_type = route.event_type
        self._form = event_type.source_form
        self._declaration = declaration
        hook: Any = route.plugin.transform
        words = vocabulary.of(hook.get_hookimpls()[0].function)
        self._names = words.names
        self._constants = (*map(str, words.numbers), *map(json.dumps, words.words))
        rules = {**event_type.channel_form.rules, **event_type.source_form.rules}
        rules.pop("exchange_id", None)
        self._parts = tuple(PART + name for name in rules)
        self._literals = Literals(words, rules, self._chance)
        # The kinds that a read member may be of, by its path; learning narrows them.
        self._kinds: dict[str, tuple[str, ...]] = {}
        self._tried: dict[str, str] = {}
        self._known: Draft | None = None
        self._canaries = 0

    def learn(self, rehearsal: Rehearsal) -> bool:
        """Find out of which kinds the members of a valid event are; False where no valid event is found.

        An event that is not valid for a new reason is a step forward.
        """
        steps: dict[str, dict[str, str]] = {}
        for _ in range(_ATTEMPTS):
            self._tried = dict(self._chance.choice(list(steps.values()))) if steps else {}
            if self._tried:
                del self._tried[self._chance.choice(list(self._tried))]
            draft = self.draft(bare=True)
            result = rehearsal.run(*draft.write())
            if result.envelopes:
                self._known = draft
                self._narrow(draft, rehearsal)
                return True
            reason = f"{result.outcome} {result.cause}"
            # Also now and then for a reason that is known: where all have one, this walks.
            if reason not in steps or self._chance.random() < 0.3:
                steps[reason] = dict(self._tried)
        return False

    def _narrow(self, draft: Draft, rehearsal: Rehearsal) -> None:
        # How often each kind was valid, by path; of the items of an array, where it was so least.
        found: dict[str, dict[str, int]] = {path: {} for path in self._tried}
        for slot in draft.slots():
            if slot.leaf is not None:
                counts = found[slot.given.path]
                for kind in dict.fromkeys(self._possible(slot.leaf)):
                    events = (draft.write({slot: self._write(kind, slot.leaf)}) for _ in range(_SAMPLES))
                    valid = sum(bool(rehearsal.run(*event).envelopes) for event in events)
                    counts[kind] = min(valid, counts.get(kind, valid))
        self._kinds = {
            path: (self._tried[path], *(kind for kind, count in counts.items() for _ in range(count)))
            for path, counts in found.items()
        }
        self._tried = {}

    def valid_draft(self, rehearsal: Rehearsal) -> Draft:
        """Return a new event that is valid; where they are too rare, the one that learning has found."""
        assert self._known is not None, "learn first"
        drafts = (self.draft() for _ in range(_VALID_ATTEMPTS))
        return next((draft for draft in drafts if rehearsal.run(*draft.write()).envelopes), self._known)

    def draft(self, *, bare: bool = False) -> Draft:
        """Return a new event; a `bare` one has nothing around what is read."""
        source: list[str | Slot] = []
        for part in self._form.parts:
            name = part[1:-1]
            if not part.startswith("{"):
                source.append(part)
            elif name == "exchange_id":
                source.append(EXCHANGE_ID)
            else:
                source.append(Slot(Input(name, part=True), self._literals.part(name)))
        return Draft(tuple(source), self._part(self._declaration.shape, bare))

    def values(self, part: Part, count: int) -> Iterator[str | None]:
        """Yield other values for a part; for one that is read, first as many of those that the code compares with."""
        if isinstance(part, Slot) and part.leaf is not None:
            yield from self._sample(self._constants, count)
        for _ in range(count):
            yield self.instead(part)

    def instead(self, part: Part) -> str | None:
        """Return another value for a part, for an array its items in another number; None leaves it out."""
        if isinstance(part, Group):
            texts = [literal(item) for _, item in part.members]
            return f"[{','.join((texts * 2)[: self._chance.randrange(2 * len(texts) + 1)])}]"
        if part.given.part:
            return self._literals.part(part.given.path)
        choice = self._chance.random()
        if part.leaf is None:
            return None if choice < 0.1 else self._canary()
        if choice < 0.05:
            return None
        known = self._kinds.get(part.given.path)
        kinds = self._possible(part.leaf) if known is None or choice < 0.2 else known
        if choice > 0.7 and "label" in kinds:
            # What the code compares with moves most.
            kinds = ("label",)
        return self._write(self._chance.choice(kinds), part.leaf)

    # The parts

    def _part(self, shape: Shape, bare: bool) -> Part:
        match shape:
            case Leaf():
                return self._leaf(shape, bare)
            case Items():
                # Oftener the most: some flows need several items.
                low = max(shape.low, min(shape.high, 1))
                count = max(self._chance.randint(low, shape.high), self._chance.randint(low, shape.high))
                items = tuple(("", self._part(shape.item, bare)) for _ in range(count))
                return Group(items, array=True, given=Input(shape.path))
        if not shape.named:
            return Group(tuple(("", self._part(member, bare)) for _, member in shape.members), array=True)
        members = [(self._spelled(name), self._part(member, bare)) for name, member in shape.members]
        if not (bare or shape.closed):
            members += self._surroundings(shape)
            self._chance.shuffle(members)
        return Group(tuple(members))

    def _leaf(self, leaf: Leaf, bare: bool) -> Part:
        kind = self._tried.get(leaf.path)
        if kind is None:
            kind = self._chance.choice(self._kinds.get(leaf.path) or self._preferred(leaf))
            if bare:
                self._tried[leaf.path] = kind
        if kind == "object" and leaf.open:
            return self._object(leaf, bare)
        return Slot(Input(leaf.path, leaf.item_path), self._write(kind, leaf), leaf)

    def _object(self, leaf: Leaf, bare: bool) -> Group:
        """Return an open object: the members that are declared, and those that the code or a careless one may mean."""
        declared = sorted(
            {path.removeprefix(f"{leaf.path}.").split(".")[0] for path in self._declared_below(leaf.path)}
        )
        # Each name with the one whose kinds it takes: its own, or of which it is another spelling.
        names = {name: name for name in (*declared, *self._sample(self._names, _MAX_NAMES))}
        if not bare:
            names = {**{other(name): name for name in declared for other in (str.upper, str.title)}, **names}
        members: list[tuple[str, Part]] = []
        for name, model in names.items():
            path = below(leaf.path, name)
            leads_on = any(self._declared_below(path))
            kinds = ("object",) if leads_on else tuple(kind for kind in ANYTHING if kind != "object")
            kinds = self._kinds.get(below(leaf.path, model), kinds)
            inner = Leaf(path, below(leaf.item_path, name), kinds, open=leads_on)
            members.append((self._spelled(name), self._leaf(inner, bare)))
        if not bare:
            members.append((self._spelled(self._mark()), self._hidden()))
            self._chance.shuffle(members)
        return Group(tuple(members))

    def _declared_below(self, path: str) -> Iterator[str]:
        return (source for _, source in self._declaration.pairs() if source.startswith(f"{path}."))

    def _possible(self, leaf: Leaf) -> tuple[str, ...]:
        return (*leaf.kinds, *self._parts) if "text" in leaf.kinds else leaf.kinds

    def _preferred(self, leaf: Leaf) -> tuple[str, ...]:
        """Return the kinds to try; the rule of a part for a member of its name oftener than others."""
        possible = self._possible(leaf)
        mine = PART + leaf.path.rpartition(".")[2]
        return (*possible, *(len(possible) * (mine,))) if mine in possible else possible

    def _write(self, kind: str, leaf: Leaf) -> str:
        return self._literals.write(kind, leaf.choices, leaf.pattern)

    def _surroundings(self, shape: Members) -> list[tuple[str, Part]]:
        """Return members that are not read: of names unlike any, and of names nearly like those that are."""
        read = {name for name, _ in shape.members}
        near = [_mis_cased(name, self._chance) for name in self._sample(sorted(read), 2)]
        known = dict.fromkeys((*near, *self._sample(self._names, 1)))
        members = [(self._spelled(name), self._hidden(below(shape.path, name))) for name in known if name not in read]
        return [*members, *((self._spelled(self._mark()), self._hidden()) for _ in range(2))]

    def _hidden(self, path: str = UNKNOWN) -> Part:
        given = Input(path, read=False)
        if self._chance.random() < 0.25:
            inside = ((self._spelled(self._mark()), Slot(given, self._canary())),)
            return Group((("", Slot(given, self._canary())), ("", Group(inside))), array=True)
        return Slot(given, self._canary())

    def _canary(self) -> str:
        choice = self._chance.random()
        if choice < 0.1:
            return self._chance.choice(("true", "false", "null"))
        if choice < 0.5:
            self._canaries += 1
            digits = f"{NUMBER_MARK[0]}.{NUMBER_MARK[1:]}{self._canaries}"
            return f"{self._chance.choice(('', '-'))}{digits}e{self._canaries % 12}"
        mark = self._mark()
        return escaped(mark) if choice < 0.6 else f'"{mark}"'

    def _mark(self) -> str:
        self._canaries += 1
        return f"{self._chance.choice((TEXT_MARK, TEXT_MARK.upper()))}{self._canaries}"

    def _spelled(self, name: str) -> str:
        return escaped(name) if self._chance.random() < 0.1 else json.dumps(name)

    def _sample(self, names: "tuple[str, ...] | list[str]", count: int) -> list[str]:
        return self._chance.sample(names, min(count, len(names)))


def _mis_cased(name: str, chance: random.Random) -> str:
    return chance.choice((name.upper(), name.title(), name.swapcase(), f" {name}", f"_{name}"))

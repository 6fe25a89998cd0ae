"""Finds out what comes out of what goes in, by changing one value of an event at a time.

What is proven holds for the events that were tried: generated from what an event type reads, out of a seed.
"""

import collections
import dataclasses
import platform
from collections.abc import Iterable, Iterator, Mapping, Set

from tornado_bridge.audit.drafts import UNCHANGED, Changes, Draft, Part, literal
from tornado_bridge.audit.generation import EXCHANGE_NAME, Generator, canaries
from tornado_bridge.audit.rehearsal import Outputs, Rehearsal, Result, differing, outputs_of
from tornado_bridge.redaction.declaration import (
    DERIVED,
    EARLIER,
    ENVELOPES,
    EXCHANGE,
    ORDER,
    PRESENCE,
    UNDECLARED,
    Declaration,
    Input,
)
from tornado_bridge.redaction.shapes import leaves
from tornado_bridge.registry import Route

CASES = 4_000
SEED = 20_260_219

# An exchange that schemas of more than the built-in plugins may list, and another one.
EXCHANGES = (EXCHANGE_NAME, "kraken")

# Events that are changed in each place, at the least; and how often in a place that is read, and in one that is not.
_MIN_BASES = 8
_VALUES = 40
_CANARIES = 2

# A derived output has at most so many values in its schema, or is seen with so many, or with one for so many of its
# input.
_FEW = 64
_FEW_SEEN = 8
_FAR_BELOW = 4


@dataclasses.dataclass(frozen=True)
class Flow:
    """An output that was seen to change with an input.

    `outputs` are the most different values that it took for the `inputs` different values tried in one event.
    """

    output: str
    input: str
    declared: str
    outputs: int
    inputs: int


@dataclasses.dataclass(frozen=True)
class TypeAudit:
    """What was found of one event type.

    `outcomes` counts what became of the `cases`; `constant` are the outputs that changed with nothing, `unseen` the
    flows that are declared and were not seen; a finding is one sentence. No value of an event is in it.
    """

    plugin: str
    distribution: str
    version: str
    event_type: str
    source: str
    channel: str
    reads: tuple[str, ...]
    cases: int
    outcomes: Mapping[str, int]
    flows: tuple[Flow, ...]
    constant: tuple[str, ...]
    unseen: tuple[str, ...]
    findings: tuple[str, ...]


class _Sweep:
    """The values of one input, tried in one event, and those of the outputs."""

    def __init__(self, given: Input) -> None:
        self.given = given
        self.moved: set[str] = set()
        self._inputs: set[str] = set()
        self._outputs: dict[str, set[tuple[str, ...]]] = {}

    def note(self, was: str, before: Outputs, now: str, after: Outputs, unsteady: Set[str] = frozenset()) -> None:
        """Compare the outputs of two values of the input; those that are `unsteady` say nothing of it."""
        self.moved |= differing(before, after) - unsteady
        self._inputs.add(was)
        if ENVELOPES in after:
            self._inputs.add(now)
        for outputs in (before, after):
            for output, values in outputs.items():
                self._outputs.setdefault(output, set()).add(values)

    def counts(self, output: str) -> tuple[int, int]:
        """Return how many different values of an output were seen, and of how many of the input."""
        return len(self._outputs[output]), len(self._inputs)


class Auditor:
    """The audit of one event type; the same seed and number of cases find the same."""

    def __init__(self, route: Route, *, cases: int = CASES, seed: int = SEED) -> None:
        self._route = route
        self._declaration = Declaration(route.event_type)
        self._rehearsal = Rehearsal(route, EXCHANGES[0])
        self._elsewhere = Rehearsal(route, EXCHANGES[1])
        self._generator = Generator(route, self._declaration, seed)
        self._names = self._declaration.private_names()
        self._inputs = self._declaration.inputs()
        self._cases = cases
        self._tried = 0
        self._outcomes: collections.Counter[str] = collections.Counter()
        # Of each output the first value that was seen, and whether another one was.
        self._first: dict[str, tuple[str, ...]] = {}
        self._varied: set[str] = set()
        self._flows: dict[tuple[str, str], Flow] = {}
        self._findings: dict[str, None] = {}

    def run(self) -> TypeAudit:
        """Return what was found."""
        if self._generator.learn(self._rehearsal):
            self._look_for_canaries()
            self._look_for_interference()
            self._judge()
        else:
            self._find("no valid event was found, so nothing is proven")
        event_type, plugin = self._route.event_type, self._route.plugin
        unseen = [" ← ".join(pair) for pair in self._declaration.pairs() if pair not in self._flows]
        moved = {output for output, _ in self._flows}
        alone = [f"{output} ← any one input" for output in sorted(self._unattributed())]
        return TypeAudit(
            plugin=plugin.name,
            distribution=plugin.distribution,
            version=plugin.version,
            event_type=event_type.name,
            source=event_type.source,
            channel=event_type.channel,
            reads=tuple(leaf.path for leaf in leaves(self._declaration.shape)),
            cases=self._tried,
            outcomes=dict(sorted(self._outcomes.items())),
            flows=tuple(self._flows[key] for key in sorted(self._flows)),
            constant=tuple(sorted((self._first.keys() & {*self._declaration.outputs}) - self._varied - moved)),
            unseen=(*unseen, *alone),
            findings=tuple(self._findings),
        )

    def _find(self, sentence: str) -> None:
        self._findings[sentence] = None

    def _run(self, draft: Draft, changes: Changes = UNCHANGED) -> Result:
        result = self._rehearsal.run(*draft.write(changes))
        self._tried += 1
        self._outcomes[result.outcome] += 1
        for text in result.envelopes:
            if canaries(text):
                self._find("a value or a name that is not read comes out: its canary was seen")
            for name in self._names.findall(text):
                self._find(f"the name of the private member {name!r} comes out")
        return result

    def _look_for_canaries(self) -> None:
        for _ in range(self._cases // 2):
            self._run(self._generator.draft())

    def _look_for_interference(self) -> None:
        bases = 0
        while bases < _MIN_BASES or self._tried < self._cases:
            self._sweep(self._generator.valid_draft(self._rehearsal))
            bases += 1

    def _sweep(self, draft: Draft) -> None:
        """Change one part of an event at a time.

        After each change the event itself is run anew: where it gives anything else than before, that is no fault of
        the part's.
        """
        before = outputs_of(self._run(draft))
        sweeps = {EXCHANGE: _Sweep(Input(EXCHANGE)), EARLIER: _Sweep(Input(EARLIER))}
        elsewhere = outputs_of(self._elsewhere.run(*draft.write()))
        sweeps[EXCHANGE].note(EXCHANGES[0], before, EXCHANGES[1], elsewhere)
        for part, given, times in self._places(draft):
            sweep = sweeps.setdefault(given.label, _Sweep(given))
            for value in self._generator.values(part, times):
                changed = outputs_of(self._run(draft, {part: value}))
                again = outputs_of(self._run(draft))
                sweeps[EARLIER].note("", before, str(self._tried), again)
                sweep.note(literal(part), before, str(value), changed, differing(before, again))
                self._note(changed)
                before = again
        self._note(before)
        for label, sweep in sweeps.items():
            for output in sweep.moved:
                self._add(output, label, sweep)

    def _note(self, outputs: Outputs) -> None:
        for output, values in outputs.items():
            if self._first.setdefault(output, values) != values:
                self._varied.add(output)

    def _places(self, draft: Draft) -> Iterator[tuple[Part, Input, int]]:
        """Yield what of an event can be changed, and how often it is."""
        slots = draft.slots()
        labels = collections.Counter(slot.given.label for slot in slots)
        for slot in slots:
            label = slot.given.label
            # The items of an array share what is due to their input.
            yield slot, slot.given, -(-_VALUES // labels[label]) if label in self._inputs else _CANARIES
        for group, given in draft.arrays():
            yield group, given, _VALUES

    def _add(self, output: str, label: str, sweep: _Sweep) -> None:
        outputs, inputs = sweep.counts(output)
        known = self._flows.get((output, label))
        if known is None or outputs > known.outputs:
            self._flows[output, label] = Flow(
                output, label, self._declaration.flow(output, sweep.given), outputs, inputs
            )

    def _judge(self) -> None:
        for (output, given), flow in sorted(self._flows.items()):
            if flow.declared == UNDECLARED:
                self._find(_undeclared(output, given))
            elif flow.declared == DERIVED and not self._is_coarse(flow):
                self._find(
                    f"{output} is declared to be derived from {given}, and takes {flow.outputs} values for "
                    f"{flow.inputs} of it"
                )
        for output in self._declaration.outputs:
            if output not in self._first:
                self._find(f"{output} is in the schema, and no event has shown it, so nothing is proven of it")
            elif output in self._unattributed() and not self._declaration.explains(output):
                self._find(f"{output} changes with no single input, so nothing shows of what it tells")

    def _unattributed(self) -> set[str]:
        """Return the outputs that vary, though they were not seen to change with any one input."""
        return (self._varied & {*self._declaration.outputs}) - {output for output, _ in self._flows}

    def _is_coarse(self, flow: Flow) -> bool:
        choices = self._declaration.choices(flow.output)
        if choices is not None and choices <= _FEW:
            return True
        return flow.outputs <= max(_FEW_SEEN, flow.inputs // _FAR_BELOW)


_IN_WORDS = {
    PRESENCE: "whether there is an envelope",
    ENVELOPES: "the number of envelopes",
    ORDER: "the order of the members",
}


def _undeclared(output: str, given: str) -> str:
    what = _IN_WORDS.get(output, output)
    if given == EARLIER:
        return f"{what} changes for the same event: with earlier events, the time or chance"
    return f"{what} changes with {given}, which is not declared"


@dataclasses.dataclass(frozen=True)
class Report:
    """The audits of several event types, and under what they were made; `date` is ISO 8601."""

    version: str
    python: str
    date: str
    seed: int
    cases: int
    audits: tuple[TypeAudit, ...]

    @property
    def findings(self) -> int:
        return sum(len(audit.findings) for audit in self.audits)


def audit(routes: Iterable[Route], *, version: str, date: str, cases: int = CASES, seed: int = SEED) -> Report:
    """Audit every event type of the routes, which must be those of exchange 1."""
    audits = tuple(Auditor(route, cases=cases, seed=seed).run() for route in routes)
    return Report(version, platform.python_version(), date, seed, cases, audits)

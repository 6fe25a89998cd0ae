"""JSON values as a platform writes them: numbers in many spellings, moments, labels, channel parts."""

import json
import random
import string
from collections.abc import Mapping

from tornado_bridge.audit.vocabulary import Vocabulary, text_like
from tornado_bridge.channels import Rule
from tornado_bridge.values import MAX_EPOCH_MS

# Of a kind that is the rule of a channel's or source's named part: `part:symbol`.
PART = "part:"


class Literals:
    """Writes values of a kind; the same seed writes the same ones."""

    def __init__(self, vocabulary: Vocabulary, rules: Mapping[str, Rule], chance: random.Random) -> None:
        self._vocabulary = vocabulary
        self._rules = rules
        self._chance = chance

    def write(self, kind: str, choices: tuple[str, ...] = (), pattern: str | None = None) -> str:
        """Return the JSON text of a value; `choices` and `pattern` are for the kinds of those names."""
        chance = self._chance
        match kind:
            case "number":
                return self._number()
            case "integer":
                return self._integer()
            case "number text":
                return f'"{self._number()}"'
            case "epoch":
                return str(self._epoch())
            case "moment":
                return f'"{self._moment()}"'
            case "label":
                return self._quoted(self._label())
            case "text":
                return self._quoted(self._word())
            case "boolean":
                return chance.choice(("true", "false"))
            case "null":
                return "null"
            case "choice":
                return chance.choice(choices)
            case "pattern":
                return self._quoted(text_like(pattern or "", chance))
            case "array":
                return self._array()
            case "object":
                return f'{{"{self._word()}":{self._number()}}}'
        if kind.startswith(PART):
            return self._quoted(self.part(kind.removeprefix(PART)))
        return f'"{self._formal(kind)}"'

    def part(self, name: str) -> str:
        """Return a text that the rule of a named part allows, wherever one is found."""
        rule = self._rules[name]
        if isinstance(rule, tuple):
            return self._chance.choice(rule)
        return text_like(rule, self._chance)

    def _number(self) -> str:
        """Return a number near a threshold of the code, or any, in one of the spellings of JSON."""
        chance = self._chance
        if self._vocabulary.numbers and chance.random() < 0.3:
            near = chance.choice(self._vocabulary.numbers) + chance.choice((-1, -0.001, 0, 0.001, 1))
            return _plain(near * chance.choice((1, 1, -1)))
        digits = chance.randint(1, 12)
        whole = str(chance.randrange(10 ** chance.randint(0, 7)))
        fraction = "".join(chance.choices(string.digits, k=digits))
        spelling = chance.random()
        if spelling < 0.15:
            return whole
        if spelling < 0.25:
            return f"{whole}.{fraction}{chance.choice('eE')}{chance.choice(('', '+', '-'))}{chance.randrange(5)}"
        return f"{chance.choice(('', '', '', '-'))}{whole}.{fraction}"

    def _integer(self) -> str:
        chance = self._chance
        if self._vocabulary.numbers and chance.random() < 0.3:
            return str(int(chance.choice(self._vocabulary.numbers)) + chance.choice((-1, 0, 1)))
        return str(chance.randrange(10 ** chance.randint(1, 15)) * chance.choice((1, 1, 1, -1)))

    def _epoch(self) -> int:
        if self._chance.random() < 0.8:
            return self._chance.randrange(1_600_000_000_000, 1_800_000_000_000)
        return self._chance.randrange(MAX_EPOCH_MS)

    def _moment(self) -> str:
        chance = self._chance
        day = f"{chance.randint(1971, 2099)}-{chance.randint(1, 12):02}-{chance.randint(1, 28):02}"
        hour = f"{chance.randrange(24):02}:{chance.randrange(60):02}:{chance.randrange(60):02}"
        fraction = chance.choice(("", f".{chance.randrange(1000):03}", f".{chance.randrange(10**6):06}"))
        return f"{day}T{hour}{fraction}{chance.choice(('Z', 'Z', 'z', '+00:00', '-05:30', '+14:00'))}"

    def _label(self) -> str:
        """Return a text that the code may look for: one of its own, bare or with more behind it, or like a pattern."""
        chance = self._chance
        vocabulary = self._vocabulary
        if vocabulary.patterns and chance.random() < 0.4:
            return text_like(chance.choice(vocabulary.patterns), chance)
        word = chance.choice(vocabulary.words) if vocabulary.words else self._word()
        behind = chance.random()
        if behind < 0.4:
            return word
        return word + (self._number() if behind < 0.7 else self._word())

    def _word(self) -> str:
        return "".join(self._chance.choices(string.ascii_letters + string.digits, k=self._chance.randint(1, 12)))

    def _array(self) -> str:
        kind = self._chance.choice(("number", "number text", "text"))
        if self._chance.random() < 0.5:
            return f"[{','.join(self.write(kind) for _ in range(self._chance.randint(0, 3)))}]"
        pairs = (f"[{self.write(kind)},{self.write(kind)}]" for _ in range(self._chance.randint(0, 3)))
        return f"[{','.join(pairs)}]"

    def _formal(self, kind: str) -> str:
        chance = self._chance
        match kind:
            case "date":
                return self._moment()[:10]
            case "time":
                return self._moment()[11:19]
            case "duration":
                return f"PT{chance.randrange(1, 10**5)}S"
            case "uuid":
                return f"{chance.getrandbits(32):08x}-0000-4000-8000-{chance.getrandbits(48):012x}"
        return f"{chance.choice(('QUJD', 'AAEC', 'c2Vj'))}{chance.randrange(1000, 10_000)}"

    def _quoted(self, text: str) -> str:
        """Return a JSON string; now and then with characters escaped that need not be."""
        if self._chance.random() < 0.1:
            return escaped(text)
        return json.dumps(text, ensure_ascii=self._chance.random() < 0.5)


def escaped(text: str) -> str:
    """Return a JSON string with each character of the basic plane escaped."""
    return '"' + "".join(f"\\u{ord(c):04x}" if ord(c) < 0x10000 else c for c in text) + '"'


def _plain(number: float) -> str:
    return format(number, ".3f").rstrip("0").rstrip(".") if isinstance(number, float) else str(number)

"""The grammar of channels: forms with named parts, wildcards, containment.

A form is text with named parts in braces, split at colons: `candles:{symbol}:{timeframe}`. A rule says what a
named part may be: a regular expression that the whole part must match (ASCII), or a tuple of the allowed texts.
"""

import functools
import itertools
import re
from collections.abc import Iterable, Mapping

from tornado_bridge.errors import InvalidEvent

WILDCARD = "*"

# A part without a rule. Neither a colon nor a wildcard can ever be inside a part, whatever its rule allows.
DEFAULT_RULE = r"[A-Za-z0-9_.-]{1,64}"

# A concrete channel is matched by 2**n subscriptions; four named parts are 16 look-ups an event.
MAX_PARAMETERS = 4

Rule = str | tuple[str, ...]

_PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_LITERAL = re.compile(r"[A-Za-z0-9_.-]+")


class Form:
    """A channel name with named parts, and the rule of each.

    Raises ValueError, in one clause without a subject, for a form that is no form.
    """

    def __init__(self, text: str, rules: Mapping[str, Rule]) -> None:
        self.text = text
        self.parts = tuple(text.split(":"))
        # For each part its name, None for a literal one.
        self._names = tuple(_name_of(part) for part in self.parts)
        for part, name in zip(self.parts, self._names, strict=True):
            if name is None and not _LITERAL.fullmatch(part):
                raise ValueError(f"{text!r} has the part {part!r}, which is neither a plain name nor {{a_name}}")
        self.parameters = tuple(name for name in self._names if name is not None)
        if len(set(self.parameters)) != len(self.parameters):
            raise ValueError(f"{text!r} names a part twice")
        self.rules = {name: rules.get(name, DEFAULT_RULE) for name in self.parameters}
        self._matches = {name: _compile(name, rule) for name, rule in self.rules.items()}

    def match(self, text: str) -> dict[str, str] | None:
        """Return the named parts of a concrete name, None where it is not of this form."""
        return self._match(text, wildcards=False)

    def admits(self, text: str) -> bool:
        """Tell whether `text` is a name of this form, each named part of which may be `*`."""
        return self._match(text, wildcards=True) is not None

    def format(self, **parameters: str) -> str:
        """Return the concrete name made of `parameters`.

        Raises InvalidEvent where one of them breaks its rule, so that a transformer needs no check of its own.
        """
        return self._format(tuple(sorted(parameters.items())))

    @functools.lru_cache(maxsize=4096)  # noqa: B019  a form lives as long as its plugin
    def _format(self, parameters: tuple[tuple[str, str], ...]) -> str:
        given = dict(parameters)
        if given.keys() != set(self.parameters):
            raise InvalidEvent(f"{self.text} takes exactly the parts {', '.join(self.parameters) or 'none'}")
        for name, value in given.items():
            if not self._matches[name](value):
                raise InvalidEvent(f"{name} is outside the rule of {self.text}")
        return ":".join(
            part if name is None else given[name] for part, name in zip(self.parts, self._names, strict=True)
        )

    def subscriptions(self, channel: str) -> tuple[str, ...]:
        """Return every subscription that matches a concrete channel, itself first; none if it is not of this form."""
        if self.match(channel) is None:
            return ()
        choices = [
            (part,) if name is None else (part, WILDCARD)
            for part, name in zip(channel.split(":"), self._names, strict=True)
        ]
        return tuple(":".join(choice) for choice in itertools.product(*choices))

    def _match(self, text: str, *, wildcards: bool) -> dict[str, str] | None:
        parts = text.split(":")
        if len(parts) != len(self.parts):
            return None
        found: dict[str, str] = {}
        for part, literal, name in zip(parts, self.parts, self._names, strict=True):
            if name is None:
                if part != literal:
                    return None
            elif self._matches[name](part) or (wildcards and part == WILDCARD):
                found[name] = part
            else:
                return None
        return found

    def overlaps(self, other: "Form") -> bool:
        """Tell whether the literal parts leave room for one name of both forms."""
        return len(self.parts) == len(other.parts) and all(
            a == b or mine is not None or theirs is not None
            for a, b, mine, theirs in zip(self.parts, other.parts, self._names, other._names, strict=True)
        )


def _name_of(part: str) -> str | None:
    placeholder = _PLACEHOLDER.fullmatch(part)
    return placeholder[1] if placeholder else None


def _compile(name: str, rule: Rule) -> "functools.partial[bool]":
    if isinstance(rule, tuple):
        allowed = frozenset(rule)
        if not allowed or any(not _LITERAL.fullmatch(text) for text in allowed):
            raise ValueError(f"the rule of {name!r} must allow at least one text, and plain names only")
        return functools.partial(_is_one_of, allowed)
    if not isinstance(rule, str):
        raise ValueError(f"the rule of {name!r} is neither a regular expression nor a tuple of texts")
    try:
        re.compile(rule)  # alone first: `a)|(b` is one only inside of the parentheses below
        return functools.partial(_is_whole, re.compile(rf"(?![^:*]*[:*])(?:{rule})", re.ASCII))
    except re.error as error:
        raise ValueError(f"the rule of {name!r} is no regular expression ({error})") from None


def _is_one_of(allowed: frozenset[str], text: str) -> bool:
    return text in allowed


def _is_whole(rule: re.Pattern[str], text: str) -> bool:
    return rule.fullmatch(text) is not None


class SourceForm:
    """A source channel of one exchange: what to ask Redis for, and which names are of the form."""

    def __init__(self, form: Form, exchange_id: str) -> None:
        self._form = form
        self._exchange_id = exchange_id
        others = [name for name in form.parameters if name != "exchange_id"]
        self.is_pattern = bool(others)
        self.redis_name = _PLACEHOLDER.sub(
            lambda named: exchange_id if named[1] == "exchange_id" else WILDCARD, form.text
        )

    def match(self, source: str) -> dict[str, str] | None:
        """Return the named parts of a source channel but the exchange's, None where it is not of the form."""
        found = self._form.match(source)
        if found is None or found.pop("exchange_id", self._exchange_id) != self._exchange_id:
            return None
        return found


def globs_overlap(a: str, b: str) -> bool:
    """Tell whether one source channel can match both Redis patterns, in which `*` stands for any text.

    Redis delivers an event once for each pattern of a subscriber that matches it.
    """
    # reachable[j]: a[:i] and b[:j] can stand for the same text.
    reachable = [True] + [False] * len(b)
    for j, char in enumerate(b):
        reachable[j + 1] = reachable[j] and char == WILDCARD
    for mine in a:
        row = [reachable[0] and mine == WILDCARD]
        for j, theirs in enumerate(b):
            if mine == WILDCARD or theirs == WILDCARD:
                row.append(reachable[j + 1] or row[j] or (reachable[j] and mine == theirs))
            else:
                row.append(reachable[j] and mine == theirs)
        reachable = row
    return reachable[-1]


class Grammar:
    """All channel forms of one bridge.

    A subscription is a channel name whose named parts may be `*`.
    """

    def __init__(self, forms: Iterable[Form]) -> None:
        self._forms = tuple(forms)

    def admits(self, subscription: str) -> bool:
        """Tell whether `subscription` is of a known form."""
        return any(form.admits(subscription) for form in self._forms)

    def subscriptions(self, channel: str) -> tuple[str, ...]:
        """Return every subscription that matches a concrete channel, the channel itself first.

        Empty for a name of no known form.
        """
        for form in self._forms:
            found = form.subscriptions(channel)
            if found:
                return found
        return ()


def contains(pattern: str, subscription: str) -> bool:
    """Tell whether `pattern` grants `subscription`, part by part (docs/protocol.md section 3).

    A wider subscription than the pattern is not granted, not even in part.
    """
    wanted = subscription.split(":")
    granted = pattern.split(":")
    return len(wanted) == len(granted) and all(
        mine in (WILDCARD, theirs) for mine, theirs in zip(granted, wanted, strict=True)
    )

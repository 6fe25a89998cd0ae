"""The grammar of channels: forms with named parts, wildcards, containment.

A channel is split into parts at its colons. A form is a channel with some parts named in braces:
`candles:{symbol}:{timeframe}`. Each named part has a rule: either a pattern, which is a regular expression that the
whole part must match (ASCII), or a tuple of the allowed texts.
"""

import functools
import itertools
import re
from collections.abc import Iterable, Mapping

from tornado_bridge.errors import InvalidEvent

WILDCARD = "*"

# The rule of a named part that has none of its own. No rule can admit a colon or a wildcard inside a part.
DEFAULT_PATTERN = r"[A-Za-z0-9_.-]{1,64}"

# A channel with n named parts is matched by 2**n subscriptions: with four parts, 16 look-ups per event.
MAX_PARAMETERS = 4

Rule = str | tuple[str, ...]

_PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_LITERAL = re.compile(r"[A-Za-z0-9_.-]+")


class Form:
    """The text of a channel with named parts, and the rule of each.

    `wildcard` is the subscription to every channel of the form. Raises ValueError for an invalid form or rule.
    """

    def __init__(self, text: str, rules: Mapping[str, Rule]) -> None:
        self.text = text
        self.parts = tuple(text.split(":"))
        # The name of each part, None for a literal part.
        self._names = tuple(_name_of(part) for part in self.parts)
        for part, name in zip(self.parts, self._names, strict=True):
            if name is None and not _LITERAL.fullmatch(part):
                raise ValueError(f"{text!r} has the part {part!r}, which is neither a plain name nor {{a_name}}")
        self.parameters = tuple(name for name in self._names if name is not None)
        if len(set(self.parameters)) != len(self.parameters):
            raise ValueError(f"{text!r} uses the same named part twice")
        self.wildcard = ":".join(
            part if name is None else WILDCARD for part, name in zip(self.parts, self._names, strict=True)
        )
        self.rules = {name: rules.get(name, DEFAULT_PATTERN) for name in self.parameters}
        self._matches = {name: _compile(name, rule) for name, rule in self.rules.items()}

    def match(self, text: str) -> dict[str, str] | None:
        """Return the named parts of a concrete channel, None if it is not of this form."""
        return self._match(text, wildcards=False)

    def admits(self, text: str) -> bool:
        """Tell whether `text` is a subscription of this form; any named part may be `*`."""
        return self._match(text, wildcards=True) is not None

    def format(self, **parameters: str) -> str:
        """Return the concrete channel with these named parts.

        Raises InvalidEvent if a part breaks its rule or if the names are not those of the form, so a transformer needs
        no check of its own.
        """
        return self._format(tuple(sorted(parameters.items())))

    @functools.lru_cache(maxsize=4096)  # noqa: B019  a form lives as long as its plugin
    def _format(self, parameters: tuple[tuple[str, str], ...]) -> str:
        values = dict(parameters)
        if values.keys() != set(self.parameters):
            raise InvalidEvent(f"{self.text} needs exactly these named parts: {', '.join(self.parameters) or 'none'}")
        for name, value in values.items():
            if not self._matches[name](value):
                raise InvalidEvent(f"{name} breaks its rule in {self.text}")
        return ":".join(
            part if name is None else values[name] for part, name in zip(self.parts, self._names, strict=True)
        )

    def subscriptions(self, channel: str) -> tuple[str, ...]:
        """Return every subscription that matches a concrete channel, itself first; empty if it is not of this form."""
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
        values: dict[str, str] = {}
        for part, literal, name in zip(parts, self.parts, self._names, strict=True):
            if name is None:
                if part != literal:
                    return None
            elif self._matches[name](part) or (wildcards and part == WILDCARD):
                values[name] = part
            else:
                return None
        return values

    def overlaps(self, other: "Form") -> bool:
        """Tell whether the literal parts of both forms allow one channel that is of both."""
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
            raise ValueError(f"the rule of {name!r} must list one text or more, and only plain names")
        return functools.partial(_is_one_of, allowed)
    if not isinstance(rule, str):
        raise ValueError(f"the rule of {name!r} is neither a regular expression nor a tuple of texts")
    try:
        re.compile(rule)  # on its own first: `a)|(b` is valid only inside the parentheses below
        return functools.partial(_is_whole, re.compile(rf"(?![^:*]*[:*])(?:{rule})", re.ASCII))
    except re.error as error:
        raise ValueError(f"the rule of {name!r} is not a valid regular expression ({error})") from None


def _is_one_of(allowed: frozenset[str], text: str) -> bool:
    return text in allowed


def _is_whole(pattern: re.Pattern[str], text: str) -> bool:
    return pattern.fullmatch(text) is not None


class SourceForm:
    """The form of a source channel for one exchange: the name or pattern to subscribe to, and which channels match."""

    def __init__(self, form: Form, exchange_id: str) -> None:
        self._form = form
        self._exchange_id = exchange_id
        others = [name for name in form.parameters if name != "exchange_id"]
        self.is_pattern = bool(others)
        self.redis_name = _PLACEHOLDER.sub(
            lambda named: exchange_id if named[1] == "exchange_id" else WILDCARD, form.text
        )

    def match(self, source: str) -> dict[str, str] | None:
        """Return the named parts of a source channel without the exchange's, None if it is not of the form."""
        values = self._form.match(source)
        if values is None or values.pop("exchange_id", self._exchange_id) != self._exchange_id:
            return None
        return values


def globs_overlap(a: str, b: str) -> bool:
    """Tell whether one source channel can match both Redis patterns; `*` in a pattern stands for any text.

    If a subscriber has two patterns that match a source channel, Redis delivers each event twice.
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

    A subscription is a channel; any of its named parts may be `*`.
    """

    def __init__(self, forms: Iterable[Form]) -> None:
        self._forms = tuple(forms)

    def admits(self, subscription: str) -> bool:
        """Tell whether `subscription` is of one of the forms."""
        return any(form.admits(subscription) for form in self._forms)

    def subscriptions(self, channel: str) -> tuple[str, ...]:
        """Return every subscription that matches a concrete channel, itself first; empty if it is of no form."""
        for form in self._forms:
            subscriptions = form.subscriptions(channel)
            if subscriptions:
                return subscriptions
        return ()


def contains(pattern: str, subscription: str) -> bool:
    """Tell whether `pattern` grants `subscription`, part by part (docs/protocol.md section 3).

    A subscription that is wider than the pattern is not granted, not even for the channels that the pattern covers.
    """
    wanted = subscription.split(":")
    granted = pattern.split(":")
    return len(wanted) == len(granted) and all(
        mine in (WILDCARD, theirs) for mine, theirs in zip(granted, wanted, strict=True)
    )

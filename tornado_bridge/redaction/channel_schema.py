"""Compares the channels that an event type can have with the channels that its schema admits."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from tornado_bridge.channels import WILDCARD, Form
from tornado_bridge.events import EventType
from tornado_bridge.redaction.validation import Validator

# Texts that channels.DEFAULT_PATTERN admits: each kind of character alone, all of them together, and a longest text.
_PROBES = ("A", "a", "0", "_", ".", "-", "aA0_.-", "x" * 64)

# In a pattern: an escaped character, a class, or any other character.
_TOKEN = re.compile(r"\\.|\[(?:\\.|[^\]\\])*\]|.", re.DOTALL)


def check_default_rules(event_type: EventType) -> None:
    """Refuse an event type whose schema is narrower than the default rule of a named part of its channel.

    The bridge would accept the events of such channels and then drop each of them. A part with a rule of its own is not
    checked. Nor is a channel of several named parts unless its pattern has the same colons as its form, or the channel
    of a schema that is a union.

    Raises ValueError, in one clause, which names the part.
    """
    schema = msgspec.json.decode(msgspec.json.encode(event_type.emits))
    if "properties" not in schema:
        return
    form = event_type.channel_form
    for name in form.parameters:
        admits = _test_of(schema, form, name) if name not in event_type.parameters else None
        refused = [text for text in _PROBES if not admits(text)] if admits is not None else []
        if refused:
            text = repr(refused[0]) if len(refused[0]) < 10 else f"a text of {len(refused[0])} characters"
            raise ValueError(
                f"{event_type.name!r} has no rule for {{{name}}}, which may then be any plain name, but its schema "
                f"refuses {text} there: give {name!r} a rule in parameters"
            )


def _test_of(schema: Mapping[str, Any], form: Form, name: str) -> Callable[[str], object] | None:
    """Return a function that tells whether the schema admits a text as that part, None if that cannot be told."""
    channel = schema["properties"]["channel"]
    if len(form.parameters) == 1:
        validator = Validator({"$defs": schema.get("$defs", {}), **channel})
        return lambda text: validator.admits(form.wildcard.replace(WILDCARD, text))
    patterns = _split(channel.get("pattern", ""))
    if len(patterns) != len(form.parts):
        return None
    try:
        return re.compile(patterns[form.parts.index(f"{{{name}}}")], re.ASCII).fullmatch
    except re.error:  # a quantifier of the colon, say
        return None


def _split(pattern: str) -> list[str]:
    """Split an anchored pattern at the colons outside of its groups and classes."""
    pieces, depth = [""], 0
    for token in _TOKEN.findall(pattern[1:-1]):
        depth += (token == "(") - (token == ")")
        if token == ":" and depth == 0:
            pieces.append("")
        else:
            pieces[-1] += token
    return pieces

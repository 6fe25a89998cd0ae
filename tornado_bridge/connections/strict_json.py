"""The JSON that a client may send: RFC 8259, without the texts that implementations read differently."""

import re
from typing import Any

import msgspec

MAX_DEPTH = 32

_decode = msgspec.json.Decoder().decode

# A hostile text takes time linear in its length: the quantifiers are possessive, and a string matches even without its
# closing quote. Otherwise every quote in such a string would start another search up to the end of the text.
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\\?+\Z)|[\[{]|[\]}]', re.DOTALL)


def parse(text: str) -> Any:
    """Return the value of `text`. If a member is there twice, the last one counts.

    Raises ValueError for invalid JSON. That includes NaN, Infinity, a number that cannot be represented, a lone
    surrogate, a byte order mark, and nesting over 32 deep.
    """
    if text.count("[") + text.count("{") > MAX_DEPTH:
        _check_depth(text)
    try:
        return _decode(text)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise ValueError(str(error)) from None


def _check_depth(text: str) -> None:
    """Raise ValueError for a text that is nested too deep, before a recursive parser reads it."""
    depth = 0
    for token in _TOKEN.finditer(text):
        start = text[token.start()]
        if start in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise ValueError(f"nested over {MAX_DEPTH} deep")
        elif start in "]}":
            depth -= 1

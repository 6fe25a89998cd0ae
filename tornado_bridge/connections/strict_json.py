"""The JSON that a client may send: RFC 8259, and nothing that implementations read differently."""

import re
from typing import Any

import msgspec

MAX_DEPTH = 32

_decode = msgspec.json.Decoder().decode

# Possessive, and no string is left without a match, however it ends: a hostile text costs no more than its length.
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\\?+\Z)|[\[{]|[\]}]', re.DOTALL)


def parse(text: str) -> Any:
    """Return the value of `text`; of duplicate members the last counts.

    Raises ValueError for what is no JSON: also NaN, Infinity, a number that cannot be represented, a lone surrogate,
    a byte order mark, and nesting over 32 deep.
    """
    if text.count("[") + text.count("{") > MAX_DEPTH:
        _check_depth(text)
    try:
        return _decode(text)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise ValueError(str(error)) from None


def _check_depth(text: str) -> None:
    """Bound the nesting before any recursive reader sees it."""
    depth = 0
    for token in _TOKEN.finditer(text):
        start = text[token.start()]
        if start in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise ValueError(f"nested over {MAX_DEPTH} deep")
        elif start in "]}":
            depth -= 1

"""Text from outside, as an error or a reply may quote it."""

import re

# As much of a text is quoted, in characters.
MAX_EXCERPT = 64


def printable(text: str) -> str:
    """Return a text with everything escaped that could move a cursor, change a colour or turn the line around."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def excerpt(text: str) -> str:
    """Return a text cut to MAX_EXCERPT characters, and escaped."""
    return printable(text if len(text) <= MAX_EXCERPT else text[: MAX_EXCERPT - 1] + "…")


def toml_place(error: Exception) -> str:
    """Return where tomllib stopped, such as " (at line 2, column 1)", or an empty text if its error does not say.

    The rest of its error may quote the file, and so a password or a digest.
    """
    place = re.search(r" \(at [a-z0-9, ]+\)", str(error))
    return place[0] if place else ""

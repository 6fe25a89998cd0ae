"""Tables on a terminal."""

from collections.abc import Sequence


def text(rows: Sequence[Sequence[str]]) -> str:
    """Return rows, the first of which is the heading, as lines of aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )

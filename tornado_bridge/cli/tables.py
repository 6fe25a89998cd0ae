"""Formats tables for a terminal."""

from collections.abc import Sequence


def text(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as lines with aligned columns. The first row is the heading."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )

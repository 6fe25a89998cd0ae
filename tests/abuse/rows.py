"""The rows of the table: what an attack measured, and the bound that each figure must keep."""

import math
from collections.abc import Sequence
from typing import NamedTuple


class Check(NamedTuple):
    """One figure of an attack, the bound in words, and whether the figure keeps it."""

    measured: str
    must_hold: str
    holds: bool


def at_most(name: str, value: float, bound: float, unit: str = "") -> Check:
    """Return the check of a figure that has an upper bound."""
    return Check(f"{name} {_number(value, unit)}", f"≤ {_number(bound, unit)}", value <= bound)


def at_least(name: str, value: float, bound: float, unit: str = "") -> Check:
    """Return the check of a figure that has a lower bound."""
    return Check(f"{name} {_number(value, unit)}", f"≥ {_number(bound, unit)}", value >= bound)


def exactly(name: str, value: object, expected: object) -> Check:
    """Return the check of a figure that may have one value only."""
    return Check(f"{name} {value}", f"{expected}", value == expected)


def row(attack: str, checks: Sequence[Check]) -> str:
    """Return the row of an attack in Markdown. Figures that break their bound are bold."""
    measured = "; ".join(check.measured if check.holds else f"**{check.measured}**" for check in checks)
    must_hold = "; ".join(check.must_hold for check in checks)
    return f"| {attack} | {measured} | {must_hold} | {'yes' if all(check.holds for check in checks) else '**NO**'} |"


def _number(value: float, unit: str) -> str:
    if value == math.inf:
        return "never"
    text = f"{value:.0f}" if value == int(value) else f"{value:.3g}" if value < 100 else f"{value:.1f}"
    return f"{text} {unit}".rstrip()

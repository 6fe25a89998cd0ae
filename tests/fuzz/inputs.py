"""Inputs for a fuzz target, made by hypothesis: the files of its corpus with a few edits, and short random bytes."""

import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

# Longer files of a corpus are replayed, but not edited: an edit in so much nesting shows nothing new.
MAX_EDITED = 4_096

# A position, how many bytes are removed there, and what is inserted instead.
Edit = tuple[int, int, bytes]


def inputs(files: Sequence[Path]) -> st.SearchStrategy[bytes]:
    """Return a strategy for inputs like those in `files`."""
    seeds = st.sampled_from([data for data in map(Path.read_bytes, files) if len(data) <= MAX_EDITED])
    positions = st.integers(0, MAX_EDITED)
    inserted = st.one_of(st.binary(max_size=4), st.builds(_slice, seeds, positions, st.integers(0, 40)))
    edits = st.lists(st.tuples(positions, st.integers(0, 8), inserted), max_size=5)
    return st.one_of(st.builds(_edited, seeds, edits), st.binary(max_size=64))


def _slice(data: bytes, position: int, size: int) -> bytes:
    start = position % (len(data) + 1)
    return data[start : start + size]


def _edited(data: bytes, edits: Sequence[Edit]) -> bytes:
    for position, removed, inserted in edits:
        start = position % (len(data) + 1)
        data = data[:start] + inserted + data[start + removed :]
    return data


def run(target: Callable[[bytes], None], files: Sequence[Path], seconds: float) -> tuple[int, bytes | None]:
    """Run a target for at least `seconds`, and print the traceback if it fails.

    Return how many inputs were tried, and the smallest one that fails or None.
    """
    tried = 0
    latest = b""

    @settings(max_examples=500, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(inputs(files))
    def try_some(data: bytes) -> None:
        nonlocal tried, latest
        tried += 1
        latest = data
        target(data)

    end = time.monotonic() + seconds
    while True:
        try:
            try_some()
        except Exception:  # whatever a target raises is a finding
            traceback.print_exc()
            # hypothesis has tried the smallest one last.
            return tried, latest
        if time.monotonic() >= end:
            return tried, None

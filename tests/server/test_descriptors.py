"""tornado_bridge.server.descriptors: how many clients there are descriptors for."""

import json
import resource
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_bridge.connections.refusals import MAX_LINGERING
from tornado_bridge.server import descriptors
from tornado_bridge.server.descriptors import RESERVE, fit


def test_without_a_limit_the_numbers_stay() -> None:
    assert fit(10_000, 1_000, None) == (10_000, 1_000)


def test_numbers_that_just_fit_stay() -> None:
    assert fit(10_000, 1_000, 10_000 + 1_000 + MAX_LINGERING + RESERVE) == (10_000, 1_000)


def test_one_descriptor_too_few_takes_one_connection() -> None:
    assert fit(10_000, 1_000, 10_000 + 1_000 + MAX_LINGERING + RESERVE - 1) == (9_999, 1_000)


@pytest.mark.parametrize(
    ("limit", "connections", "handshakes"),
    [
        (65_536, 10_000, 1_000),
        (4_096, 2_528, 504),
        (1_024, 420, 120),
        (256, 84, 24),
        (64, 1, 1),
        (0, 1, 1),
    ],
)
def test_the_defaults_under_a_usual_limit(limit: int, connections: int, handshakes: int) -> None:
    assert fit(10_000, 1_000, limit) == (connections, handshakes)


@given(connections=st.integers(1, 2**31 - 1), handshakes=st.integers(1, 2**31 - 1), room=st.integers(16, 2**31 - 1))
def test_what_fits_takes_no_more_descriptors_than_there_are(connections: int, handshakes: int, room: int) -> None:
    fitted, waiting = fit(connections, handshakes, room + RESERVE)
    assert 1 <= fitted <= connections
    assert 1 <= waiting <= handshakes
    assert fitted + min(fitted, MAX_LINGERING) + waiting <= room


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    program = (
        "import json, resource\n"
        "from tornado_bridge.server import descriptors\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 512))\n"
        "print(json.dumps([descriptors.raise_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE)]))\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=30)
    assert json.loads(ran.stdout) == [512, 512, 512]


def test_an_infinite_limit_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def infinite(_: int) -> tuple[int, int]:
        return resource.RLIM_INFINITY, resource.RLIM_INFINITY

    def refuse(*_: object) -> None:
        raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(descriptors.resource, "getrlimit", infinite)
    monkeypatch.setattr(descriptors.resource, "setrlimit", refuse)
    assert descriptors.raise_limit() is None

"""What pytest gets of an installed bridge: the fixture that runs one."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tornado_bridge.testing.bridge_client import BridgeClient


@pytest.fixture
def bridge_plugins(request: pytest.FixtureRequest) -> Sequence[str | object]:
    """The plugins of `bridge_client`: that of the test's class, unless a test module says else."""
    return [request.cls.plugin]


@pytest.fixture
def bridge_client(bridge_plugins: Sequence[str | object]) -> "Iterator[BridgeClient]":
    """A bridge of this process on an embedded Redis, and a client that is subscribed to all of its channels."""
    # Every pytest run next to the bridge imports this module, and few need a server.
    from tornado_bridge.testing.bridge_client import BridgeClient

    with BridgeClient(bridge_plugins) as client:
        yield client

"""The pytest fixtures that an installed bridge brings: a running bridge with a client.

pytest imports this module by its entry point in every environment that has the bridge installed, so it imports neither
the server nor the audit.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tornado_bridge.testing.bridge_client import BridgeClient


@pytest.fixture
def bridge_plugins(request: pytest.FixtureRequest) -> Sequence[str | object]:
    """The plugins of `bridge_client`: the `plugin` of the test's class. Override the fixture to choose others."""
    return [request.cls.plugin]


@pytest.fixture
def bridge_client(bridge_plugins: Sequence[str | object]) -> "Iterator[BridgeClient]":
    """A bridge in this process, on an embedded Redis, with a client that is subscribed to all of its channels."""
    from tornado_bridge.testing.bridge_client import BridgeClient

    with BridgeClient(bridge_plugins) as client:
        yield client

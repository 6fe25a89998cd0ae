"""Floods: a client that sends without pause neither starves another client nor fills the memory of the process.

`python -m benchmarks.floods` measures how long the other client waits.
"""

from collections.abc import Iterator

import pytest

from benchmarks import floods
from benchmarks.rig.system import Serving, serving
from tests.support.servers import RedisServer

SECONDS = 0.7
MAX_GROWTH = 5 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer) -> Iterator[Serving]:
    directory = tmp_path_factory.mktemp("floods")
    with serving(floods.SHIPPED, redis_server.port, directory, processor=floods.processors()[0]) as server:
        floods.measure(server, "bad", floods.FLOODS[0], SECONDS)  # first, so that memory allocated once does not count
        yield server


@pytest.mark.parametrize("key", ["good", "bad"])
@pytest.mark.parametrize("flood", floods.FLOODS, ids=lambda flood: flood.name)
def test_a_flood_neither_starves_another_client_nor_fills_memory(
    server: Serving, flood: floods.Flood, key: str
) -> None:
    result = floods.measure(server, server.key if key == "good" else key, flood, SECONDS)
    assert len(result.trips) >= 5
    assert result.growth <= MAX_GROWTH
    assert result.sent > 1 << 16

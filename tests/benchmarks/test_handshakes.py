"""benchmarks.handshakes: both paths let clients in, and the table compares them."""

import os
import socket
from collections.abc import Iterator

import pytest

from benchmarks import handshakes
from benchmarks.rig.processes import ProcessFailed
from benchmarks.rig.system import Installed, Serving, serving
from benchmarks.systems import BRIDGE
from tests.support.servers import RedisServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer) -> Iterator[Serving]:
    directory = tmp_path_factory.mktemp("handshakes")
    with serving(Installed(BRIDGE), redis_server.port, directory, processor=min(os.sched_getaffinity(0))) as server:
        yield server


@pytest.mark.parametrize("path", ["with the doorway", "without"])
def test_a_path_lets_all_clients_in_and_takes_processor_time(server: Serving, path: str) -> None:
    assert handshakes.measure(server, path, batches=1) > 0


def test_another_answer_than_an_upgrade_fails() -> None:
    client, server = socket.socketpair()
    with client, server:
        server.sendall(b"HTTP/1.1 404 Not Found\r\n\r\n")
        with pytest.raises(ProcessFailed, match="404 Not Found"):
            handshakes.receive([client])


def test_an_answer_that_is_cut_short_fails() -> None:
    client, server = socket.socketpair()
    with client:
        with server:
            server.sendall(b"HTTP/1.1 101 ")
        with pytest.raises(ProcessFailed, match=r"HTTP/1\.1 101 "):
            handshakes.receive([client])


def test_connections_that_wait_to_be_accepted_are_counted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)), socket.create_connection(("127.0.0.1", port)):
            assert handshakes.not_accepted(port) == 2
            listening.accept()[0].close()
            assert handshakes.not_accepted(port) == 1


def test_the_table_has_the_ratio_of_each_path_to_the_first() -> None:
    rounds = {"with the doorway": [50e-6, 60e-6, 70e-6], "without": [200e-6, 180e-6, 280e-6]}
    assert handshakes.table(rounds).splitlines()[2:] == [
        "| with the doorway | 60 (50 to 70) | 1.00 |",
        "| without | 200 (180 to 280) | 4.00 |",
    ]

"""benchmarks.rig.load: the load generator, against a server that sends what the test says."""

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.sync.server import ServerConnection, serve

from benchmarks.rig import c_programs, load
from benchmarks.rig.market import Market, instruments

LISTED = instruments(3, ("1m", "1h"))
AGE_US = 5_000_000


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("cc") is None:
        pytest.skip("cc is not installed")
    return load.build(tmp_path_factory.mktemp("load"))


def test_the_load_generator_compiles_with_compression(program: Path, tmp_path: Path) -> None:
    if not c_programs.has_zlib():
        pytest.skip("zlib is not installed")
    assert os.access(load.build(tmp_path, deflate=True), os.X_OK)


def test_the_load_generator_names_its_options(program: Path) -> None:
    done = subprocess.run([program, "--port", "1"], capture_output=True, text=True, timeout=10, check=False)
    assert (done.returncode, done.stderr) == (
        1,
        "load: usage: --port P --clients N --channels FILE --sets FILE --timeout SECONDS\n",
    )


class Speaker:
    """A server that grants every subscription and then sends the texts that the test passes to `say`."""

    def __init__(self) -> None:
        self._connections: list[ServerConnection] = []
        self._server = serve(self._converse, "127.0.0.1", 0, compression=None)
        self.port: int = self._server.socket.getsockname()[1]
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def _converse(self, connection: ServerConnection) -> None:
        self._connections.append(connection)
        with suppress(ConnectionClosedError):  # the load generator ends without a closing handshake
            for message in connection:
                answer = {"type": "subscribed", "channels": json.loads(message)["channels"]}
                connection.send(json.dumps(answer, separators=(",", ":")))

    def say(self, texts: Sequence[str]) -> None:
        """Send the texts to every client. A pong behind them shows that the client has taken them all."""
        for connection in self._connections:
            for text in texts:
                connection.send(text)
            assert not texts or connection.ping().wait(20)

    def end(self) -> None:
        self._server.shutdown()
        for connection in self._connections:
            connection.close()
        self._thread.join(10)


@pytest.fixture
def speaker() -> Iterator[Speaker]:
    speaker = Speaker()
    yield speaker
    speaker.end()


Edit = Callable[[list[str]], list[str]]


def reported(
    program: Path, speaker: Speaker, directory: Path, edit: Edit, sets: Sequence[Sequence[str]]
) -> load.Report:
    """Return the report of two clients on twelve events, which were published AGE_US ago and edited on their way."""
    market = Market(LISTED)
    published_us = time.time_ns() // 1000 - AGE_US
    texts = [candle.envelope(published_us) for candle in market.next_burst(12).candles]
    processor = min(os.sched_getaffinity(0))
    with load.generating(
        program,
        port=speaker.port,
        key="key",
        clients=2,
        channels=market.channels,
        sets=sets,
        directory=directory,
        processor=processor,
    ) as clients:
        clients.open(2)
        clients.expect(12)
        speaker.say(edit(texts))
        return clients.finish()


EVERYTHING = [["candles:*:*"]]


def test_a_run_without_faults_has_none(program: Path, speaker: Speaker, tmp_path: Path) -> None:
    report = reported(program, speaker, tmp_path, list, EVERYTHING)
    assert (report.deliveries, report.faults) == (24, [])


def test_the_latency_is_the_age_of_an_event_at_its_receipt(program: Path, speaker: Speaker, tmp_path: Path) -> None:
    began = time.monotonic()
    report = reported(program, speaker, tmp_path, list, EVERYTHING)
    elapsed_us = (time.monotonic() - began) * 1e6
    assert AGE_US <= report.p50_us <= report.p99_us
    assert AGE_US <= report.max_us <= AGE_US + elapsed_us


def test_a_client_is_due_the_events_of_its_own_set(program: Path, speaker: Speaker, tmp_path: Path) -> None:
    hours = [["candles:*:1h", "candles:C001-USD:*", "candles:C002-USD:1h"]]

    def without_other_minutes(texts: list[str]) -> list[str]:
        return [text for text in texts if ":1h" in text or "C001" in text]

    report = reported(program, speaker, tmp_path, without_other_minutes, hours)
    assert (report.deliveries, report.faults) == (16, [])


@pytest.mark.parametrize(
    ("edit", "faults"),
    [
        (lambda texts: texts[:-1], ["2 lost"]),
        (lambda texts: texts[1:], ["2 lost"]),
        (lambda texts: texts[:3] + texts[5:], ["4 lost"]),
        (lambda texts: [texts[0], *texts], ["2 duplicated"]),
        (lambda texts: [*texts, texts[4]], ["2 duplicated"]),
        (lambda texts: [texts[1], texts[0], *texts[2:]], ["2 out of order"]),
        (lambda texts: [*texts[2:], *texts[:2]], ["4 out of order"]),
        (lambda texts: ["{}", *texts], ["2 unknown frames"]),
        (lambda texts: [*texts, texts[0].replace("C000", "C001")], ["2 unknown frames"]),
        (
            lambda texts: [texts[0].replace('"open":"4', '"open":"5'), *texts],
            ["2 duplicated", "2 not the same for all clients"],
        ),
    ],
)
def test_each_kind_of_fault_is_counted(
    program: Path, speaker: Speaker, tmp_path: Path, edit: Edit, faults: list[str]
) -> None:
    assert reported(program, speaker, tmp_path, edit, EVERYTHING).faults == faults


def test_an_event_that_was_not_subscribed_to_is_counted(program: Path, speaker: Speaker, tmp_path: Path) -> None:
    report = reported(program, speaker, tmp_path, list, [["candles:*:1h"]])
    assert (report.deliveries, report.faults) == (12, ["12 unknown frames"])


def test_a_client_that_the_server_closes_is_counted(program: Path, speaker: Speaker, tmp_path: Path) -> None:
    def close(texts: list[str]) -> list[str]:
        for connection in speaker._connections:
            connection.close(4001)
        return []

    report = reported(program, speaker, tmp_path, close, EVERYTHING)
    assert report.faults == ["24 lost", "2 clients closed (code 4001)"]

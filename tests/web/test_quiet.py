"""tornado_bridge.web.quiet: no API key in a log line of an application that does nothing about it."""

import logging
from collections.abc import Iterator

import pytest
import tornado.ioloop
from tornado.httpserver import HTTPServer
from tornado.web import Application

from tests.support.raw import RawClient, handshake, until
from tests.support.servers import LogLines
from tests.web.test_app import LEAKY, SECRET, said
from tornado_bridge.bridge import WebSocketBridge
from tornado_bridge.web import quiet
from tornado_bridge.web.app import routes

# An application answers for its own paths itself, and a request without an end is not logged.
EMBEDDED = [request for request in LEAKY if b"/elsewhere" not in request and b"\r\n\r\n" in request]


@pytest.fixture
def plain_port(bridge: WebSocketBridge, io_loop: tornado.ioloop.IOLoop) -> Iterator[int]:
    """The port of an application with the settings of Tornado."""
    server = HTTPServer(Application([*routes(bridge)]))
    server.listen(0, "127.0.0.1")
    [listening] = server._sockets.values()
    yield listening.getsockname()[1]
    server.stop()
    io_loop.run_sync(server.close_all_connections, timeout=10)


@pytest.mark.gen_test
@pytest.mark.parametrize("request_with_a_key", EMBEDDED, ids=range(len(EMBEDDED)))
async def test_a_plain_application_logs_no_key_of_any_request(
    plain_port: int, caplog: pytest.LogCaptureFixture, log_lines: LogLines, request_with_a_key: bytes
) -> None:
    caplog.set_level(logging.DEBUG)
    with await RawClient.connect(plain_port) as client:
        await client.send(request_with_a_key)
        client.finish()
        await client.rest()
    await until(lambda: caplog.records)
    assert SECRET not in said(caplog, log_lines)
    caplog.clear()


@pytest.mark.gen_test
async def test_a_method_that_http_does_not_have_is_answered_with_405_and_not_logged(
    plain_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    with await RawClient.connect(plain_port) as client:
        await client.send(handshake(None).replace(b"GET", SECRET.encode(), 1))
        assert await client.status() == 405
    [record] = [record for record in caplog.records if record.name == "tornado.access"]
    assert record.getMessage().startswith("405 UNKNOWN /public/v1/stream (127.0.0.1) ")
    caplog.clear()


@pytest.mark.parametrize("name", ["tornado.general", "tornado.application"])
def test_the_log_lines_of_the_application_itself_stay_as_they_are(name: str, caplog: pytest.LogCaptureFixture) -> None:
    quiet.hide_requests()
    logger = logging.getLogger(name)
    try:
        raise ValueError("its own")
    except ValueError:
        logger.exception("failed: %s", "of its own")
    [record] = caplog.records
    text = logging.Formatter().format(record)
    assert text.startswith("failed: of its own\n")
    assert text.endswith("ValueError: its own")
    caplog.clear()


def test_asking_twice_filters_once() -> None:
    quiet.hide_requests()
    before = [list(logging.getLogger(name).filters) for name in ("tornado.general", "tornado.application")]
    quiet.hide_requests()
    assert [logging.getLogger(name).filters for name in ("tornado.general", "tornado.application")] == before

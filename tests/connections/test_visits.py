"""tornado_bridge.connections.visits: the log lines about clients, of a bridge on a real port."""

import logging
from collections.abc import Callable, MutableMapping
from typing import Any

import pytest

from tests.support import raw
from tests.support.raw import PING, Frame, RawClient, closed, frame, text, until
from tests.support.servers import LogLines
from tornado_bridge import logs
from tornado_bridge.bridge import WebSocketBridge
from tornado_bridge.connections import visits
from tornado_bridge.connections.disconnects import SHUTTING_DOWN
from tornado_bridge.connections.visits import Visits

SUBSCRIBE = text('{"action":"subscribe","channels":["candles:*:*"]}')
SUBSCRIBED = '{"type":"subscribed","channels":["candles:*:*"]}'

Lines = Callable[[str], list[MutableMapping[str, Any]]]


@pytest.fixture
def lines(log_lines: LogLines, caplog: pytest.LogCaptureFixture) -> Lines:
    """Turn the lines on, and return those of an event."""
    caplog.set_level(logging.INFO, visits.__name__)
    return lambda event: [line for line in log_lines.all() if line["event"] == event]


@pytest.fixture
def unthrottled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "WINDOW", 0.0)


async def admitted(port: int, key: str) -> RawClient:
    client = await RawClient.open(port, key, then=SUBSCRIBE)
    assert await client.message() == SUBSCRIBED
    return client


# Who connects and who is refused


@pytest.mark.gen_test
async def test_a_client_that_connects_is_logged_with_the_name_of_its_key(
    http_port: int, key: str, lines: Lines
) -> None:
    with await admitted(http_port, key):
        assert lines("client connected") == [{"event": "client connected", "log_level": "info", "key": "tests"}]


@pytest.mark.gen_test
@pytest.mark.parametrize(("wrong", "reason"), [(None, "API key required"), ("hunter2-is-no-key", "Invalid API key")])
async def test_a_client_without_a_good_key_is_logged_with_the_reason(
    http_port: int, lines: Lines, wrong: str | None, reason: str
) -> None:
    with await RawClient.open(http_port, wrong) as client:
        assert await client.frame() == closed(4001, reason)
    assert lines("client refused") == [{"event": "client refused", "log_level": "info", "code": 4001, "reason": reason}]


@pytest.mark.gen_test
@pytest.mark.bridge(max_connections_per_key=1)
async def test_a_client_above_the_limit_of_its_key_is_logged_with_the_name_of_the_key(
    http_port: int, key: str, lines: Lines
) -> None:
    with await admitted(http_port, key), await RawClient.open(http_port, key) as refused:
        assert await refused.frame() == closed(4008, "Connection limit exceeded")
    assert lines("client refused") == [
        {
            "event": "client refused",
            "log_level": "info",
            "key": "tests",
            "code": 4008,
            "reason": "Connection limit exceeded",
        }
    ]


# Who leaves


async def left(bridge: WebSocketBridge, lines: Lines) -> MutableMapping[str, Any]:
    """Return the line about a client that has left, without its time, which must be plausible."""
    await until(lambda: lines("client left"))
    await until(lambda: not bridge.connections)
    (line,) = lines("client left")
    seconds = line.pop("seconds")
    assert 0 <= seconds < raw.PATIENCE
    assert seconds == round(seconds, 1)
    return line


def departure(code: int | None, reason: str) -> dict[str, Any]:
    return {"event": "client left", "log_level": "info", "key": "tests", "code": code, "reason": reason}


@pytest.mark.gen_test
async def test_a_client_that_closes_is_logged_with_its_code_and_without_what_it_said(
    http_port: int, key: str, bridge: WebSocketBridge, lines: Lines
) -> None:
    with await admitted(http_port, key) as client:
        await client.send(raw.close(1000, key.encode()))
        assert await client.frame() == closed(1000)
        assert await left(bridge, lines) == departure(1000, "closed by the client")


@pytest.mark.gen_test
async def test_a_client_that_closes_without_a_code_is_logged_without_one(
    http_port: int, key: str, bridge: WebSocketBridge, lines: Lines
) -> None:
    with await admitted(http_port, key) as client:
        await client.send(raw.close())
        assert await left(bridge, lines) == departure(None, "closed by the client")


@pytest.mark.gen_test
async def test_a_client_that_vanishes_is_logged_as_a_lost_connection(
    http_port: int, key: str, bridge: WebSocketBridge, lines: Lines
) -> None:
    with await admitted(http_port, key) as client:
        client.reset()
        assert await left(bridge, lines) == departure(None, "connection lost")


@pytest.mark.gen_test
async def test_a_client_that_the_server_disconnects_is_logged_with_code_and_reason(
    http_port: int, key: str, bridge: WebSocketBridge, lines: Lines
) -> None:
    with await admitted(http_port, key) as client:
        for connection in tuple(bridge.connections):
            bridge.remove_client(connection, SHUTTING_DOWN)
        assert await client.frame() == closed(1001, "Server shutting down")
        assert await left(bridge, lines) == departure(1001, "Server shutting down")


@pytest.mark.gen_test
async def test_a_client_that_breaks_the_protocol_is_logged_with_code_and_reason(
    http_port: int, key: str, bridge: WebSocketBridge, lines: Lines
) -> None:
    with await admitted(http_port, key) as client:
        await client.send(frame(PING, mask=None))
        assert await left(bridge, lines) == departure(1002, "Frame not masked")


@pytest.mark.gen_test
@pytest.mark.bridge(ping_interval=0.1)
async def test_a_client_that_answers_no_ping_is_logged_with_that_reason(
    http_port: int, key: str, bridge: WebSocketBridge, lines: Lines
) -> None:
    with await admitted(http_port, key) as client:
        assert await client.frame() == Frame(PING, b"")
        assert await left(bridge, lines) == departure(None, "no answer to a ping")


@pytest.mark.gen_test
async def test_a_client_that_is_too_slow_is_logged_with_that_reason(
    http_port: int, key: str, bridge: WebSocketBridge, lines: Lines, log_lines: LogLines
) -> None:
    with await admitted(http_port, key):
        for connection in tuple(bridge.connections):
            connection.outlet.abort_slow()
        assert await left(bridge, lines) == departure(None, "too slow")
    log_lines.take("slow client lost frames")


# Throttled


@pytest.mark.gen_test
async def test_many_clients_of_a_key_make_one_line_of_each_kind(
    http_port: int, key: str, bridge: WebSocketBridge, lines: Lines
) -> None:
    for _ in range(20):
        with await admitted(http_port, key):
            pass
        with await RawClient.open(http_port, None) as refused:
            assert (await refused.frame()).opcode == raw.CLOSE
    await until(lambda: not bridge.connections)
    events = ("client connected", "client refused", "client left")
    assert [len(lines(event)) for event in events] == [1, 1, 1]


@pytest.mark.gen_test
async def test_many_close_codes_and_reasons_that_clients_choose_make_one_line(
    http_port: int, key: str, bridge: WebSocketBridge, lines: Lines
) -> None:
    for number in range(20):
        with await admitted(http_port, key) as client:
            await client.send(raw.close(3000 + number, b"reason %d" % number))
            await client.rest()
    await until(lambda: not bridge.connections)
    assert len(lines("client left")) == 1


@pytest.mark.gen_test
@pytest.mark.usefixtures("unthrottled")
async def test_each_client_makes_a_line_while_the_throttle_lets_it(
    http_port: int, key: str, bridge: WebSocketBridge, lines: Lines
) -> None:
    for _ in range(3):
        with await admitted(http_port, key):
            pass
        await until(lambda: not bridge.connections)
    assert [len(lines(event)) for event in ("client connected", "client left")] == [3, 3]


@pytest.mark.gen_test
async def test_no_line_is_made_above_the_level_of_the_log(
    http_port: int, key: str, bridge: WebSocketBridge, log_lines: LogLines
) -> None:
    with await admitted(http_port, key), await RawClient.open(http_port, None) as refused:
        assert (await refused.frame()).opcode == raw.CLOSE
    await until(lambda: not bridge.connections)
    assert [line for line in log_lines.all() if line["event"].startswith("client")] == []


# Addresses and keys


@pytest.mark.gen_test
@pytest.mark.bridge(log_addresses=True)
async def test_the_lines_have_addresses_if_asked_for(
    http_port: int, key: str, bridge: WebSocketBridge, lines: Lines
) -> None:
    with await admitted(http_port, key), await RawClient.open(http_port, None) as refused:
        assert (await refused.frame()).opcode == raw.CLOSE
    await until(lambda: not bridge.connections)
    for event in ("client connected", "client refused", "client left"):
        assert [line["address"] for line in lines(event)] == ["127.0.0.1"]


@pytest.mark.gen_test
async def test_many_addresses_make_one_line(lines: Lines) -> None:
    log = Visits(addresses=True)
    for number in range(100):
        log.log_refusal(SHUTTING_DOWN, None, f"203.0.113.{number}")
    assert [line["address"] for line in lines("client refused")] == ["203.0.113.0"]


@pytest.mark.gen_test
@pytest.mark.usefixtures("unthrottled")
async def test_no_line_has_a_key_or_an_address(
    http_port: int, key: str, bridge: WebSocketBridge, log_lines: LogLines, lines: Lines
) -> None:
    for wrong in (None, "", "hunter2-is-no-key"):
        with await RawClient.open(http_port, wrong) as refused:
            assert (await refused.frame()).opcode == raw.CLOSE
    with await admitted(http_port, key) as client:
        await client.send(raw.close(1000, key.encode()))
        await client.rest()
    await until(lambda: not bridge.connections)
    assert [len(lines(event)) for event in ("client connected", "client refused", "client left")] == [1, 3, 1]
    logged = str(log_lines.all())
    assert not any(text in logged for text in (key, "hunter2", "127.0.0.1"))

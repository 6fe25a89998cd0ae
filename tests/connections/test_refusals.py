"""tornado_bridge.connections.refusals, in a bridge on a real port: late answers to strangers, and no room for many."""

import contextlib
import ipaddress
import time
from collections.abc import Iterator

import pytest
import tornado.ioloop
from tornado.iostream import IOStream

from tests.support.raw import NOTHING_HELD, RawClient, closed, handshake, held, tcp_pair, text, until
from tests.support.servers import LogLines
from tornado_bridge.bridge import WebSocketBridge
from tornado_bridge.connections import websocket, wrong_keys
from tornado_bridge.connections.disconnects import KEY_INVALID, KEY_REQUIRED
from tornado_bridge.web import app

INVALID = closed(4001, "Invalid API key")
SUBSCRIBE = text('{"action":"subscribe","channels":["candles:*:*"]}')
SUBSCRIBED = '{"type":"subscribed","channels":["candles:*:*"]}'
STRANGER = "X-Forwarded-For: 203.0.113.7"
LATE = "wrong API keys are tried again and again: their answers come late"


@pytest.fixture
def proxied_port(bridge: WebSocketBridge, io_loop: tornado.ioloop.IOLoop) -> Iterator[int]:
    """The port of a server that takes this machine for a trusted proxy, and names each client by X-Forwarded-For."""
    trusted = (ipaddress.ip_network("127.0.0.0/8"),)
    server, port = app.serve(bridge, host="127.0.0.1", port=0, trusted_proxy=trusted)
    yield port
    server.stop()
    io_loop.run_sync(server.close_all_connections, timeout=10)


async def try_keys(port: int, count: int, *headers: str) -> list[RawClient]:
    """Connect with this many wrong keys, one after the other."""
    return [await RawClient.open(port, f"wrong key {number}", *headers) for number in range(count)]


async def use_up(port: int, *headers: str) -> None:
    """Try as many wrong keys as are answered at once."""
    for client in await try_keys(port, 10, *headers):
        assert await client.frame() == INVALID
        client.close()


async def seconds_until_answered(client: RawClient) -> float:
    began = time.monotonic()
    assert await client.frame() == INVALID
    return time.monotonic() - began


# Wrong keys


@pytest.mark.gen_test
async def test_the_answers_to_ten_wrong_keys_come_at_once_and_the_next_a_second_late(
    http_port: int, log_lines: LogLines
) -> None:
    began = time.monotonic()
    await use_up(http_port)
    assert time.monotonic() - began < 1

    (late,) = await try_keys(http_port, 1)
    assert 0.9 < await seconds_until_answered(late) < 5
    late.close()
    log_lines.take(LATE)


@pytest.mark.gen_test
async def test_twenty_answers_are_late_at_a_time_and_further_wrong_keys_are_reset_without_one(
    http_port: int, bridge: WebSocketBridge, log_lines: LogLines
) -> None:
    await use_up(http_port)
    late = await try_keys(http_port, 20)
    further = [await RawClient.connect(http_port) for _ in range(5)]
    for client in further:
        await client.send(handshake("wrong"))
        with pytest.raises(ConnectionResetError):
            # The answer to the handshake may arrive before the reset.
            await client.rest()
    assert bridge.refusals.lingering == 20

    assert [await client.frame() for client in late] == [INVALID] * 20

    for client in (*late, *further):
        client.close()
    await until(lambda: held(bridge) == NOTHING_HELD)
    assert bridge.refusals.counts == {KEY_INVALID: 35}
    log_lines.take(LATE)


@pytest.mark.gen_test
async def test_a_good_key_from_the_address_of_strangers_is_admitted_at_once(
    http_port: int, key: str, monkeypatch: pytest.MonkeyPatch, log_lines: LogLines
) -> None:
    monkeypatch.setattr("tornado_bridge.connections.refusals.DELAY", 60.0)
    await use_up(http_port)
    late = await try_keys(http_port, 20)
    with await RawClient.open(http_port, key, then=SUBSCRIBE) as client:
        assert await client.message() == SUBSCRIBED
    for other in late:
        other.close()
    log_lines.take(LATE)


@pytest.mark.gen_test
@pytest.mark.parametrize("other", ["203.0.113.8", "2001:db8:0:2::1"])
async def test_wrong_keys_from_another_address_are_answered_at_once(
    proxied_port: int, monkeypatch: pytest.MonkeyPatch, log_lines: LogLines, other: str
) -> None:
    monkeypatch.setattr("tornado_bridge.connections.refusals.DELAY", 60.0)
    await use_up(proxied_port, STRANGER)
    (late,) = await try_keys(proxied_port, 1, STRANGER)
    log_lines.take(LATE)

    await use_up(proxied_port, f"X-Forwarded-For: {other}")
    late.close()


@pytest.mark.gen_test
async def test_addresses_of_one_ipv6_network_share_their_tries(
    proxied_port: int, bridge: WebSocketBridge, monkeypatch: pytest.MonkeyPatch, log_lines: LogLines
) -> None:
    monkeypatch.setattr("tornado_bridge.connections.refusals.DELAY", 60.0)
    for number in range(10):
        (client,) = await try_keys(proxied_port, 1, f"X-Forwarded-For: 2001:db8::{number:x}")
        assert await client.frame() == INVALID
        client.close()
    await until(lambda: bridge.refusals.lingering == 0)
    with (await try_keys(proxied_port, 1, "X-Forwarded-For: 2001:db8::abcd"))[0]:
        assert bridge.refusals.lingering == 1
        log_lines.take(LATE)


@pytest.mark.gen_test
async def test_a_client_that_is_not_a_trusted_proxy_cannot_pass_for_another(
    http_port: int, bridge: WebSocketBridge, monkeypatch: pytest.MonkeyPatch, log_lines: LogLines
) -> None:
    monkeypatch.setattr("tornado_bridge.connections.refusals.DELAY", 60.0)
    for number in range(11):
        with (await try_keys(http_port, 1, f"X-Forwarded-For: 203.0.113.{number}"))[0] as client:
            if number < 10:
                assert await client.frame() == INVALID
    log_lines.take(LATE)


@pytest.mark.gen_test
async def test_clients_without_a_key_are_always_answered_at_once(http_port: int, bridge: WebSocketBridge) -> None:
    for _ in range(50):
        with await RawClient.open(http_port, None) as client:
            assert await client.frame() == closed(4001, "API key required")
    assert bridge.refusals.counts == {KEY_REQUIRED: 50}


@pytest.mark.gen_test
async def test_wrong_keys_make_one_log_line_without_a_key_or_an_address(
    proxied_port: int, monkeypatch: pytest.MonkeyPatch, log_lines: LogLines
) -> None:
    monkeypatch.setattr("tornado_bridge.connections.refusals.DELAY", 60.0)
    await use_up(proxied_port, STRANGER)
    for client in await try_keys(proxied_port, 15, STRANGER):
        client.close()
    assert log_lines.take(LATE) == {"event": LATE, "log_level": "warning"}


@pytest.mark.gen_test
async def test_nothing_that_a_client_sends_while_its_answer_is_late_is_processed(
    http_port: int, monkeypatch: pytest.MonkeyPatch, log_lines: LogLines
) -> None:
    monkeypatch.setattr("tornado_bridge.connections.refusals.DELAY", 0.05)
    await use_up(http_port)
    with await RawClient.open(http_port, "wrong", then=SUBSCRIBE) as client:
        assert await client.rest() == b"\x88\x11\x0f\xa1Invalid API key"
    log_lines.take(LATE)


@pytest.mark.gen_test
async def test_a_stop_gives_the_late_answers_at_once(
    http_port: int, bridge: WebSocketBridge, monkeypatch: pytest.MonkeyPatch, log_lines: LogLines
) -> None:
    monkeypatch.setattr("tornado_bridge.connections.refusals.DELAY", 60.0)
    await use_up(http_port)
    late = await try_keys(http_port, 20)

    began = time.monotonic()
    await bridge.stop()

    assert time.monotonic() - began < 5
    assert held(bridge) == NOTHING_HELD
    assert not bridge.refusals._wrong_keys._waiting
    assert [await client.frame() for client in late] == [INVALID] * 20
    for client in late:
        client.close()
    log_lines.take(LATE)


@pytest.mark.gen_test
async def test_a_stranger_that_goes_before_its_late_answer_leaves_nothing(
    http_port: int, bridge: WebSocketBridge, monkeypatch: pytest.MonkeyPatch, log_lines: LogLines
) -> None:
    monkeypatch.setattr("tornado_bridge.connections.refusals.DELAY", 0.2)
    await use_up(http_port)
    for client in await try_keys(http_port, 20):
        client.reset()
    await until(lambda: held(bridge) == NOTHING_HELD)
    assert not bridge.refusals._wrong_keys._waiting
    log_lines.take(LATE)


# How many linger


@pytest.mark.gen_test
@pytest.mark.bridge(max_connections=3)
async def test_no_more_refused_clients_linger_than_may_connect(
    http_port: int, bridge: WebSocketBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "LINGER", 60)
    lingering = [await RawClient.open(http_port, None) for _ in range(3)]
    assert bridge.refusals.lingering == 3
    further = [await RawClient.connect(http_port) for _ in range(20)]
    for client in further:
        await client.send(handshake(None))
        await client.cut()
        assert bridge.refusals.lingering == 3
    assert [await client.frame() for client in lingering] == [closed(4001, "API key required")] * 3
    for client in (*lingering, *further):
        client.close()
    await until(lambda: held(bridge) == NOTHING_HELD)


@pytest.mark.gen_test
@pytest.mark.bridge(max_connections=1)
async def test_refused_clients_that_linger_keep_nobody_out(http_port: int, key: str, bridge: WebSocketBridge) -> None:
    with await RawClient.open(http_port, None) as refused:
        assert bridge.refusals.lingering == 1
        with await RawClient.open(http_port, key, then=SUBSCRIBE) as client:
            assert await client.message() == SUBSCRIBED
        assert await refused.frame() == closed(4001, "API key required")


@pytest.mark.gen_test
@pytest.mark.bridge(max_connections=1)
async def test_a_late_answer_that_finds_no_room_to_linger_is_not_waited_for(
    bridge: WebSocketBridge, log_lines: LogLines
) -> None:
    with contextlib.ExitStack() as clients:
        for _ in range(12):
            near, _ = clients.enter_context(tcp_pair())
            bridge.add_client(IOStream(near), "wrong", address="203.0.113.7")
        assert sum(bridge.refusals._wrong_keys._waiting.values()) <= bridge.refusals.lingering
        await until(lambda: held(bridge) == NOTHING_HELD)
    assert not bridge.refusals._wrong_keys._waiting
    log_lines.take(LATE)


def test_the_delay_is_the_documented_second() -> None:
    assert (wrong_keys.DELAY, wrong_keys.MAX_WAITING, wrong_keys.FREE_TRIES) == (1.0, 20, 10)

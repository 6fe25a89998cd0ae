"""tornado_bridge.connections.connection: what a client holds, and how every kind of end gives it back."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from tornado.iostream import IOStream

from tests.support import raw
from tests.support.raw import NOTHING_HELD, PING, TEXT, Frame, RawClient, closed, frame, held, tcp_pair, text, until
from tests.support.servers import CANDLE_SOURCE, LogLines, RedisServer
from tests.test_bridge import PAYLOAD
from tornado_bridge.bridge import WebSocketBridge
from tornado_bridge.connections import websocket
from tornado_bridge.connections.admission import Allowance
from tornado_bridge.connections.connection import Connection
from tornado_bridge.connections.dialogue import Answer, Dialogue, Subscriptions
from tornado_bridge.connections.disconnects import SHUTTING_DOWN
from tornado_bridge.ingest import relay

SUBSCRIBE = text('{"action":"subscribe","channels":["candles:BTC-USD:1h"]}')
SUBSCRIBED = '{"type":"subscribed","channels":["candles:BTC-USD:1h"]}'
CANDLE = (CANDLE_SOURCE.format(symbol="BTC-USD", timeframe="1h"), PAYLOAD)


class LateStream(IOStream):
    """A stream that never calls back when it is closed."""

    def set_close_callback(self, callback: Callable[[], None] | None) -> None:
        pass


class CountingDialogue(Dialogue):
    """Counts the messages that it answers. It fails at the message "fail"."""

    answered = 0

    def answer(self, text: str, allowance: Allowance, subscriptions: Subscriptions) -> Answer:
        self.answered += 1
        if text == "fail":
            raise RuntimeError("nobody may read this")
        return super().answer(text, allowance, subscriptions)


@pytest.fixture
def dialogue(bridge: WebSocketBridge, monkeypatch: pytest.MonkeyPatch) -> CountingDialogue:
    """The dialogue that a test's connections use."""
    dialogue = CountingDialogue(bridge.registry.grammar, max_subscriptions=200, clock=time.monotonic)
    monkeypatch.setattr(bridge, "_dialogue", dialogue)
    return dialogue


@asynccontextmanager
async def connected(
    bridge: WebSocketBridge, key: str, stream: type[IOStream] = IOStream
) -> AsyncIterator[tuple[RawClient, Connection]]:
    """Yield a subscribed client and its connection. Afterwards the client goes, and nothing may be held for it."""
    with tcp_pair(send_buffer=65_536, receive_buffer=65_536) as (near, client):
        connection = bridge.add_client(stream(near), key)
        assert connection is not None
        await client.send(SUBSCRIBE)
        assert await client.message() == SUBSCRIBED
        yield client, connection
        client.close()
        await until(lambda: held(bridge) == NOTHING_HELD)


@pytest.fixture(autouse=True)
def patience_with_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise the time limit of a plugin call. On a busy machine a call may exceed it, and the bridge would log that."""
    monkeypatch.setattr(relay, "SLOW_CALL", 60.0)


# What a connection holds, and gives back


@pytest.mark.gen_test
async def test_a_connection_holds_a_place_a_cohort_and_a_slot_of_the_heartbeat(
    bridge: WebSocketBridge, key: str
) -> None:
    async with connected(bridge, key):
        assert held(bridge) == {
            "connections": 1,
            "places": 1,
            "cohorts": 1,
            "heartbeats": 1,
            "slow": 0,
            "tasks": 1,
            "buffered": 0,
        }


async def close_frame(client: RawClient, connection: Connection) -> None:
    await client.send(raw.close(1000, b"bye"))


async def close_frame_with_a_bad_reason(client: RawClient, connection: Connection) -> None:
    await client.send(raw.close(1000, b"\xff\xfe"))


async def close_frame_with_a_bad_code(client: RawClient, connection: Connection) -> None:
    await client.send(raw.close(1005))


async def reset(client: RawClient, connection: Connection) -> None:
    client.reset()


async def reset_inside_a_message(client: RawClient, connection: Connection) -> None:
    await client.send(frame(TEXT, b"half", final=False) + SUBSCRIBE[:9])
    client.reset()


async def half_close(client: RawClient, connection: Connection) -> None:
    client.finish()


async def protocol_error(client: RawClient, connection: Connection) -> None:
    await client.send(frame(TEXT, b"x", mask=None))


async def bad_utf_8(client: RawClient, connection: Connection) -> None:
    await client.send(frame(TEXT, b"\xff"))


async def oversize_message(client: RawClient, connection: Connection) -> None:
    await client.send(frame(TEXT, b"x" * 65_537))


async def no_pong(client: RawClient, connection: Connection) -> None:
    connection.beat()
    connection.beat()


async def exception_of_ours(client: RawClient, connection: Connection) -> None:
    await client.send(text("fail"))


async def close_by_the_server(client: RawClient, connection: Connection) -> None:
    connection.disconnect(SHUTTING_DOWN)


async def abort_of_a_slow_client(client: RawClient, connection: Connection) -> None:
    connection.outlet.abort_slow()


End = Callable[[RawClient, Connection], Awaitable[None]]
ENDS: list[End] = [
    close_frame,
    close_frame_with_a_bad_reason,
    close_frame_with_a_bad_code,
    reset,
    reset_inside_a_message,
    half_close,
    protocol_error,
    bad_utf_8,
    oversize_message,
    no_pong,
    exception_of_ours,
    close_by_the_server,
    abort_of_a_slow_client,
]


@pytest.mark.gen_test
@pytest.mark.parametrize("stream", [IOStream, LateStream])
@pytest.mark.parametrize("end", ENDS)
async def test_everything_is_given_back_at_an_end_while_the_client_stays(
    bridge: WebSocketBridge,
    key: str,
    dialogue: CountingDialogue,
    log_lines: LogLines,
    end: End,
    stream: type[IOStream],
) -> None:
    async with connected(bridge, key, stream) as (client, connection):
        await end(client, connection)

        await until(lambda: held(bridge) == NOTHING_HELD)
        assert bridge.connection_count(1) == 0
    if end is exception_of_ours:
        log_lines.take("client message failed")
    if end is abort_of_a_slow_client:
        log_lines.take("slow client lost frames")


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "end", [close_frame, close_frame_with_a_bad_reason, protocol_error, oversize_message, close_by_the_server]
)
async def test_the_place_is_given_back_before_the_tcp_connection_has_ended(
    bridge: WebSocketBridge, key: str, monkeypatch: pytest.MonkeyPatch, end: End
) -> None:
    monkeypatch.setattr(websocket, "LINGER", 60)
    async with connected(bridge, key) as (client, connection):
        await end(client, connection)
        await until(lambda: bridge.connection_count(1) == 0)
        assert held(bridge) == {**NOTHING_HELD, "tasks": 1}


@pytest.mark.gen_test
async def test_everything_is_given_back_although_nothing_is_being_read(
    bridge: WebSocketBridge, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge, "_serve", lambda work: work.close())
    with tcp_pair() as (near, client):
        assert bridge.add_client(IOStream(near), key) is not None
        assert bridge.connection_count(1) == 1
        client.reset()
        await until(lambda: held(bridge) == NOTHING_HELD)


@pytest.mark.gen_test
async def test_a_place_is_given_back_once_if_two_ends_coincide(bridge: WebSocketBridge, key: str) -> None:
    async with connected(bridge, key):
        async with connected_beside(bridge, key) as (client, connection):
            client.reset()
            connection.disconnect(SHUTTING_DOWN)
            connection.end()
        assert bridge.connection_count(1) == 1


@asynccontextmanager
async def connected_beside(bridge: WebSocketBridge, key: str) -> AsyncIterator[tuple[RawClient, Connection]]:
    """Yield one more client of a bridge that has other clients."""
    before = held(bridge)["tasks"]
    with tcp_pair() as (near, client):
        connection = bridge.add_client(IOStream(near), key)
        assert connection is not None
        yield client, connection
        client.close()
        await until(lambda: held(bridge)["tasks"] == before)


# Messages


@pytest.mark.gen_test
async def test_an_unsubscribed_connection_has_left_its_cohort(bridge: WebSocketBridge, key: str) -> None:
    async with connected(bridge, key) as (client, connection):
        assert connection.subscriptions == {"candles:BTC-USD:1h"}
        await client.send(text('{"action":"unsubscribe","channels":["candles:BTC-USD:1h"]}'))
        assert await client.message() == '{"type":"unsubscribed","channels":["candles:BTC-USD:1h"]}'
        assert connection.subscriptions == frozenset()
        assert bridge.hub.cohorts == 0


@pytest.mark.gen_test
async def test_no_event_follows_the_answer_that_ends_its_subscription(bridge: WebSocketBridge, key: str) -> None:
    async with connected(bridge, key) as (client, _):
        # The event is relayed, but it is not flushed before the next message comes.
        bridge.relay.relay([(CANDLE[0].encode(), CANDLE[1].encode())])
        await client.send(text('{"action":"unsubscribe","channels":["candles:BTC-USD:1h"]}'))
        assert '"candle_close"' in await client.message()
        assert await client.message() == '{"type":"unsubscribed","channels":["candles:BTC-USD:1h"]}'


@pytest.mark.gen_test
async def test_the_answers_to_one_message_come_in_order(bridge: WebSocketBridge, key: str) -> None:
    async with connected(bridge, key) as (client, _):
        await client.send(text('{"action":"subscribe","channels":["nonsense","signals:*:*"]}'))
        assert await client.message() == (
            '{"type":"error","code":"INVALID_CHANNEL","message":"Unknown channel: nonsense"}'
        )
        assert await client.message() == '{"type":"subscribed","channels":["signals:*:*"]}'


@pytest.mark.gen_test
async def test_a_fault_of_ours_closes_that_connection_with_1011(
    bridge: WebSocketBridge, key: str, dialogue: CountingDialogue, log_lines: LogLines
) -> None:
    async with connected(bridge, key) as (client, _):
        await client.send(text("fail"))
        assert await client.rest() == b"\x88\x10\x03\xf3Internal error"
    log_lines.take("client message failed")


@pytest.mark.gen_test
async def test_a_fault_of_ours_leaves_the_other_connections_of_the_key(
    bridge: WebSocketBridge, key: str, dialogue: CountingDialogue, log_lines: LogLines
) -> None:
    async with connected(bridge, key) as (client, _):
        async with connected_beside(bridge, key) as (other, _):
            await other.send(text("fail"))
            assert await other.frame() == closed(1011, "Internal error")
        await client.send(SUBSCRIBE)
        assert await client.message() == SUBSCRIBED
    log_lines.take("client message failed")


@pytest.mark.gen_test
async def test_the_log_line_of_an_internal_fault_names_the_key_and_no_text_of_the_message(
    bridge: WebSocketBridge, key: str, dialogue: CountingDialogue, log_lines: LogLines
) -> None:
    async with connected(bridge, key) as (client, _):
        await client.send(text("fail"))
        await client.rest()
    assert log_lines.take("client message failed") == {
        "event": "client message failed",
        "log_level": "error",
        "error": "RuntimeError",
        "key": "tests",
    }


@pytest.mark.gen_test
async def test_a_message_over_64_kib_closes_with_1009(bridge: WebSocketBridge, key: str) -> None:
    async with connected(bridge, key) as (client, _):
        await client.send(frame(TEXT, b"x" * 65_537))
        assert await client.frame() == closed(1009, "Message too big")


@pytest.mark.gen_test
async def test_a_message_of_64_kib_is_answered(bridge: WebSocketBridge, key: str) -> None:
    async with connected(bridge, key) as (client, _):
        await client.send(frame(TEXT, b" " * 65_536))
        assert await client.message() == '{"type":"error","code":"PARSE_ERROR","message":"Invalid JSON"}'


@pytest.mark.gen_test
async def test_messages_behind_a_close_are_not_acted_on(
    bridge: WebSocketBridge, key: str, dialogue: CountingDialogue
) -> None:
    async with connected(bridge, key) as (client, _):
        assert dialogue.answered == 1
        await client.send(raw.close(1000) + SUBSCRIBE * 100)
        assert await client.rest() == b"\x88\x02\x03\xe8"
        await client.cut()
    assert dialogue.answered == 1


@pytest.mark.gen_test
async def test_messages_that_were_read_before_an_abort_are_not_acted_on_after_it(
    bridge: WebSocketBridge, key: str, dialogue: CountingDialogue
) -> None:
    async with connected(bridge, key) as (client, connection):
        # One read of the socket brings all 500 messages. One turn of the loop answers 64 of them.
        await client.send(text("x" * 120) * 500)
        while dialogue.answered < 2:
            await asyncio.sleep(0)
        answered = dialogue.answered
        assert answered < 200

        connection.outlet.abort()

        await until(lambda: held(bridge) == NOTHING_HELD)
        # An answer may have begun before the end was noticed.
        assert dialogue.answered <= answered + 1


# Events and the end


@pytest.mark.gen_test
async def test_no_event_follows_the_answer_to_a_close(
    bridge: WebSocketBridge, key: str, redis_server: RedisServer
) -> None:
    async with connected(bridge, key) as (client, _):
        await client.send(raw.close(1000))
        await until(lambda: len(bridge.connections) == 0)
        await asyncio.to_thread(redis_server.publish, CANDLE)
        await until(lambda: bridge.relay.tallies["candle_close"].relayed == 1)
        assert await client.rest() == b"\x88\x02\x03\xe8"


@pytest.mark.gen_test
async def test_no_event_follows_the_answer_to_a_close_that_is_held_back(
    bridge: WebSocketBridge, key: str, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "LINGER", 60)
    async with connected(bridge, key) as (client, connection):
        connection.outlet.fell_short(b"\0" * 200_000, 0)
        await client.send(raw.close(1000))
        await until(lambda: connection.websocket.closing)
        await asyncio.to_thread(redis_server.publish, CANDLE)
        await until(lambda: bridge.relay.tallies["candle_close"].relayed == 1)
        assert (await client.rest()).endswith(b"\0\x88\x02\x03\xe8")


@pytest.mark.gen_test
async def test_no_ping_follows_the_answer_to_a_close(
    bridge: WebSocketBridge, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "LINGER", 60)
    async with connected(bridge, key) as (client, _):
        await client.send(raw.close(1000))
        assert await client.frame() == closed(1000)
        for _ in range(60):
            bridge.heartbeat.beat()
        assert await client.rest() == b""


# The heartbeat


@pytest.mark.gen_test
async def test_a_beat_is_a_ping(bridge: WebSocketBridge, key: str) -> None:
    async with connected(bridge, key) as (client, connection):
        connection.beat()
        assert await client.frame() == Frame(PING, b"")


@pytest.mark.gen_test
async def test_a_client_that_answers_each_ping_lives(bridge: WebSocketBridge, key: str) -> None:
    async with connected(bridge, key) as (client, connection):
        for _ in range(5):
            connection.beat()
            assert await client.frame() == Frame(PING, b"")
            await client.send(frame(raw.PONG))
            await until(lambda: not connection._awaits_pong)
        assert len(bridge.connections) == 1


@pytest.mark.gen_test
async def test_a_client_that_has_not_answered_by_the_next_beat_is_reset_without_a_closing_handshake(
    bridge: WebSocketBridge, key: str
) -> None:
    async with connected(bridge, key) as (client, connection):
        connection.beat()
        assert await client.frame() == Frame(PING, b"")
        connection.beat()
        with pytest.raises(ConnectionResetError):
            await client.rest()

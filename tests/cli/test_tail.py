import asyncio
import contextlib
import datetime
import fcntl
import io
import json
import logging
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TextIO

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve
from websockets.utils import accept_key

from tornado_bridge.cli import tail as tail_module
from tornado_bridge.cli.tail import delay, envelope_line, printable, run, tail
from tornado_bridge.errors import ConfigurationError

KEY = "tb_SECRET_4711"
CHANNEL = "candles:BTC-USD:1h"
CANDLE: dict[str, Any] = {
    "type": "candle_close",
    "channel": "candles:BTC-USD:1h",
    "data": {
        "timestamp": "2024-02-18T14:00:00.000Z",
        "open": "42350.5",
        "high": "42450.75",
        "low": "42300.25",
        "close": "42400",
        "volume": "123.456",
    },
}
SIGNAL: dict[str, Any] = {
    "type": "trade_signal",
    "channel": "signals:BTC-USD:15m",
    "data": {
        "symbol": "BTC-USD",
        "exchange": "coinbase",
        "timeframe": "15m",
        "signal_type": "momentum_signal",
        "direction": "bullish",
        "strength": "strong",
        "price": "42350.5",
        "timestamp": "2026-02-19T12:00:00.000Z",
    },
}
CANDLE_TEXT = "O 42350.5 H 42450.75 L 42300.25 C 42400 V 123.456 2024-02-18T14:00:00.000Z"
NOON = datetime.datetime(2026, 2, 19, 12, 0, 1, 234_999, tzinfo=datetime.UTC)

# What the server does with one connection: a dialogue, or the HTTP status it refuses the upgrade with.
Script = Callable[[ServerConnection], None] | int


# The lines


def test_a_candle_is_said_with_its_time() -> None:
    assert envelope_line(CANDLE, NOON) == f"12:00:01.234Z candles:BTC-USD:1h {CANDLE_TEXT}"


def test_a_signal_is_said_in_words() -> None:
    assert envelope_line(SIGNAL, NOON) == "12:00:01.234Z signals:BTC-USD:15m bullish strong at 42350.5"


def test_another_type_is_said_member_by_member() -> None:
    envelope = {"type": "funding", "channel": "funding:X", "data": {"rate": "0.01", "next": 8, "tags": ["ä"]}}

    assert envelope_line(envelope, NOON) == '12:00:01.234Z funding:X rate=0.01 next=8 tags=["\\u00e4"]'


def test_a_candle_that_lacks_a_member_is_said_member_by_member() -> None:
    envelope = {"type": "candle_close", "channel": "candles:X", "data": {"open": "1", "close": "2"}}

    assert envelope_line(envelope, NOON) == "12:00:01.234Z candles:X open=1 close=2"


@pytest.mark.parametrize("data", [{}, {"data": None}, {"data": [1]}])
def test_a_message_without_data_is_said_member_by_member(data: dict[str, object]) -> None:
    rest = "".join(f" data={json.dumps(value)}" for value in data.values())

    assert envelope_line({"type": "unsubscribed", **data}, NOON) == f"12:00:01.234Z - type=unsubscribed{rest}"


def test_a_type_that_is_no_text_is_no_type() -> None:
    assert envelope_line({"type": ["x"], "channel": 7, "data": {"a": 1}}, NOON) == "12:00:01.234Z 7 a=1"


def test_a_value_that_is_nested_too_deep_to_be_written_is_left_out() -> None:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]

    assert envelope_line({"data": {"a": nested, "b": 1}}, NOON) == "12:00:01.234Z - a=(nested too deep) b=1"


def test_control_characters_of_the_server_reach_no_terminal() -> None:
    envelope = {"type": "x", "channel": "a\x1b[2J", "data": {"k\x07": "v\r\n\x9b31m\u202e"}}

    line = envelope_line(envelope, NOON, colour=False)

    assert line == r"12:00:01.234Z a\x1b[2J k\x07=v\r\n\x9b31m\u202e"


def test_printable_text_is_left_alone() -> None:
    assert printable("Größe 42350.5 €, 日本") == "Größe 42350.5 €, 日本"


@pytest.mark.parametrize(
    ("envelope", "tone"),
    [
        (CANDLE, "\x1b[32m"),
        ({**CANDLE, "data": {**CANDLE["data"], "close": "42350.4"}}, "\x1b[31m"),
        ({**CANDLE, "data": {**CANDLE["data"], "close": "none"}}, ""),
        ({**CANDLE, "data": {**CANDLE["data"], "close": None}}, ""),
        (SIGNAL, "\x1b[32m"),
        ({**SIGNAL, "data": {**SIGNAL["data"], "direction": "bearish"}}, "\x1b[31m"),
        ({"type": "x", "channel": "x:y", "data": {"a": "1"}}, ""),
    ],
)
def test_colour_tells_up_from_down(envelope: dict[str, Any], tone: str) -> None:
    _, channel, text = envelope_line(envelope, NOON).split(" ", 2)

    line = envelope_line(envelope, NOON, colour=True)

    assert line == f"\x1b[2m12:00:01.234Z\x1b[0m {channel} {tone}{text}\x1b[0m"


def test_the_first_delay_is_half_a_second_at_most_and_a_quarter_at_least() -> None:
    assert delay(0, 0.0) == 0.5
    assert delay(0, 1.0) == 0.25


def test_delays_double_up_to_ten_seconds() -> None:
    assert [delay(tries, 0.0) for tries in range(7)] == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    assert delay(100_000, 0.0) == 10.0
    assert delay(100_000, 0.999) > 5.0


# The dialogue


class Stream:
    """A WebSocket server that plays a script a connection, the last one again and again."""

    def __init__(self, *scripts: Script) -> None:
        self._scripts = list(scripts)
        self.requests: list[Request] = []
        self.pinged = threading.Event()
        self.url = ""

    def admit(self, connection: ServerConnection, request: Request) -> Response | None:
        self.requests.append(request)
        script = self._scripts[0] if len(self._scripts) == 1 else self._scripts.pop(0)
        if isinstance(script, int):
            return connection.respond(script, "no\n")
        connection.script = script  # type: ignore[attr-defined]
        return None

    def converse(self, connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            connection.script(connection)  # type: ignore[attr-defined]


def silent_log() -> logging.Logger:
    logger = logging.getLogger("test_tail.websockets")
    logger.propagate = False
    return logger


@contextlib.contextmanager
def serving(*scripts: Script, port: int = 0) -> Iterator[Stream]:
    stream = Stream(*scripts)

    class Connection(ServerConnection):
        def process_event(self, event: Any) -> None:
            if isinstance(event, Frame) and event.opcode is Opcode.PING:
                stream.pinged.set()
            super().process_event(event)

    with serve(
        stream.converse,
        "127.0.0.1",
        port,
        process_request=stream.admit,
        create_connection=Connection,
        compression=None,
        ping_interval=None,
        logger=silent_log(),
    ) as server:
        stream.url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}/public/v1/stream"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield stream
        cut_clients(server)
        server.shutdown()
        thread.join()


def cut_clients(server: Server) -> None:
    for connection in server.connections:
        with contextlib.suppress(OSError):
            connection.socket.shutdown(socket.SHUT_RDWR)


def grant(connection: ServerConnection) -> list[str]:
    channels: list[str] = json.loads(connection.recv(timeout=10))["channels"]
    connection.send(json.dumps({"type": "subscribed", "channels": channels}))
    return channels


def refuse(connection: ServerConnection) -> None:
    connection.close(4001, "API key revoked")


def saying(*messages: str | bytes | dict[str, Any], code: int = 4001, reason: str = "") -> Script:
    """Grant what is asked for, send `messages`, close."""

    def script(connection: ServerConnection) -> None:
        grant(connection)
        for message in messages:
            connection.send(json.dumps(message) if isinstance(message, dict) else message)
        connection.close(code, reason)

    return script


def error(code: str, message: str) -> dict[str, Any]:
    return {"type": "error", "code": code, "message": message}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail_module, "delay", lambda tries, chance: 0.01)


def follow(
    url: str, *, channels: Sequence[str] = (CHANNEL,), as_json: bool = False, key: str = KEY
) -> tuple[int, list[str], list[str]]:
    """Follow until the server refuses; return the status and what was printed."""
    out, err = io.StringIO(), io.StringIO()

    async def bounded() -> int:
        async with asyncio.timeout(20):
            return await tail(url, key, channels, as_json=as_json, out=out, err=err)

    status = asyncio.run(bounded())
    assert KEY not in out.getvalue() + err.getvalue()
    return status, out.getvalue().splitlines(), err.getvalue().splitlines()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


def test_envelopes_are_printed_as_they_come() -> None:
    with serving(saying(CANDLE, SIGNAL)) as stream:
        _, out, _ = follow(stream.url)

    assert [re.sub(r"^\d\d:\d\d:\d\d\.\d{3}Z ", "", line) for line in out] == [
        f"candles:BTC-USD:1h {CANDLE_TEXT}",
        "signals:BTC-USD:15m bullish strong at 42350.5",
    ]


def test_the_time_of_a_line_is_now_in_utc() -> None:
    with serving(saying(CANDLE)) as stream:
        before = datetime.datetime.now(datetime.UTC)
        _, out, _ = follow(stream.url)

    said = datetime.datetime.strptime(out[0].split("Z ")[0], "%H:%M:%S.%f").time()
    assert abs((datetime.datetime.combine(before, said, datetime.UTC) - before).total_seconds()) % 86_400 < 20


def test_json_is_printed_exactly_as_it_came() -> None:
    text = '{"type":"x", "channel":"ü","data":{"v":1.50,"s":"\\u001b\u202e"}}'
    with serving(saying(text)) as stream:
        _, out, _ = follow(stream.url, as_json=True)

    assert out == [text]


def test_json_with_line_breaks_is_one_line() -> None:
    with serving(saying('{"type":\r\n"x"}')) as stream:
        _, out, _ = follow(stream.url, as_json=True)

    assert out == ['{"type":  "x"}']


def test_a_binary_message_is_read_as_text() -> None:
    with serving(saying(b'{"type":"x","data":{"a":"\xff"}}')) as stream:
        _, out, _ = follow(stream.url)

    assert out[0].endswith(" - a=\ufffd")


def test_the_key_is_in_a_header_and_in_no_url() -> None:
    with serving(refuse) as stream:
        follow(stream.url)

    [request] = stream.requests
    assert request.headers["X-API-Key"] == KEY
    assert request.path == "/public/v1/stream"


def test_channels_are_asked_for_by_twenty() -> None:
    asked: list[list[str]] = []

    def script(connection: ServerConnection) -> None:
        asked.extend(grant(connection) for _ in range(3))
        refuse(connection)

    channels = [f"candles:S{number}-USD:1m" for number in range(41)]
    with serving(script) as stream:
        _, _, err = follow(stream.url, channels=channels)

    assert asked == [channels[:20], channels[20:40], channels[40:]]
    assert err[0] == f"tail: following {stream.url}, channels: 41"


def test_an_error_of_the_server_is_a_sentence_on_err() -> None:
    def script(connection: ServerConnection) -> None:
        connection.send(json.dumps(error("INVALID_CHANNEL", "Not permitted: a\x1b[2Jb")))
        grant(connection)
        connection.send(json.dumps(error("RATE_LIMITED", "Too many messages")))
        refuse(connection)

    with serving(script) as stream:
        status, out, err = follow(stream.url)

    assert (status, out) == (1, [])
    assert err == [
        rf"tail: {stream.url}: Not permitted: a\x1b[2Jb",
        f"tail: following {stream.url}, channels: 1",
        f"tail: {stream.url}: Too many messages",
        f"tail: {stream.url} closed: 4001 API key revoked",
    ]


@pytest.mark.parametrize("message", ["]", "[1]", '"x"', "[" * 100_000, "9" * 5_000, b"\xff"])
def test_a_message_that_is_no_json_object_is_told_and_passed_over(message: str | bytes) -> None:
    with serving(saying(message, SIGNAL)) as stream:
        _, out, err = follow(stream.url)

    assert len(out) == 1
    assert err[1] == f"tail: {stream.url} sent a message that is no JSON object"


def test_a_reply_that_was_not_asked_for_is_shown_like_an_envelope() -> None:
    with serving(saying({"type": "subscribed", "channels": ["x:y"]})) as stream:
        _, out, err = follow(stream.url)

    assert out[0].endswith(' - type=subscribed channels=["x:y"]')
    assert len(err) == 2


# The end of a connection


def test_a_refused_key_ends_it_with_the_reason() -> None:
    with serving(lambda connection: connection.close(4001, "Invalid API key")) as stream:
        status, out, err = follow(stream.url)

    assert (status, out) == (1, [])
    assert err == [f"tail: {stream.url} closed: 4001 Invalid API key"]
    assert len(stream.requests) == 1


@pytest.mark.parametrize(
    ("status", "phrase"),
    [(401, "Unauthorized"), (403, "Forbidden"), (404, "Not Found"), (426, "Upgrade Required")],
)
def test_an_address_that_is_no_stream_ends_it(status: int, phrase: str) -> None:
    with serving(status) as stream:
        ended, _, err = follow(stream.url)

    assert ended == 1
    assert err == [f"tail: {stream.url} answers HTTP {status} {phrase}"]
    assert len(stream.requests) == 1


@pytest.mark.parametrize(
    ("code", "reason", "said"),
    [
        (4008, "Connection limit exceeded", "closed: 4008 Connection limit exceeded"),
        (1001, "Server shutting down", "closed: 1001 Server shutting down"),
        (1000, "", "closed: 1000"),
        (1011, "\x1b[2J", r"closed: 1011 \x1b[2J"),
    ],
)
def test_another_close_code_is_followed_by_another_try(code: int, reason: str, said: str) -> None:
    with serving(saying(CANDLE, code=code, reason=reason), saying(SIGNAL)) as stream:
        status, out, err = follow(stream.url)

    assert (status, len(out)) == (1, 2)
    assert err == [
        f"tail: following {stream.url}, channels: 1",
        f"tail: {stream.url} {said}; trying again",
        f"tail: following {stream.url}, channels: 1",
        f"tail: {stream.url} closed: 4001",
    ]


def test_a_connection_that_breaks_is_followed_by_another_try() -> None:
    def script(connection: ServerConnection) -> None:
        grant(connection)
        connection.socket.shutdown(socket.SHUT_RDWR)

    with serving(script, refuse) as stream:
        _, _, err = follow(stream.url)

    assert err[1] == f"tail: the connection to {stream.url} was lost; trying again"
    assert len(stream.requests) == 2


def test_a_failure_that_lasts_is_told_once() -> None:
    with serving(503, 503, 503, 503, refuse) as stream:
        _, _, err = follow(stream.url)

    assert len(stream.requests) == 5
    assert err == [
        f"tail: {stream.url} answers HTTP 503 Service Unavailable; trying again",
        f"tail: {stream.url} closed: 4001 API key revoked",
    ]


def test_failures_that_take_turns_are_told_once_each() -> None:
    with serving(502, 503, 502, 503, refuse) as stream:
        _, _, err = follow(stream.url)

    assert [line.split(" HTTP ")[1] for line in err[:-1]] == [
        "502 Bad Gateway; trying again",
        "503 Service Unavailable; trying again",
    ]


def test_a_failure_that_comes_back_after_a_subscription_is_told_again() -> None:
    with serving(503, saying(code=1001), 503, refuse) as stream:
        _, _, err = follow(stream.url)

    assert sum("HTTP 503" in line for line in err) == 2


def test_the_delay_grows_with_the_tries_and_starts_again_after_a_subscription(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tries: list[int] = []

    def noted(vain: int, chance: float) -> float:
        tries.append(vain)
        assert 0 <= chance < 1
        return 0.0

    monkeypatch.setattr(tail_module, "delay", noted)
    with serving(503, 503, saying(code=1001), 503, saying(code=1001), refuse) as stream:
        follow(stream.url)

    assert tries == [0, 1, 0, 1, 0]


def test_a_connection_that_was_not_subscribed_does_not_reset_the_delay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tries: list[int] = []

    def noted(vain: int, chance: float) -> float:
        tries.append(vain)
        return 0.0

    monkeypatch.setattr(tail_module, "delay", noted)
    with serving(lambda connection: connection.close(4008), 503, 503, refuse) as stream:
        follow(stream.url)

    assert tries == [0, 1, 2]


def test_a_subscribe_that_is_rate_limited_is_tried_again_on_a_new_connection() -> None:
    def limited(connection: ServerConnection) -> None:
        grant(connection)
        connection.recv(timeout=10)
        connection.send(json.dumps(error("RATE_LIMITED", "Too many messages")))
        connection.send(json.dumps(CANDLE))
        connection.recv(timeout=10)

    def granted(connection: ServerConnection) -> None:
        grant(connection)
        grant(connection)
        refuse(connection)

    channels = [f"candles:S{number}-USD:1m" for number in range(21)]
    with serving(limited, granted) as stream:
        status, out, err = follow(stream.url, channels=channels)

    assert (status, out) == (1, [])
    assert err == [
        f"tail: {stream.url}: Too many messages; trying again",
        f"tail: following {stream.url}, channels: 21",
        f"tail: {stream.url} closed: 4001 API key revoked",
    ]


@pytest.mark.parametrize("code", ["INVALID_MESSAGE", "PARSE_ERROR"])
def test_a_subscribe_that_the_server_does_not_take_ends_it(code: str) -> None:
    def script(connection: ServerConnection) -> None:
        connection.recv(timeout=10)
        connection.send(json.dumps(error(code, "a channel is too long")))
        connection.recv(timeout=10)

    with serving(script) as stream:
        status, _, err = follow(stream.url)

    assert (status, err) == (1, [f"tail: {stream.url}: a channel is too long"])


def test_no_channel_granted_ends_it() -> None:
    def script(connection: ServerConnection) -> None:
        connection.recv(timeout=10)
        connection.send(json.dumps(error("INVALID_CHANNEL", "Unknown channel")))
        connection.send(json.dumps({"type": "subscribed", "channels": []}))
        connection.recv(timeout=10)

    with serving(script) as stream:
        status, _, err = follow(stream.url)

    assert status == 1
    assert err == [f"tail: {stream.url}: Unknown channel", f"tail: {stream.url} granted no channel"]


def test_a_server_that_is_not_there_yet_is_waited_for() -> None:
    out, err = io.StringIO(), io.StringIO()
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    url = f"ws://127.0.0.1:{port}/public/v1/stream"

    async def wait_and_follow() -> int:
        following = asyncio.create_task(tail(url, KEY, [CHANNEL], out=out, err=err))
        await until(lambda: "trying again" in err.getvalue())
        with serving(saying(CANDLE), port=port):
            await until(following.done)
        return following.result()

    assert asyncio.run(wait_and_follow()) == 1
    assert err.getvalue().splitlines()[:2] == [
        f"tail: cannot reach {url}: Connection refused; trying again",
        f"tail: following {url}, channels: 1",
    ]


def test_a_host_that_does_not_exist_is_told() -> None:
    err = io.StringIO()

    async def follow_nobody() -> None:
        following = asyncio.create_task(tail("ws://nobody.invalid/x", KEY, [CHANNEL], err=err))
        await until(lambda: "\n" in err.getvalue())
        following.cancel()
        with pytest.raises(asyncio.CancelledError):
            await following

    asyncio.run(follow_nobody())
    assert re.fullmatch(r"tail: cannot reach ws://nobody.invalid/x: [^\n]+; trying again\n", err.getvalue())


def test_a_handshake_that_is_not_answered_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail_module, "TIMEOUT", 0.05)
    err = io.StringIO()

    async def follow_nobody(url: str) -> None:
        following = asyncio.create_task(tail(url, KEY, [CHANNEL], err=err))
        await until(lambda: "\n" in err.getvalue())
        following.cancel()
        with pytest.raises(asyncio.CancelledError):
            await following

    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"ws://127.0.0.1:{mute.getsockname()[1]}/x"
        asyncio.run(follow_nobody(url))

    assert err.getvalue() == f"tail: cannot reach {url}: Timeout during request; trying again\n"


@contextlib.contextmanager
def answering(answer: Callable[[bytes], bytes]) -> Iterator[str]:
    """A TCP server that answers each request with bytes, and closes once the client does."""

    def converse() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client, contextlib.suppress(ConnectionResetError):
                    request = b""
                    while b"\r\n\r\n" not in request:
                        request += client.recv(65_536)
                    client.sendall(answer(request))
                    client.shutdown(socket.SHUT_WR)
                    while client.recv(65_536):
                        pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=converse)
        thread.start()
        yield f"ws://127.0.0.1:{listener.getsockname()[1]}/x"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def upgrade(request: bytes) -> bytes:
    [key] = re.findall(rb"(?i)sec-websocket-key: (\S+)", request)
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept_key(key.decode()).encode() + b"\r\n\r\n"
    )


def test_a_close_that_comes_while_subscribing_is_understood() -> None:
    refusal = b"\x88\x11" + struct.pack(">H", 4001) + b"Invalid API key"
    channels = [f"candles:S{number}-USD:1m" for number in range(4_000)]

    with answering(lambda request: upgrade(request) + refusal) as url:
        status, _, err = follow(url, channels=channels)

    assert (status, err) == (1, [f"tail: {url} closed: 4001 Invalid API key"])


def test_a_server_of_web_pages_is_told() -> None:
    answers = iter([b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"HTTP/1.1 404 Not Found\r\n\r\n"])

    with answering(lambda _: next(answers)) as url:
        _, _, err = follow(url)

    assert err[0] == f"tail: cannot reach {url}: Non-websocket response; trying again"


def test_the_server_is_pinged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail_module, "PING_INTERVAL", 0.02)
    pinged = False

    def script(connection: ServerConnection) -> None:
        nonlocal pinged
        grant(connection)
        pinged = stream.pinged.wait(10)
        refuse(connection)

    with serving(script) as stream:
        follow(stream.url)

    assert pinged


def test_cancelling_closes_the_connection() -> None:
    codes: list[int | None] = []
    following = threading.Event()

    def script(connection: ServerConnection) -> None:
        grant(connection)
        following.set()
        try:
            connection.recv(timeout=10)
        finally:
            codes.append(connection.close_code)

    async def cancel(url: str) -> None:
        task = asyncio.create_task(tail(url, KEY, [CHANNEL], out=io.StringIO(), err=io.StringIO()))
        await until(following.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: bool(codes))

    with serving(script) as stream:
        asyncio.run(cancel(stream.url))

    assert codes == [1000]


# The arguments


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8765",
        "http://127.0.0.1/x",
        "WS://127.0.0.1/x",
        "ws:///x",
        "ws://h:99999/x",
        "ws://h:0/x",
        "ws://h:x/",
        "ws://[::1/x",
        "ws://h/a b",
        "ws://h/\r\nX-Evil: 1",
        "ws://h/ü",
    ],
)
def test_a_url_that_can_never_work_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="the URL must have the form ws://HOST:PORT/PATH"):
        asyncio.run(tail(url, KEY, [CHANNEL]))


@pytest.mark.parametrize("key", ["geheim\r\nX-Evil: 1", "gehäim", "geheim\x00"])
def test_a_key_that_fits_in_no_header_is_refused_without_being_told(key: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        asyncio.run(tail("ws://h/x", key, [CHANNEL]))

    assert str(refusal.value) == "the API key must be printable ASCII"


def test_no_channel_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="there is no channel to follow"):
        asyncio.run(tail("ws://h/x", KEY, []))


def test_a_key_in_the_url_is_not_printed() -> None:
    with serving(503, refuse) as stream:
        host = stream.url.removeprefix("ws://")
        _, _, err = follow(f"ws://{KEY}:{KEY}@{host}?apiKey={KEY}#{KEY}")

    assert len(err) == 2
    assert f"ws://{host}" in err[0]


# The terminal


def test_the_standard_streams_are_those_of_the_moment(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(saying(CANDLE)) as stream:
        asyncio.run(tail(stream.url, KEY, [CHANNEL]))

    out, err = capsys.readouterr()
    assert CANDLE_TEXT in out
    assert err.startswith("tail: following")


def test_each_line_is_flushed() -> None:
    reader, writer = os.pipe()
    with open(reader, encoding="utf-8") as lines, open(writer, "w", encoding="utf-8") as out:
        received: list[str] = []

        def script(connection: ServerConnection) -> None:
            grant(connection)
            connection.send(json.dumps(CANDLE))
            received.append(lines.readline())
            refuse(connection)

        with serving(script) as stream:
            asyncio.run(tail(stream.url, KEY, [CHANNEL], out=out, err=io.StringIO()))

    assert CANDLE_TEXT in received[0]


def closed_pipe() -> TextIO:
    reader, writer = os.pipe()
    os.close(reader)
    return open(writer, "w", encoding="utf-8")


def test_a_reader_that_went_away_ends_it_quietly() -> None:
    err = io.StringIO()
    with serving(saying(CANDLE, code=1000)) as stream, closed_pipe() as out:
        status = asyncio.run(tail(stream.url, KEY, [CHANNEL], out=out, err=err))

    assert status == 0
    assert err.getvalue() == f"tail: following {stream.url}, channels: 1\n"


def test_a_reader_of_the_errors_that_went_away_ends_it_too() -> None:
    with serving(503) as stream, closed_pipe() as err:
        assert asyncio.run(tail(stream.url, KEY, [CHANNEL], out=io.StringIO(), err=err)) == 0


def test_an_output_that_takes_nothing_ends_it_with_a_sentence() -> None:
    err = io.StringIO()
    with serving(saying(CANDLE, code=1000)) as stream, open("/dev/full", "w", encoding="utf-8") as out:
        status = asyncio.run(tail(stream.url, KEY, [CHANNEL], out=out, err=err))

    assert status == 1
    assert err.getvalue().splitlines()[-1] == "tail: cannot write: No space left on device"


# The process


def test_running_gives_the_status(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(saying(CANDLE)) as stream:
        status = run(stream.url, KEY, [CHANNEL], as_json=True)

    out, err = capsys.readouterr()
    assert (status, out) == (1, json.dumps(CANDLE) + "\n")
    assert err.splitlines()[-1] == f"tail: {stream.url} closed: 4001"


def test_running_writes_to_an_output_of_any_kind() -> None:
    with serving(saying(CANDLE)) as stream, contextlib.redirect_stdout(io.StringIO()) as out:
        run(stream.url, KEY, [CHANNEL], colour=True)

    assert "\x1b[32mO 42350.5" in out.getvalue()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_zero_and_its_handlers_come_back(number: signal.Signals) -> None:
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]

    def script(connection: ServerConnection) -> None:
        grant(connection)
        os.kill(os.getpid(), number)
        connection.recv(timeout=10)

    with serving(script) as stream:
        assert run(stream.url, KEY, [CHANNEL]) == 0

    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


def wait_until_blocked(pipe: int) -> None:
    """Wait until a writer has filled a pipe and gets no further."""
    deadline, size, still = time.monotonic() + 20, 0, 0
    while still < 20 and time.monotonic() < deadline:
        before, size = size, int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)
        still = still + 1 if size == before > 16_384 else 0
        time.sleep(0.01)


def test_a_signal_ends_it_though_nobody_reads_the_output() -> None:
    reader, writer = os.pipe()

    def script(connection: ServerConnection) -> None:
        grant(connection)
        for _ in range(200):
            connection.send(json.dumps({"type": "x", "data": {"a": "x" * 1_000}}))
        wait_until_blocked(reader)
        os.kill(os.getpid(), signal.SIGTERM)

    with (
        open(reader, "rb"),
        open(writer, "w", encoding="utf-8") as out,
        serving(script) as stream,
        contextlib.redirect_stdout(out),
    ):
        assert run(stream.url, KEY, [CHANNEL]) == 0


PROGRAM = (
    "import os, sys\n"
    "from tornado_bridge.cli.tail import run\n"
    "sys.exit(run(sys.argv[1], os.environ['KEY'], sys.argv[2:], as_json=bool(os.environ.get('JSON'))))\n"
)


@contextlib.contextmanager
def process(url: str, *, out: int = subprocess.PIPE, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, url, CHANNEL],
        env={**os.environ, "KEY": KEY, **environment},
        stdout=out,
        stderr=subprocess.PIPE,
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_following_process_without_a_traceback(number: signal.Signals) -> None:
    codes: list[int | None] = []

    def script(connection: ServerConnection) -> None:
        grant(connection)
        connection.send(json.dumps(CANDLE))
        try:
            connection.recv(timeout=30)
        finally:
            codes.append(connection.close_code)

    with serving(script) as stream, process(stream.url) as child:
        assert child.stdout is not None
        assert CANDLE_TEXT.encode() in child.stdout.readline()

        child.send_signal(number)
        child.send_signal(number)
        out, err = child.communicate(timeout=20)

    assert (child.returncode, out) == (0, b"")
    assert err.decode() == f"tail: following {stream.url}, channels: 1\n"
    assert codes == [1000]


def test_a_signal_ends_a_process_that_waits_for_its_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        url = f"ws://127.0.0.1:{reserved.getsockname()[1]}/x"
    with process(url) as child:
        assert child.stderr is not None
        assert child.stderr.readline().decode() == f"tail: cannot reach {url}: Connection refused; trying again\n"

        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=20)

    assert (child.returncode, out, err) == (0, b"", b"")


def test_a_signal_ends_a_process_in_the_middle_of_a_handshake() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as mute,
        process(f"ws://127.0.0.1:{mute.getsockname()[1]}/x") as child,
    ):
        client, _ = mute.accept()
        with client:
            assert client.recv(65_536).startswith(b"GET /x")

            child.send_signal(signal.SIGTERM)
            out, err = child.communicate(timeout=20)

    assert (child.returncode, out, err) == (0, b"", b"")


def test_a_closed_pipe_ends_the_process_quietly() -> None:
    closed = threading.Event()

    def script(connection: ServerConnection) -> None:
        grant(connection)
        connection.send(json.dumps(CANDLE))
        closed.wait(20)
        while True:
            connection.send(json.dumps(CANDLE))

    with serving(script) as stream, process(stream.url) as child:
        assert child.stdout is not None
        assert CANDLE_TEXT.encode() in child.stdout.readline()

        child.stdout.close()
        closed.set()

        assert child.wait(timeout=20) == 0
        assert child.stderr is not None
        assert child.stderr.read().decode() == f"tail: following {stream.url}, channels: 1\n"


def test_a_full_device_ends_the_process_with_one_and_a_sentence() -> None:
    with (
        serving(saying(CANDLE, code=1000)) as stream,
        open("/dev/full", "wb") as full,
        process(stream.url, out=full.fileno()) as child,
    ):
        _, err = child.communicate(timeout=20)

    assert child.returncode == 1
    assert err.decode().splitlines()[1:] == ["tail: cannot write: No space left on device"]


def test_json_is_utf_8_in_any_locale() -> None:
    text = '{"type":"x","channel":"ü€"}'
    with serving(saying(text)) as stream, process(stream.url, JSON="1", PYTHONIOENCODING="ascii") as child:
        out, _ = child.communicate(timeout=20)

    assert out == text.encode() + b"\n"


def test_a_character_that_the_locale_lacks_is_escaped() -> None:
    text = '{"type":"x","channel":"ü€"}'
    with serving(saying(text)) as stream, process(stream.url, PYTHONIOENCODING="latin-1") as child:
        out, _ = child.communicate(timeout=20)

    assert out.endswith(b"Z \xfc\\u20ac type=x\n")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"-ERR unknown command\r\n", "Stream closed"),
        (b"", "Stream closed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "Non-websocket response"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", ""),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", ""),
        (upgrade(b"Sec-WebSocket-Key: another"), ""),
    ],
)
def test_a_strange_answer_is_told_in_one_line_and_tried_again(answer: bytes, said: str) -> None:
    asked = threading.Semaphore(0)

    def noted(_: bytes) -> bytes:
        asked.release()
        return answer

    with answering(noted) as url, process(url) as child:
        assert asked.acquire(timeout=20)
        assert asked.acquire(timeout=20)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=20)

    assert (child.returncode, out) == (0, b"")
    assert re.fullmatch(rf"tail: cannot reach {re.escape(url)}: [^\n]*{said}[^\n]*; trying again\n", err.decode())

"""tornado_bridge.cli.following: the dialogue with a server, and what follows the end of a connection."""

import asyncio
import datetime
import io
import json
import os
import re
import socket
import struct
import threading
from collections.abc import Sequence
from typing import TextIO

import pytest
from websockets.sync.server import ServerConnection

from tests.support.scripted_server import (
    CANDLE,
    CANDLE_TEXT,
    CHANNEL,
    KEY,
    SIGNAL,
    answering,
    error,
    grant,
    refuse,
    saying,
    serving,
    until,
    upgrade,
)
from tornado_bridge.cli import following
from tornado_bridge.cli.following import delay
from tornado_bridge.cli.terminal import Terminal
from tornado_bridge.errors import ConfigurationError


def test_the_first_delay_is_half_a_second_at_most_and_a_quarter_at_least() -> None:
    assert delay(0, 0.0) == 0.5
    assert delay(0, 1.0) == 0.25


def test_delays_double_up_to_ten_seconds() -> None:
    assert [delay(tries, 0.0) for tries in range(7)] == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    assert delay(100_000, 0.0) == 10.0
    assert delay(100_000, 0.999) > 5.0


# The dialogue


def nowhere() -> Terminal:
    return Terminal(io.StringIO(), io.StringIO())


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "delay", lambda tries, chance: 0.01)


def follow(
    url: str, *, channels: Sequence[str] = (CHANNEL,), as_json: bool = False, key: str = KEY
) -> tuple[int, list[str], list[str]]:
    """Follow until the server refuses, and return the status and the printed lines."""
    out, err = io.StringIO(), io.StringIO()

    async def bounded() -> int:
        async with asyncio.timeout(20):
            return await following.follow(url, key, channels, Terminal(out, err, as_json))

    status = asyncio.run(bounded())
    assert KEY not in out.getvalue() + err.getvalue()
    return status, out.getvalue().splitlines(), err.getvalue().splitlines()


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
def test_a_message_that_is_not_a_json_object_is_reported_and_skipped(message: str | bytes) -> None:
    with serving(saying(message, SIGNAL)) as stream:
        _, out, err = follow(stream.url)

    assert len(out) == 1
    assert err[1] == f"tail: {stream.url} sent a message that is not a JSON object"


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
def test_an_address_that_is_not_a_stream_ends_it(status: int, phrase: str) -> None:
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


def test_a_failure_that_lasts_is_reported_once() -> None:
    with serving(503, 503, 503, 503, refuse) as stream:
        _, _, err = follow(stream.url)

    assert len(stream.requests) == 5
    assert err == [
        f"tail: {stream.url} answers HTTP 503 Service Unavailable; trying again",
        f"tail: {stream.url} closed: 4001 API key revoked",
    ]


def test_failures_that_take_turns_are_reported_once_each() -> None:
    with serving(502, 503, 502, 503, refuse) as stream:
        _, _, err = follow(stream.url)

    assert [line.split(" HTTP ")[1] for line in err[:-1]] == [
        "502 Bad Gateway; trying again",
        "503 Service Unavailable; trying again",
    ]


def test_a_failure_that_comes_back_after_a_subscription_is_reported_again() -> None:
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

    monkeypatch.setattr(following, "delay", noted)
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

    monkeypatch.setattr(following, "delay", noted)
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
    assert err == [f"tail: {stream.url}: Unknown channel", f"tail: {stream.url} granted none of the channels"]


def test_a_server_that_is_not_there_yet_is_waited_for() -> None:
    out, err = io.StringIO(), io.StringIO()
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    url = f"ws://127.0.0.1:{port}/public/v1/stream"

    async def wait_and_follow() -> int:
        task = asyncio.create_task(following.follow(url, KEY, [CHANNEL], Terminal(out, err)))
        await until(lambda: "trying again" in err.getvalue())
        with serving(saying(CANDLE), port=port):
            await until(task.done)
        return task.result()

    assert asyncio.run(wait_and_follow()) == 1
    assert err.getvalue().splitlines()[:2] == [
        f"tail: cannot reach {url}: Connection refused; trying again",
        f"tail: following {url}, channels: 1",
    ]


def test_a_host_that_does_not_exist_is_reported() -> None:
    err = io.StringIO()

    async def follow_nobody() -> None:
        task = asyncio.create_task(
            following.follow("ws://nobody.invalid/x", KEY, [CHANNEL], Terminal(io.StringIO(), err))
        )
        await until(lambda: "\n" in err.getvalue())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(follow_nobody())
    assert re.fullmatch(r"tail: cannot reach ws://nobody.invalid/x: [^\n]+; trying again\n", err.getvalue())


def test_a_handshake_that_is_not_answered_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "TIMEOUT", 0.05)
    err = io.StringIO()

    async def follow_nobody(url: str) -> None:
        task = asyncio.create_task(following.follow(url, KEY, [CHANNEL], Terminal(io.StringIO(), err)))
        await until(lambda: "\n" in err.getvalue())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"ws://127.0.0.1:{mute.getsockname()[1]}/x"
        asyncio.run(follow_nobody(url))

    assert err.getvalue() == f"tail: cannot reach {url}: Timeout during request; trying again\n"


def test_a_close_that_comes_while_subscribing_is_understood() -> None:
    refusal = b"\x88\x11" + struct.pack(">H", 4001) + b"Invalid API key"
    channels = [f"candles:S{number}-USD:1m" for number in range(4_000)]

    with answering(lambda request: upgrade(request) + refusal) as url:
        status, _, err = follow(url, channels=channels)

    assert (status, err) == (1, [f"tail: {url} closed: 4001 Invalid API key"])


def test_a_server_of_web_pages_is_reported() -> None:
    answers = iter([b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"HTTP/1.1 404 Not Found\r\n\r\n"])

    with answering(lambda _: next(answers)) as url:
        _, _, err = follow(url)

    assert err[0] == f"tail: cannot reach {url}: Non-websocket response; trying again"


def test_the_server_is_pinged(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(following, "PING_INTERVAL", 0.02)
    pinged = False

    def script(connection: ServerConnection) -> None:
        nonlocal pinged
        grant(connection)
        pinged = stream.pinged.wait(10)
        refuse(connection)

    with serving(script) as stream:
        follow(stream.url)

    assert pinged
    caplog.clear()  # Tornado warns of an interval below its time-out of 10 s


def test_cancelling_closes_the_connection() -> None:
    codes: list[int | None] = []
    subscribed = threading.Event()

    def script(connection: ServerConnection) -> None:
        grant(connection)
        subscribed.set()
        try:
            connection.recv(timeout=10)
        finally:
            codes.append(connection.close_code)

    async def cancel(url: str) -> None:
        task = asyncio.create_task(following.follow(url, KEY, [CHANNEL], nowhere()))
        await until(subscribed.is_set)
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
        asyncio.run(following.follow(url, KEY, [CHANNEL], nowhere()))


@pytest.mark.parametrize("key", ["geheim\r\nX-Evil: 1", "gehäim", "geheim\x00"])
def test_a_key_that_fits_in_no_header_is_refused_without_being_printed(key: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        asyncio.run(following.follow("ws://h/x", key, [CHANNEL], nowhere()))

    assert str(refusal.value) == "the API key must be printable ASCII"


def test_no_channel_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="at least one channel is required"):
        asyncio.run(following.follow("ws://h/x", KEY, [], nowhere()))


def test_a_key_in_the_url_is_not_printed() -> None:
    with serving(503, refuse) as stream:
        host = stream.url.removeprefix("ws://")
        _, _, err = follow(f"ws://{KEY}:{KEY}@{host}?apiKey={KEY}#{KEY}")

    assert len(err) == 2
    assert f"ws://{host}" in err[0]


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
            asyncio.run(following.follow(stream.url, KEY, [CHANNEL], Terminal(out, io.StringIO())))

    assert CANDLE_TEXT in received[0]


def closed_pipe() -> TextIO:
    reader, writer = os.pipe()
    os.close(reader)
    return open(writer, "w", encoding="utf-8")


def test_a_reader_that_has_gone_ends_it_quietly() -> None:
    err = io.StringIO()
    with serving(saying(CANDLE, code=1000)) as stream, closed_pipe() as out:
        status = asyncio.run(following.follow(stream.url, KEY, [CHANNEL], Terminal(out, err)))

    assert status == 0
    assert err.getvalue() == f"tail: following {stream.url}, channels: 1\n"


def test_a_reader_of_the_errors_that_has_gone_ends_it_too() -> None:
    with serving(503) as stream, closed_pipe() as err:
        assert asyncio.run(following.follow(stream.url, KEY, [CHANNEL], Terminal(io.StringIO(), err))) == 0


def test_an_output_that_takes_nothing_ends_it_with_a_sentence() -> None:
    err = io.StringIO()
    with serving(saying(CANDLE, code=1000)) as stream, open("/dev/full", "w", encoding="utf-8") as out:
        status = asyncio.run(following.follow(stream.url, KEY, [CHANNEL], Terminal(out, err)))

    assert status == 1
    assert err.getvalue().splitlines()[-1] == "tail: cannot write: No space left on device"

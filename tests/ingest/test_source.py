"""tornado_bridge.ingest.source: with real redis-servers, and with servers that are not Redis."""

import asyncio
import logging
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import hiredis
import pytest
import redis

from tests.support.raw import until
from tests.support.servers import LogLines, RedisServer, free_port
from tornado_bridge.ingest import source
from tornado_bridge.ingest.source import Message, Source

DOWN = "source down: trying again until it is back"
STILL_DOWN = "source still down: trying again until it is back"
UP_AGAIN = "source up again: events published meanwhile are lost"

# A password whose characters must be encoded in a URL.
PASSWORD = "p@ss:w/o?r#d%20é [x]&=+"
ENCODED = "p%40ss%3Aw%2Fo%3Fr%23d%2520%C3%A9%20%5Bx%5D%26%3D%2B"


class Feed:
    """Records each call of a source with its messages."""

    def __init__(self) -> None:
        self.calls: list[list[Message]] = []
        self.flushes: list[int] = []

    def __call__(self, messages: Iterable[Message]) -> None:
        self.calls.append(list(messages))

    def flush(self) -> None:
        """Note the number of calls so far."""
        self.flushes.append(len(self.calls))

    @property
    def messages(self) -> list[Message]:
        return [message for call in self.calls for message in call]


@asynccontextmanager
async def running(url: str, *, password: str | None = None) -> AsyncIterator[tuple[Source, Feed]]:
    """Run a source that subscribes to one name and one pattern."""
    feed = Feed()
    source = Source(url, names=["alerts"], patterns=["candle:*"], relay=feed, flush=feed.flush, password=password)
    run = asyncio.create_task(source.run())
    try:
        yield source, feed
    finally:
        run.cancel()
        await asyncio.wait([run], timeout=5)
    assert run.cancelled()
    assert not source.subscribed.is_set()


async def publish(server: RedisServer, *messages: tuple[str, str | bytes]) -> None:
    await asyncio.to_thread(server.publish, *messages)


def subscribers(server: RedisServer) -> int:
    """Return the number of redis-server's connections that have a pattern subscription."""
    with server.client() as client:
        return sum(row["psub"] != "0" for row in client.client_list())


def lines(log_lines: LogLines) -> list[str]:
    return [line["event"] for line in log_lines.all()]


# Relaying


@pytest.mark.gen_test
async def test_a_message_on_a_name_is_relayed_with_its_channel(redis_server: RedisServer) -> None:
    async with running(redis_server.url) as (source, feed):
        await source.subscribed.wait()
        await publish(redis_server, ("alerts", b'{"id":1}\r\n\xff\x00'))
        await until(lambda: feed.messages == [(b"alerts", b'{"id":1}\r\n\xff\x00')])


@pytest.mark.gen_test
async def test_a_message_on_a_pattern_is_relayed_with_its_concrete_channel(redis_server: RedisServer) -> None:
    async with running(redis_server.url) as (source, feed):
        await source.subscribed.wait()
        await publish(redis_server, ("candle:BTC-USD:1h", "x"))
        await until(lambda: feed.messages == [(b"candle:BTC-USD:1h", b"x")])


@pytest.mark.gen_test
async def test_messages_are_relayed_in_the_order_of_redis(redis_server: RedisServer) -> None:
    async with running(redis_server.url) as (source, feed):
        await source.subscribed.wait()
        await publish(redis_server, *((("alerts", "candle:x")[i % 2], str(i)) for i in range(3000)))
        await until(lambda: len(feed.messages) == 3000)
        assert [int(payload) for _, payload in feed.messages] == list(range(3000))


@pytest.mark.gen_test
async def test_all_messages_of_one_read_are_relayed_in_one_call(redis_server: RedisServer) -> None:
    async with running(redis_server.url) as (source, feed):
        await source.subscribed.wait()
        with redis_server.client() as client, client.pipeline(transaction=True) as transaction:
            for number in range(100):
                transaction.publish("alerts", str(number))
            transaction.execute()
        await until(lambda: len(feed.messages) == 100)
        assert len(feed.calls) == 1


@pytest.mark.gen_test
async def test_a_message_larger_than_a_read_is_relayed_whole(redis_server: RedisServer) -> None:
    payload = bytes(range(256)) * 8_000
    async with running(redis_server.url) as (source, feed):
        await source.subscribed.wait()
        await publish(redis_server, ("alerts", payload), ("alerts", "next"))
        await until(lambda: len(feed.messages) == 2)
        assert feed.messages == [(b"alerts", payload), (b"alerts", b"next")]


@pytest.mark.gen_test
async def test_a_source_with_only_names_subscribes(redis_server: RedisServer) -> None:
    feed = Feed()
    source = Source(redis_server.url, names=["alerts"], patterns=[], relay=feed, flush=feed.flush)
    run = asyncio.create_task(source.run())
    await source.subscribed.wait()
    await publish(redis_server, ("alerts", "x"))
    await until(lambda: feed.messages == [(b"alerts", b"x")])
    run.cancel()
    await asyncio.wait([run])


@pytest.mark.gen_test
async def test_a_source_with_only_patterns_subscribes(redis_server: RedisServer) -> None:
    feed = Feed()
    source = Source(redis_server.url, names=[], patterns=["candle:*", "signal:*"], relay=feed, flush=feed.flush)
    run = asyncio.create_task(source.run())
    await source.subscribed.wait()
    await publish(redis_server, ("signal:1", "x"))
    await until(lambda: feed.messages == [(b"signal:1", b"x")])
    run.cancel()
    await asyncio.wait([run])


@pytest.mark.gen_test
async def test_a_name_that_is_listed_twice_is_subscribed_once(redis_server: RedisServer) -> None:
    feed = Feed()
    source = Source(redis_server.url, names=["alerts", "alerts"], patterns=[], relay=feed, flush=feed.flush)
    run = asyncio.create_task(source.run())
    await source.subscribed.wait()
    await publish(redis_server, ("alerts", "x"))
    await until(lambda: feed.messages == [(b"alerts", b"x")])
    assert source.connects == 1
    run.cancel()
    await asyncio.wait([run])


# Flushing


@pytest.mark.gen_test
async def test_each_read_is_flushed(redis_server: RedisServer) -> None:
    async with running(redis_server.url) as (source, feed):
        await source.subscribed.wait()
        for number in range(5):
            await publish(redis_server, ("alerts", str(number)))
            await until(lambda number=number: len(feed.messages) == number + 1)  # type: ignore[misc]
    assert feed.flushes == [1, 2, 3, 4, 5]


@pytest.mark.gen_test
@pytest.mark.parametrize(("gather", "flushes"), [(60.0, [2]), (0.0, [1, 2])])
async def test_messages_during_a_burst_are_flushed_with_it_unless_that_takes_too_long(
    gather: float, flushes: list[int], redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "GATHER", gather)

    class Busy(Feed):
        """A feed that relays its first messages slowly: more messages arrive before it returns."""

        def __call__(self, messages: Iterable[Message]) -> None:
            super().__call__(messages)
            if len(self.calls) == 1:
                redis_server.publish(*(("alerts", f"more {number}") for number in range(3)))
                with redis_server.client() as client:
                    # When Redis answers this, it has written everything that was published before.
                    client.ping()

    feed = Busy()
    running_source = Source(redis_server.url, names=["alerts"], patterns=[], relay=feed, flush=feed.flush)
    run = asyncio.create_task(running_source.run())
    await running_source.subscribed.wait()
    await publish(redis_server, *(("alerts", f"first {number}") for number in range(source.BURST)))
    await until(lambda: len(feed.messages) == source.BURST + 3)
    await until(lambda: feed.flushes[-1:] == [2])
    run.cancel()
    await asyncio.wait([run])
    assert feed.flushes == flushes


PONG = b"*2\r\n$4\r\npong\r\n$0\r\n\r\n"
EVENT = b"*3\r\n$7\r\nmessage\r\n$6\r\nalerts\r\n$1\r\nx\r\n"
PATTERN_EVENT = b"*4\r\n$8\r\npmessage\r\n$8\r\ncandle:*\r\n$8\r\ncandle:1\r\n$1\r\nx\r\n"
PATTERN_CONFIRMED = b"*3\r\n$10\r\npsubscribe\r\n$8\r\ncandle:*\r\n:1\r\n"
NAME_CONFIRMED = b"*3\r\n$9\r\nsubscribe\r\n$6\r\nalerts\r\n:2\r\n"


async def commands(reader: asyncio.StreamReader) -> AsyncIterator[list[bytes]]:
    """Yield the commands that a Redis client sends."""
    parser = hiredis.Reader()
    while data := await reader.read(65_536):
        parser.feed(data)
        while isinstance(command := parser.gets(), list):
            yield command


async def confirm(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer as Redis does until both subscriptions are confirmed."""
    async for command in commands(reader):
        if command[0] == b"CLIENT":
            writer.write(b"+OK\r\n")
        elif command[0] == b"SUBSCRIBE":
            writer.write(PATTERN_CONFIRMED + NAME_CONFIRMED)
            return


@pytest.mark.gen_test(timeout=10)
async def test_a_subscription_may_be_confirmed_behind_events_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "PING_INTERVAL", 0.1)
    feeds: list[Feed] = []

    async def confirm_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Confirm the pattern and send events of it. Confirm the name once these have been relayed."""
        async for command in commands(reader):
            if command[0] == b"PSUBSCRIBE":
                writer.write(PATTERN_CONFIRMED + PATTERN_EVENT * source.BURST)
            elif command[0] == b"SUBSCRIBE":
                await until(lambda: feeds[0].messages != [])
                writer.write(NAME_CONFIRMED)
            else:
                writer.write(PONG if command[0] == b"PING" else b"+OK\r\n")

    async with not_redis(confirm_late) as (url, tries), running(url) as (running_source, feed):
        feeds.append(feed)
        await running_source.subscribed.wait()
        await asyncio.sleep(0.6)
        assert running_source.subscribed.is_set()
        assert (running_source.connects, len(tries)) == (1, 1)
    assert feed.messages == [(b"candle:1", b"x")] * source.BURST


# A hung Redis, and a process that stands still


@pytest.mark.slow
@pytest.mark.gen_test(timeout=10)
async def test_messages_that_redis_holds_while_the_process_stands_still_are_relayed(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "PING_INTERVAL", 0.05)
    async with running(redis_server.url) as (running_source, feed):
        await running_source.subscribed.wait()
        for number in range(3):
            redis_server.publish(("alerts", str(number)))
            # The whole process stands still, for far longer than the time limit for a hung Redis.
            time.sleep(20 * source.PING_INTERVAL)  # noqa: ASYNC251
            await asyncio.sleep(0)
        await until(lambda: len(feed.messages) == 3)
        await asyncio.sleep(10 * source.PING_INTERVAL)
        assert (running_source.connects, running_source.subscribed.is_set()) == (1, True)


@pytest.mark.slow
@pytest.mark.gen_test(timeout=10)
async def test_a_relay_that_takes_its_time_is_not_a_hung_redis(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(Feed):
        def __call__(self, messages: Iterable[Message]) -> None:
            super().__call__(messages)
            time.sleep(1.1)

    monkeypatch.setattr(source, "PING_INTERVAL", 0.1)
    feed = Slow()
    running_source = Source(redis_server.url, names=["alerts"], patterns=[], relay=feed, flush=feed.flush)
    run = asyncio.create_task(running_source.run())
    await running_source.subscribed.wait()
    await publish(redis_server, ("alerts", "1"))
    await until(lambda: feed.flushes != [])
    await asyncio.sleep(0.5)
    assert (running_source.connects, running_source.subscribed.is_set()) == (1, True)
    run.cancel()
    await asyncio.wait([run])


@pytest.mark.gen_test
async def test_a_redis_that_sends_events_but_no_answer_is_not_hung(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "PING_INTERVAL", 0.05)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await confirm(reader, writer)
        for _ in range(30):
            writer.write(EVENT)
            await asyncio.sleep(0.02)
        await reader.read()

    async with not_redis(answer) as (url, tries), running(url) as (running_source, feed):
        await until(lambda: len(feed.messages) == 30)
        assert (running_source.connects, len(tries)) == (1, 1)


@pytest.mark.gen_test(timeout=10)
async def test_a_redis_without_events_is_not_taken_for_hung(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "PING_INTERVAL", 0.05)
    async with running(redis_server.url) as (running_source, feed):
        await running_source.subscribed.wait()
        await asyncio.sleep(1.2)
        assert running_source.subscribed.is_set()
        assert running_source.connects == 1
        assert feed.calls == []


@pytest.mark.gen_test
async def test_it_is_up_once_every_subscription_is_confirmed(own_redis_server: RedisServer) -> None:
    async with running(own_redis_server.url) as (source, _):
        await source.subscribed.wait()
        with own_redis_server.client() as client:
            assert client.pubsub_numpat() == 1
            assert client.pubsub_numsub("alerts") == [(b"alerts", 1)]


@pytest.mark.gen_test
async def test_it_is_one_connection(own_redis_server: RedisServer) -> None:
    async with running(own_redis_server.url) as (source, _):
        await source.subscribed.wait()
        with own_redis_server.client() as client:
            # The other connection is this client's.
            assert len(client.client_list()) == 2


@pytest.mark.gen_test
async def test_redis_has_no_subscriber_after_the_end_of_a_source(own_redis_server: RedisServer) -> None:
    async with running(own_redis_server.url) as (source, _):
        await source.subscribed.wait()
        assert subscribers(own_redis_server) == 1
    await until(lambda: subscribers(own_redis_server) == 0)


@pytest.mark.gen_test(timeout=30)
@pytest.mark.parametrize("password", [None, PASSWORD])
async def test_it_ends_at_whatever_moment_it_is_cancelled(own_redis_server: RedisServer, password: str | None) -> None:
    if password is not None:
        with own_redis_server.client() as client:
            client.config_set("requirepass", password)
    for turns in range(60):
        async with running(own_redis_server.url, password=password):
            for _ in range(turns):
                await asyncio.sleep(0)


@pytest.mark.gen_test
async def test_it_may_run_again(own_redis_server: RedisServer) -> None:
    feed = Feed()
    source = Source(own_redis_server.url, names=["alerts"], patterns=[], relay=feed, flush=feed.flush)
    for payload in ("0", "1", "2"):
        run = asyncio.create_task(source.run())
        await source.subscribed.wait()
        await publish(own_redis_server, ("alerts", payload))
        await until(lambda payload=payload: feed.messages[-1:] == [(b"alerts", payload.encode())])  # type: ignore[misc]
        run.cancel()
        await asyncio.wait([run])
    assert feed.messages == [(b"alerts", b"0"), (b"alerts", b"1"), (b"alerts", b"2")]


# Redis goes and comes


@pytest.mark.gen_test(timeout=10)
async def test_it_waits_for_a_redis_that_is_absent_at_the_start(redis_binary: str, log_lines: LogLines) -> None:
    server = RedisServer(redis_binary)
    async with running(server.url) as (source, feed):
        await source.tried.wait()
        assert not source.subscribed.is_set()
        with server:
            await source.subscribed.wait()
            await publish(server, ("alerts", "first"))
            await until(lambda: feed.messages == [(b"alerts", b"first")])
    log_lines.take(DOWN)
    log_lines.take(UP_AGAIN)


@pytest.mark.gen_test(timeout=10)
async def test_events_after_the_resubscription_arrive(own_redis_server: RedisServer, log_lines: LogLines) -> None:
    async with running(own_redis_server.url) as (source, feed):
        await source.subscribed.wait()
        own_redis_server.kill()
        await until(lambda: not source.subscribed.is_set())
        await asyncio.to_thread(own_redis_server.start)
        await source.subscribed.wait()
        await publish(own_redis_server, ("alerts", "a"), ("candle:1", "b"))
        await until(lambda: feed.messages == [(b"alerts", b"a"), (b"candle:1", b"b")])
        assert source.connects == 2
    log_lines.take(DOWN)
    log_lines.take(UP_AGAIN)


@pytest.mark.gen_test(timeout=15)
async def test_each_change_of_state_is_one_log_line_however_many_tries_it_takes(
    own_redis_server: RedisServer, log_lines: LogLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "RETRY_CAP", 0.02)
    monkeypatch.setattr(source, "RETRY_BASE", 0.02)
    async with running(own_redis_server.url) as (running_source, _):
        for _ in range(2):
            await running_source.subscribed.wait()
            own_redis_server.kill()
            await until(lambda: not running_source.subscribed.is_set())
            await asyncio.sleep(0.3)
            await asyncio.to_thread(own_redis_server.start)
        await running_source.subscribed.wait()
    # First the connection is lost, then it is refused. The second cause is logged only once in 10 s.
    assert lines(log_lines) == ["source up", DOWN, STILL_DOWN, UP_AGAIN, DOWN, UP_AGAIN]
    for event in (DOWN, STILL_DOWN, UP_AGAIN, DOWN, UP_AGAIN):
        log_lines.take(event)


@pytest.mark.gen_test(timeout=10)
async def test_a_subscriber_that_redis_cuts_off_subscribes_anew(
    own_redis_server: RedisServer, log_lines: LogLines
) -> None:
    async with running(own_redis_server.url) as (source, feed):
        await source.subscribed.wait()
        with own_redis_server.client() as client:
            client.client_kill_filter(_type="pubsub")
        await until(lambda: source.connects == 2)
        await publish(own_redis_server, ("alerts", "x"))
        await until(lambda: feed.messages == [(b"alerts", b"x")])
    log_lines.take(DOWN)
    log_lines.take(UP_AGAIN)


@pytest.mark.slow
@pytest.mark.gen_test(timeout=20)
async def test_a_hung_redis_is_noticed_within_five_seconds(own_redis_server: RedisServer, log_lines: LogLines) -> None:
    async with running(own_redis_server.url) as (source, feed):
        await source.subscribed.wait()
        own_redis_server.signal(signal.SIGSTOP)
        began = time.monotonic()
        try:
            await until(lambda: not source.subscribed.is_set(), 10)
            assert time.monotonic() - began < 5
        finally:
            own_redis_server.signal(signal.SIGCONT)
        await source.subscribed.wait()
        await publish(own_redis_server, ("alerts", "x"))
        await until(lambda: feed.messages == [(b"alerts", b"x")])
    assert log_lines.take(DOWN)["cause"] == "Redis does not answer"
    log_lines.take(UP_AGAIN)


@pytest.mark.gen_test(timeout=10)
async def test_a_redis_that_hangs_while_we_connect_is_given_up(
    own_redis_server: RedisServer, log_lines: LogLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "CONNECT_TIMEOUT", 0.1)
    own_redis_server.signal(signal.SIGSTOP)
    try:
        async with running(own_redis_server.url) as (running_source, _):
            await running_source.tried.wait()
            own_redis_server.signal(signal.SIGCONT)
            await running_source.subscribed.wait()
    finally:
        own_redis_server.signal(signal.SIGCONT)
    log_lines.take(DOWN)
    log_lines.take(UP_AGAIN)


# Retries


@pytest.mark.gen_test
async def test_the_first_retry_comes_within_100_ms(log_lines: LogLines) -> None:
    async with not_redis(say_nothing_more) as (url, tries), running(url):
        await until(lambda: len(tries) == 2)
        assert 0.05 <= tries[1] - tries[0] < 0.15
    log_lines.take(DOWN)


def test_the_pauses_between_tries_grow_from_100_ms_to_2_s() -> None:
    backoff = Source("redis://127.0.0.1", names=["alerts"], patterns=[], relay=Feed(), flush=Feed().flush)._backoff
    longest = [max(backoff.compute(failures) for _ in range(500)) for failures in range(source._MAX_EXPONENT + 1)]
    assert longest == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 2, 2, 2, 2, 2, 2], rel=0.05)
    assert max(longest) <= 2


def test_the_pauses_between_tries_are_spread_by_chance() -> None:
    backoff = Source("redis://127.0.0.1", names=["alerts"], patterns=[], relay=Feed(), flush=Feed().flush)._backoff
    pauses = {backoff.compute(source._MAX_EXPONENT) for _ in range(500)}
    assert len(pauses) > 490
    assert min(pauses) < 1.1


@pytest.mark.gen_test
async def test_tries_become_rarer_while_redis_is_away(log_lines: LogLines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "RETRY_BASE", 0.01)
    async with not_redis(say_nothing_more) as (url, tries), running(url):
        await until(lambda: len(tries) == 7)
        # The six pauses are at least half of 10, 20, 40, 80, 160 and 320 ms.
        assert tries[6] - tries[5] >= 0.16
        assert tries[6] - tries[0] >= 0.315
    log_lines.take(DOWN)


@pytest.mark.gen_test(timeout=10)
async def test_after_a_confirmed_subscription_the_next_retry_is_a_first_one(
    own_redis_server: RedisServer, log_lines: LogLines
) -> None:
    async with running(own_redis_server.url) as (source, _):
        await source.subscribed.wait()
        began = time.monotonic()
        for connects in range(2, 8):
            with own_redis_server.client() as client:
                client.client_kill_filter(_type="pubsub")
            await until(lambda connects=connects: source.connects == connects)  # type: ignore[misc]
        # Each of the six retries is a first one. Growing pauses would take at least 3.1 s.
        assert time.monotonic() - began < 2
    for _ in range(6):
        log_lines.take(DOWN)
        log_lines.take(UP_AGAIN)


# Passwords and permissions


def guard(server: RedisServer) -> redis.Redis:
    """Make a redis-server require PASSWORD, and return a client that has it."""
    with server.client() as client:
        client.config_set("requirepass", PASSWORD)
    return redis.Redis(port=server.port, password=PASSWORD)


def said(caplog: pytest.LogCaptureFixture, log_lines: LogLines) -> str:
    """Return every log line of every library."""
    return "\n".join((caplog.text, *map(repr, caplog.records), *map(repr, log_lines.all())))


def secret_in(text: str) -> bool:
    return PASSWORD in text or ENCODED in text or repr(PASSWORD)[1:-1] in text


@pytest.mark.gen_test
async def test_a_password_of_special_characters_in_the_url_is_taken(own_redis_server: RedisServer) -> None:
    with guard(own_redis_server) as client:
        async with running(f"redis://:{ENCODED}@127.0.0.1:{own_redis_server.port}/0") as (source, feed):
            await source.subscribed.wait()
            client.publish("alerts", "x")
            await until(lambda: feed.messages == [(b"alerts", b"x")])


@pytest.mark.gen_test
async def test_a_password_of_special_characters_beside_the_url_is_taken(own_redis_server: RedisServer) -> None:
    with guard(own_redis_server) as client:
        async with running(own_redis_server.url, password=PASSWORD) as (source, feed):
            await source.subscribed.wait()
            client.publish("alerts", "x")
            await until(lambda: feed.messages == [(b"alerts", b"x")])


@pytest.mark.gen_test
async def test_a_user_with_a_password_is_taken(own_redis_server: RedisServer) -> None:
    with own_redis_server.client() as client:
        client.acl_setuser(
            "bridge",
            enabled=True,
            passwords=[f"+{PASSWORD}"],
            commands=["+subscribe", "+psubscribe", "+ping"],
            channels=["alerts", "candle:*"],
        )
    async with running(f"redis://bridge:{ENCODED}@127.0.0.1:{own_redis_server.port}") as (source, feed):
        await source.subscribed.wait()
        await publish(own_redis_server, ("alerts", "x"))
        await until(lambda: feed.messages == [(b"alerts", b"x")])


@pytest.mark.gen_test
@pytest.mark.parametrize("given", ["", ":wrong@", "nobody:wrong@"])
async def test_a_wrong_password_is_one_sentence(own_redis_server: RedisServer, log_lines: LogLines, given: str) -> None:
    with guard(own_redis_server):
        async with running(f"redis://{given}127.0.0.1:{own_redis_server.port}") as (source, _):
            await source.tried.wait()
            assert not source.subscribed.is_set()
    assert log_lines.take(DOWN) == {
        "event": DOWN,
        "log_level": "warning",
        "cause": "Redis asks for another user or password",
    }


@pytest.mark.gen_test
async def test_a_password_for_a_redis_without_a_password_is_one_sentence(
    own_redis_server: RedisServer, log_lines: LogLines
) -> None:
    async with running(own_redis_server.url, password=PASSWORD) as (source, _):
        await source.tried.wait()
    assert log_lines.take(DOWN)["cause"] == "Redis asks for another user or password"


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("commands", "channels"),
    [
        (["+@all"], ["somewhere-else"]),
        (["+@all"], ["alerts"]),
        (["+@all"], ["candle:*"]),
        (["+subscribe", "+ping"], ["*"]),
    ],
)
async def test_a_missing_right_is_one_sentence(
    own_redis_server: RedisServer, log_lines: LogLines, commands: list[str], channels: list[str]
) -> None:
    with own_redis_server.client() as client:
        client.acl_setuser("bridge", enabled=True, nopass=True, commands=commands, channels=channels)
    async with running(f"redis://bridge:any@127.0.0.1:{own_redis_server.port}") as (source, _):
        await source.tried.wait()
        assert not source.subscribed.is_set()
    assert log_lines.take(DOWN)["cause"] == "the Redis user lacks the right to subscribe to these channels"


@pytest.mark.gen_test
async def test_a_user_who_may_not_ping_stays_subscribed(
    own_redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "PING_INTERVAL", 0.01)
    with own_redis_server.client() as client:
        client.acl_setuser("bridge", enabled=True, nopass=True, commands=["+subscribe", "+psubscribe"], channels=["*"])
        async with running(f"redis://bridge:any@127.0.0.1:{own_redis_server.port}") as (running_source, feed):
            await running_source.subscribed.wait()
            await until(lambda: len(client.acl_log()) > 0)
            client.publish("alerts", "x")
            await until(lambda: feed.messages == [(b"alerts", b"x")])
            assert running_source.connects == 1


@pytest.mark.gen_test
@pytest.mark.parametrize("given", [f":{ENCODED}@", f"bridge:{ENCODED}@"])
async def test_the_password_of_the_url_is_in_no_log_line(
    own_redis_server: RedisServer, log_lines: LogLines, caplog: pytest.LogCaptureFixture, given: str
) -> None:
    caplog.set_level(logging.DEBUG)
    with own_redis_server.client() as client:
        client.config_set("requirepass", "another")
    async with running(f"redis://{given}127.0.0.1:{own_redis_server.port}") as (source, _):
        await source.tried.wait()
    async with running(f"redis://{given}127.0.0.1:{free_port()}") as (source, _):
        await source.tried.wait()
    log_lines.take(DOWN)
    log_lines.take(DOWN)
    assert not secret_in(said(caplog, log_lines))


@pytest.mark.gen_test
async def test_the_password_beside_the_url_is_in_no_log_line(
    own_redis_server: RedisServer, log_lines: LogLines, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with own_redis_server.client() as client:
        client.config_set("requirepass", "another")
    async with running(own_redis_server.url, password=PASSWORD) as (source, _):
        await source.tried.wait()
    log_lines.take(DOWN)
    assert not secret_in(said(caplog, log_lines))


# Unix sockets, databases and TLS


@pytest.mark.gen_test
async def test_a_unix_socket_is_taken(redis_binary: str) -> None:
    # The path of a socket may have at most 107 bytes, so it is in a short directory.
    with tempfile.TemporaryDirectory(prefix="redis-") as directory:
        path = f"{directory}/redis.sock"
        with RedisServer(redis_binary, "--unixsocket", path) as server:
            async with running(f"unix://{path}") as (source, feed):
                await source.subscribed.wait()
                await publish(server, ("alerts", "x"))
                await until(lambda: feed.messages == [(b"alerts", b"x")])


@pytest.mark.gen_test
async def test_the_number_of_the_database_makes_no_difference(redis_server: RedisServer) -> None:
    async with running(redis_server.url.replace("/0", "/7")) as (source, feed):
        await source.subscribed.wait()
        await publish(redis_server, ("alerts", "x"))
        await until(lambda: feed.messages == [(b"alerts", b"x")])


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate of 127.0.0.1, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    directory = tmp_path_factory.mktemp("tls")
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    subject = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2")
    kind = ("-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    files = ("-keyout", str(key), "-out", str(certificate))
    subprocess.run(["openssl", "req", *kind, *subject, *files], check=True, capture_output=True)
    return certificate, key


@contextmanager
def tls_server(redis_binary: str, certificate: tuple[Path, Path]) -> Iterator[tuple[RedisServer, int]]:
    """Run a redis-server that also speaks TLS. Yields it and its port for TLS."""
    port = free_port()
    options = ("--tls-port", str(port), "--tls-auth-clients", "no", "--tls-ca-cert-file", str(certificate[0]))
    files = ("--tls-cert-file", str(certificate[0]), "--tls-key-file", str(certificate[1]))
    with RedisServer(redis_binary, *options, *files) as server:
        yield server, port


@pytest.mark.gen_test
async def test_tls_with_the_right_authority_is_taken(redis_binary: str, certificate: tuple[Path, Path]) -> None:
    with tls_server(redis_binary, certificate) as (server, port):
        async with running(f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificate[0]}") as (source, feed):
            await source.subscribed.wait()
            await publish(server, ("alerts", "x"))
            await until(lambda: feed.messages == [(b"alerts", b"x")])


@pytest.mark.gen_test
async def test_tls_on_the_port_of_a_plain_redis_is_named_as_the_cause(
    redis_server: RedisServer, log_lines: LogLines
) -> None:
    async with running(f"rediss://127.0.0.1:{redis_server.port}"):
        await until(lambda: log_lines.all())
    assert log_lines.take(DOWN)["cause"] == "the TLS handshake was not answered: does that port speak TLS?"


@pytest.mark.gen_test(timeout=20)
async def test_a_redis_with_tls_that_hangs_does_not_answer(
    redis_binary: str, certificate: tuple[Path, Path], log_lines: LogLines
) -> None:
    with tls_server(redis_binary, certificate) as (server, port):
        async with running(f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificate[0]}") as (source, _):
            await source.subscribed.wait()
            server.signal(signal.SIGSTOP)
            try:
                await until(lambda: not source.subscribed.is_set(), 10)
            finally:
                server.signal(signal.SIGCONT)
            await source.subscribed.wait()
    assert log_lines.take(DOWN)["cause"] == "Redis does not answer"
    log_lines.take(UP_AGAIN)


@pytest.mark.gen_test
async def test_tls_with_a_wrong_authority_is_one_sentence(
    redis_binary: str, certificate: tuple[Path, Path], log_lines: LogLines
) -> None:
    with tls_server(redis_binary, certificate) as (_, port):
        async with running(f"rediss://:{ENCODED}@127.0.0.1:{port}") as (source, _):
            await source.tried.wait()
            assert not source.subscribed.is_set()
    cause = log_lines.take(DOWN)["cause"]
    assert "certificate verify failed" in cause
    assert "\n" not in cause


# Servers that are not Redis


Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def not_redis(answer: Answer) -> AsyncIterator[tuple[str, list[float]]]:
    """Run a server that is not Redis. Yields its URL, and the time of each connection to it."""
    tries: list[float] = []
    served: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tries.append(time.monotonic())
        task = asyncio.current_task()
        assert task is not None
        served.add(task)
        try:
            await answer(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}", tries
    finally:
        server.close()
        if served:
            await asyncio.wait(served, timeout=5)


async def say_nothing_more(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Close the connection at once."""


async def answer_as_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    await reader.read()


async def answer_with_noise(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(bytes(range(256)))
    await reader.read()


async def answer_with_half_a_reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"+O")


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)


async def stay_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


@pytest.mark.gen_test
@pytest.mark.parametrize("answer", [answer_as_http, answer_with_noise])
async def test_a_server_that_is_not_redis_is_one_sentence(log_lines: LogLines, answer: Answer) -> None:
    async with not_redis(answer) as (url, _), running(url) as (source, _):
        await source.tried.wait()
        assert not source.subscribed.is_set()
    assert log_lines.take(DOWN)["cause"] == "what answers there does not speak Redis' protocol"


@pytest.mark.gen_test
@pytest.mark.parametrize("answer", [say_nothing_more, answer_with_half_a_reply])
async def test_a_server_that_hangs_up_is_one_line(log_lines: LogLines, answer: Answer) -> None:
    async with not_redis(answer) as (url, _), running(url) as (source, _):
        await source.tried.wait()
        assert not source.subscribed.is_set()
    cause = log_lines.take(DOWN)["cause"]
    assert cause
    assert "\n" not in cause


@pytest.mark.gen_test
async def test_a_server_that_never_says_anything_is_one_sentence(
    log_lines: LogLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "CONNECT_TIMEOUT", 0.1)
    async with not_redis(stay_silent) as (url, _), running(url) as (running_source, _):
        await running_source.tried.wait()
    assert log_lines.take(DOWN)["cause"] == "Redis does not answer"


async def answer_pings_alone(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async for command in commands(reader):
        writer.write({b"PING": PONG, b"CLIENT": b"+OK\r\n"}.get(command[0], b""))


async def send_events_alone(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async for command in commands(reader):
        if command[0] == b"CLIENT":
            writer.write(b"+OK\r\n")
        elif command[0] == b"SUBSCRIBE":
            while not writer.is_closing():
                writer.write(EVENT)
                # Raises ConnectionError once the source has gone.
                await writer.drain()
                await asyncio.sleep(0.02)


@pytest.mark.slow
@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (echo, "what answers there does not speak Redis' protocol"),
        (answer_pings_alone, "Redis does not have the subscriptions"),
        (send_events_alone, "Redis does not answer"),
    ],
)
async def test_a_server_that_answers_but_never_confirms_is_one_sentence(
    log_lines: LogLines, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, answer: Answer, cause: str
) -> None:
    monkeypatch.setattr(source, "PING_INTERVAL", 0.05)
    async with not_redis(answer) as (url, _), running(url) as (running_source, _):
        await running_source.tried.wait()
        assert not running_source.subscribed.is_set()
    assert log_lines.take(DOWN)["cause"] == cause
    caplog.clear()  # asyncio warns of the events that are sent to the source when it has gone


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "reply",
    [
        b"*0\r\n",
        b"*-1\r\n",
        b"*1\r\n$8\r\npmessage\r\n",
        b"*3\r\n$8\r\npmessage\r\n$1\r\na\r\n$1\r\nb\r\n",
        b"*5\r\n$8\r\npmessage\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n$1\r\nd\r\n",
        b"*3\r\n$7\r\nmessage\r\n*1\r\n$6\r\nalerts\r\n$1\r\nx\r\n",
        b"*3\r\n$7\r\nmessage\r\n$6\r\nalerts\r\n$-1\r\n",
        b"*3\r\n$7\r\nmessage\r\n$6\r\nalerts\r\n:7\r\n",
        b"*2\r\n*0\r\n*0\r\n",
        b"*3\r\n$9\r\nsubscribe\r\n*0\r\n:1\r\n",
        b"*2\r\n$5\r\nother\r\n$0\r\n\r\n",
        b"*3\r\n$12\r\npunsubscribe\r\n$8\r\ncandle:*\r\n:0\r\n",
        b"+PONG\r\n",
        b":1\r\n",
    ],
)
async def test_a_reply_of_a_wrong_form_ends_the_connection_and_nothing_else(log_lines: LogLines, reply: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await confirm(reader, writer)
        if len(tries) == 1:
            writer.write(EVENT + reply)
        await reader.read()

    async with not_redis(answer) as (url, tries), running(url) as (running_source, _):
        await until(lambda: running_source.connects == 2)
        assert running_source.subscribed.is_set()
    assert log_lines.take(DOWN)["cause"]
    log_lines.take(UP_AGAIN)


@pytest.mark.gen_test(timeout=10)
async def test_a_subscription_lost_behind_a_living_connection_is_noticed(
    log_lines: LogLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "PING_INTERVAL", 0.05)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forget the subscriptions of the first connection, as a proxy does that switches to another Redis."""
        await confirm(reader, writer)
        pong = b"+PONG\r\n" if len(tries) == 1 else PONG
        while data := await reader.read(65_536):
            writer.write(pong * data.count(b"PING"))

    async with not_redis(answer) as (url, tries), running(url) as (running_source, _):
        await until(lambda: running_source.connects == 2)
    assert log_lines.take(DOWN)["cause"] == "Redis does not have the subscriptions"
    log_lines.take(UP_AGAIN)


@pytest.mark.gen_test(timeout=10)
async def test_each_change_of_cause_in_an_outage_is_a_log_line(log_lines: LogLines) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await (say_nothing_more, answer_as_http, say_nothing_more, answer_as_http)[min(len(tries), 4) - 1](
            reader, writer
        )

    async with not_redis(answer) as (url, tries), running(url):
        await until(lambda: len(tries) >= 4)
    hung_up = log_lines.take(DOWN)["cause"]
    foreign = "what answers there does not speak Redis' protocol"
    # Each cause is logged once in 10 s.
    assert [log_lines.take(STILL_DOWN)["cause"] for _ in range(2)] == [foreign, hung_up]


@pytest.mark.gen_test
async def test_a_host_that_does_not_exist_is_one_sentence(log_lines: LogLines) -> None:
    async with running("redis://does-not-exist.invalid") as (source, _):
        await source.tried.wait()
    cause = log_lines.take(DOWN)["cause"]
    assert "does-not-exist.invalid" in cause
    assert "\n" not in cause


@pytest.mark.gen_test
async def test_an_invalid_host_name_is_one_sentence(log_lines: LogLines) -> None:
    async with running(f"redis://{'x' * 80}") as (source, _):
        await source.tried.wait()
    assert "\n" not in log_lines.take(DOWN)["cause"]

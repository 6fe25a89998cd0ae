"""tornado_bridge.ingest.source: against real redis-servers, and against what is none."""

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

import pytest
import redis

from tests.support.raw import until
from tests.support.servers import LogLines, RedisServer, free_port
from tornado_bridge.errors import ConfigurationError
from tornado_bridge.ingest import source
from tornado_bridge.ingest.source import Message, Source

DOWN = "source down: trying again until it is back"
UP_AGAIN = "source up again: events published meanwhile are lost"

# What a password may be, and a URL may not say as it is.
PASSWORD = "p@ss:w/o?r#d%20é [x]&=+"
ENCODED = "p%40ss%3Aw%2Fo%3Fr%23d%2520%C3%A9%20%5Bx%5D%26%3D%2B"


class Feed:
    """What a source has relayed: the messages, and call by call."""

    def __init__(self) -> None:
        self.calls: list[list[Message]] = []
        self.flushes: list[int] = []

    def __call__(self, messages: Iterable[Message]) -> None:
        self.calls.append(list(messages))

    def flush(self) -> None:
        """Note how many calls there had been."""
        self.flushes.append(len(self.calls))

    @property
    def messages(self) -> list[Message]:
        return [message for call in self.calls for message in call]


@asynccontextmanager
async def running(url: str, *, password: str | None = None) -> AsyncIterator[tuple[Source, Feed]]:
    """Run a source of one name and one pattern."""
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
    """Return how many connections redis-server has that subscribe."""
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
async def test_a_source_of_names_alone_subscribes(redis_server: RedisServer) -> None:
    feed = Feed()
    source = Source(redis_server.url, names=["alerts"], patterns=[], relay=feed, flush=feed.flush)
    run = asyncio.create_task(source.run())
    await source.subscribed.wait()
    await publish(redis_server, ("alerts", "x"))
    await until(lambda: feed.messages == [(b"alerts", b"x")])
    run.cancel()
    await asyncio.wait([run])


@pytest.mark.gen_test
async def test_a_source_of_patterns_alone_subscribes(redis_server: RedisServer) -> None:
    feed = Feed()
    source = Source(redis_server.url, names=[], patterns=["candle:*", "signal:*"], relay=feed, flush=feed.flush)
    run = asyncio.create_task(source.run())
    await source.subscribed.wait()
    await publish(redis_server, ("signal:1", "x"))
    await until(lambda: feed.messages == [(b"signal:1", b"x")])
    run.cancel()
    await asyncio.wait([run])


@pytest.mark.gen_test
async def test_a_name_that_stands_twice_is_no_second_subscription(redis_server: RedisServer) -> None:
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


class Patience:
    """A pace that always waits, for as long as it is told."""

    seconds = 0.3

    def __init__(self) -> None:
        self.brought: list[int] = []

    def wait(self, now: float, messages: int) -> float:
        return self.seconds

    def note_wait(self, messages: int) -> None:
        self.brought.append(messages)

    def note_flush(self, started: float, ended: float, waited: bool) -> None:
        assert waited


@pytest.mark.gen_test
async def test_each_read_is_flushed(redis_server: RedisServer) -> None:
    async with running(redis_server.url) as (source, feed):
        await source.subscribed.wait()
        for number in range(5):
            await publish(redis_server, ("alerts", str(number)))
            await until(lambda number=number: len(feed.messages) == number + 1)  # type: ignore[misc]
    assert feed.flushes == [1, 2, 3, 4, 5]


@pytest.mark.gen_test
@pytest.mark.parametrize(("max_wait", "flushes"), [(60.0, [2]), (0.0, [1, 2])])
async def test_what_comes_while_a_burst_is_relayed_goes_out_with_it_unless_that_takes_too_long(
    max_wait: float, flushes: list[int], redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "MAX_WAIT", max_wait)

    class Busy(Feed):
        """A feed that takes its time with the first messages: others have arrived when it is through."""

        def __call__(self, messages: Iterable[Message]) -> None:
            super().__call__(messages)
            if len(self.calls) == 1:
                redis_server.publish(*(("alerts", f"more {number}") for number in range(3)))
                with redis_server.client() as client:
                    # What was published before has been written when this is answered.
                    client.ping()

    feed = Busy()
    running_source = Source(redis_server.url, names=["alerts"], patterns=[], relay=feed, flush=feed.flush)
    run = asyncio.create_task(running_source.run())
    await running_source.subscribed.wait()
    await publish(redis_server, *(("alerts", f"first {number}") for number in range(source.CROWD)))
    await until(lambda: len(feed.messages) == source.CROWD + 3)
    await until(lambda: feed.flushes[-1:] == [2])
    run.cancel()
    await asyncio.wait([run])
    assert feed.flushes == flushes


@pytest.mark.gen_test
async def test_what_comes_during_a_wait_goes_out_in_one_flush(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "Pace", Patience)
    async with running(redis_server.url) as (running_source, feed):
        await running_source.subscribed.wait()
        await publish(redis_server, ("alerts", "1"))
        await until(lambda: len(feed.messages) == 1)
        await publish(redis_server, ("alerts", "2"))
        await publish(redis_server, ("candle:1", "3"), ("alerts", "4"))
        assert feed.flushes == []
        await until(lambda: feed.flushes != [])
    assert [payload for _, payload in feed.messages] == [b"1", b"2", b"3", b"4"]
    assert feed.flushes == [len(feed.calls)]


@pytest.mark.gen_test
async def test_nothing_that_comes_during_a_wait_is_no_fault(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "Pace", Patience)
    monkeypatch.setattr(Patience, "seconds", 0.05)
    async with running(redis_server.url) as (running_source, feed):
        await running_source.subscribed.wait()
        for number in range(3):
            await publish(redis_server, ("alerts", str(number)))
            await until(lambda number=number: len(feed.flushes) == number + 1)  # type: ignore[misc]
        assert running_source.connects == 1
        pace = running_source._pace
    assert [payload for _, payload in feed.messages] == [b"0", b"1", b"2"]
    assert isinstance(pace, Patience)
    assert pace.brought == [0, 0, 0]


@pytest.mark.slow
@pytest.mark.gen_test(timeout=10)
async def test_a_subscription_may_be_confirmed_while_events_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "Pace", Patience)
    monkeypatch.setattr(source, "SILENCE", 1.0)
    monkeypatch.setattr(source, "PING_INTERVAL", 0.1)
    feeds: list[Feed] = []

    async def confirm_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Confirm the pattern, send an event of it, and confirm the name once that has been relayed."""
        while data := await reader.read(65_536):
            for command in data.split(b"*")[1:]:
                if b"PSUBSCRIBE" in command:
                    writer.write(b"*3\r\n$10\r\npsubscribe\r\n$8\r\ncandle:\x2a\r\n:1\r\n")
                    writer.write(b"*4\r\n$8\r\npmessage\r\n$8\r\ncandle:\x2a\r\n$8\r\ncandle:1\r\n$1\r\nx\r\n")
                elif b"SUBSCRIBE" in command:
                    await until(lambda: feeds[0].messages != [])
                    writer.write(b"*3\r\n$9\r\nsubscribe\r\n$6\r\nalerts\r\n:2\r\n")
                elif b"PING" in command:
                    writer.write(b"*2\r\n$4\r\npong\r\n$0\r\n\r\n")
                elif b"\r\n" in command:
                    writer.write(b"+OK\r\n")

    async with not_redis(confirm_late) as (url, tries), running(url) as (running_source, feed):
        feeds.append(feed)
        await running_source.subscribed.wait()
        await asyncio.sleep(1.5)
        assert running_source.subscribed.is_set()
        assert (running_source.connects, len(tries)) == (1, 1)
    assert feed.messages == [(b"candle:1", b"x")]


@pytest.mark.slow
@pytest.mark.gen_test(timeout=10)
async def test_a_relay_that_takes_its_time_is_no_silence_of_redis(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(Feed):
        def __call__(self, messages: Iterable[Message]) -> None:
            super().__call__(messages)
            time.sleep(1.1)

    monkeypatch.setattr(source, "Pace", Patience)
    monkeypatch.setattr(source, "SILENCE", 1.0)
    monkeypatch.setattr(source, "PING_INTERVAL", 0.1)
    feed = Slow()
    running_source = Source(redis_server.url, names=["alerts"], patterns=[], relay=feed, flush=feed.flush)
    run = asyncio.create_task(running_source.run())
    await running_source.subscribed.wait()
    await publish(redis_server, ("alerts", "1"))
    await until(lambda: feed.flushes != [])
    await asyncio.sleep(0.3)
    assert (running_source.connects, running_source.subscribed.is_set()) == (1, True)
    run.cancel()
    await asyncio.wait([run])


@pytest.mark.gen_test
async def test_events_that_wait_are_flushed_where_redis_goes_away(
    own_redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, log_lines: LogLines
) -> None:
    monkeypatch.setattr(source, "Pace", Patience)
    async with running(own_redis_server.url) as (running_source, feed):
        await running_source.subscribed.wait()
        await publish(own_redis_server, ("alerts", "1"))
        await until(lambda: len(feed.messages) == 1)
        own_redis_server.kill()
        await until(lambda: feed.flushes == [1])
        await until(lambda: not running_source.subscribed.is_set())
    log_lines.take(DOWN)


@pytest.mark.gen_test
async def test_events_that_wait_are_flushed_where_the_source_is_stopped(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "Pace", Patience)
    async with running(redis_server.url) as (running_source, feed):
        await running_source.subscribed.wait()
        await publish(redis_server, ("alerts", "1"))
        await until(lambda: len(feed.messages) == 1)
    assert feed.flushes == [1]


@pytest.mark.gen_test(timeout=10)
async def test_a_redis_that_has_no_events_is_not_taken_for_hung(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "PING_INTERVAL", 0.05)
    monkeypatch.setattr(source, "SILENCE", 0.5)
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
            # The other one is this client.
            assert len(client.client_list()) == 2


@pytest.mark.gen_test
async def test_after_its_end_redis_has_no_subscriber(own_redis_server: RedisServer) -> None:
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
    assert lines(log_lines) == ["source up", DOWN, UP_AGAIN, DOWN, UP_AGAIN]
    for event in (DOWN, UP_AGAIN, DOWN, UP_AGAIN):
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
    backoff = Source("redis://", names=["alerts"], patterns=[], relay=Feed(), flush=Feed().flush)._backoff
    longest = [max(backoff.compute(failures) for _ in range(500)) for failures in range(source._MAX_EXPONENT + 1)]
    assert longest == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 2, 2, 2, 2, 2, 2], rel=0.05)
    assert max(longest) <= 2


def test_the_pauses_between_tries_are_spread_by_chance() -> None:
    backoff = Source("redis://", names=["alerts"], patterns=[], relay=Feed(), flush=Feed().flush)._backoff
    pauses = {backoff.compute(source._MAX_EXPONENT) for _ in range(500)}
    assert len(pauses) > 490
    assert min(pauses) < 1.1


@pytest.mark.gen_test
async def test_tries_become_rarer_while_redis_is_away(log_lines: LogLines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "RETRY_BASE", 0.01)
    async with not_redis(say_nothing_more) as (url, tries), running(url):
        await until(lambda: len(tries) == 7)
        # At least half of 10, 20, 40, 80, 160 and 320 ms.
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
        # Six first retries; growing pauses would take 3.1 s at the least.
        assert time.monotonic() - began < 2
    for _ in range(6):
        log_lines.take(DOWN)
        log_lines.take(UP_AGAIN)


# Who may not


def guard(server: RedisServer) -> redis.Redis:
    """Make a redis-server ask for PASSWORD; returns a client that has it."""
    with server.client() as client:
        client.config_set("requirepass", PASSWORD)
    return redis.Redis(port=server.port, password=PASSWORD)


def said(caplog: pytest.LogCaptureFixture, log_lines: LogLines) -> str:
    """Return everything that was logged, by anybody."""
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
async def test_a_password_for_a_redis_that_has_none_is_one_sentence(
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


def test_the_password_is_in_no_repr() -> None:
    in_url = Source(
        f"redis://bridge:{ENCODED}@127.0.0.1", names=["alerts"], patterns=[], relay=Feed(), flush=Feed().flush
    )
    beside = Source(
        "redis://127.0.0.1", names=["alerts"], patterns=[], relay=Feed(), flush=Feed().flush, password=PASSWORD
    )
    for part in (in_url, in_url._pool, in_url._connection, beside, beside._pool, beside._connection):
        assert not secret_in(repr(part))
        assert not secret_in(str(part))


@pytest.mark.parametrize(
    "url",
    [
        "redis://:canary/x@127.0.0.1:6379/0",
        "redis://:canary#x@127.0.0.1:6379/0",
        "redis://:canary?x=y@127.0.0.1:6379/0",
        "redis://:canary[x@127.0.0.1:6379/0",
        "redis://canary/x@127.0.0.1",
        "redis://:x/canary@127.0.0.1",
        "redis://:1/canary@127.0.0.1",
        "redis://:x@127.0.0.1:canary",
        "redis://:canary@127.0.0.1:99999",
        "rediss://:x#canary@127.0.0.1",
        "unix://:canary/x@/tmp/redis.sock",
        "canary://127.0.0.1",
        "canary",
        "",
    ],
)
def test_a_url_that_cannot_be_taken_apart_is_refused_without_a_word_of_it(url: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        Source(url, names=["alerts"], patterns=[], relay=Feed(), flush=Feed().flush)
    assert str(refusal.value) == (
        "the Redis URL cannot be used: expected redis://USER:PASSWORD@HOST:PORT/DB, rediss:// or unix://PATH, "
        "with /, ?, #, @ and % of a password as %2F, %3F, %23, %40 and %25"
    )


@pytest.mark.parametrize("option", ["decode_responses", "protocol", "parser_class", "socket_timeout", "retry", "bogus"])
def test_an_option_of_the_url_that_could_harm_the_source_is_refused_by_name(option: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        Source(f"redis://:canary@127.0.0.1?{option}=3", names=["alerts"], patterns=[], relay=Feed(), flush=Feed().flush)
    assert str(refusal.value) == (
        f"the Redis URL cannot be used: it has the option '{option}', expected db, client_name or ssl_…"
    )


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1?db=first",
        "redis://127.0.0.1?ssl_ca_certs=/tmp/ca.pem",
        "rediss://127.0.0.1?ssl_bogus=1",
        "rediss://127.0.0.1?ssl_cert_reqs=sometimes",
    ],
)
def test_an_option_of_the_url_that_has_no_such_value_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^the Redis URL cannot be used: "):
        Source(url, names=["alerts"], patterns=[], relay=Feed(), flush=Feed().flush)


# Other ways to a Redis


@pytest.mark.gen_test
async def test_a_unix_socket_is_taken(redis_binary: str) -> None:
    # A path of a socket has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="redis-") as directory:
        path = f"{directory}/redis.sock"
        with RedisServer(redis_binary, "--unixsocket", path) as server:
            async with running(f"unix://{path}") as (source, feed):
                await source.subscribed.wait()
                await publish(server, ("alerts", "x"))
                await until(lambda: feed.messages == [(b"alerts", b"x")])


@pytest.mark.gen_test
async def test_a_database_of_another_number_makes_no_difference(redis_server: RedisServer) -> None:
    async with running(redis_server.url.replace("/0", "/7")) as (source, feed):
        await source.subscribed.wait()
        await publish(redis_server, ("alerts", "x"))
        await until(lambda: feed.messages == [(b"alerts", b"x")])


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1, which is its own authority, and its key."""
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
    """Run a redis-server that also speaks TLS, on the port given."""
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


# What is no Redis


Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def not_redis(answer: Answer) -> AsyncIterator[tuple[str, list[float]]]:
    """Run a server that is no Redis; gives its URL, and when it was connected to."""
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
    """Close at once."""


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
async def test_a_server_that_is_no_redis_is_one_sentence(log_lines: LogLines, answer: Answer) -> None:
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


@pytest.mark.gen_test
async def test_a_server_that_answers_but_never_confirms_is_one_sentence(
    log_lines: LogLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "SILENCE", 0.3)
    monkeypatch.setattr(source, "PING_INTERVAL", 0.05)
    async with not_redis(echo) as (url, _), running(url) as (running_source, _):
        await running_source.tried.wait()
        assert not running_source.subscribed.is_set()
    assert log_lines.take(DOWN)["cause"] == "Redis does not answer"


@pytest.mark.gen_test
async def test_a_host_that_does_not_exist_is_one_sentence(log_lines: LogLines) -> None:
    async with running("redis://does-not-exist.invalid") as (source, _):
        await source.tried.wait()
    cause = log_lines.take(DOWN)["cause"]
    assert "does-not-exist.invalid" in cause
    assert "\n" not in cause


@pytest.mark.gen_test
async def test_a_host_name_that_is_none_is_one_sentence(log_lines: LogLines) -> None:
    async with running(f"redis://{'x' * 80}") as (source, _):
        await source.tried.wait()
    assert "\n" not in log_lines.take(DOWN)["cause"]


def test_an_error_without_a_text_is_named() -> None:
    assert source._explain(ConnectionError()) == "ConnectionError"

"""tornado_bridge.redis_client: against a real redis-server; what a source does with it stands in ingest/test_source."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    InvalidResponse,
    NoPermissionError,
    ResponseError,
)

from tests.support.servers import RedisServer, free_port
from tornado_bridge.errors import ConfigurationError
from tornado_bridge.redis_client import CONNECTION_ERRORS, RedisConnection, check_url, explain, has_password

# A password that a URL can only hold in its encoded form.
PASSWORD = "p@ss:w/o?r#d%20é [x]&=+"
ENCODED = "p%40ss%3Aw%2Fo%3Fr%23d%2520%C3%A9%20%5Bx%5D%26%3D%2B"

BAD_FORM = (
    "the Redis URL cannot be used: expected redis://USER:PASSWORD@HOST:PORT/DB, rediss:// or unix://PATH, "
    "with /, ?, #, @ and % of a password as %2F, %3F, %23, %40 and %25"
)
BAD_OPTIONS = (
    "the Redis URL cannot be used: expected after its ? only db, client_name, username, password and redis-py's ssl_ "
    "options, each with a valid value"
)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[RedisConnection]:
    connection = RedisConnection(url)
    await connection.connect()
    try:
        yield connection
    finally:
        await connection.disconnect()


async def replies(connection: RedisConnection, count: int) -> list[object]:
    """Read until at least `count` replies have come."""
    found: list[object] = []
    while len(found) < count:
        found += await connection.read_batch()
    return found


# Reading and sending


@pytest.mark.gen_test
async def test_a_command_is_sent_and_its_reply_read(redis_server: RedisServer) -> None:
    async with connected(redis_server.url) as connection:
        await connection.send("ECHO", "hello")
        assert await connection.read_batch() == [b"hello"]


@pytest.mark.gen_test
async def test_replies_that_came_together_are_read_together(redis_server: RedisServer) -> None:
    async with connected(redis_server.url) as connection:
        await connection.send("SUBSCRIBE", "alerts")
        await replies(connection, 1)
        with redis_server.client() as client, client.pipeline(transaction=True) as transaction:
            for number in range(100):
                transaction.publish("alerts", str(number))
            transaction.execute()
        assert await connection.read_batch() == [[b"message", b"alerts", b"%d" % number] for number in range(100)]


@pytest.mark.gen_test
async def test_an_error_reply_is_among_the_replies_and_is_not_raised(redis_server: RedisServer) -> None:
    async with connected(redis_server.url) as connection:
        await connection.send("ECHO")
        await connection.send("ECHO", "after")
        error, after = await replies(connection, 2)
        assert isinstance(error, ResponseError)
        assert after == b"after"


@pytest.mark.gen_test
async def test_bytes_that_came_and_were_not_read_are_waiting(redis_server: RedisServer) -> None:
    async with connected(redis_server.url) as connection:
        assert not connection.waiting
        await connection.send("ECHO", "hello")
        async with asyncio.timeout(5):
            while not connection.waiting:
                await asyncio.sleep(0)
        assert await connection.read_batch() == [b"hello"]
        assert not connection.waiting


@pytest.mark.gen_test
async def test_one_read_takes_more_than_redis_py_reads_by_default(redis_server: RedisServer) -> None:
    async with connected(redis_server.url) as connection:
        await connection.send("ECHO", "x" * 120_000)
        async with asyncio.timeout(5):
            while not connection.waiting or len(connection._parser._stream._buffer) < 120_000:
                await asyncio.sleep(0)
        assert await connection.read_batch() == [b"x" * 120_000]


# Losing it


@pytest.mark.gen_test
async def test_a_connection_that_redis_ends_raises_a_connection_error(redis_server: RedisServer) -> None:
    async with connected(redis_server.url) as connection:
        await connection.send("QUIT")
        with pytest.raises(CONNECTION_ERRORS):
            await replies(connection, 2)


@pytest.mark.gen_test
async def test_a_redis_that_is_away_raises_a_connection_error() -> None:
    with pytest.raises(CONNECTION_ERRORS):
        await RedisConnection(f"redis://127.0.0.1:{free_port()}").connect()


@pytest.mark.gen_test
async def test_a_lost_connection_may_be_opened_again(redis_server: RedisServer) -> None:
    async with connected(redis_server.url) as connection:
        await connection.disconnect()
        await connection.connect()
        await connection.send("ECHO", "again")
        assert await connection.read_batch() == [b"again"]


@pytest.mark.gen_test
async def test_a_connection_that_was_never_open_may_be_closed(redis_server: RedisServer) -> None:
    await RedisConnection(redis_server.url).disconnect()


# The password


def test_the_password_is_in_no_repr() -> None:
    in_url = RedisConnection(f"redis://bridge:{ENCODED}@127.0.0.1")
    beside = RedisConnection("redis://127.0.0.1", PASSWORD)
    for part in (in_url, in_url._connection, beside, beside._connection):
        for text in (repr(part), str(part)):
            assert not any(secret in text for secret in (PASSWORD, ENCODED, repr(PASSWORD)[1:-1]))


# The URL


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1",
        "redis://cache:6380/1",
        "redis://user:p%2Fw@[::1]:6379/0?client_name=bridge",
        "rediss://cache?ssl_ca_certs=/etc/ca.pem&db=2",
        "unix:///run/redis.sock",
        "unix:///run/redis.sock?db=1&username=u&password=p",
    ],
)
def test_a_url_of_a_redis_is_taken(url: str) -> None:
    check_url(url)


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
        "redis://",
        "redis://:canary@:6379",
        "redis://127.0.0.1:0",
        "redis://127.0.0.1/0#canary",
        "redis://canary host",
        "redis://canary\n",
        "redis://canary\x7f",
        "unix://",
        "",
    ],
)
def test_a_url_that_cannot_be_taken_apart_is_refused_without_a_word_of_it(url: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        check_url(url)
    assert str(refusal.value) == BAD_FORM


@pytest.mark.parametrize("option", ["decode_responses", "protocol", "parser_class", "socket_timeout", "retry", "bogus"])
def test_an_option_that_could_change_how_the_bridge_reads_is_refused_without_a_word_of_it(option: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        check_url(f"redis://:canary@127.0.0.1?{option}=3")
    assert str(refusal.value) == BAD_OPTIONS


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1?db=first",
        "redis://127.0.0.1?ssl_ca_certs=/tmp/ca.pem",
        "rediss://127.0.0.1?ssl_bogus=1",
        "rediss://127.0.0.1?ssl_cert_reqs=sometimes",
    ],
)
def test_an_option_with_an_invalid_value_is_refused_without_a_word_of_it(url: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        check_url(url)
    assert str(refusal.value) == BAD_OPTIONS


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://cache", False),
        ("redis://user@cache", False),
        ("redis://:p@cache", True),
        ("redis://:@cache", True),
        ("unix:///run/redis.sock?password=p", True),
        ("unix:///run/redis.sock?db=1", False),
    ],
)
def test_a_password_in_a_url_is_noticed(url: str, expected: bool) -> None:
    assert has_password(url) is expected


# Explaining


@pytest.mark.parametrize(
    ("error", "clause"),
    [
        (AuthenticationError("WRONGPASS secret"), "Redis asks for another user or password"),
        (AuthenticationWrongNumberOfArgsError("secret"), "Redis asks for another user or password"),
        (NoPermissionError("secret"), "the Redis user lacks the right to subscribe to these channels"),
        (InvalidResponse("secret"), "what answers there does not speak Redis' protocol"),
        (TimeoutError(), "Redis does not answer"),
        (ConnectionError("Error 111 connecting\nsecond line"), "Error 111 connecting"),
        (ConnectionError(), "ConnectionError"),
    ],
)
def test_an_error_is_explained_in_one_clause(error: Exception, clause: str) -> None:
    assert explain(error) == clause


TLS_CLAUSE = "the TLS handshake was not answered: does that port speak TLS?"


@pytest.mark.gen_test
async def test_a_redis_without_tls_that_is_asked_for_tls_lacks_it(redis_server: RedisServer) -> None:
    connection = RedisConnection(f"rediss://127.0.0.1:{redis_server.port}")
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.3):
            await connection.connect()
    assert explain(caught.value, lacks_tls=connection.lacks_tls) == TLS_CLAUSE
    await connection.disconnect()


@pytest.mark.gen_test
async def test_a_connection_without_tls_does_not_lack_it(redis_server: RedisServer) -> None:
    connection = RedisConnection(redis_server.url)
    assert not connection.lacks_tls
    await connection.connect()
    assert not connection.lacks_tls
    await connection.disconnect()


def test_another_error_than_a_time_out_has_its_own_clause_under_tls() -> None:
    assert explain(ConnectionError("certificate verify failed"), lacks_tls=True) == "certificate verify failed"

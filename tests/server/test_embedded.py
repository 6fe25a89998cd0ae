import asyncio
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
import redis
import redis.asyncio

from tornado_bridge.errors import ConfigurationError
from tornado_bridge.server import embedded
from tornado_bridge.server.embedded import EmbeddedRedis


@pytest.fixture
def server() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis() as running:
        yield running


def next_message(subscriber: redis.client.PubSub) -> dict[str, object]:
    message: dict[str, object] | None = subscriber.get_message(timeout=5)
    assert message is not None
    return message


def command(*words: str) -> bytes:
    """What a client sends: fakeredis knows no inline commands."""
    return f"*{len(words)}\r\n".encode() + b"".join(f"${len(word)}\r\n{word}\r\n".encode() for word in words)


def wait_for_the_end_of(threads: set[threading.Thread]) -> None:
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()


def waits_in(function: str, thread: threading.Thread) -> bool:
    """Tell whether a thread waits for a condition in a call of this function."""
    names = []
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    return names[:1] == ["wait"] and function in names


def test_the_url_names_the_port_it_got(server: EmbeddedRedis) -> None:
    assert server.port > 0
    assert server.url == f"redis://127.0.0.1:{server.port}/0"


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this machine")
def test_an_ipv6_host_is_bracketed_in_the_url_and_served() -> None:
    with EmbeddedRedis("::1") as server, redis.Redis.from_url(server.url) as client:
        assert server.url == f"redis://[::1]:{server.port}/0"
        assert client.ping()


def test_a_host_name_is_served() -> None:
    with EmbeddedRedis("localhost") as server, redis.Redis.from_url(server.url) as client:
        assert client.ping()


def test_a_subscriber_receives_what_another_client_publishes(server: EmbeddedRedis) -> None:
    with redis.Redis.from_url(server.url) as client, client.pubsub() as subscriber:
        subscriber.subscribe("channel:alerts:exchange:1")
        assert next_message(subscriber)["type"] == "subscribe"

        assert client.publish("channel:alerts:exchange:1", b'{"id":1}\r\n\xff') == 1

        message = next_message(subscriber)
        assert (message["type"], message["data"]) == ("message", b'{"id":1}\r\n\xff')


def test_a_pattern_subscriber_is_told_the_pattern_and_the_channel(server: EmbeddedRedis) -> None:
    with redis.Redis.from_url(server.url) as client, client.pubsub() as subscriber:
        subscriber.psubscribe("channel:exchange:1:candle:close:*:*")
        assert next_message(subscriber)["type"] == "psubscribe"

        client.publish("channel:exchange:1:candle:close:BTC-USD:1h", "x")

        assert next_message(subscriber) == {
            "type": "pmessage",
            "pattern": b"channel:exchange:1:candle:close:*:*",
            "channel": b"channel:exchange:1:candle:close:BTC-USD:1h",
            "data": b"x",
        }


def test_a_ping_on_a_subscriber_comes_back_as_a_message(server: EmbeddedRedis) -> None:
    with redis.Redis.from_url(server.url) as client, client.pubsub() as subscriber:
        subscriber.subscribe("a")
        assert next_message(subscriber)["type"] == "subscribe"

        subscriber.ping()

        assert next_message(subscriber)["type"] == "pong"


def test_an_asyncio_client_publishes_a_pipeline_and_subscribes(server: EmbeddedRedis) -> None:
    async def receive() -> list[tuple[str, object]]:
        async with redis.asyncio.Redis.from_url(server.url) as client, client.pubsub() as subscriber:
            await subscriber.psubscribe("candle:*")
            await subscriber.subscribe("alerts")
            async with client.pipeline(transaction=False) as pipeline:
                for number in range(3):
                    pipeline.publish(f"candle:{number}", f"c{number}")
                pipeline.publish("alerts", "a")
                assert await pipeline.execute() == [1, 1, 1, 1]
            await subscriber.ping()
            received: list[tuple[str, object]] = []
            async with asyncio.timeout(5):
                while len(received) < 7:
                    message = await subscriber.get_message(timeout=1)
                    assert message is not None
                    received.append((message["type"], message["data"]))
        return received

    assert asyncio.run(receive()) == [
        ("psubscribe", 1),
        ("subscribe", 2),
        ("pmessage", b"c0"),
        ("pmessage", b"c1"),
        ("pmessage", b"c2"),
        ("message", b"a"),
        ("pong", b""),
    ]


@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="no redis-cli on this machine")
def test_redis_cli_talks_to_it(server: EmbeddedRedis) -> None:
    with redis.Redis.from_url(server.url) as client, client.pubsub() as subscriber:
        subscriber.subscribe("a")
        assert next_message(subscriber)["type"] == "subscribe"

        said = subprocess.run(
            ["redis-cli", "-p", str(server.port), "PUBLISH", "a", "from the shell"],
            capture_output=True,
            timeout=10,
            check=True,
        )

        assert (said.stdout, said.stderr) == (b"1\n", b"")
        assert next_message(subscriber)["data"] == b"from the shell"


def test_two_servers_share_nothing(server: EmbeddedRedis) -> None:
    with (
        EmbeddedRedis() as other,
        redis.Redis.from_url(server.url) as one,
        redis.Redis.from_url(other.url) as two,
    ):
        one.set("key", "value")

        assert two.get("key") is None


def test_a_taken_port_is_refused_in_one_sentence(server: EmbeddedRedis) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        EmbeddedRedis(port=server.port).start()

    address = f"127.0.0.1:{server.port}"
    assert str(refusal.value) == f"embedded Redis cannot listen on {address}: Address already in use"


@pytest.mark.parametrize("port", [-1, 65_536])
def test_a_port_out_of_range_is_refused(port: int) -> None:
    with pytest.raises(ConfigurationError, match=f"cannot listen on 127.0.0.1:{port}: no such port"):
        EmbeddedRedis(port=port).start()


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="Cannot assign requested address"):
        EmbeddedRedis("192.0.2.1").start()


def test_starting_twice_serves_once(server: EmbeddedRedis) -> None:
    port = server.port

    server.start()

    assert server.port == port


def test_stopping_frees_the_port_though_a_client_is_connected(server: EmbeddedRedis) -> None:
    with redis.Redis.from_url(server.url) as client:
        client.ping()

        server.stop()

        with socket.create_server(("127.0.0.1", server.port)):
            pass


def test_stopping_cuts_the_clients(server: EmbeddedRedis) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
        client.sendall(command("PING"))
        assert client.recv(64) == b"+PONG\r\n"

        server.stop()

        assert client.recv(64) == b""


def test_stopping_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    server = EmbeddedRedis()
    server.start()
    with redis.Redis.from_url(server.url) as client, client.pubsub() as subscriber:
        subscriber.subscribe("a")
        client.ping()

        server.stop()

        assert set(threading.enumerate()) == before


def test_stopping_twice_or_before_a_start_does_nothing() -> None:
    server = EmbeddedRedis()
    server.stop()
    server.start()
    server.stop()
    server.stop()


def test_it_starts_again_on_the_same_port_and_empty() -> None:
    server = EmbeddedRedis()
    server.start()
    port = server.port
    with redis.Redis.from_url(server.url) as client:
        client.set("key", "value")
    server.stop()

    with server, redis.Redis.from_url(server.url) as client:
        assert server.port == port
        assert client.get("key") is None


def test_a_client_in_a_blocking_command_does_not_hold_the_stop(
    server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_JOIN_TIMEOUT", 0.05)
    before = set(threading.enumerate())
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
        client.sendall(command("BLPOP", "list", "2"))
        deadline = time.monotonic() + 5
        while not any(waits_in("blpop", thread) for thread in set(threading.enumerate()) - before):
            assert time.monotonic() < deadline

        server.stop()

        # Its thread is left behind, in the command still.
        left = set(threading.enumerate()) - before
        assert len(left) == 1
    wait_for_the_end_of(left)


def test_a_client_that_vanishes_in_the_middle_of_a_reply_is_no_news(
    server: EmbeddedRedis, capfd: pytest.CaptureFixture[str]
) -> None:
    before = set(threading.enumerate())
    client = socket.create_connection(("127.0.0.1", server.port), timeout=5)
    client.sendall(command("SUBSCRIBE", "a"))
    assert client.recv(64).startswith(b"*3\r\n")
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    gone = set(threading.enumerate()) - before
    with redis.Redis.from_url(server.url) as publisher:
        publisher.ping()
        client.close()
        publisher.publish("a", "x" * 1_000_000)
        publisher.publish("a", "x" * 1_000_000)
        wait_for_the_end_of(gone)
        assert publisher.ping()

    assert capfd.readouterr().err == ""


def test_a_subscriber_that_does_not_read_is_cut_without_a_word(
    server: EmbeddedRedis, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
        client.sendall(command("SUBSCRIBE", "a"))
        assert client.recv(64).startswith(b"*3\r\n")
        with redis.Redis.from_url(server.url) as publisher:
            deadline = time.monotonic() + 10
            while publisher.publish("a", "x" * 1_000_000):
                assert time.monotonic() < deadline

    assert capfd.readouterr().err == ""


def test_a_running_server_does_not_hold_the_process() -> None:
    code = (
        "import redis\n"
        "from tornado_bridge.server.embedded import EmbeddedRedis\n"
        "server = EmbeddedRedis()\n"
        "server.start()\n"
        "client = redis.Redis.from_url(server.url)\n"
        "print(client.ping())\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=20, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, b"True\n", b"")

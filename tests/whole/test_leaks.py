"""Nothing private leaves: thousands of events and client messages against a real server, which says all that it can.

TORNADO_BRIDGE_TEST_CASES is how many of each are made; `pytest -s` prints the figures.
"""

import contextlib
import dataclasses
import json
import os
import re
import signal
import statistics
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.support import oracle
from tests.support.messages import MAX_MESSAGE, Message, Messages
from tests.support.payloads import Event, Events, traces
from tests.support.servers import BridgeProcess, RedisServer, serving

CASES = int(os.environ.get("TORNADO_BRIDGE_TEST_CASES", "2000"))
SEED = 20_260_219
PATIENCE = 15.0  # seconds
MAX_SUBSCRIPTIONS = 20

# A turn of the run: so many events, or bytes of them, and then a good event that is waited for.
TURN_EVENTS, TURN_BYTES = 200, 2_000_000

SCHEMAS = Path(__file__).parents[2] / "schemas"


@dataclasses.dataclass
class Server:
    """A server of its own and, once it has ended, what it has written."""

    process: BridgeProcess
    url: str
    key: str
    arguments: str = ""
    status: int | None = None
    out: str = ""
    err: str = ""

    def stop(self) -> None:
        """Look at what the system shows of the process, and tell it to end."""
        assert self.process.process.poll() is None, "the process has ended by itself"
        self.arguments = Path(f"/proc/{self.process.process.pid}/cmdline").read_bytes().decode()
        self.process.process.send_signal(signal.SIGTERM)

    @property
    def visible(self) -> str:
        """Everything of the process that others than its clients may see."""
        return "\n".join((self.out, self.err, self.arguments))


@contextlib.contextmanager
def debugging(directory: Path, redis: RedisServer, *options: str) -> Iterator[Server]:
    """Run a server at the debug level, whose stderr is drained all the time."""
    with serving(directory, redis.url, "--log-level", "debug", *options) as (process, url, key):
        server = Server(process, url, key)
        stdout, stderr = process.process.stdout, process.process.stderr
        assert stdout is not None
        assert stderr is not None
        lines: list[bytes] = []
        drain = threading.Thread(target=lambda: lines.extend(stderr))
        drain.start()
        try:
            yield server
        finally:
            if not server.arguments:
                process.process.kill()  # the test has failed before its end
            server.status = process.process.wait(PATIENCE)
            drain.join(PATIENCE)
            server.out, server.err = stdout.read().decode(), b"".join(lines).decode()


def closed(client: ClientConnection) -> tuple[int, str]:
    """Wait for the close frame of the other end, and return its code and reason; 1006 where there is none."""
    with pytest.raises(ConnectionClosed) as caught:
        client.recv(timeout=PATIENCE)
    return told(caught.value)


def told(error: ConnectionClosed) -> tuple[int, str]:
    return (1006, "") if error.rcvd is None else (error.rcvd.code, error.rcvd.reason)


def lines_with(server: Server, *texts: str) -> list[str]:
    """Return the log lines, cut, in which one of the texts stands."""
    return [line[:300] for line in server.err.splitlines() if any(text in line for text in texts)]


def compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


# Events


@dataclasses.dataclass
class EventRun:
    """What one client received of all that was published, and what it should have received."""

    server: Server
    wanted: list[str] = dataclasses.field(default_factory=list)
    received: list[str] = dataclasses.field(default_factory=list)
    good_event_arrived: bool = False
    close: tuple[int, str] = (0, "")
    published: int = 0


@pytest.fixture(scope="module")
def event_run(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> EventRun:
    events = Events(SEED)
    turns = [*in_turns(events.take(CASES)), *([event] for event in events.huge())]
    with debugging(tmp_path_factory.mktemp("events"), redis_server) as server:
        run = EventRun(server)
        # The key in the query: where it would be logged most easily.
        with connect(f"{server.url}?apiKey={server.key}", proxy=None) as client:
            client.send('{"action":"subscribe","channels":["candles:*:*","signals:*:*"]}')
            assert client.recv(timeout=PATIENCE) == '{"type":"subscribed","channels":["candles:*:*","signals:*:*"]}'
            for number, turn in enumerate(turns):
                run.good_event_arrived = relay(turn, number, run, client, redis_server)
                if not run.good_event_arrived:
                    break
            server.stop()
            run.close = closed(client)
    print(
        f"\n{run.published} events of seed {SEED}: {len(run.wanted) - len(turns)} valid; {len(run.received)} frames, "
        f"{len(server.err.splitlines())} log lines"
    )
    return run


def in_turns(events: Sequence[Event]) -> Iterator[list[Event]]:
    turn: list[Event] = []
    size = 0
    for event in events:
        if turn and (len(turn) == TURN_EVENTS or size + len(event.payload) > TURN_BYTES):
            yield turn
            turn, size = [], 0
        turn.append(event)
        size += len(event.payload)
    yield turn


def relay(turn: Sequence[Event], number: int, run: EventRun, client: ClientConnection, redis: RedisServer) -> bool:
    """Publish a turn and a good event; tells whether that one has come, after everything else."""
    good = Event(
        f"channel:exchange:1:candle:close:GOOD-{number}:1h",
        b'{"timestamp":1708264800000,"open":1,"high":2,"low":0.50,"close":1.5,"volume":3,"macdV":77.5}',
    )
    envelopes = [oracle.expected(*event) for event in (*turn, good)]
    run.wanted += [compact(envelope) for envelope in envelopes if envelope is not None]
    run.published += len(turn)
    redis.publish(*turn, good)
    try:
        while True:
            frame = client.recv(timeout=PATIENCE)
            run.received.append(frame if isinstance(frame, str) else repr(frame))
            if frame == run.wanted[-1]:
                return True
    except (TimeoutError, ConnectionClosed):
        return False


def test_every_valid_event_arrives_exactly_and_in_order_and_no_other(event_run: EventRun) -> None:
    differences = [pair for pair in zip(event_run.wanted, event_run.received, strict=False) if pair[0] != pair[1]]

    assert differences[:1] == []
    assert len(event_run.received) == len(event_run.wanted)


def test_no_frame_holds_a_canary_or_a_private_name(event_run: EventRun) -> None:
    assert event_run.received
    assert traces("\n".join(event_run.received)) == []


def test_no_frame_holds_the_key(event_run: EventRun) -> None:
    assert event_run.server.key not in "\n".join(event_run.received)


def test_the_close_reason_says_nothing_but_that_the_server_stops(event_run: EventRun) -> None:
    assert event_run.close == (1001, "Server shutting down")


def test_nothing_of_an_event_is_seen_in_output_log_or_process_list(event_run: EventRun) -> None:
    assert "event dropped" in event_run.server.err
    assert traces(event_run.server.visible) == []


def test_the_key_of_a_client_is_not_seen_in_output_log_or_process_list(event_run: EventRun) -> None:
    assert "/public/v1/stream" in event_run.server.err
    assert event_run.server.key not in event_run.server.visible


def test_no_event_costs_a_traceback_or_makes_a_plugin_fail(event_run: EventRun) -> None:
    assert lines_with(event_run.server, "Traceback", "plugin failed", "plugin quarantined", "envelope refused") == []


def test_the_server_still_relays_a_good_event_after_all_of_them_and_ends_in_order(event_run: EventRun) -> None:
    assert event_run.published == CASES + 5
    assert event_run.good_event_arrived
    assert event_run.server.status == 0


# Client messages


@dataclasses.dataclass
class Exchange:
    """One message, how it was answered, and how it should have been; a close counts as an answer."""

    message: Message
    wanted: list[Any]
    replies: list[str] = dataclasses.field(default_factory=list)
    close: tuple[int, str] | None = None
    seconds: float = 0.0

    @property
    def text(self) -> str:
        """The message, whatever it was sent as."""
        return self.message.decode(errors="replace") if isinstance(self.message, bytes) else "".join(self.message)

    @property
    def answered(self) -> list[Any]:
        """The answer in the form of `wanted`: an error's code, a confirmation with its channels, a close."""
        answers: list[Any] = []
        for reply in map(json.loads, self.replies):
            answers.append(reply["code"] if reply["type"] == "error" else (reply["type"], reply["channels"]))
        return [*answers, *([] if self.close is None else [self.close])]


@dataclasses.dataclass
class MessageRun:
    server: Server
    exchanges: list[Exchange] = dataclasses.field(default_factory=list)
    close: tuple[int, str] = (0, "")
    over: bool = False

    @property
    def replies(self) -> list[Any]:
        return [json.loads(reply) for exchange in self.exchanges for reply in exchange.replies]

    @property
    def median(self) -> float:
        """The median time from a message to the last byte of its answer, in milliseconds."""
        return 1000 * statistics.median(exchange.seconds for exchange in self.exchanges)


@pytest.fixture(scope="module")
def message_run(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> MessageRun:
    limits = ("--rate-limit", "1e9", "--rate-burst", "1000000000", "--max-subscriptions", str(MAX_SUBSCRIPTIONS))
    with debugging(tmp_path_factory.mktemp("messages"), redis_server, *limits) as server:
        run = MessageRun(server)
        messages = iter(Messages(SEED, secret=server.key).take(CASES))
        while not run.over:
            with connect(server.url, additional_headers={"X-API-Key": server.key}, proxy=None) as client:
                talk(client, messages, run)
                if run.over:
                    server.stop()
                    run.close = closed(client)
    print(f"\n{len(run.exchanges)} messages of seed {SEED}: {len(run.replies)} replies, median {run.median:.3f} ms")
    return run


def talk(client: ClientConnection, messages: Iterator[Message], run: MessageRun) -> None:
    """Send messages until one of them closes the connection or is answered wrongly, or there are no more."""
    held: set[str] = set()
    for message in messages:
        exchange = Exchange(message, expected_answer(message, held))
        run.exchanges.append(exchange)
        converse(client, exchange)
        if exchange.close is not None:
            return
        if exchange.answered != exchange.wanted:
            break
    run.over = True


def converse(client: ClientConnection, exchange: Exchange) -> None:
    """Send a message and take as many answers as there should be; one too many is found by the next message."""
    started = time.perf_counter()
    try:
        client.send(exchange.message)
        for _ in exchange.wanted:
            reply = client.recv(timeout=PATIENCE)
            assert isinstance(reply, str)
            exchange.replies.append(reply)
    except ConnectionClosed as error:
        exchange.close = told(error)
    except TimeoutError:
        pass
    exchange.seconds = time.perf_counter() - started


def expected_answer(message: Message, held: set[str]) -> list[Any]:
    """State docs/protocol.md section 2 once more, without a line of the package; `held` follows the subscriptions."""
    data = message if isinstance(message, bytes) else "".join(message).encode()
    if len(data) > MAX_MESSAGE:
        return [(1009, "Message too big")]
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return [(1007, "Invalid UTF-8")]
    try:
        value = strictly_read(text)
    except (ValueError, RecursionError):
        return ["PARSE_ERROR"]
    members = dict(value.pairs) if isinstance(value, Members) else {}
    action, channels = members.get("action"), members.get("channels")
    if action not in ("subscribe", "unsubscribe") or not isinstance(channels, list) or not 1 <= len(channels) <= 20:
        return ["INVALID_MESSAGE"]
    if not all(isinstance(channel, str) and len(channel) <= 128 for channel in channels):
        return ["INVALID_MESSAGE"]
    named = list(dict.fromkeys(channels))
    if action == "unsubscribe":
        held.difference_update(named)
        return [("unsubscribed", named)]
    answers: list[Any] = []
    granted: list[str] = []
    for channel in named:
        if not CHANNEL.fullmatch(channel):
            answers.append("INVALID_CHANNEL")
        elif channel not in held and len(held) == MAX_SUBSCRIPTIONS:
            answers.append("LIMIT_EXCEEDED")
        else:
            held.add(channel)
            granted.append(channel)
    return [*answers, ("subscribed", granted)]


PAIR = "[A-Za-z0-9]{1,20}-[A-Za-z0-9]{1,20}"
CHANNEL = re.compile(rf"(?:candles|signals):(?:\*|{PAIR}):(?:\*|1m|5m|15m|1h|4h|1d)")


@dataclasses.dataclass
class Members:
    """A JSON object with all its members, also those whose name comes again."""

    pairs: list[tuple[str, Any]]


def strictly_read(text: str) -> Any:
    value = json.loads(text, parse_constant=_refuse, parse_float=_finite, object_pairs_hook=Members)
    level: list[Any] = [value]
    depth = 0
    while level:
        inner: list[Any] = []
        for part in level:
            if isinstance(part, str):
                part.encode()  # a lone surrogate is a UnicodeEncodeError, which is a ValueError
            elif isinstance(part, Members):
                inner += [half for pair in part.pairs for half in pair] or [None]
            elif isinstance(part, list):
                inner += part or [None]
        level, depth = inner, depth + bool(inner)
        if depth > 32:
            raise ValueError("nested over 32 deep")
    return value


def _refuse(constant: str) -> float:
    raise ValueError(constant)


def _finite(literal: str) -> float:
    number = float(literal)
    if number in (float("inf"), -float("inf")):
        raise ValueError("cannot be represented")
    return number


def test_every_message_is_answered_with_the_documented_code(message_run: MessageRun) -> None:
    wrong = [exchange for exchange in message_run.exchanges if exchange.answered != exchange.wanted]

    assert [(exchange.text[:500], exchange.answered, exchange.wanted) for exchange in wrong] == []
    assert len(message_run.exchanges) == CASES


def test_the_messages_have_met_every_answer_but_that_to_too_many_of_them(message_run: MessageRun) -> None:
    met = {
        answer if isinstance(answer, str) else answer[0] for found in message_run.exchanges for answer in found.answered
    }

    codes = {"PARSE_ERROR", "INVALID_MESSAGE", "INVALID_CHANNEL", "LIMIT_EXCEEDED"}
    assert met == {*codes, "subscribed", "unsubscribed", 1007, 1009}


def test_every_reply_is_valid_under_its_schema(message_run: MessageRun) -> None:
    validators = {
        name: jsonschema_rs.Draft202012Validator(json.loads((SCHEMAS / f"{name}.json").read_text()))
        for name in ("error", "subscribed", "unsubscribed")
    }

    assert [reply for reply in message_run.replies if not validators[reply["type"]].is_valid(reply)] == []


def test_every_reply_is_written_compactly_and_unescaped(message_run: MessageRun) -> None:
    replies = [reply for exchange in message_run.exchanges for reply in exchange.replies]

    assert [reply for reply in replies if reply != compact(json.loads(reply))] == []


def test_no_error_repeats_more_than_64_characters_or_one_that_cannot_be_printed(message_run: MessageRun) -> None:
    texts = [reply["message"] for reply in message_run.replies if reply["type"] == "error"]
    excerpts = [re.split(r", got |: ", text)[-1] if text[-1] != '"' else text.partition(", got ")[2] for text in texts]

    assert [text for text in texts if not text.isprintable()] == []
    # An escape stands for one character and is at most ten.
    assert [text for text in excerpts if len(text) > (640 if "\\" in text else 64)] == []


def test_no_reply_tells_a_client_the_key_that_it_has_not_sent_itself(message_run: MessageRun) -> None:
    key = message_run.server.key
    repeated = [exchange for exchange in message_run.exchanges if key in "".join(exchange.replies)]

    assert [exchange for exchange in repeated if key not in exchange.text] == []


def test_nothing_of_a_message_is_seen_in_output_log_or_process_list(message_run: MessageRun) -> None:
    assert traces(message_run.server.visible) == []


def test_a_key_that_a_client_sends_by_mistake_is_not_seen_in_output_log_or_process_list(
    message_run: MessageRun,
) -> None:
    assert any(message_run.server.key in exchange.text for exchange in message_run.exchanges)
    assert message_run.server.key not in message_run.server.visible


def test_no_message_costs_a_traceback_or_a_fault(message_run: MessageRun) -> None:
    assert lines_with(message_run.server, "Traceback", "client message failed") == []


def test_the_server_has_kept_the_client_to_the_end_and_ends_in_order(message_run: MessageRun) -> None:
    assert message_run.close == (1001, "Server shutting down")
    assert message_run.server.status == 0


def test_a_message_is_answered_in_no_time(message_run: MessageRun) -> None:
    # The contract says 2 ms; ten times that is left for a machine with other work.
    assert message_run.median <= 20, f"the median of {len(message_run.exchanges)} is {message_run.median:.3f} ms"


# Keys that open nothing


def test_a_key_that_is_refused_is_not_seen_anywhere(redis_server: RedisServer, tmp_path: Path) -> None:
    secret = "canary_of_a_key_that_is_no_key"
    with debugging(tmp_path, redis_server, "--allow-origin", "https://a.example") as server:
        http = server.url.replace("ws://", "http://")
        for query, headers in (
            ("", {"X-API-Key": secret}),
            ("", {"Authorization": f"Bearer {secret}"}),
            (f"?apiKey={secret}", {}),
            (f"?apiKey={secret}&apiKey={server.key}", {}),
        ):
            with connect(server.url + query, additional_headers=headers, proxy=None) as client:
                assert closed(client) == (4001, "Invalid API key")
        for url, headers, status in (
            (f"{http}?apiKey={secret}", {}, 426),
            (f"{http}?apiKey={secret}", {"Upgrade": "websocket", "Origin": "https://b.example"}, 403),
            (f"{http}/{secret[:6]}?apiKey={secret}", {"X-API-Key": secret}, 404),
            (f"{http}?apiKey=%ff{secret}", {"Upgrade": "websocket", "Authorization": f"bearer {secret}"}, 400),
        ):
            request = urllib.request.Request(url, headers=headers)
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(request, timeout=PATIENCE)
            with caught.value as answer:
                assert answer.code == status
                assert secret not in answer.read().decode() + str(answer.headers)
        server.stop()
    assert server.err.count("request ") >= 4
    assert secret not in server.visible
    assert server.key not in server.visible

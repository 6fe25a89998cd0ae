"""The fuzz targets. Each takes any bytes, and raises AssertionError where the bridge breaks its contract on them.

`python -m tests.fuzz TARGET` runs one for as long as asked. The tests run each of them for a short time.
"""

import functools
import itertools
import json
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema_rs

from tests.support import oracle
from tests.support.payloads import traces
from tests.support.pipeline import text_of
from tests.support.raw import BINARY, CLOSE, TEXT, frame
from tests.support.subscriber import Subscriber
from tests.whole.test_leaks import MAX_SUBSCRIPTIONS, expected_answer
from tornado_bridge.connections.admission import Allowance
from tornado_bridge.connections.connection import MAX_MESSAGE
from tornado_bridge.connections.dialogue import Answer, Dialogue
from tornado_bridge.ingest.relay import Outcome, Relay
from tornado_bridge.keys import Key
from tornado_bridge.logs import ThrottledLog
from tornado_bridge.registry import Registry
from tornado_bridge.stream.cohort import NO_SUBSCRIPTIONS, Subscriptions
from tornado_bridge.stream.hub import Hub
from tornado_bridge.wire import deflate
from tornado_bridge.wire.frames import Opcode, ProtocolError
from tornado_bridge.wire.reader import FrameReader, Received

CORPUS = Path(__file__).parent / "corpus"
SCHEMAS = Path(__file__).parents[2] / "schemas"

CANDLE_SOURCE = b"channel:exchange:1:candle:close:BTC-USD:1h"
ALERT_SOURCE = b"channel:alerts:exchange:1"

# Small, so that a short stream of frames can reach it.
MAX_FRAMES_MESSAGE = 1_024

# Python's own json, which the oracle reads with, gives up at a depth that depends on the stack of the caller.
MAX_COMPARED_BRACKETS = 500

# Two subscriptions short of the limit.
HELD: Subscriptions = frozenset(f"candles:H{number}-USD:1h" for number in range(MAX_SUBSCRIPTIONS - 2))

# Of docs/protocol.md section 2: at most so much of a client's text is repeated, in characters.
MAX_REPEATED = 64


def corpus(target: str) -> list[Path]:
    """Return the files of a target's corpus, sorted by name."""
    return sorted((CORPUS / target).iterdir())


@functools.cache
def _schema(name: str) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(json.loads((SCHEMAS / f"{name}.json").read_bytes()))


@functools.cache
def _registry() -> Registry:
    return Registry(["candle", "signals"])


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


# Client messages


@functools.cache
def dialogue() -> Dialogue:
    return Dialogue(_registry().grammar, max_subscriptions=MAX_SUBSCRIPTIONS, clock=lambda: 0.0)


def allowance(messages: int, *channels: str) -> Allowance:
    key = Key(1, "fuzz", "0" * 64, datetime(2026, 1, 1, tzinfo=UTC), channels=channels)
    return Allowance(key, places=1, rate=1.0, burst=messages, now=0.0)


def client_message(data: bytes) -> None:
    """Answer one client message. The answer must be the one of docs/protocol.md section 2."""
    if len(data) > MAX_MESSAGE:
        return
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return  # the reader refuses it: see client_frames
    held = set(HELD)
    wanted = expected_answer(data, held)
    answer = dialogue().answer(text, allowance(1), HELD)
    replies = [_reply(frame, text) for frame in answer.replies]
    assert [_essence(reply) for reply in replies] == wanted
    assert answer.subscriptions == held
    assert dialogue().answer(text, allowance(1), answer.subscriptions).subscriptions == held
    _refused_past_the_rate(text)
    _permits_what_the_key_may_have(text)


def _reply(sent: bytes, text: str) -> dict[str, Any]:
    """Return the message in a frame to a client, after a check of its form."""
    written = text_of(sent)
    reply: dict[str, Any] = json.loads(written)
    _schema(reply["type"]).validate(reply)
    assert written == _compact(reply)
    if reply["type"] == "error":
        assert reply["message"].isprintable()
        message, sent_text = _unescaped(reply["message"]), _unescaped(text)
        starts = range(len(message) - MAX_REPEATED)
        assert not any(message[start : start + MAX_REPEATED + 1] in sent_text for start in starts)
    return reply


_unescape = re.compile(
    r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U(000[0-9a-f]{5}|0010[0-9a-f]{4})|[nrt])", re.IGNORECASE
).sub


def _unescaped(text: str) -> str:
    """Return a text in which each escape of JSON or of Python counts as the one character that it stands for."""
    return _unescape(lambda found: chr(int(found[1] or found[2] or found[3] or "20", 16)), text)


def _essence(reply: dict[str, Any]) -> Any:
    return reply["code"] if reply["type"] == "error" else (reply["type"], reply["channels"])


def _answered(text: str, allowance: Allowance, subscriptions: Subscriptions) -> tuple[list[Any], Answer]:
    answer = dialogue().answer(text, allowance, subscriptions)
    return [_essence(_reply(sent, text)) for sent in answer.replies], answer


def _refused_past_the_rate(text: str) -> None:
    essence, answer = _answered(text, allowance(0), HELD)
    assert essence == ["RATE_LIMITED"]
    assert answer.subscriptions == HELD


def _permits_what_the_key_may_have(text: str) -> None:
    """A key for candles:BTC-USD:* gets those of the channels that any key would get, and no others."""
    free, _ = _answered(text, allowance(1), NO_SUBSCRIPTIONS)
    bound, answer = _answered(text, allowance(1, "candles:BTC-USD:*"), NO_SUBSCRIPTIONS)
    assert all(channel.startswith("candles:BTC-USD:") for channel in answer.subscriptions)
    if free[-1][0] == "subscribed":
        assert bound[-1] == ("subscribed", [name for name in free[-1][1] if name.startswith("candles:BTC-USD:")])
    else:
        assert bound == free


# Event payloads

_PATH = ": $."
_READ = {
    name
    for plugin in Registry().plugins
    for event_type in plugin.event_types
    for name in event_type.reads.__struct_encode_fields__
}


def _sentences(causes: Iterable[str]) -> set[str]:
    """Return log lines without the paths of members."""
    return {cause.partition(_PATH)[0] for cause in causes}


class _Recorder:
    """Takes log lines in place of structlog: their fields, without the names of plugins and event types."""

    def __init__(self) -> None:
        self.causes: list[str] = []

    def warning(self, event: str, *, cause: str, **_: object) -> None:
        self.causes.append(f"{event}: {cause}")

    error = warning


def event_payload(data: bytes) -> None:
    """Relay one event with the built-in plugins. What leaves must be the envelope of docs/protocol.md section 5.

    `data` is a source channel and, after a line break, a payload. Without a source channel it is the payload of a
    candle and of an alert.
    """
    known = known_causes()
    for source, payload in _events(data):
        for cause in _relayed(source, payload):
            # The path of a member is one of those that the plugins read, so the corpus need not have each of them.
            sentence, _, member = cause.partition(_PATH)
            assert cause in known or (member in _READ and sentence in _sentences(known)), (
                f"no file of the corpus leads to this log line: {cause}"
            )


@functools.cache
def known_causes() -> frozenset[str]:
    """Return the causes that the corpus leads to. Its payloads are marked, so that a cause that quotes one shows."""
    events = (event for path in corpus("event_payload") for event in _events(path.read_bytes()))
    causes = frozenset(cause for event in events for cause in _relayed(*event))
    assert traces("\n".join(causes)) == []
    return causes


def _events(data: bytes) -> list[tuple[bytes, bytes]]:
    source, line_break, payload = data.partition(b"\n")
    if source.startswith(b"channel:") and line_break:
        return [(source, payload)]
    return [(CANDLE_SOURCE, data), (ALERT_SOURCE, data)]


def _relayed(source: bytes, payload: bytes) -> list[str]:
    """Relay an event, check what leaves, and return what is logged."""
    recorder = _Recorder()
    hub = Hub(_registry().grammar)
    witness = Subscriber()
    hub.assign(witness, frozenset({"candles:*:*", "signals:*:*"}))
    relay = Relay(_registry().routes("1"), hub, exchange="coinbase", log=ThrottledLog(recorder), clock=lambda: 0.0)
    relay.relay([(source, payload)])
    hub.flush()
    counted_ones = [outcome for outcome in Outcome if outcome is not Outcome.UNROUTED]
    outcomes = {outcome: sum(tally.of(outcome) for tally in relay.tallies.values()) for outcome in counted_ones}
    counted = {outcome for outcome, count in outcomes.items() if count}
    assert counted <= {Outcome.RELAYED, Outcome.INVALID}
    assert sum(outcomes.values()) + relay.unrouted == 1
    assert len(recorder.causes) == (Outcome.RELAYED not in counted)
    sent = [text_of(witness.received)] if witness.received else []
    assert len(sent) == outcomes[Outcome.RELAYED]
    for text in sent:
        envelope = json.loads(text)
        _schema(envelope["type"]).validate(envelope)
    if payload.count(b"[") + payload.count(b"{") <= MAX_COMPARED_BRACKETS:
        wanted = oracle.expected(source.decode(errors="replace"), payload)
        assert sent == ([] if wanted is None else [_compact(wanted)])
    return recorder.causes


# Frames

Pieces = Iterable[bytes]
Reading = tuple[list[Received], tuple[int, str] | None]

REASONS = frozenset(
    {
        (1002, "Control frame fragmented or too long"),
        (1002, "Close code cut short"),
        (1002, "Frame length out of range"),
        (1002, "Frame not masked"),
        (1002, "Invalid close code"),
        (1002, "Invalid compressed data"),
        (1002, "Message inside a message"),
        (1002, "Nothing to continue"),
        (1002, "Reserved bits set"),
        (1002, "Unknown opcode"),
        (1007, "Invalid UTF-8"),
        (1009, "Message too big"),
    }
)


def client_frames(data: bytes) -> None:
    """Read the frames of a client. The first byte says by its lowest bit whether messages may be compressed.

    The reader must give the same messages and the same error however the stream is cut into pieces.
    """
    compressed, stream = stream_of(data)
    found, refusal = whole = read([stream], compressed=compressed)
    assert refusal is None or refusal in REASONS
    for received in found:
        _check_received(received)
    assert read((stream[i : i + 1] for i in range(len(stream))), compressed=compressed) == whole
    bounds = [0, *itertools.accumulate(byte + 1 for byte in data[:16])]
    pieces = [stream[start:end] for start, end in itertools.pairwise([*bounds, len(stream)]) if start < len(stream)]
    assert read(pieces, compressed=compressed) == whole
    assert read([b"".join(map(_written, found))], compressed=False) == (found, None)


def stream_of(data: bytes) -> tuple[bool, bytes]:
    """Return whether messages may be compressed, and the bytes that a client sends."""
    return bool(data and data[0] & 1), data[1:]


def read(pieces: Pieces, *, compressed: bool) -> Reading:
    """Return what a reader yields for a stream in pieces, and the code and reason of the error that ended it."""
    reader = FrameReader(MAX_FRAMES_MESSAGE, deflate.inflate if compressed else None)
    found: list[Received] = []
    try:
        for piece in pieces:
            for received in reader.feed(piece):
                found.append(received)
    except ProtocolError as error:
        return found, (int(error.code), error.reason)
    return found, None


def _check_received(received: Received) -> None:
    match received.opcode:
        case Opcode.TEXT:
            assert len(received.text.encode()) <= MAX_FRAMES_MESSAGE
            assert (received.payload, received.code) == (b"", None)
        case Opcode.BINARY:
            assert len(received.payload) <= MAX_FRAMES_MESSAGE
            assert (received.text, received.code) == ("", None)
        case Opcode.PING | Opcode.PONG:
            assert len(received.payload) <= 125
            assert (received.text, received.code) == ("", None)
        case Opcode.CLOSE:
            assert len(received.text.encode()) <= 123
            assert received.code is not None or received.text == ""
        case _:
            raise AssertionError(f"the reader yields a frame of opcode {received.opcode}")


def _written(received: Received) -> bytes:
    """Return the single frame that a client would write for what was read."""
    if received.opcode is Opcode.TEXT:
        return frame(TEXT, received.text.encode())
    if received.opcode is Opcode.CLOSE:
        code = b"" if received.code is None else received.code.to_bytes(2)
        return frame(CLOSE, code + received.text.encode())
    return frame(BINARY if received.opcode is Opcode.BINARY else int(received.opcode), received.payload)


Target = Callable[[bytes], None]
TARGETS: dict[str, Target] = {target.__name__: target for target in (client_message, event_payload, client_frames)}

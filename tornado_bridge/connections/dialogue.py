"""The dialogue with a client, without a socket: text in, replies and subscriptions out (docs/protocol.md section 2)."""

import dataclasses
import enum
import json
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from tornado_bridge.channels import Grammar, contains
from tornado_bridge.connections import strict_json
from tornado_bridge.connections.admission import Allowance
from tornado_bridge.excerpts import MAX_EXCERPT, excerpt
from tornado_bridge.redaction.validation import Validator, load_schema
from tornado_bridge.stream.cohort import Subscriptions
from tornado_bridge.wire import frames

_encode = msgspec.json.Encoder().encode


class ErrorCode(enum.StrEnum):
    """Why the bridge refused a message, or one channel of it."""

    PARSE_ERROR = "PARSE_ERROR"
    INVALID_MESSAGE = "INVALID_MESSAGE"
    INVALID_CHANNEL = "INVALID_CHANNEL"
    LIMIT_EXCEEDED = "LIMIT_EXCEEDED"
    RATE_LIMITED = "RATE_LIMITED"


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """The frames that answer one client message, and the client's subscriptions after it."""

    replies: tuple[bytes, ...]
    subscriptions: Subscriptions


class Dialogue:
    """Answers client messages. All connections of a bridge share one dialogue."""

    def __init__(self, grammar: Grammar, *, max_subscriptions: int, clock: Callable[[], float]) -> None:
        self._grammar = grammar
        self._max_subscriptions = max_subscriptions
        self._clock = clock
        self._message = Validator(load_schema("client_message"))

    def answer(self, text: str, allowance: Allowance, subscriptions: Subscriptions) -> Answer:
        """Return the answer to one message of a client that has this allowance and these subscriptions."""
        if not allowance.take_message(self._clock()):
            return _refusal(ErrorCode.RATE_LIMITED, "Too many messages", subscriptions)
        try:
            message = strict_json.parse(text)
        except ValueError:
            return _refusal(ErrorCode.PARSE_ERROR, "Invalid JSON", subscriptions)
        if not self._message.admits(message):
            return _refusal(ErrorCode.INVALID_MESSAGE, _explain(self._message, message), subscriptions)
        channels = tuple(dict.fromkeys(message["channels"]))
        if message["action"] == "unsubscribe":
            return Answer((unsubscribed(channels),), subscriptions.difference(channels))
        return self._subscribe(channels, allowance.key.channels, subscriptions)

    def _subscribe(self, channels: tuple[str, ...], permitted: tuple[str, ...], subscriptions: Subscriptions) -> Answer:
        replies: list[bytes] = []
        granted: list[str] = []
        held = set(subscriptions)
        for channel in channels:
            if not self._grammar.admits(channel):
                replies.append(_error(ErrorCode.INVALID_CHANNEL, f"Unknown channel: {excerpt(channel)}"))
            elif not is_granted(permitted, channel):
                replies.append(_error(ErrorCode.INVALID_CHANNEL, f"Not permitted: {channel}"))
            elif channel not in held and len(held) >= self._max_subscriptions:
                limit = f"At most {self._max_subscriptions} subscriptions a connection: {channel}"
                replies.append(_error(ErrorCode.LIMIT_EXCEEDED, limit))
            else:
                held.add(channel)
                granted.append(channel)
        replies.append(_reply(type="subscribed", channels=granted))
        return Answer(tuple(replies), frozenset(held))


def is_granted(permitted: Sequence[str], channel: str) -> bool:
    """Tell whether a key with these channel patterns may subscribe to a channel. Without patterns it may have all."""
    return not permitted or any(contains(pattern, channel) for pattern in permitted)


def unsubscribed(channels: Sequence[str]) -> bytes:
    """Return the frame that says which subscriptions have ended."""
    return _reply(type="unsubscribed", channels=channels)


def _refusal(code: ErrorCode, message: str, subscriptions: Subscriptions) -> Answer:
    return Answer((_error(code, message),), subscriptions)


def _error(code: ErrorCode, message: str) -> bytes:
    return _reply(type="error", code=code.value, message=message)


def _reply(**members: Any) -> bytes:
    return frames.text(_encode(members))


def _explain(validator: Validator, message: Any) -> str:
    """Say in one clause where a message is wrong, what was expected and what came."""
    error = validator.first_error(_cut(message))
    if error is None:
        return "Invalid message"
    where = error.json_path.removeprefix("$").removeprefix(".") or "message"
    rule: Any = error.validator_value
    match error.validator:
        case "type":
            expected = f"{'an' if rule[0] in 'aeiou' else 'a'} {rule}"
        case "enum":
            expected = " or ".join(rule)
        case "required":
            expected = f"the members {' and '.join(rule)}"
        case "minItems" | "maxItems":
            expected = f"{'at least' if error.validator == 'minItems' else 'at most'} {rule} channel{'s' * (rule != 1)}"
        case _:
            expected = f"at most {rule} characters"
    return f"{where}: expected {expected}, got {excerpt_json(error.instance)}"


def _cut(message: Any) -> Any:
    """Return a message whose lists are as long as an excerpt can show. An explanation takes 20 µs per item."""
    if not isinstance(message, dict):
        return message
    return {name: value[:MAX_EXCERPT] if isinstance(value, list) else value for name, value in message.items()}


def excerpt_json(value: Any) -> str:
    """Return a client's value as JSON text, cut and escaped."""
    return excerpt(json.dumps(value, ensure_ascii=False, separators=(",", ":")))

"""The AsyncAPI 3.1 document of a bridge's public side.

All of it comes from the installed event types, the schema files and the enums of codes; of an event type nothing but
its name, its channel and its schema is looked at.

Payload schemas stand under AsyncAPI's default dialect, a superset of draft 07, which every tool must support. What
`lint` admits, and what the schema files use, means the same there as under draft 2020-12, which their `$schema` names.
"""

import functools
import re
import urllib.parse
from typing import Any

import msgspec
import yaml

import tornado_bridge
from tornado_bridge.channels import WILDCARD, Rule
from tornado_bridge.connections.dialogue import ErrorCode
from tornado_bridge.events import EventType
from tornado_bridge.redaction.validation import Validator, load_schema
from tornado_bridge.registry import Registry
from tornado_bridge.wire.frames import CloseCode

VERSION = "3.1.0"

# Where `tornado-bridge serve` listens unless it is told else.
DEFAULT_URL = "ws://127.0.0.1:8765/public/v1/stream"

# The key's places, in the order in which they are looked at (docs/protocol.md section 1).
SECURITY_SCHEMES = {
    "header": {"type": "httpApiKey", "in": "header", "name": "X-API-Key"},
    "bearer": {"type": "http", "scheme": "bearer"},
    "query": {"type": "httpApiKey", "in": "query", "name": "apiKey", "description": "Browsers cannot set headers."},
}

# No identifier of an event type's can be one of these: they carry an affix.
DIALOGUE = "dialogue"
REPLIES = {"subscribe": "subscribed", "unsubscribe": "unsubscribed"}

_OPERATIONS = {
    "subscribe": "Answered by an `error` for each channel that is not granted, then by one `subscribed`; or by an "
    "`error` alone where the message is not acted on.",
    "unsubscribe": "Answered by one `unsubscribed`, or by an `error` where the message is not acted on.",
}

_ABOUT = (
    "Events for subscribers, over one WebSocket a client. A client subscribes to channel addresses, of which every "
    f"parameter may be `{WILDCARD}`. It gets each event that its subscriptions match once, with the concrete channel "
    "in it. A message that is not acted on is answered with one of the `x-error-codes`, and the connection stays "
    "open; a connection that the server closes gets one of the `x-close-codes`."
)

Object = dict[str, Any]


def document(registry: Registry, *, url: str = DEFAULT_URL) -> Object:
    """Return the AsyncAPI document of the registry's event types, for clients of the stream at `url`."""
    event_types = [event_type for plugin in registry.plugins for event_type in plugin.event_types]
    return {
        "asyncapi": VERSION,
        "info": {"title": "tornado_bridge", "version": tornado_bridge.__version__, "description": _ABOUT},
        "defaultContentType": "application/json",
        "servers": {"bridge": _server(url)},
        "channels": {DIALOGUE: _dialogue(), **{_channel_name(one): _channel(one) for one in event_types}},
        "operations": {
            **{action: _receiving(action) for action in REPLIES},
            **{f"send_{one.name}": _sending(one) for one in event_types},
        },
        "components": {
            "schemas": {"client_message": load_schema("client_message")},
            "securitySchemes": SECURITY_SCHEMES,
        },
        "x-error-codes": [code.value for code in ErrorCode],
        # The normal one is for clients alone.
        "x-close-codes": [
            {"code": code.value, "name": code.name} for code in CloseCode if code is not CloseCode.NORMAL
        ],
    }


def as_json(document: Object) -> str:
    """Return the document as JSON text, to be read by people too."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


def as_yaml(document: Object) -> str:
    """Return the document as YAML text that readers of YAML 1.1 and 1.2 take for the same."""
    return _yaml(msgspec.json.encode(document))


# PyYAML takes 40 ms for it, and the bridges of a process have the same document.
@functools.lru_cache(maxsize=8)
def _yaml(encoded: bytes) -> str:
    # Of what is decoded no object stands in two places: it would be written as an alias.
    plain = msgspec.json.decode(encoded)
    return str(yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120))


class _Dumper(yaml.SafeDumper):
    """PyYAML's, which goes by YAML 1.1, taught to quote what is a number in YAML 1.2 alone."""


_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$|0o[0-7]+$"),
    list("-+.0123456789"),
)


def _server(url: str) -> Object:
    parts = urllib.parse.urlsplit(url)
    return {
        "host": "{host}",
        "pathname": parts.path,
        "protocol": parts.scheme,
        "description": "TLS (`wss`) is the proxy's in front, where there is one.",
        "variables": {"host": {"default": parts.netloc, "description": "Host and port that the bridge is reached at."}},
        "security": [_reference("components", "securitySchemes", name) for name in SECURITY_SCHEMES],
    }


def _dialogue() -> Object:
    answers = {name: load_schema(name) for name in (*REPLIES.values(), "error")}
    return {
        "address": None,
        "title": "Dialogue",
        "description": "The connection itself: what a client sends over it, and how it is answered.",
        "messages": {
            **{action: _request(action) for action in REPLIES},
            **{name: _message(name, schema, schema["examples"], DIALOGUE) for name, schema in answers.items()},
        },
    }


def _request(action: str) -> Object:
    schema = load_schema("client_message")
    whole = _reference("components", "schemas", "client_message")
    return {
        "name": action,
        "title": action.capitalize(),
        "payload": {"allOf": [whole, {"properties": {"action": {"const": action}}}]},
        "examples": [{"payload": example} for example in schema["examples"] if example["action"] == action],
    }


def _channel_name(event_type: EventType) -> str:
    return f"{event_type.name}_events"


def _channel(event_type: EventType) -> Object:
    # As the firewall reads it: in what a plugin declares an array may be a tuple.
    schema: Object = msgspec.json.decode(msgspec.json.encode(event_type.emits))
    # A plugin's examples are notes: nothing has held them against its schema yet.
    validator = Validator(schema)
    examples = [example for example in schema.get("examples", ()) if validator.admits(example)]
    form = event_type.channel_form
    return {
        "address": form.text,
        **_notes(schema),
        "messages": {event_type.name: _message(event_type.name, schema, examples, _channel_name(event_type))},
        "parameters": {name: _parameter(form.rules[name]) for name in form.parameters},
    }


def _parameter(rule: Rule) -> Object:
    wildcard = f"A subscription may have `{WILDCARD}` here, for all."
    if isinstance(rule, tuple):
        return {"description": wildcard, "enum": list(rule)}
    return {
        "description": f"The whole part matches the regular expression `{rule}`. {wildcard}",
        # A Parameter Object has no member for it.
        "x-pattern": f"^(?:{rule})$",
    }


def _message(name: str, schema: Object, examples: list[Any], channel: str) -> Object:
    place = _pointer("channels", channel, "messages", name, "payload")
    return {
        "name": name,
        **_notes(schema),
        "payload": _rebased(schema, place),
        "examples": [{"payload": example} for example in examples],
    }


def _notes(schema: Object) -> Object:
    return {note: schema[note] for note in ("title", "description") if note in schema}


def _rebased(part: Any, place: str) -> Any:
    """Return a schema whose references, which begin at its own root, begin at that of the document."""
    if isinstance(part, list):
        return [_rebased(item, place) for item in part]
    if not isinstance(part, dict):
        return part
    rebased = {name: _rebased(value, place) for name, value in part.items()}
    if isinstance(part.get("$ref"), str):
        rebased["$ref"] = place + part["$ref"].removeprefix("#")
    return rebased


def _receiving(action: str) -> Object:
    return {
        "action": "receive",
        "channel": _reference("channels", DIALOGUE),
        "description": _OPERATIONS[action],
        "messages": [_reference("channels", DIALOGUE, "messages", action)],
        "reply": {
            "channel": _reference("channels", DIALOGUE),
            "messages": [_reference("channels", DIALOGUE, "messages", name) for name in (REPLIES[action], "error")],
        },
    }


def _sending(event_type: EventType) -> Object:
    channel = _channel_name(event_type)
    return {
        "action": "send",
        "channel": _reference("channels", channel),
        "messages": [_reference("channels", channel, "messages", event_type.name)],
    }


def _reference(*steps: str) -> Object:
    return {"$ref": _pointer(*steps)}


def _pointer(*steps: str) -> str:
    """Return the JSON Pointer (RFC 6901) of a place in the document, as a URI fragment; a name may hold any text."""
    escaped = (step.replace("~", "~0").replace("/", "~1") for step in steps)
    return "#/" + "/".join(urllib.parse.quote(step, safe="~") for step in escaped)

"""The AsyncAPI 3.1 document of a bridge's public side.

The document is made from the installed event types, the schema files and the enums of codes. It uses only the name, the
channel and the schema of an event type.

Payload schemas are read in AsyncAPI's default dialect, a superset of draft 07 that every tool must support. The
keywords that `redaction.closed_schema` allows, and those that the schema files use, have the same meaning in it as in
draft 2020-12, which is the `$schema` of those files.
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

# Where `tornado-bridge serve` listens by default.
DEFAULT_URL = "ws://127.0.0.1:8765/public/v1/stream"

# The members of a handshake that may hold the key, in the order in which the bridge reads them (docs/protocol.md
# section 1).
SECURITY_SCHEMES = {
    "header": {"type": "httpApiKey", "in": "header", "name": "X-API-Key"},
    "bearer": {"type": "http", "scheme": "bearer"},
    "query": {"type": "httpApiKey", "in": "query", "name": "apiKey", "description": "Browsers cannot set headers."},
}

# Identifiers that are made from the name of an event type have an affix, so they never equal one of these.
DIALOGUE = "dialogue"
REPLIES = {"subscribe": "subscribed", "unsubscribe": "unsubscribed"}

_OPERATIONS = {
    "subscribe": "The bridge answers with an `error` for each channel that it does not grant, then with one "
    "`subscribed`. If it refuses the whole message, it answers with one `error` only.",
    "unsubscribe": "The bridge answers with one `unsubscribed`, or with one `error` if it refuses the message.",
}

_ABOUT = (
    "Events for subscribers, over one WebSocket per client. A client subscribes to channel addresses. Each parameter "
    f"of an address may be `{WILDCARD}`. The client gets each event that matches its subscriptions once. The event "
    "names its concrete channel. If the bridge refuses a message, it answers with one of the `x-error-codes`, and the "
    "connection stays open. If the bridge closes a connection, it sends one of the `x-close-codes`."
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
        # Only clients send the normal close code.
        "x-close-codes": [
            {"code": code.value, "name": code.name} for code in CloseCode if code is not CloseCode.NORMAL
        ],
    }


def as_json(document: Object) -> str:
    """Return the document as indented JSON text."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


def as_yaml(document: Object) -> str:
    """Return the document as YAML text that has the same value in YAML 1.1 and YAML 1.2."""
    return _yaml(msgspec.json.encode(document))


# PyYAML takes 40 ms per document, and all bridges of a process have the same document.
@functools.lru_cache(maxsize=8)
def _yaml(encoded: bytes) -> str:
    # PyYAML writes an alias for an object that the document holds twice. Decoding makes a new object each time.
    plain = msgspec.json.decode(encoded)
    return str(yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120))


class _Dumper(yaml.SafeDumper):
    """PyYAML's dumper follows YAML 1.1. This one also quotes texts that are numbers only in YAML 1.2."""


_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$|0o[0-7]+$"),
    list("-+.0123456789"),
)


def _server(url: str) -> Object:
    address = urllib.parse.urlsplit(url)
    return {
        "host": "{host}",
        "pathname": address.path,
        "protocol": address.scheme,
        "description": "With TLS, the protocol is `wss`.",
        "variables": {"host": {"default": address.netloc, "description": "The host and port of the bridge."}},
        "security": [_reference("components", "securitySchemes", name) for name in SECURITY_SCHEMES],
    }


def _dialogue() -> Object:
    answers = {name: load_schema(name) for name in (*REPLIES.values(), "error")}
    return {
        "address": None,
        "title": "Dialogue",
        "description": "The connection itself: the messages that a client sends, and the answers of the bridge.",
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
    # The schema as the firewall reads it. A plugin may declare an array as a tuple.
    schema: Object = msgspec.json.decode(msgspec.json.encode(event_type.emits))
    # Nothing has checked a plugin's examples against its schema before. An invalid example is left out.
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
    wildcard = f"A subscription may have `{WILDCARD}` here, which stands for every value."
    if isinstance(rule, tuple):
        return {"description": wildcard, "enum": list(rule)}
    return {
        "description": f"The whole value matches the regular expression `{rule}`. {wildcard}",
        # AsyncAPI's Parameter Object has no member for a regular expression.
        "x-pattern": f"^(?:{rule})$",
    }


def _message(name: str, schema: Object, examples: list[Any], channel: str) -> Object:
    root = _pointer("channels", channel, "messages", name, "payload")
    return {
        "name": name,
        **_notes(schema),
        "payload": _rebased(schema, root),
        "examples": [{"payload": example} for example in examples],
    }


def _notes(schema: Object) -> Object:
    return {note: schema[note] for note in ("title", "description") if note in schema}


def _rebased(node: Any, root: str) -> Any:
    """Return a schema for use inside the document. Its references begin at the root of the document, not its own."""
    if isinstance(node, list):
        return [_rebased(item, root) for item in node]
    if not isinstance(node, dict):
        return node
    rebased = {name: _rebased(value, root) for name, value in node.items()}
    if isinstance(node.get("$ref"), str):
        rebased["$ref"] = root + node["$ref"].removeprefix("#")
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
    """Return a JSON Pointer (RFC 6901) into the document, as a URI fragment. A step may be any text."""
    escaped = (step.replace("~", "~0").replace("/", "~1") for step in steps)
    return "#/" + "/".join(urllib.parse.quote(step, safe="~") for step in escaped)

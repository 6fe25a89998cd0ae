"""The files of schemas/: each admits exactly what it should, and both validators agree."""

import copy
import importlib.resources
import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from tests.support.payloads import PRIVATE
from tornado_bridge.connections.dialogue import ErrorCode
from tornado_bridge.events import RESERVED_NAMES
from tornado_bridge.redaction import closed_schema
from tornado_bridge.redaction.validation import Validator, load_schema
from tornado_bridge.registry import Registry

Schema = dict[str, Any]

SERVER_MESSAGES = ("error", "subscribed", "unsubscribed")
ENVELOPES = ("candle_close", "trade_signal")
FILES = ("client_message", *SERVER_MESSAGES, *ENVELOPES)

# Each of these values replaces each part of a valid instance.
WRONG: list[Any] = [
    None,
    True,
    0,
    -1,
    1.5,
    10**30,
    "",
    " ",
    "*",
    "a\n",
    "\u0661",
    "x" * 2000,
    [],
    [None],
    {},
    {"id": 1},
]


def subschemas(schema: Schema, path: str = "$") -> Iterator[tuple[str, Schema]]:
    """Yield each subschema with its path; a $ref is replaced with its definition."""
    definitions = schema.get("$defs", {})

    def walk(part: Schema, where: str) -> Iterator[tuple[str, Schema]]:
        resolved = definitions[part["$ref"].removeprefix("#/$defs/")] if "$ref" in part else part
        yield where, resolved
        for name, member in resolved.get("properties", {}).items():
            yield from walk(member, f"{where}.{name}")

    yield from walk(schema, path)


def test_the_types_of_the_server_s_messages_are_reserved() -> None:
    assert {*SERVER_MESSAGES} <= RESERVED_NAMES


def mutations(instance: Any) -> Iterator[Any]:
    """Yield each instance that is one change away: a value replaced, altered, left out or added."""
    yield from WRONG
    if isinstance(instance, dict):
        for name, value in instance.items():
            yield {other: kept for other, kept in instance.items() if other != name}
            for changed in mutations(value):
                yield {**instance, name: changed}
        for name in ("id", "macdV", "", "Type"):
            yield {**instance, name: "BTC-USD"}
    elif isinstance(instance, list):
        yield instance * 21
        for changed in mutations(instance[0]):
            yield [changed, *instance[1:]]
    elif isinstance(instance, str):
        yield from (instance + "\n", "\n" + instance, instance + " ", instance.upper(), instance.lower(), instance[:-1])
        yield from (
            instance.replace("0", "\u0660"),
            instance.replace("-", "\u2010"),
            instance * 40,
            instance + "\u2028",
        )


@pytest.fixture(params=FILES)
def schema(request: pytest.FixtureRequest) -> Schema:
    return load_schema(request.param)


def test_every_file_is_known_to_these_tests() -> None:
    files = {entry.name for entry in importlib.resources.files("tornado_bridge.schemas").iterdir()}
    assert {name.removesuffix(".json") for name in files if name.endswith(".json")} == set(FILES)


def test_a_schema_is_of_draft_2020_12(schema: Schema) -> None:
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_a_schema_is_valid_under_its_draft(schema: Schema) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)


def test_a_schema_has_a_title(schema: Schema) -> None:
    assert re.fullmatch(r"[A-Z][a-z]+( [a-z]+)?", schema["title"])


def test_a_schema_and_every_property_of_it_is_described(schema: Schema) -> None:
    assert [where for where, part in subschemas(schema) if not part.get("description", "").endswith(".")] == []


def test_a_schema_has_examples(schema: Schema) -> None:
    assert len(schema["examples"]) > 0


def test_the_examples_of_a_schema_and_of_its_properties_are_valid(schema: Schema) -> None:
    wrong = [
        (where, example)
        for where, part in subschemas(schema)
        for example in part.get("examples", [])
        if not Validator({**part, "$defs": schema.get("$defs", {})}).admits(example)
    ]
    assert wrong == []


@pytest.mark.parametrize("name", ENVELOPES)
def test_every_text_with_a_pattern_in_an_envelope_has_an_example(name: str) -> None:
    assert [where for where, part in subschemas(load_schema(name)) if "pattern" in part and not part["examples"]] == []


def test_the_examples_of_a_message_show_every_member(schema: Schema) -> None:
    for example in schema["examples"]:
        assert list(example) == list(schema["properties"])


@pytest.mark.parametrize("name", ENVELOPES)
def test_an_envelope_is_closed_by_the_linter_s_standard(name: str) -> None:
    assert list(closed_schema.findings(load_schema(name))) == []


@pytest.mark.parametrize("name", [*SERVER_MESSAGES, *ENVELOPES])
def test_what_is_sent_has_exactly_the_members_of_its_schema(name: str) -> None:
    objects = [part for _, part in subschemas(load_schema(name)) if part.get("type") == "object"]
    assert [(part["additionalProperties"], part["required"]) for part in objects] == [
        (False, list(part["properties"])) for part in objects
    ]


@pytest.mark.parametrize("name", SERVER_MESSAGES)
def test_every_text_that_is_sent_is_bounded(name: str) -> None:
    for _, part in subschemas(load_schema(name)):
        texts = [text for text in (part, part.get("items", {})) if text.get("type") == "string"]
        assert [text["maxLength"] <= 1024 for text in texts] == [True] * len(texts)


@pytest.mark.parametrize("name", [*SERVER_MESSAGES, *ENVELOPES])
def test_the_type_of_what_is_sent_is_the_name_of_its_file(name: str) -> None:
    assert load_schema(name)["properties"]["type"]["const"] == name


def test_the_error_codes_are_those_that_are_sent() -> None:
    assert load_schema("error")["properties"]["code"]["enum"] == [code.value for code in ErrorCode]


def test_the_envelopes_are_those_of_the_plugins_that_come_with_the_bridge() -> None:
    routes = Registry(["candle", "signals"]).routes("1")
    assert {route.event_type.name: route.event_type.emits for route in routes} == {
        name: load_schema(name) for name in ENVELOPES
    }


@pytest.mark.parametrize("name", PRIVATE)
def test_no_schema_has_the_name_of_a_private_member(name: str) -> None:
    texts = {file: json.dumps(load_schema(file)) for file in FILES}
    assert [file for file, text in texts.items() if re.search(rf"\b{name}\b", text)] == []


@pytest.mark.parametrize(
    "message",
    [
        {"action": "subscribe", "channels": ["x"]},
        {"action": "unsubscribe", "channels": ["x" * 128] * 20},
        {"action": "subscribe", "channels": [""], "id": 5},
    ],
)
def test_a_client_message_is_admitted(message: Any) -> None:
    assert Validator(load_schema("client_message")).admits(message)


@pytest.mark.parametrize(
    "message",
    [
        {"action": "subscribe"},
        {"channels": ["x"]},
        {"action": "Subscribe", "channels": ["x"]},
        {"action": "subscribe", "channels": []},
        {"action": "subscribe", "channels": ["x"] * 21},
        {"action": "subscribe", "channels": ["x" * 129]},
        {"action": "subscribe", "channels": [1]},
        {"action": "subscribe", "channels": "x"},
        {"action": None, "channels": ["x"]},
        [],
        None,
        "subscribe",
    ],
)
def test_another_client_message_is_not_admitted(message: Any) -> None:
    assert not Validator(load_schema("client_message")).admits(message)


@pytest.mark.parametrize("exchange", ["coinbase", "A", "Coinbase Pro_2.0-x", "x" * 64])
def test_an_exchange_name_that_can_be_configured_can_be_sent(exchange: str) -> None:
    signal = copy.deepcopy(load_schema("trade_signal"))
    (envelope,) = signal["examples"]
    envelope["data"]["exchange"] = exchange
    assert Validator(signal).admits(envelope)


def test_both_validators_agree_on_the_examples(schema: Schema) -> None:
    validator = Validator(schema)
    verdicts = [(validator.admits(example), validator.first_error(example)) for example in schema["examples"]]
    assert verdicts == [(True, None)] * len(verdicts)


def test_both_validators_agree_on_every_mutation_of_the_examples(schema: Schema) -> None:
    validator = Validator(schema)
    changed = [mutation for example in schema["examples"] for mutation in mutations(example)]
    different = [
        mutation for mutation in changed if validator.admits(mutation) is not (validator.first_error(mutation) is None)
    ]
    assert different == []


@pytest.mark.parametrize("name", ENVELOPES)
def test_no_text_of_an_envelope_may_end_in_a_newline(name: str) -> None:
    schema = load_schema(name)
    (example,) = schema["examples"]
    changed = [{**example, "channel": example["channel"] + "\n"}, {**example, "type": example["type"] + "\n"}]
    changed += [
        {**example, "data": {**example["data"], member: text + "\n"}} for member, text in example["data"].items()
    ]
    assert [envelope for envelope in changed if Validator(schema).admits(envelope)] == []

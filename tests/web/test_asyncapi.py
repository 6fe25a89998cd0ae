"""tornado_bridge.web.asyncapi, checked against its specification, the schema files and the codes."""

import functools
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml
from tornado.httpclient import AsyncHTTPClient, HTTPResponse

import tornado_bridge
from tests.house.test_docs import OPERATIONS, PROTOCOL, first_column, section
from tests.house.test_schemas import mutations
from tests.support.payloads import PRIVATE
from tornado_bridge import Envelope, Event, EventType, cli, envelope_schema, hookimpl, values
from tornado_bridge.bridge import WebSocketBridge
from tornado_bridge.keys import FixedKeys, KeyRing
from tornado_bridge.redaction.validation import load_schema
from tornado_bridge.registry import Registry
from tornado_bridge.server.settings import Settings
from tornado_bridge.web import app, asyncapi

Object = dict[str, Any]

SPECIFICATION = Path(__file__).parents[1] / "data" / "asyncapi-3.1.0.json"


class Trade(msgspec.Struct):
    """The members that the plugin reads from a trade."""

    price: msgspec.Raw
    makerAccount: str


TRADE_EXAMPLE = {"type": "trade", "channel": "trades:BTC:spot", "data": {"price": "1.5"}}


def declared(**changes: Any) -> EventType:
    declaration: Object = {
        "name": "trade",
        "source": "internal:{exchange_id}:fills:{venue}:{symbol}",
        "channel": "trades:{symbol}:{market}",
        "parameters": {"symbol": "[A-Z]{1,10}", "market": ("spot", "1e3"), "venue": ("floor", "annex")},
        "reads": Trade,
        "emits": trade_schema(),
    }
    return EventType(**{**declaration, **changes})


def trade_schema(name: str = "trade", **notes: Any) -> Object:
    return envelope_schema(name, "^trades:[A-Z]{1,10}:(?:spot|1e3)$", {"price": values.DECIMAL}, **notes)


class Trades:
    """A third party's plugin."""

    def __init__(self, **changes: Any) -> None:
        self._event_type = declared(**changes)

    @hookimpl
    def register_event_types(self) -> list[EventType]:
        return [self._event_type]

    @hookimpl
    def transform(self, event: Event[Trade]) -> Envelope:
        raise NotImplementedError


def described(**changes: Any) -> Object:
    """Return the document of the built-in plugins and a third party's, decoded from its JSON."""
    document: Object = json.loads(
        asyncapi.as_json(asyncapi.document(Registry(["candle", "signals", Trades(**changes)])))
    )
    return document


@functools.cache
def built_in_text() -> str:
    return asyncapi.as_json(asyncapi.document(Registry(["candle", "signals"])))


@pytest.fixture
def document() -> Object:
    """The document of the built-in plugins."""
    read: Object = json.loads(built_in_text())
    return read


def parts(part: Any) -> Iterator[Object]:
    """Yield the document and every object inside it."""
    if isinstance(part, dict):
        yield part
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from parts(inner)


def messages(document: Object) -> dict[str, Object]:
    """Return every message of a document by its JSON Pointer."""
    return {
        f"#/channels/{channel}/messages/{name}": message
        for channel, described in document["channels"].items()
        for name, message in described["messages"].items()
    }


def admits(document: Object, place: str, instance: Any, draft: Any = jsonschema.Draft7Validator) -> bool:
    """Tell whether the message at `place` admits `instance`. References begin at the root of the document."""
    return bool(draft({**document, "$ref": f"{place}/payload"}).is_valid(instance))


@functools.cache
def specification() -> jsonschema.Draft7Validator:
    return jsonschema.Draft7Validator(json.loads(SPECIFICATION.read_text(encoding="utf-8")))


# The specification


def test_the_document_is_valid_under_the_specification_s_schema(document: Object) -> None:
    assert [error.message for error in specification().iter_errors(document)] == []


def test_the_document_with_a_third_party_s_plugin_is_valid_under_the_specification_s_schema() -> None:
    assert [error.message for error in specification().iter_errors(described())] == []


def test_the_specification_s_schema_refuses_an_invalid_payload_schema(document: Object) -> None:
    document["channels"]["candle_close_events"]["messages"]["candle_close"]["payload"]["type"] = "nonsense"
    assert not specification().is_valid(document)


def test_every_reference_has_a_target(document: Object) -> None:
    for part in [part for part in parts(document) if "$ref" in part]:
        functools.reduce(lambda at, step: at[step], part["$ref"].removeprefix("#/").split("/"), document)


def test_a_document_without_plugins_is_valid_under_the_specification_s_schema() -> None:
    assert specification().is_valid(asyncapi.document(Registry([])))


# Server and security


def test_the_server_is_the_stream(document: Object) -> None:
    server = document["servers"]["bridge"]
    assert (server["protocol"], server["host"], server["pathname"]) == ("ws", "{host}", "/public/v1/stream")


def test_the_host_is_that_of_serve_by_default(document: Object) -> None:
    fields = Settings.model_fields
    default = f"{fields['host'].default}:{fields['port'].default}"
    assert document["servers"]["bridge"]["variables"]["host"]["default"] == default


def test_the_path_is_that_of_the_route(document: Object) -> None:
    assert document["servers"]["bridge"]["pathname"] == app.STREAM_PATH


def test_another_url_can_be_given() -> None:
    server = asyncapi.document(Registry([]), url="wss://stream.example.com/markets/v1")["servers"]["bridge"]
    assert (server["protocol"], server["variables"]["host"]["default"], server["pathname"]) == (
        "wss",
        "stream.example.com",
        "/markets/v1",
    )


def test_a_key_goes_into_one_of_three_places(document: Object) -> None:
    schemes = document["components"]["securitySchemes"]
    assert [schemes[part["$ref"].rpartition("/")[2]] for part in document["servers"]["bridge"]["security"]] == [
        {"type": "httpApiKey", "in": "header", "name": "X-API-Key"},
        {"type": "http", "scheme": "bearer"},
        {"type": "httpApiKey", "in": "query", "name": "apiKey", "description": "Browsers cannot set headers."},
    ]


def test_the_version_is_that_of_the_distribution(document: Object) -> None:
    assert document["info"]["version"] == tornado_bridge.__version__


# Channels


def test_the_channels_are_the_dialogue_and_one_for_each_event_type(document: Object) -> None:
    assert {name: channel["address"] for name, channel in document["channels"].items()} == {
        "dialogue": None,
        "candle_close_events": "candles:{symbol}:{timeframe}",
        "trade_signal_events": "signals:{symbol}:{timeframe}",
    }


def test_a_channel_has_the_parameters_of_its_form(document: Object) -> None:
    assert list(document["channels"]["candle_close_events"]["parameters"]) == ["symbol", "timeframe"]


def test_an_enumeration_of_a_parameter_is_an_enum(document: Object) -> None:
    assert document["channels"]["candle_close_events"]["parameters"]["timeframe"] == {
        "description": "A subscription may have `*` here, which stands for every value.",
        "enum": ["1m", "5m", "15m", "1h", "4h", "1d"],
    }


def test_a_regular_expression_of_a_parameter_is_in_words_and_an_extension(document: Object) -> None:
    assert document["channels"]["candle_close_events"]["parameters"]["symbol"] == {
        "description": "The whole value matches the regular expression `[A-Za-z0-9]{1,20}-[A-Za-z0-9]{1,20}`. "
        "A subscription may have `*` here, which stands for every value.",
        "x-pattern": "^(?:[A-Za-z0-9]{1,20}-[A-Za-z0-9]{1,20})$",
    }


def test_a_parameter_without_a_rule_has_the_default_rule() -> None:
    emits = envelope_schema("trade", "^trades:[A-Za-z0-9_.-]{1,64}$", {"price": values.DECIMAL})
    other = described(channel="trades:{symbol}", parameters={}, emits=emits)
    parameters = other["channels"]["trade_events"]["parameters"]
    assert parameters["symbol"]["x-pattern"] == "^(?:[A-Za-z0-9_.-]{1,64})$"


def test_a_channel_without_named_parts_has_no_parameters() -> None:
    channel = described(channel="trades:all", parameters={})["channels"]["trade_events"]
    assert (channel["address"], channel["parameters"]) == ("trades:all", {})


# Messages


@pytest.mark.parametrize(
    ("place", "file"),
    [
        ("#/channels/candle_close_events/messages/candle_close", "candle_close"),
        ("#/channels/trade_signal_events/messages/trade_signal", "trade_signal"),
        ("#/channels/dialogue/messages/subscribed", "subscribed"),
        ("#/channels/dialogue/messages/unsubscribed", "unsubscribed"),
        ("#/channels/dialogue/messages/error", "error"),
    ],
)
def test_a_payload_is_the_schema_file_with_its_references_rebased(document: Object, place: str, file: str) -> None:
    text = json.dumps(messages(document)[place]["payload"])
    assert json.loads(text.replace(f'"{place}/payload/', '"#/')) == load_schema(file)


def test_the_client_message_is_the_schema_file(document: Object) -> None:
    assert document["components"]["schemas"] == {"client_message": load_schema("client_message")}


@pytest.mark.parametrize("draft", [jsonschema.Draft7Validator, jsonschema.Draft202012Validator])
def test_every_message_has_valid_examples(document: Object, draft: Any) -> None:
    for place, message in messages(document).items():
        verdicts = {admits(document, place, example["payload"], draft) for example in message["examples"]}
        assert verdicts == {True}, place


def test_the_default_dialect_and_draft_2020_12_read_every_payload_alike(document: Object) -> None:
    for place, message in messages(document).items():
        root = {**document, "$ref": f"{place}/payload"}
        old, new = jsonschema.Draft7Validator(root), jsonschema.Draft202012Validator(root)
        for example in message["examples"]:
            differing = [one for one in mutations(example["payload"]) if old.is_valid(one) != new.is_valid(one)]
            assert differing == [], place


def test_an_example_of_the_dialogue_is_valid_for_its_own_message_only(document: Object) -> None:
    dialogue = {place: message for place, message in messages(document).items() if "/dialogue/" in place}
    for place, message in dialogue.items():
        for example in message["examples"]:
            assert [other for other in dialogue if admits(document, other, example["payload"])] == [place]


def test_a_message_has_the_title_and_description_of_its_schema(document: Object) -> None:
    message = document["channels"]["candle_close_events"]["messages"]["candle_close"]
    assert (message["title"], message["description"]) == (
        "Candle close",
        "A candle that has closed, to the subscribers of candles:{symbol}:{timeframe}.",
    )


def test_an_example_of_a_plugin_is_an_example() -> None:
    message = described(emits=trade_schema(examples=[TRADE_EXAMPLE]))["channels"]["trade_events"]["messages"]["trade"]
    assert message["examples"] == [{"payload": TRADE_EXAMPLE}]


def test_an_example_that_its_schema_refuses_is_left_out() -> None:
    emits = trade_schema(examples=[{**TRADE_EXAMPLE, "data": {}}, TRADE_EXAMPLE])
    message = described(emits=emits)["channels"]["trade_events"]["messages"]["trade"]
    assert message["examples"] == [{"payload": TRADE_EXAMPLE}]


def test_a_schema_without_examples_gives_a_message_without() -> None:
    assert described()["channels"]["trade_events"]["messages"]["trade"]["examples"] == []


def test_a_tuple_of_a_schema_is_an_array() -> None:
    emits = envelope_schema("trade", "^trades:[A-Z]{1,10}:spot$", {"side": {"enum": ("buy", "sell")}})
    payload = described(emits=emits)["channels"]["trade_events"]["messages"]["trade"]["payload"]
    assert payload["properties"]["data"]["properties"]["side"] == {"enum": ["buy", "sell"]}


def test_a_member_named_like_a_reference_is_not_rebased() -> None:
    emits = envelope_schema("trade", "^trades:[A-Z]{1,10}:spot$", {"$ref": {"enum": ["up", "down"]}})
    payload = described(emits=emits)["channels"]["trade_events"]["messages"]["trade"]["payload"]
    assert payload["properties"]["data"]["properties"] == {"$ref": {"enum": ["up", "down"]}}


# Operations


def test_subscribe_is_received_and_answered(document: Object) -> None:
    assert document["operations"]["subscribe"] == {
        "action": "receive",
        "channel": {"$ref": "#/channels/dialogue"},
        "description": "The bridge answers with an `error` for each channel that it does not grant, then with one "
        "`subscribed`. If it refuses the whole message, it answers with one `error` only.",
        "messages": [{"$ref": "#/channels/dialogue/messages/subscribe"}],
        "reply": {
            "channel": {"$ref": "#/channels/dialogue"},
            "messages": [
                {"$ref": "#/channels/dialogue/messages/subscribed"},
                {"$ref": "#/channels/dialogue/messages/error"},
            ],
        },
    }


def test_unsubscribe_is_received_and_answered(document: Object) -> None:
    assert document["operations"]["unsubscribe"] == {
        "action": "receive",
        "channel": {"$ref": "#/channels/dialogue"},
        "description": "The bridge answers with one `unsubscribed`, or with one `error` if it refuses the message.",
        "messages": [{"$ref": "#/channels/dialogue/messages/unsubscribe"}],
        "reply": {
            "channel": {"$ref": "#/channels/dialogue"},
            "messages": [
                {"$ref": "#/channels/dialogue/messages/unsubscribed"},
                {"$ref": "#/channels/dialogue/messages/error"},
            ],
        },
    }


def test_the_actions_are_those_of_the_client_message(document: Object) -> None:
    received = [name for name, operation in document["operations"].items() if operation["action"] == "receive"]
    assert received == load_schema("client_message")["properties"]["action"]["enum"]


def test_the_events_are_sent(document: Object) -> None:
    assert document["operations"]["send_candle_close"] == {
        "action": "send",
        "channel": {"$ref": "#/channels/candle_close_events"},
        "messages": [{"$ref": "#/channels/candle_close_events/messages/candle_close"}],
    }


def test_there_is_one_operation_for_each_action_and_each_event_type(document: Object) -> None:
    assert list(document["operations"]) == ["subscribe", "unsubscribe", "send_candle_close", "send_trade_signal"]


# Codes


def test_the_error_codes_are_those_of_the_schema(document: Object) -> None:
    assert document["x-error-codes"] == load_schema("error")["properties"]["code"]["enum"]


def test_the_error_codes_are_those_of_the_documents(document: Object) -> None:
    assert set(document["x-error-codes"]) == first_column(section(PROTOCOL, "Errors"))


def test_the_close_codes_are_those_of_the_documents(document: Object) -> None:
    codes = {str(code["code"]) for code in document["x-close-codes"]}
    assert codes == first_column(section(PROTOCOL, "Close codes"))


def test_a_close_code_has_its_name(document: Object) -> None:
    assert {"code": 4001, "name": "UNAUTHORIZED"} in document["x-close-codes"]


def test_every_extension_is_documented(document: Object) -> None:
    used = {name for part in parts(document) for name in part if name.startswith("x-")}
    assert used == set(re.findall(r"`(x-[a-z-]+)`", section(OPERATIONS, "HTTP endpoints")))


# Names that must not be in the document


def texts(document: Object) -> list[str]:
    return [asyncapi.as_json(document), asyncapi.as_yaml(document)]


@pytest.mark.parametrize("name", [*PRIVATE, "triggeredAt"])
def test_no_private_name_is_in_the_document(document: Object, name: str) -> None:
    assert [re.findall(rf"\b{name}\b", text, re.IGNORECASE) for text in texts(document)] == [[], []]


@pytest.mark.parametrize("word", ["channel:exchange", "channel:alerts", "exchange_id", "redis", "psubscribe"])
def test_no_source_channel_is_in_the_document(document: Object, word: str) -> None:
    assert [word in text.lower() for text in texts(document)] == [False, False]


@pytest.mark.parametrize("word", ["internal", "fills", "exchange_id", "venue", "floor", "annex", "makerAccount"])
def test_nothing_of_a_plugin_s_source_and_reads_is_in_the_document(word: str) -> None:
    assert [word in text for text in texts(described())] == [False, False]


# Third parties


def test_a_third_party_s_event_type_shows() -> None:
    channel = described()["channels"]["trade_events"]
    assert (channel["address"], list(channel["parameters"]), channel["messages"]["trade"]["payload"]) == (
        "trades:{symbol}:{market}",
        ["symbol", "market"],
        trade_schema(),
    )


def test_a_third_party_s_event_type_is_sent() -> None:
    assert described()["operations"]["send_trade"]["channel"] == {"$ref": "#/channels/trade_events"}


@pytest.mark.parametrize("name", ["dialogue", "subscribe", "client_message"])
def test_an_event_type_takes_no_place_of_the_dialogue_by_its_name(document: Object, name: str) -> None:
    other = described(name=name, emits=trade_schema(name))
    for member in ("channels", "operations"):
        assert {key: part for key, part in other[member].items() if key in document[member]} == document[member]


def test_an_event_type_of_an_odd_name_can_be_referred_to() -> None:
    operation = described(name="a/b~c d%", emits=trade_schema("a/b~c d%"))["operations"]["send_a/b~c d%"]
    assert operation["channel"] == {"$ref": "#/channels/a~1b~0c%20d%25_events"}


# JSON and YAML


def test_json_and_yaml_say_the_same(document: Object) -> None:
    assert yaml.safe_load(asyncapi.as_yaml(document)) == document


def test_json_ends_with_a_line_break() -> None:
    assert built_in_text().endswith("}\n")


def test_yaml_has_no_aliases(document: Object) -> None:
    shared = ["one object"]
    assert "&id" not in asyncapi.as_yaml({"a": shared, "b": shared})


def test_yaml_keeps_the_order(document: Object) -> None:
    assert list(yaml.safe_load(asyncapi.as_yaml(document))) == list(document)


@pytest.mark.parametrize("text", ["1e3", "1.5e3", ".5E1", "-1e-7", "0o17", "1:30", "yes", "null", "2024-01-01", "1.5"])
def test_yaml_quotes_a_text_that_yaml_1_1_or_1_2_reads_as_another_type(text: str) -> None:
    assert asyncapi.as_yaml({"a": text}) == f"a: '{text}'\n"


@pytest.mark.parametrize("text", ["1h", "BTC-USD", "candles:{symbol}", "1e", "é"])
def test_yaml_leaves_other_texts_plain(text: str) -> None:
    assert asyncapi.as_yaml({"a": text}) == f"a: {text}\n"


@pytest.mark.parametrize("number", [0, -3, 9007199254740991, 0.5, 1e-7, 1e22])
def test_yaml_keeps_numbers(number: float) -> None:
    assert yaml.safe_load(asyncapi.as_yaml({"a": number})) == {"a": number}


# Command and routes


async def fetch(path: str) -> HTTPResponse:
    """Return the response of a bridge that is not started. The request has no key."""
    bridge = WebSocketBridge(
        redis_url="redis://127.0.0.1:1/0", exchange_id=1, exchange_name="x", keys=FixedKeys(KeyRing.single("k", "v"))
    )
    server, port = app.serve(bridge, host="127.0.0.1", port=0)
    try:
        return await AsyncHTTPClient().fetch(f"http://127.0.0.1:{port}{path}")
    finally:
        server.stop()
        await server.close_all_connections()


Print = Callable[..., str]


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Print:
    """Return a function that runs the command and returns its output."""

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["tornado-bridge", "asyncapi", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 0
        return capsys.readouterr().out

    return run


def test_the_command_prints_json(printed: Print) -> None:
    assert json.loads(printed())["asyncapi"] == "3.1.0"


def test_the_command_prints_yaml(printed: Print) -> None:
    assert printed("--yaml").startswith("asyncapi: 3.1.0\n")


@pytest.mark.gen_test
async def test_the_json_that_is_served_is_what_the_command_prints(printed: Print) -> None:
    assert (await fetch("/asyncapi.json")).body.decode() == printed()


@pytest.mark.gen_test
async def test_the_yaml_that_is_served_is_what_the_command_prints(printed: Print) -> None:
    assert (await fetch("/asyncapi.yaml")).body.decode() == printed("--yaml")


@pytest.mark.gen_test
@pytest.mark.parametrize("form", ["json", "yaml"])
async def test_the_served_document_has_its_content_type(form: str) -> None:
    assert (await fetch(f"/asyncapi.{form}")).headers["Content-Type"] == f"application/{form}"

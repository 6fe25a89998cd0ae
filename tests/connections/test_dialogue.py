import datetime
import itertools
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import websockets.frames
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.peer import read_frame
from tornado_bridge.channels import Form, Grammar, Rule
from tornado_bridge.connections import dialogue
from tornado_bridge.connections.admission import Allowance
from tornado_bridge.connections.dialogue import Dialogue
from tornado_bridge.keys import Key
from tornado_bridge.redaction.validation import Validator

SCHEMAS = Path(__file__).parents[2] / "schemas"

RULES: dict[str, Rule] = {
    "symbol": "[A-Za-z0-9]{1,20}-[A-Za-z0-9]{1,20}",
    "timeframe": ("1m", "5m", "15m", "1h", "4h", "1d"),
}
GRAMMAR = Grammar([Form("candles:{symbol}:{timeframe}", RULES), Form("signals:{symbol}:{timeframe}", RULES)])

PARSE_ERROR = '{"type":"error","code":"PARSE_ERROR","message":"Invalid JSON"}'
RATE_LIMITED = '{"type":"error","code":"RATE_LIMITED","message":"Too many messages"}'


class Clock:
    """A clock that shows the time that a test sets, in seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Client:
    """A client of the dialogue. Other clients may share its key. Every reply is checked against its schema."""

    def __init__(self, dialogue: Dialogue, allowance: Allowance) -> None:
        self._dialogue = dialogue
        self._allowance = allowance
        self.subscriptions: frozenset[str] = frozenset()

    def say(self, message: str) -> list[str]:
        """Send a text, and return the texts of the replies."""
        answer = self._dialogue.answer(message, self._allowance, self.subscriptions)
        self.subscriptions = answer.subscriptions
        replies = [text_of(frame) for frame in answer.replies]
        for reply in replies:
            check(reply)
        return replies

    def subscribe(self, *channels: str) -> list[str]:
        return self.say(json.dumps({"action": "subscribe", "channels": channels}))

    def unsubscribe(self, *channels: str) -> list[str]:
        return self.say(json.dumps({"action": "unsubscribe", "channels": channels}))


def text_of(frame: bytes) -> str:
    read = read_frame(frame)
    assert read.opcode is websockets.frames.Opcode.TEXT
    return bytes(read.data).decode()


def check(reply: str) -> None:
    assert not any(character < " " for character in reply)
    decoded = json.loads(reply)
    schema = json.loads((SCHEMAS / f"{decoded['type']}.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(decoded)


def dialogue_of(*, max_subscriptions: int = 200, clock: Clock | None = None) -> Dialogue:
    return Dialogue(GRAMMAR, max_subscriptions=max_subscriptions, clock=clock or Clock())


def allowance_of(*channels: str, burst: int = 1_000_000) -> Allowance:
    created = datetime.datetime(2026, 2, 19, 12, tzinfo=datetime.UTC)
    return Allowance(Key(1, "alice", "0" * 64, created, channels=channels), 5, 300, burst, 1000.0)


def client_of(*channels: str, max_subscriptions: int = 200) -> Client:
    """Return a client whose key may subscribe to those channels. Without channels, it may subscribe to all."""
    return Client(dialogue_of(max_subscriptions=max_subscriptions), allowance_of(*channels))


@pytest.fixture
def client() -> Client:
    return client_of()


def error(code: str, message: str) -> str:
    return json.dumps({"type": "error", "code": code, "message": message}, ensure_ascii=False, separators=(",", ":"))


# The form of the replies


def test_an_answer_has_one_text_frame_per_reply() -> None:
    answer = dialogue_of().answer(
        '{"action":"subscribe","channels":["candles:BTC-USD:1h","news"]}', allowance_of(), frozenset()
    )

    assert answer.replies == (
        b'\x81\x4b{"type":"error","code":"INVALID_CHANNEL","message":"Unknown channel: news"}',
        b'\x81\x37{"type":"subscribed","channels":["candles:BTC-USD:1h"]}',
    )


def test_characters_beyond_ascii_are_sent_unescaped(client: Client) -> None:
    assert client.unsubscribe("é\U0001f600") == ['{"type":"unsubscribed","channels":["é\U0001f600"]}']


def test_a_control_character_is_sent_escaped(client: Client) -> None:
    assert client.unsubscribe("\0\n\x1f") == ['{"type":"unsubscribed","channels":["\\u0000\\n\\u001f"]}']


# Not JSON


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("subscribe", id="a word"),
        pytest.param('{"action":"subscribe"', id="no end"),
        pytest.param('{"action":"subscribe","channels":["a"]}}', id="one brace more"),
        pytest.param("{'action':'subscribe'}", id="single quotes"),
        pytest.param('{"action":"subscribe","channels":["candles:*:*"],"x":NaN}', id="NaN"),
        pytest.param('{"action":"subscribe","channels":["candles:*:*"],"x":Infinity}', id="Infinity"),
        pytest.param('{"action":"subscribe","channels":["candles:*:*"],"x":1e400}', id="1e400"),
        pytest.param('{"action":"subscribe","channels":["candles:*:*"],"x":"\\ud800"}', id="lone surrogate"),
        pytest.param('\ufeff{"action":"subscribe","channels":["candles:*:*"]}', id="byte order mark"),
        pytest.param('{"action":"subscribe","channels":["candles:*:*"],"x":' + "[" * 32 + "]" * 32 + "}", id="33 deep"),
        pytest.param("[" * 100_000, id="100,000 deep"),
    ],
)
def test_invalid_json_is_a_parse_error(client: Client, text: str) -> None:
    assert (client.say(text), client.subscriptions) == ([PARSE_ERROR], frozenset())


def test_nesting_32_deep_in_a_member_that_is_ignored_is_served(client: Client) -> None:
    deep = "[" * 31 + "]" * 31

    assert client.say('{"action":"subscribe","channels":["candles:*:*"],"x":' + deep + "}") == [
        '{"type":"subscribed","channels":["candles:*:*"]}'
    ]


# JSON that the schema refuses


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "message: expected an object, got []"),
        ("1", "message: expected an object, got 1"),
        ("null", "message: expected an object, got null"),
        ('"subscribe"', 'message: expected an object, got "subscribe"'),
        ("{}", "message: expected the members action and channels, got {}"),
        (
            '{"action":"subscribe"}',
            'message: expected the members action and channels, got {"action":"subscribe"}',
        ),
        ('{"channels":["a"]}', 'message: expected the members action and channels, got {"channels":["a"]}'),
        ('{"action":"listen","channels":["a"]}', 'action: expected subscribe or unsubscribe, got "listen"'),
        ('{"action":"Subscribe","channels":["a"]}', 'action: expected subscribe or unsubscribe, got "Subscribe"'),
        ('{"action":null,"channels":["a"]}', "action: expected subscribe or unsubscribe, got null"),
        ('{"action":1.50,"channels":["a"]}', "action: expected subscribe or unsubscribe, got 1.5"),
        ('{"action":"subscribe","channels":"a"}', 'channels: expected an array, got "a"'),
        ('{"action":"subscribe","channels":{"a":1}}', 'channels: expected an array, got {"a":1}'),
        ('{"action":"subscribe","channels":null}', "channels: expected an array, got null"),
        ('{"action":"subscribe","channels":[]}', "channels: expected at least 1 channel, got []"),
        ('{"action":"subscribe","channels":["a",7]}', "channels[1]: expected a string, got 7"),
        ('{"action":"subscribe","channels":[["a"]]}', 'channels[0]: expected a string, got ["a"]'),
        ('{"action":"unsubscribe","channels":["a",true]}', "channels[1]: expected a string, got true"),
    ],
)
def test_the_error_for_an_invalid_message_says_what_is_wrong_and_where(client: Client, text: str, message: str) -> None:
    assert client.say(text) == [error("INVALID_MESSAGE", message)]


def test_twenty_channels_are_served(client: Client) -> None:
    channels = [f"candles:A{i}-USD:1h" for i in range(20)]

    assert client.subscribe(*channels) == [
        json.dumps({"type": "subscribed", "channels": channels}, separators=(",", ":"))
    ]


def test_twenty_one_channels_are_refused(client: Client) -> None:
    shown = "[" + '"a",' * 15 + '"a'

    assert client.subscribe(*["a"] * 21) == [
        error("INVALID_MESSAGE", f"channels: expected at most 20 channels, got {shown}…")
    ]


def test_a_channel_of_128_characters_passes_the_schema(client: Client) -> None:
    channel = "\U0001f600" * 128

    assert client.unsubscribe(channel) == [f'{{"type":"unsubscribed","channels":["{channel}"]}}']


def test_a_channel_of_129_characters_is_refused(client: Client) -> None:
    assert client.unsubscribe("b" * 129) == [
        error("INVALID_MESSAGE", f'channels[0]: expected at most 128 characters, got "{"b" * 62}…')
    ]


def test_a_message_that_is_refused_changes_nothing(client: Client) -> None:
    client.subscribe("candles:*:*")
    client.say('{"action":"unsubscribe","channels":["candles:*:*",1]}')

    assert client.subscriptions == {"candles:*:*"}


def test_other_members_are_ignored(client: Client) -> None:
    assert client.say('{"id":[{"a":null}],"action":"subscribe","channels":["signals:*:1h"],"type":"x"}') == [
        '{"type":"subscribed","channels":["signals:*:1h"]}'
    ]


def test_of_duplicate_members_the_last_counts(client: Client) -> None:
    text = '{"action":"unsubscribe","action":"subscribe","channels":["candles:*:1m"],"channels":["candles:*:1h"]}'

    assert client.say(text) == ['{"type":"subscribed","channels":["candles:*:1h"]}']


def test_a_message_that_only_the_fast_validator_refuses_is_called_invalid() -> None:
    assert dialogue._explain(Validator({}), {"action": "subscribe"}) == "Invalid message"


@pytest.mark.parametrize(
    "items",
    [pytest.param("1," * 32_000, id="numbers"), pytest.param('"",' * 21_000, id="texts")],
)
def test_to_explain_a_message_of_many_items_looks_at_few_of_them(items: str) -> None:
    looked_at = 0

    class Counting(Validator):
        def first_error(self, instance: Any) -> jsonschema.ValidationError | None:
            nonlocal looked_at
            looked_at = len(instance["channels"])
            return super().first_error(instance)

    schema = json.loads((SCHEMAS / "client_message.json").read_text())
    message = json.loads('{"action":"subscribe","channels":[' + items + "1]}")

    explained = dialogue._explain(Counting(schema), message)

    assert explained.startswith("channels: expected at most 20 channels, got [")
    assert looked_at == 64


def longest_repeat(text: str, reply: str) -> int:
    """Return the length of the longest run of `text`'s first character in the message of `reply`."""
    message = json.loads(reply)["message"]
    return max((len(list(run)) for same, run in itertools.groupby(message, lambda c: c == text[0]) if same), default=0)


@pytest.mark.parametrize(
    "text",
    [
        '{"action":"ééé","channels":["a"]}'.replace("ééé", "é" * 1_000),
        '{"action":"subscribe","channels":["ééé"]}'.replace("ééé", "é" * 1_000),
        '{"action":"subscribe","channels":"ééé"}'.replace("ééé", "é" * 30_000),
        '"ééé"'.replace("ééé", "é" * 30_000),
        '{"ééé":1}'.replace("ééé", "é" * 30_000),
        '{"action":{"ééé":["ééé"]},"channels":["a"]}'.replace("ééé", "é" * 1_000),
        '{"action":"subscribe","channels":["ééé"]}'.replace("ééé", "é" * 128),
    ],
)
def test_at_most_64_characters_of_the_input_are_repeated(client: Client, text: str) -> None:
    (reply, *_) = client.say(text)

    assert 55 <= longest_repeat("é", reply) <= 64
    assert reply.count("é") <= 64


def test_an_unknown_channel_of_64_characters_is_shown_whole(client: Client) -> None:
    assert client.subscribe("a" * 64)[0] == error("INVALID_CHANNEL", f"Unknown channel: {'a' * 64}")


def test_an_unknown_channel_of_65_characters_is_cut(client: Client) -> None:
    assert client.subscribe("a" * 65)[0] == error("INVALID_CHANNEL", f"Unknown channel: {'a' * 63}…")


def test_unprintable_characters_of_the_input_are_escaped(client: Client) -> None:
    (reply, _) = client.subscribe("\0\t\x1b[31m\x7f\x85\xa0\u200e\u2028\ufeff\U000e0001")

    assert json.loads(reply)["message"] == (r"Unknown channel: \x00\t\x1b[31m\x7f\x85\xa0\u200e\u2028\ufeff\U000e0001")


def test_unprintable_characters_in_a_refused_message_are_escaped(client: Client) -> None:
    (reply,) = client.say('{"action":"\\u0000\\u007f\\u2028","channels":["a"]}')

    assert json.loads(reply)["message"] == r'action: expected subscribe or unsubscribe, got "\u0000\x7f\u2028"'


# Subscribe


@pytest.mark.parametrize(
    "channel",
    [
        "candles:BTC-USD:1h",
        "signals:ETH-USD:15m",
        "candles:a-b:1d",
        f"candles:{'A' * 20}-{'9' * 20}:4h",
        "candles:*:*",
        "candles:BTC-USD:*",
        "signals:*:1h",
    ],
)
def test_a_channel_of_a_known_form_is_granted(client: Client, channel: str) -> None:
    assert client.subscribe(channel) == [f'{{"type":"subscribed","channels":["{channel}"]}}']


@pytest.mark.parametrize(
    "channel",
    [
        "",
        "*",
        "candles",
        "candles:BTC-USD",
        "candles:BTC-USD:1h:",
        "candles:BTC-USD:2h",
        "candles:BTC-USD:1H",
        "candles:BTCUSD:1h",
        "candles:BTC-USD-X:1h",
        "candles:BTC-*:1h",
        "candles:**:1h",
        "candles:BTC_USD:1h",
        f"candles:{'A' * 21}-USD:1h",
        "*:BTC-USD:1h",
        "Candles:BTC-USD:1h",
        " candles:BTC-USD:1h",
        "candles:BTC-USD:1h ",
        "trades:BTC-USD:1h",
        "candles:BTC-\u0661:1h",
    ],
)
def test_a_channel_of_an_unknown_form_is_refused(client: Client, channel: str) -> None:
    assert client.subscribe(channel) == [
        error("INVALID_CHANNEL", f"Unknown channel: {channel}"),
        '{"type":"subscribed","channels":[]}',
    ]


def test_a_line_feed_after_a_channel_is_part_of_it(client: Client) -> None:
    assert client.subscribe("candles:BTC-USD:1h\n")[0] == error(
        "INVALID_CHANNEL", r"Unknown channel: candles:BTC-USD:1h\n"
    )


def test_one_bad_channel_does_not_cost_the_others(client: Client) -> None:
    assert client.subscribe("candles:BTC-USD:1h", "news", "signals:*:*", "weather") == [
        '{"type":"error","code":"INVALID_CHANNEL","message":"Unknown channel: news"}',
        '{"type":"error","code":"INVALID_CHANNEL","message":"Unknown channel: weather"}',
        '{"type":"subscribed","channels":["candles:BTC-USD:1h","signals:*:*"]}',
    ]


def test_a_grant_is_in_the_order_asked_with_duplicates_folded(client: Client) -> None:
    assert client.subscribe("signals:*:*", "candles:B-B:1h", "signals:*:*", "candles:A-A:1h", "candles:B-B:1h") == [
        '{"type":"subscribed","channels":["signals:*:*","candles:B-B:1h","candles:A-A:1h"]}'
    ]


def test_a_bad_channel_that_is_named_twice_is_refused_once(client: Client) -> None:
    assert client.subscribe("news", "news") == [
        '{"type":"error","code":"INVALID_CHANNEL","message":"Unknown channel: news"}',
        '{"type":"subscribed","channels":[]}',
    ]


def test_a_granted_channel_is_held(client: Client) -> None:
    client.subscribe("candles:*:*", "news")
    client.subscribe("signals:*:*")

    assert client.subscriptions == {"candles:*:*", "signals:*:*"}


def test_subscribing_twice_is_allowed(client: Client) -> None:
    client.subscribe("candles:*:*")

    assert client.subscribe("candles:*:*") == ['{"type":"subscribed","channels":["candles:*:*"]}']
    assert client.subscriptions == {"candles:*:*"}


# The channels that a key may have


def test_a_key_that_is_not_limited_may_have_everything() -> None:
    assert client_of().subscribe("candles:*:*", "signals:*:*") == [
        '{"type":"subscribed","channels":["candles:*:*","signals:*:*"]}'
    ]


@pytest.mark.parametrize(
    ("pattern", "channel"),
    [
        ("signals:BTC-USD:*", "signals:BTC-USD:1h"),
        ("signals:BTC-USD:*", "signals:BTC-USD:*"),
        ("signals:*:*", "signals:*:*"),
        ("signals:*:*", "signals:BTC-USD:*"),
        ("signals:*:1h", "signals:*:1h"),
        ("signals:BTC-USD:1h", "signals:BTC-USD:1h"),
    ],
)
def test_a_channel_that_a_pattern_of_the_key_contains_is_granted(pattern: str, channel: str) -> None:
    assert client_of(pattern).subscribe(channel) == [f'{{"type":"subscribed","channels":["{channel}"]}}']


@pytest.mark.parametrize(
    ("pattern", "channel"),
    [
        ("signals:BTC-USD:*", "signals:*:*"),
        ("signals:BTC-USD:*", "signals:*:1h"),
        ("signals:BTC-USD:*", "signals:ETH-USD:1h"),
        ("signals:*:1h", "signals:*:*"),
        ("signals:BTC-USD:1h", "signals:BTC-USD:*"),
        ("signals:*:*", "candles:BTC-USD:1h"),
    ],
)
def test_a_channel_that_no_pattern_of_the_key_contains_is_refused(pattern: str, channel: str) -> None:
    assert client_of(pattern).subscribe(channel) == [
        f'{{"type":"error","code":"INVALID_CHANNEL","message":"Not permitted: {channel}"}}',
        '{"type":"subscribed","channels":[]}',
    ]


def test_one_of_several_patterns_is_enough() -> None:
    client = client_of("candles:*:1d", "signals:BTC-USD:*")

    assert client.subscribe("signals:BTC-USD:1h", "candles:A-A:1d", "candles:A-A:1h") == [
        '{"type":"error","code":"INVALID_CHANNEL","message":"Not permitted: candles:A-A:1h"}',
        '{"type":"subscribed","channels":["signals:BTC-USD:1h","candles:A-A:1d"]}',
    ]


def test_two_patterns_that_hold_a_wider_channel_together_do_not_grant_it() -> None:
    client = client_of(*(f"candles:*:{timeframe}" for timeframe in ("1m", "5m", "15m", "1h", "4h", "1d")))

    assert client.subscribe("candles:*:*") == [
        '{"type":"error","code":"INVALID_CHANNEL","message":"Not permitted: candles:*:*"}',
        '{"type":"subscribed","channels":[]}',
    ]


def test_a_channel_of_an_unknown_form_is_unknown_for_a_limited_key_too() -> None:
    assert client_of("news:*:*").subscribe("news:a:b")[0] == (
        '{"type":"error","code":"INVALID_CHANNEL","message":"Unknown channel: news:a:b"}'
    )


# The limit on subscriptions


def test_the_200th_subscription_is_granted_and_the_201st_refused() -> None:
    client = client_of()
    for start in range(0, 180, 20):
        client.subscribe(*(f"candles:A{i}-USD:1h" for i in range(start, start + 20)))

    replies = client.subscribe(*(f"candles:A{i}-USD:1h" for i in range(181, 200)), "candles:A180-USD:1h")
    assert replies[-1].startswith('{"type":"subscribed","channels":["candles:A181-USD:1h"')
    assert len(client.subscriptions) == 200
    assert client.subscribe("candles:B-USD:1h") == [
        '{"type":"error","code":"LIMIT_EXCEEDED","message":"At most 200 subscriptions a connection: candles:B-USD:1h"}',
        '{"type":"subscribed","channels":[]}',
    ]


def test_each_channel_past_the_limit_is_answered() -> None:
    assert client_of(max_subscriptions=1).subscribe("candles:A-A:1h", "candles:B-B:1h", "candles:C-C:1h") == [
        '{"type":"error","code":"LIMIT_EXCEEDED","message":"At most 1 subscriptions a connection: candles:B-B:1h"}',
        '{"type":"error","code":"LIMIT_EXCEEDED","message":"At most 1 subscriptions a connection: candles:C-C:1h"}',
        '{"type":"subscribed","channels":["candles:A-A:1h"]}',
    ]


def test_at_the_limit_a_channel_that_is_held_can_be_subscribed_again() -> None:
    client = client_of(max_subscriptions=1)
    client.subscribe("candles:A-A:1h")

    assert client.subscribe("candles:A-A:1h") == ['{"type":"subscribed","channels":["candles:A-A:1h"]}']


def test_a_channel_that_was_given_up_makes_room() -> None:
    client = client_of(max_subscriptions=1)
    client.subscribe("candles:A-A:1h")
    client.unsubscribe("candles:A-A:1h")

    assert client.subscribe("candles:B-B:1h") == ['{"type":"subscribed","channels":["candles:B-B:1h"]}']


def test_a_channel_that_is_refused_takes_no_room() -> None:
    client = client_of("candles:*:*", max_subscriptions=1)

    assert client.subscribe("news", "signals:A-A:1h", "candles:A-A:1h")[-1] == (
        '{"type":"subscribed","channels":["candles:A-A:1h"]}'
    )


# Unsubscribe


def test_a_channel_that_was_given_up_is_no_longer_held(client: Client) -> None:
    client.subscribe("candles:*:*", "signals:*:*")

    assert client.unsubscribe("candles:*:*") == ['{"type":"unsubscribed","channels":["candles:*:*"]}']
    assert client.subscriptions == {"signals:*:*"}


def test_unsubscribe_names_the_channels_of_the_request_in_order_with_duplicates_folded(client: Client) -> None:
    client.subscribe("candles:A-A:1h")

    assert client.unsubscribe("news", "candles:A-A:1h", "signals:*:*", "news") == [
        '{"type":"unsubscribed","channels":["news","candles:A-A:1h","signals:*:*"]}'
    ]


def test_giving_up_a_wildcard_keeps_the_channels_inside_it(client: Client) -> None:
    client.subscribe("candles:*:*", "candles:A-A:1h")
    client.unsubscribe("candles:*:*")

    assert client.subscriptions == {"candles:A-A:1h"}


def test_a_key_may_give_up_a_channel_that_it_may_not_have() -> None:
    assert client_of("signals:*:*").unsubscribe("candles:*:*") == ['{"type":"unsubscribed","channels":["candles:*:*"]}']


# The rate


SUBSCRIBE = '{"action":"subscribe","channels":["candles:*:*"]}'
SUBSCRIBED = ['{"type":"subscribed","channels":["candles:*:*"]}']


def test_the_51st_message_at_once_is_too_many() -> None:
    client = Client(dialogue_of(), allowance_of(burst=50))

    assert [client.say(SUBSCRIBE) for _ in range(52)] == [SUBSCRIBED] * 50 + [[RATE_LIMITED]] * 2


def test_five_messages_a_second_come_back() -> None:
    clock = Clock()
    client = Client(dialogue_of(clock=clock), allowance_of(burst=50))
    for _ in range(60):
        client.say(SUBSCRIBE)

    clock.now += 1
    assert [client.say(SUBSCRIBE) for _ in range(6)] == [SUBSCRIBED] * 5 + [[RATE_LIMITED]]


def test_all_connections_of_a_key_share_its_rate() -> None:
    allowance = allowance_of(burst=50)
    clients = [Client(dialogue_of(), allowance) for _ in range(5)]
    for client in clients * 10:
        client.say(SUBSCRIBE)

    assert [client.say(SUBSCRIBE) for client in clients] == [[RATE_LIMITED]] * 5


@pytest.mark.parametrize(
    "text", ["{", "{}", '{"action":"subscribe","channels":["news"]}', '{"action":"unsubscribe","channels":["news"]}']
)
def test_messages_of_every_kind_count(text: str) -> None:
    client = Client(dialogue_of(), allowance_of(burst=50))
    for _ in range(50):
        client.say(text)

    assert client.say(SUBSCRIBE) == [RATE_LIMITED]


def test_a_message_that_is_too_many_is_not_acted_on() -> None:
    client = Client(dialogue_of(), allowance_of(burst=1))
    client.subscribe("candles:*:*")
    client.unsubscribe("candles:*:*")

    assert client.subscriptions == {"candles:*:*"}


def test_a_message_that_is_too_many_is_not_even_parsed() -> None:
    client = Client(dialogue_of(), allowance_of(burst=1))
    client.say(SUBSCRIBE)

    assert client.say("{") == [RATE_LIMITED]


# Against a model

CODES = {"PARSE_ERROR", "INVALID_MESSAGE", "INVALID_CHANNEL", "LIMIT_EXCEEDED", "RATE_LIMITED"}

json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=200)),
    lambda inner: st.one_of(st.lists(inner, max_size=25), st.dictionaries(st.text(max_size=100), inner, max_size=5)),
    max_leaves=30,
)
near_messages = st.fixed_dictionaries(
    {
        "action": st.one_of(st.sampled_from(["subscribe", "unsubscribe", "Subscribe", ""]), json_values),
        "channels": st.one_of(st.lists(st.one_of(st.text(max_size=140), json_values), max_size=22), json_values),
    }
)


@settings(deadline=None)
@given(st.one_of(st.text(), st.one_of(json_values, near_messages).map(json.dumps)))
def test_any_text_is_answered_by_the_contract(text: str) -> None:
    client = client_of()

    *errors, last = map(json.loads, client.say(text))

    assert all(reply["code"] in CODES for reply in errors)
    assert last["type"] in ("subscribed", "unsubscribed") or (not errors and last["code"] in CODES)


GRANTED_TO_THE_KEY = ("candles:A-A:1h", "candles:A-A:*", "signals:A-A:1h", "signals:*:1h")


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.booleans(),
            st.lists(st.sampled_from((*GRANTED_TO_THE_KEY, "candles:*:*", "news", "candles:")), min_size=1, max_size=6),
        ),
        max_size=8,
    )
)
def test_any_dialogue_follows_the_contract(messages: list[tuple[bool, list[str]]]) -> None:
    client = client_of("candles:A-A:*", "signals:*:1h", max_subscriptions=3)
    held: list[str] = []
    for subscribes, channels in messages:
        named = list(dict.fromkeys(channels))
        expected: list[tuple[str, object]] = []
        if subscribes:
            granted = []
            for channel in named:
                if channel not in GRANTED_TO_THE_KEY:
                    expected.append(("error", "INVALID_CHANNEL"))
                elif channel in held:
                    granted.append(channel)
                elif len(held) == 3:
                    expected.append(("error", "LIMIT_EXCEEDED"))
                else:
                    granted.append(channel)
                    held.append(channel)
            expected.append(("subscribed", granted))
            replies = client.subscribe(*channels)
        else:
            held = [channel for channel in held if channel not in named]
            expected.append(("unsubscribed", named))
            replies = client.unsubscribe(*channels)

        decoded = [json.loads(reply) for reply in replies]
        assert [(reply["type"], reply.get("channels", reply.get("code"))) for reply in decoded] == expected
        assert client.subscriptions == set(held)

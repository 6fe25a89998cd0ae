"""tornado_bridge.channels: forms, wildcards, source channels, containment."""

import fnmatch
import itertools

import pytest

from tornado_bridge.channels import MAX_PARAMETERS, Form, Grammar, Rule, SourceForm, contains, globs_overlap
from tornado_bridge.errors import InvalidEvent

RULES: dict[str, Rule] = {
    "symbol": r"[A-Za-z0-9]{1,20}-[A-Za-z0-9]{1,20}",
    "timeframe": ("1m", "5m", "15m", "1h", "4h", "1d"),
}


@pytest.fixture
def candles() -> Form:
    return Form("candles:{symbol}:{timeframe}", RULES)


@pytest.fixture
def grammar(candles: Form) -> Grammar:
    return Grammar([candles, Form("signals:{symbol}:{timeframe}", RULES), Form("trades:{symbol}", RULES)])


NO_CANDLES = [
    "",
    "candles",
    "candles:BTC-USD",
    "candles:BTC-USD:",
    "candles:BTC-USD:1h:",
    "candles:BTC-USD:1h:1h",
    ":BTC-USD:1h",
    "Candles:BTC-USD:1h",
    "candles :BTC-USD:1h",
    "signals:BTC-USD:1h",
    "candles:BTC-USD:2h",
    "candles:BTC-USD:1H",
    "candles:BTC-USD:1h\n",
    "candles:BTC-USD\n:1h",
    "candles:\nBTC-USD:1h",
    "candles:BTC-USD :1h",
    "candles:BTCUSD:1h",
    "candles:BTC-USD-X:1h",
    "candles:-USD:1h",
    "candles:BTC-:1h",
    "candles:BTC-\u0661:1h",
    "candles:\uff22TC-USD:1h",
    "candles:AAAAAAAAAAAAAAAAAAAAA-USD:1h",
    "candles:B*-USD:1h",
    "candles:BTC-*:1h",
    "candles:**:1h",
    "*:BTC-USD:1h",
    "*",
]


def test_a_name_of_the_form_gives_its_parts(candles: Form) -> None:
    assert candles.match("candles:BTC-USD:15m") == {"symbol": "BTC-USD", "timeframe": "15m"}


@pytest.mark.parametrize("name", [*NO_CANDLES, "candles:*:1h", "candles:BTC-USD:*", "candles:*:*"])
def test_another_name_is_not_of_the_form(candles: Form, name: str) -> None:
    assert candles.match(name) is None


@pytest.mark.parametrize(
    "name", ["candles:BTC-USD:1h", "candles:*:1h", "candles:BTC-USD:*", "candles:*:*", "candles:b-1:1d"]
)
def test_a_named_part_of_a_subscription_may_be_a_wildcard(candles: Form, name: str) -> None:
    assert candles.admits(name)


@pytest.mark.parametrize("name", NO_CANDLES)
def test_a_subscription_of_another_form_is_not_admitted(candles: Form, name: str) -> None:
    assert not candles.admits(name)


@pytest.mark.parametrize("text", ["*", "a*", "*a", "a*b"])
def test_a_concrete_part_never_has_a_wildcard_whatever_its_rule(text: str) -> None:
    assert Form("x:{a}", {"a": r"[a-z*]+"}).match(f"x:{text}") is None


def test_a_part_never_has_a_colon_whatever_its_rule() -> None:
    with pytest.raises(InvalidEvent):
        Form("x:{a}", {"a": r"[a-z:]+"}).format(a="b:c")


def test_a_pattern_must_match_the_whole_part() -> None:
    form = Form("x:{a}", {"a": r"one|two"})
    assert [form.match(f"x:{part}") is not None for part in ("one", "two", "onex", "xtwo", "one\n")] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_a_pattern_matches_ascii_only() -> None:
    assert Form("x:{a}", {"a": r"\w+"}).match("x:\u0661") is None


@pytest.mark.parametrize(
    ("text", "wildcard"), [("quotes:{symbol}", "quotes:*"), ("{a}:x:{b}", "*:x:*"), ("status:all", "status:all")]
)
def test_a_form_has_a_subscription_to_all_of_its_channels(text: str, wildcard: str) -> None:
    form = Form(text, {})
    assert form.wildcard == wildcard
    assert wildcard in form.subscriptions(text.replace("{", "").replace("}", ""))


@pytest.mark.parametrize(("part", "of_the_form"), [("aA9_.-", True), ("a" * 64, True), ("a" * 65, False), ("", False)])
def test_a_part_without_a_rule_is_a_plain_name_of_64_characters_at_most(part: str, of_the_form: bool) -> None:
    assert (Form("x:{a}", {}).match(f"x:{part}") is not None) is of_the_form


@pytest.mark.parametrize("part", ["a b", "a*", "\u00e9", "a/b", "a\n"])
def test_a_part_without_a_rule_has_no_other_characters(part: str) -> None:
    assert Form("x:{a}", {}).match(f"x:{part}") is None


def test_a_form_without_named_parts_has_one_name() -> None:
    assert Form("news", {}).match("news") == {}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "'' has the part '', which is neither a plain name nor {a_name}"),
        ("x:", "'x:' has the part '', which is neither a plain name nor {a_name}"),
        ("x:*", "'x:*' has the part '*', which is neither a plain name nor {a_name}"),
        ("x:{A}", "'x:{A}' has the part '{A}', which is neither a plain name nor {a_name}"),
        ("x:{a}{b}", "'x:{a}{b}' has the part '{a}{b}', which is neither a plain name nor {a_name}"),
        ("x:y{a}", "'x:y{a}' has the part 'y{a}', which is neither a plain name nor {a_name}"),
        ("x:{a}\n", "'x:{a}\\n' has the part '{a}\\n', which is neither a plain name nor {a_name}"),
        ("x y:{a}", "'x y:{a}' has the part 'x y', which is neither a plain name nor {a_name}"),
        ("x\n:{a}", "'x\\n:{a}' has the part 'x\\n', which is neither a plain name nor {a_name}"),
        ("x[a]:{a}", "'x[a]:{a}' has the part 'x[a]', which is neither a plain name nor {a_name}"),
        ("{a}:{a}", "'{a}:{a}' uses the same named part twice"),
    ],
)
def test_an_invalid_form_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError) as raised:
        Form(text, {})
    assert str(raised.value) == reason


def test_an_invalid_pattern_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^the rule of 'a' is not a valid regular expression "):
        Form("x:{a}", {"a": "[a-z"})


def test_a_pattern_that_is_valid_only_inside_parentheses_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^the rule of 'a' is not a valid regular expression "):
        Form("x:{a}", {"a": "b)|(?:.*"})


def test_a_list_is_not_a_rule() -> None:
    with pytest.raises(ValueError, match=r"^the rule of 'a' is neither a regular expression nor a tuple of texts$"):
        Form("x:{a}", {"a": ["1m", "5m"]})  # type: ignore[dict-item]


@pytest.mark.parametrize("rule", [(), ("",), ("*",), ("a", "b:c"), ("a b",), ("a\n",)])
def test_the_texts_of_a_rule_are_plain_names(rule: tuple[str, ...]) -> None:
    with pytest.raises(ValueError) as raised:
        Form("x:{a}", {"a": rule})
    assert str(raised.value) == "the rule of 'a' must list one text or more, and only plain names"


def test_format_makes_the_concrete_name(candles: Form) -> None:
    assert candles.format(timeframe="1h", symbol="BTC-USD") == "candles:BTC-USD:1h"


@pytest.mark.parametrize("symbol", ["*", "BTC", "BTC-USD:1h", "BTC-USD\n", ""])
def test_format_refuses_a_part_that_breaks_its_rule(candles: Form, symbol: str) -> None:
    with pytest.raises(InvalidEvent) as raised:
        candles.format(symbol=symbol, timeframe="1h")
    assert raised.value.reason == "symbol breaks its rule in candles:{symbol}:{timeframe}"


def test_format_refuses_a_part_that_is_not_among_the_choices(candles: Form) -> None:
    with pytest.raises(InvalidEvent) as raised:
        candles.format(symbol="BTC-USD", timeframe="2h")
    assert raised.value.reason == "timeframe breaks its rule in candles:{symbol}:{timeframe}"


def test_format_refuses_a_missing_part(candles: Form) -> None:
    with pytest.raises(InvalidEvent) as raised:
        candles.format(symbol="BTC-USD")
    assert raised.value.reason == "candles:{symbol}:{timeframe} needs exactly these named parts: symbol, timeframe"


def test_format_refuses_a_part_too_many() -> None:
    with pytest.raises(InvalidEvent) as raised:
        Form("news", {}).format(symbol="BTC-USD")
    assert raised.value.reason == "news needs exactly these named parts: none"


def test_a_channel_is_matched_by_itself_and_by_every_wildcard(candles: Form) -> None:
    assert candles.subscriptions("candles:BTC-USD:1h") == (
        "candles:BTC-USD:1h",
        "candles:BTC-USD:*",
        "candles:*:1h",
        "candles:*:*",
    )


def test_a_wildcard_is_not_a_channel_that_subscriptions_match(candles: Form) -> None:
    assert candles.subscriptions("candles:*:1h") == ()


def test_sixteen_subscriptions_match_a_channel_of_the_most_named_parts() -> None:
    form = Form("x:" + ":".join(f"{{p{i}}}" for i in range(MAX_PARAMETERS)), {})
    assert len(set(form.subscriptions("x:a:b:c:d"))) == 16


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x:{a}", "x:{b}"),
        ("x:{a}", "x:y"),
        ("x:{a}", "{b}:y"),
        ("x", "x"),
        ("{a}:{b}", "x:y"),
    ],
)
def test_forms_overlap_if_one_channel_can_be_of_both(one: str, other: str) -> None:
    assert (Form(one, {}).overlaps(Form(other, {})), Form(other, {}).overlaps(Form(one, {}))) == (True, True)


@pytest.mark.parametrize(("one", "other"), [("x:{a}", "y:{a}"), ("x:{a}", "x:{a}:{b}"), ("x", "y"), ("x:{a}", "y:z")])
def test_forms_that_differ_in_a_plain_part_or_in_length_do_not_overlap(one: str, other: str) -> None:
    assert (Form(one, {}).overlaps(Form(other, {})), Form(other, {}).overlaps(Form(one, {}))) == (False, False)


CANDLE_SOURCE = "channel:exchange:{exchange_id}:candle:close:{symbol}:{timeframe}"


def test_a_source_with_named_parts_is_subscribed_as_a_pattern() -> None:
    source = SourceForm(Form(CANDLE_SOURCE, RULES), "1")
    assert (source.is_pattern, source.redis_name) == (True, "channel:exchange:1:candle:close:*:*")


def test_a_source_whose_only_named_part_is_the_exchange_is_subscribed_by_name() -> None:
    source = SourceForm(Form("channel:alerts:exchange:{exchange_id}", {}), "1")
    assert (source.is_pattern, source.redis_name) == (False, "channel:alerts:exchange:1")


def test_a_source_channel_gives_its_parts_without_the_exchange() -> None:
    source = SourceForm(Form(CANDLE_SOURCE, RULES), "1")
    assert source.match("channel:exchange:1:candle:close:BTC-USD:1h") == {"symbol": "BTC-USD", "timeframe": "1h"}


@pytest.mark.parametrize(
    "name",
    [
        "channel:exchange:2:candle:close:BTC-USD:1h",
        "channel:exchange:11:candle:close:BTC-USD:1h",
        "channel:exchange:1:candle:open:BTC-USD:1h",
        "channel:exchange:1:candle:close:BTC-USD:2h",
        "channel:exchange:1:candle:close:x:BTC-USD:1h",
        "channel:exchange:1:candle:close:*:1h",
    ],
)
def test_a_source_channel_of_another_exchange_or_form_is_not_matched(name: str) -> None:
    assert SourceForm(Form(CANDLE_SOURCE, RULES), "1").match(name) is None


def test_a_source_need_not_name_the_exchange() -> None:
    assert SourceForm(Form("news:{topic}", {}), "1").match("news:weather") == {"topic": "weather"}


def test_globs_overlap_where_one_text_is_of_both() -> None:
    texts = ["".join(letters) for size in range(7) for letters in itertools.product("ab", repeat=size)]
    globs = ["".join(letters) for size in range(4) for letters in itertools.product("ab*", repeat=size)]
    matched = {glob: {text for text in texts if fnmatch.fnmatchcase(text, glob)} for glob in globs}
    wrong = [
        (a, b)
        for a, b in itertools.product(globs, repeat=2)
        if globs_overlap(a, b) is not bool(matched[a] & matched[b])
    ]
    assert wrong == []


@pytest.mark.parametrize("name", ["candles:BTC-USD:1h", "signals:*:1d", "trades:*"])
def test_a_grammar_admits_subscriptions_of_each_of_its_forms(grammar: Grammar, name: str) -> None:
    assert grammar.admits(name)


@pytest.mark.parametrize("name", ["orders:BTC-USD", "trades:*:1h", "*:*:*", ""])
def test_a_grammar_admits_no_other_subscription(grammar: Grammar, name: str) -> None:
    assert not grammar.admits(name)


def test_a_grammar_has_the_subscriptions_for_a_channel_of_each_form(grammar: Grammar) -> None:
    assert grammar.subscriptions("trades:BTC-USD") == ("trades:BTC-USD", "trades:*")


def test_a_grammar_has_no_subscriptions_for_a_channel_of_another_form(grammar: Grammar) -> None:
    assert grammar.subscriptions("orders:BTC-USD") == ()


@pytest.mark.parametrize(
    ("pattern", "subscription"),
    [
        ("signals:BTC-USD:1h", "signals:BTC-USD:1h"),
        ("signals:BTC-USD:*", "signals:BTC-USD:1h"),
        ("signals:BTC-USD:*", "signals:BTC-USD:*"),
        ("signals:*:*", "signals:*:1h"),
    ],
)
def test_a_pattern_grants_what_it_contains_part_by_part(pattern: str, subscription: str) -> None:
    assert contains(pattern, subscription)


@pytest.mark.parametrize(
    ("pattern", "subscription"),
    [
        ("signals:BTC-USD:*", "signals:*:*"),
        ("signals:BTC-USD:1h", "signals:BTC-USD:*"),
        ("signals:BTC-USD:*", "signals:ETH-USD:1h"),
        ("signals:*:*", "candles:BTC-USD:1h"),
        ("signals:*", "signals:BTC-USD:1h"),
        ("signals:*:*", "signals:BTC-USD"),
        ("signals:B*:*", "signals:BTC-USD:1h"),
    ],
)
def test_a_pattern_grants_nothing_wider_and_nothing_else(pattern: str, subscription: str) -> None:
    assert not contains(pattern, subscription)

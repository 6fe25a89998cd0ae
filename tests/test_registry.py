"""tornado_bridge.registry: plugins are loaded, checked and routed; an invalid one stops the start."""

import importlib
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

import tornado_bridge
from tests.support.pipeline import text_of
from tornado_bridge import Envelope, Event, EventType, envelope_schema, hookimpl, values
from tornado_bridge.connections.admission import Allowance
from tornado_bridge.connections.dialogue import Dialogue
from tornado_bridge.discovery import Candidate
from tornado_bridge.errors import ConfigurationError, PluginError
from tornado_bridge.keys import Key
from tornado_bridge.registry import Registry, Route

Install = Callable[..., None]


class Trade(msgspec.Struct):
    """What is read of a trade."""

    price: msgspec.Raw
    side: str


def declared(**changes: Any) -> EventType:
    declaration: dict[str, Any] = {
        "name": "trade",
        "source": "channel:exchange:{exchange_id}:trades:{symbol}",
        "channel": "trades:{symbol}",
        "parameters": {"symbol": r"[A-Z]{3}-[A-Z]{3}"},
        "reads": Trade,
        "emits": envelope_schema(
            "trade",
            "^trades:[A-Z]{3}-[A-Z]{3}$",
            {"price": values.DECIMAL, "side": {"enum": ["buy", "sell"]}},
        ),
    }
    return EventType(**{**declaration, **changes})


TRADE = declared()


class Trades:
    """A third plugin, an object of the application."""

    def __init__(self, *event_types: Any) -> None:
        self._event_types = event_types or (TRADE,)

    @hookimpl
    def register_event_types(self) -> Iterable[EventType]:
        return self._event_types

    @hookimpl
    def transform(self, event: Event[Trade]) -> list[Envelope]:
        price = values.decimal(event.payload.price, "price")
        channel = TRADE.channel_name(**event.parameters)
        return [Envelope(channel, {"price": price, "side": event.payload.side})]


# A whole plugin as a module.
MODULE = """
import msgspec
from tornado_bridge import Envelope, EventType, envelope_schema, hookimpl

class Reads(msgspec.Struct):
    price: msgspec.Raw

@hookimpl
def register_event_types():
    return [
        EventType(
            name="{name}",
            source="channel:exchange:{{exchange_id}}:{name}:{{symbol}}",
            channel="{name}:{{symbol}}",
            reads=Reads,
            emits=envelope_schema("{name}", "^{name}:[A-Za-z0-9_.-]+$", {{}}),
        )
    ]

@hookimpl
def transform(event):
    return None
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a distribution with one plugin into a directory of Python's path."""
    modules: list[str] = []

    def put(distribution: str, entry_point: str, source: str) -> None:
        module = f"{distribution.replace('-', '_')}_of_the_tests"
        modules.append(module)
        (tmp_path / f"{module}.py").write_text(source)
        info = tmp_path / f"{distribution.replace('-', '_')}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[tornado_bridge]\n{entry_point} = {module}\n")

    monkeypatch.syspath_prepend(tmp_path)
    yield put
    for module in modules:
        sys.modules.pop(module, None)


def route_of(plugin: object) -> Route:
    (route,) = Registry([plugin]).routes("1")
    return route


def refusal(*plugins: str | object) -> PluginError:
    with pytest.raises(PluginError) as raised:
        Registry(plugins)
    return raised.value


def test_every_installed_plugin_is_found_by_its_entry_point() -> None:
    assert {"candle", "signals"} <= {plugin.name for plugin in Registry().plugins}


def test_a_plugin_knows_its_distribution_and_version() -> None:
    (plugin,) = Registry(["candle"]).plugins
    assert (plugin.distribution, plugin.version) == ("tornado_bridge", tornado_bridge.__version__)


def test_a_plugin_knows_its_hooks() -> None:
    (plugin,) = Registry(["candle"]).plugins
    assert plugin.hooks == ("register_event_types", "transform")


def test_a_plugin_knows_its_event_types() -> None:
    (plugin,) = Registry(["candle"]).plugins
    assert [event_type.name for event_type in plugin.event_types] == ["candle_close"]


def test_plugins_are_in_the_order_of_their_names() -> None:
    assert [plugin.name for plugin in Registry(["signals", "candle"]).plugins] == ["candle", "signals"]


def test_only_the_plugins_that_are_named_are_used() -> None:
    assert [plugin.name for plugin in Registry(["signals"]).plugins] == ["signals"]


def test_the_list_of_plugins_may_be_empty() -> None:
    assert Registry([]).routes("1") == ()


def test_an_object_is_a_plugin_of_the_application() -> None:
    (plugin,) = Registry([Trades()]).plugins
    assert (plugin.name, plugin.distribution, plugin.version) == ("Trades", "the application", "")


def test_a_candidate_is_a_plugin_of_where_it_was_found() -> None:
    (plugin,) = Registry([Candidate("mine", "/plugins/mine.py", "", Trades)]).plugins
    assert (plugin.name, plugin.distribution, plugin.version) == ("mine", "/plugins/mine.py", "")


def test_a_candidate_that_cannot_be_loaded_names_where_it_was_found() -> None:
    message = str(refusal(Candidate("mine", "/plugins/mine.py", "", object)))
    assert message == "plugin 'mine' of /plugins/mine.py: implements no transform hook"


def test_a_module_is_a_plugin_of_the_application() -> None:
    (plugin,) = Registry([importlib.import_module("tornado_bridge.plugins.candle")]).plugins
    assert (plugin.name, plugin.distribution) == ("tornado_bridge.plugins.candle", "the application")


def test_a_third_party_plugin_is_loaded_beside_the_built_in_ones(install: Install) -> None:
    install("tornado-bridge-orders", "orders", MODULE.format(name="orders"))
    assert [(plugin.name, plugin.distribution, plugin.version) for plugin in Registry().plugins] == [
        ("candle", "tornado_bridge", tornado_bridge.__version__),
        ("orders", "tornado-bridge-orders", "1.2"),
        ("signals", "tornado_bridge", tornado_bridge.__version__),
    ]


def test_a_plugin_that_is_not_named_is_not_imported(install: Install) -> None:
    install("tornado-bridge-orders", "orders", "raise RuntimeError('imported')")
    assert [plugin.name for plugin in Registry(["candle"]).plugins] == ["candle"]


# A third plugin, without a change in the core


def test_a_third_plugin_s_channels_can_be_subscribed() -> None:
    grammar = Registry(["candle", "signals", Trades()]).grammar
    wanted = ("trades:BTC-USD", "trades:*", "trades:BTCUSD", "trades:BTC-USD:1h", "orders:BTC-USD")
    assert [grammar.admits(channel) for channel in wanted] == [True, True, False, False, False]


def test_without_the_third_plugin_its_channels_cannot_be_subscribed() -> None:
    assert not Registry(["candle", "signals"]).grammar.admits("trades:BTC-USD")


def test_a_third_plugin_s_channels_are_matched_by_wildcards() -> None:
    grammar = Registry(["candle", "signals", Trades()]).grammar
    assert grammar.subscriptions("trades:BTC-USD") == ("trades:BTC-USD", "trades:*")


def test_a_third_plugin_s_channels_are_limited_per_key() -> None:
    grammar = Registry(["candle", "signals", Trades()]).grammar
    key = Key(1, "tests", "0" * 64, datetime(2026, 2, 19, tzinfo=UTC), channels=("trades:BTC-USD",))
    answer = Dialogue(grammar, max_subscriptions=9, clock=lambda: 0.0).answer(
        '{"action":"subscribe","channels":["trades:*","trades:BTC-USD","trades:ETH-USD"]}',
        Allowance(key, places=1, rate=60, burst=1, now=0.0),
        frozenset(),
    )
    assert [text_of(reply) for reply in answer.replies] == [
        '{"type":"error","code":"INVALID_CHANNEL","message":"Not permitted: trades:*"}',
        '{"type":"error","code":"INVALID_CHANNEL","message":"Not permitted: trades:ETH-USD"}',
        '{"type":"subscribed","channels":["trades:BTC-USD"]}',
    ]


def test_a_third_plugin_s_events_have_a_route() -> None:
    routes = Registry(["candle", "signals", Trades()]).routes("1")
    matched = [route.match("channel:exchange:1:trades:BTC-USD") for route in routes]
    assert matched == [{"symbol": "BTC-USD"}, None, None]


def test_a_third_plugin_s_events_become_frames() -> None:
    route = route_of(Trades())
    payload = route.decode('{"price":1.50,"side":"buy","buyer":"SECRET"}')
    (envelope,) = route.plugin.transform(event=Event("trade", "s", {"symbol": "BTC-USD"}, "", payload, "coinbase"))
    assert route.firewall.check(envelope).text.decode() == (
        '{"type":"trade","channel":"trades:BTC-USD","data":{"price":"1.5","side":"buy"}}'
    )


def test_members_that_are_not_declared_are_not_decoded() -> None:
    payload = route_of(Trades()).decode('{"price":1.50,"side":"buy","buyer":"SECRET"}')
    assert msgspec.structs.asdict(payload) == {"price": msgspec.Raw(b"1.50"), "side": "buy"}


def test_a_route_is_for_the_exchange_that_was_asked_for() -> None:
    (route,) = Registry([Trades()]).routes("7")
    assert (route.source.redis_name, route.match("channel:exchange:1:trades:BTC-USD")) == (
        "channel:exchange:7:trades:*",
        None,
    )


def test_a_plugin_is_called_for_its_own_events_only() -> None:
    heard: list[str] = []

    class Listener(Trades):
        @hookimpl
        def transform(self, event: Event[Any]) -> Any:
            heard.append(event.type)

    routes = Registry(["candle", Listener()]).routes("1")
    for route in routes:
        decoded = route.decode('{"timestamp":1,"open":1,"high":1,"low":1,"close":1,"volume":1,"price":1,"side":"buy"}')
        parameters = {"symbol": "BTC-USD", "timeframe": "1h"}
        route.plugin.transform(event=Event(route.event_type.name, "s", parameters, "", decoded, "coinbase"))
    assert heard == ["trade"]


# The call of a plugin


def called(plugin: object) -> Any:
    """Return the envelopes of a plugin for one event, by the function that the relay calls."""
    route = route_of(plugin)
    payload = route.decode('{"price":1.5,"side":"buy"}')
    return route.plugin.call(Event("trade", "s", {"symbol": "BTC-USD"}, "", payload, "coinbase"))


class Wrapped(Trades):
    """A plugin that wraps its own transform."""

    @hookimpl(wrapper=True, specname="transform")
    def twice(self) -> Generator[None, list[Envelope], list[Envelope]]:
        return (yield) * 2


class Followed(Trades):
    """A plugin with a second transform, which pluggy asks first."""

    @hookimpl(specname="transform", tryfirst=True)
    def nothing_yet(self) -> None:
        return None


class Replaced(Trades):
    @hookimpl(specname="transform", tryfirst=True)
    def instead(self, event: Event[Trade]) -> list[Envelope]:
        return [Envelope("trades:ETH-USD", {})]


class Indifferent(Trades):
    """A plugin whose transform does not take the event."""

    @hookimpl
    def transform(self) -> list[Envelope]:  # type: ignore[override]
        return []


ENVELOPE = Envelope("trades:BTC-USD", {"price": "1.5", "side": "buy"})


@pytest.mark.parametrize(
    ("plugin", "envelopes"),
    [
        (Trades(), [ENVELOPE]),
        (Wrapped(), [ENVELOPE, ENVELOPE]),
        (Followed(), [ENVELOPE]),
        (Replaced(), [Envelope("trades:ETH-USD", {})]),
        (Indifferent(), []),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_plugin_is_called_as_pluggy_would(plugin: object, envelopes: list[Envelope]) -> None:
    assert called(plugin) == envelopes


# Plugins that are refused


class WithoutTransform:
    @hookimpl
    def register_event_types(self) -> list[EventType]:
        return [TRADE]


class WithoutEventTypes:
    @hookimpl
    def transform(self, event: Event[Any]) -> None: ...


class WithAnotherArgument(WithoutTransform):
    @hookimpl
    def transform(self, evnt) -> None:  # type: ignore[no-untyped-def]
        raise AssertionError("called")


class WithAMisspeltHook(Trades):
    @hookimpl
    def tranform(self, event: Event[Any]) -> None: ...


@pytest.mark.parametrize(
    ("plugin", "sentence"),
    [
        (WithoutTransform(), "plugin 'WithoutTransform' of the application: implements no transform hook"),
        (
            WithoutEventTypes(),
            "plugin 'WithoutEventTypes' of the application: "
            "register_event_types must return at least one EventType, and nothing else",
        ),
        (
            WithAnotherArgument(),
            "plugin 'WithAnotherArgument' of the application: cannot be loaded: "
            "Plugin 'WithAnotherArgument' for hook 'transform' hookimpl definition: transform(evnt) -> None "
            "Argument(s) {'evnt'} are declared in the hookimpl but can not be found in the hookspec "
            "(PluginValidationError)",
        ),
        (object(), "plugin 'object' of the application: implements no transform hook"),
        (5, "plugin 'int' of the application: implements no transform hook"),
        (None, "plugin 'NoneType' of the application: implements no transform hook"),
    ],
)
def test_a_plugin_with_wrong_hooks_is_refused(plugin: object, sentence: str) -> None:
    assert str(refusal(plugin)) == sentence


def test_a_hook_that_does_not_exist_is_refused() -> None:
    assert refusal(WithAMisspeltHook()).reason.startswith("cannot be loaded: unknown hook 'tranform' in plugin ")


@pytest.mark.parametrize("event_types", [("trade",), (TRADE, None), ({"name": "trade"},), (EventType,)])
def test_only_event_types_can_be_declared(event_types: tuple[Any, ...]) -> None:
    assert refusal(Trades(*event_types)).reason == (
        "register_event_types must return at least one EventType, and nothing else"
    )


class Raising(WithoutEventTypes):
    """A plugin that raises when it is asked what it declares."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    @hookimpl
    def register_event_types(self) -> list[EventType]:
        raise self._error


class Sudden(BaseException):
    pass


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("no database"), "cannot be loaded: no database (RuntimeError)"),
        (RuntimeError("two\n  lines"), "cannot be loaded: two lines (RuntimeError)"),
        (RuntimeError(), "cannot be loaded: no reason given (RuntimeError)"),
        (RuntimeError("\n"), "cannot be loaded: no reason given (RuntimeError)"),
        (SystemExit("bye"), "cannot be loaded: bye (SystemExit)"),
        (Sudden("gone"), "cannot be loaded: gone (Sudden)"),
    ],
)
def test_a_plugin_that_raises_when_asked_is_refused(error: BaseException, reason: str) -> None:
    assert refusal(Raising(error)).reason == reason


def test_a_keyboard_interrupt_is_raised_as_it_is() -> None:
    with pytest.raises(KeyboardInterrupt):
        Registry([Raising(KeyboardInterrupt())])


class Nowhere(msgspec.Struct):
    price: "Missing"  # type: ignore[name-defined]  # noqa: F821


class Impossible(msgspec.Struct):
    price: list[int] | set[int]


@pytest.mark.parametrize(
    ("event_type", "reason"),
    [
        (
            declared(emits={"type": "object"}),
            "the schema of 'trade' is open at $: an object must set additionalProperties to false",
        ),
        (
            declared(emits=envelope_schema("trade", "^t", {})),
            "the schema of 'trade' is open at $.channel: the pattern is not anchored at both ends",
        ),
        (
            declared(emits=envelope_schema("trade", "^t$", {"note": {"type": "string"}})),
            "the schema of 'trade' is open at $.data.note: a text without an enum needs a maxLength of at most 1024",
        ),
        (
            declared(emits={**envelope_schema("trade", "^t$", {}), "title": 5}),
            "the schema of 'trade' is not a valid draft 2020-12 schema (5 is not of type 'string')",
        ),
        (
            declared(parameters={}),
            "'trade' has no rule for {symbol}, which may then be any plain name, but its schema refuses 'A' there: "
            "give 'symbol' a rule in parameters",
        ),
        (declared(reads=Nowhere), "name 'Missing' is not defined"),
        (
            declared(reads=Impossible),
            "Type unions may not contain more than one array-like (list, set, tuple) type - "
            "type `list[int] | set[int]` is not supported",
        ),
    ],
)
def test_an_event_type_that_cannot_be_used_is_refused(event_type: EventType, reason: str) -> None:
    assert refusal(Trades(event_type)).reason == reason


def test_an_open_schema_names_the_distribution(install: Install) -> None:
    source = MODULE.format(name="orders").replace(", {}),", ', {"note": {"type": "string"}}),')
    install("tornado-bridge-orders", "orders", source)
    assert str(refusal("orders")) == (
        "plugin 'orders' of tornado-bridge-orders 1.2: the schema of 'orders' is open at $.data.note: "
        "a text without an enum needs a maxLength of at most 1024"
    )


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import nothing_of_that_name", "No module named 'nothing_of_that_name' (ModuleNotFoundError)"),
        ("raise RuntimeError('no licence')", "no licence (RuntimeError)"),
        ("raise SystemExit(3)", "3 (SystemExit)"),
        (
            MODULE.format(name="orders").replace("reads=Reads", "reads=dict"),
            "the reads of 'orders' must be a msgspec.Struct type (ValueError)",
        ),
        (
            MODULE.format(name="error"),
            "the name 'error' is reserved for a message of the protocol; choose another for the event type "
            "(ValueError)",
        ),
        (
            MODULE.format(name="orders").replace('channel="orders:{symbol}"', 'channel="orders:*"'),
            "'orders:*' has the part '*', which is neither a plain name nor {a_name} (ValueError)",
        ),
    ],
)
def test_a_plugin_that_cannot_be_loaded_names_its_distribution(install: Install, source: str, reason: str) -> None:
    install("tornado-bridge-orders", "orders", source)
    assert str(refusal("orders")) == f"plugin 'orders' of tornado-bridge-orders 1.2: cannot be loaded: {reason}"


def test_a_plugin_error_carries_plugin_and_distribution(install: Install) -> None:
    install("tornado-bridge-orders", "orders", "raise RuntimeError('no licence')")
    error = refusal("orders")
    assert (error.plugin, error.distribution) == ("orders", "tornado-bridge-orders 1.2")


def test_one_wrong_plugin_among_all_that_are_installed_stops_the_start(install: Install) -> None:
    install("tornado-bridge-orders", "orders", "raise RuntimeError('no licence')")
    with pytest.raises(PluginError, match=r"tornado-bridge-orders 1\.2"):
        Registry()


def test_two_distributions_that_offer_a_plugin_of_one_name_are_refused(install: Install) -> None:
    install("tornado-bridge-orders", "candle", MODULE.format(name="orders"))
    message = str(refusal("candle"))
    assert "tornado-bridge-orders 1.2" in message
    assert f"tornado_bridge {tornado_bridge.__version__}" in message


def test_a_name_that_is_offered_twice_does_no_harm_unless_chosen(install: Install) -> None:
    install("tornado-bridge-orders", "candle", MODULE.format(name="orders"))
    assert [plugin.name for plugin in Registry(["signals"]).plugins] == ["signals"]


def test_a_name_that_no_distribution_offers_is_refused() -> None:
    with pytest.raises(ConfigurationError) as raised:
        Registry(["orders"])
    assert str(raised.value) == ("no installed distribution offers a plugin 'orders' (installed: candle, signals)")


OTHER = {"name": "other", "source": "other:{exchange_id}:{symbol}", "channel": "other:{symbol}"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"source": "channel:exchange:{exchange_id}:trades:{symbol}"},
            "its source 'channel:exchange:{exchange_id}:trades:{symbol}' overlaps with "
            "'channel:exchange:{exchange_id}:trades:{symbol}', the source of 'trade' of plugin 'Trades'",
        ),
        (
            {"source": "channel:{a}:{exchange_id}:trades:{symbol}"},
            "its source 'channel:{a}:{exchange_id}:trades:{symbol}' overlaps with "
            "'channel:exchange:{exchange_id}:trades:{symbol}', the source of 'trade' of plugin 'Trades'",
        ),
        # Redis's `*` takes colons too.
        (
            {"source": "channel:{symbol}"},
            "its source 'channel:{symbol}' overlaps with "
            "'channel:exchange:{exchange_id}:trades:{symbol}', the source of 'trade' of plugin 'Trades'",
        ),
        # Only for exchange 1.
        (
            {"source": "channel:exchange:1:trades:{symbol}"},
            "its source 'channel:exchange:1:trades:{symbol}' overlaps with "
            "'channel:exchange:{exchange_id}:trades:{symbol}', the source of 'trade' of plugin 'Trades'",
        ),
        (
            {"channel": "trades:{symbol}"},
            "its channel 'trades:{symbol}' overlaps with 'trades:{symbol}', the channel of 'trade' of plugin 'Trades'",
        ),
        (
            {"channel": "{a}:{symbol}"},
            "its channel '{a}:{symbol}' overlaps with 'trades:{symbol}', the channel of 'trade' of plugin 'Trades'",
        ),
        ({"name": "trade"}, "its event type 'trade' is also declared by plugin 'Trades'"),
    ],
)
def test_a_source_a_channel_and_an_event_type_have_one_owner(changes: dict[str, Any], reason: str) -> None:
    name = changes.get("name", "other")
    other = declared(**{**OTHER, "emits": envelope_schema(name, "^t$", {}), **changes})

    class Zebra(Trades):
        pass

    assert str(refusal(Trades(), Zebra(other))) == f"plugin 'Zebra' of the application: {reason}"


def test_two_owners_name_the_distribution_of_the_later_one(install: Install) -> None:
    source = MODULE.format(name="orders").replace('channel="orders:{symbol}"', 'channel="candles:{symbol}:{timeframe}"')
    install("tornado-bridge-orders", "orders", source)
    assert str(refusal("candle", "orders")) == (
        "plugin 'orders' of tornado-bridge-orders 1.2: its channel 'candles:{symbol}:{timeframe}' overlaps with "
        "'candles:{symbol}:{timeframe}', the channel of 'candle_close' of plugin 'candle'"
    )


def test_one_plugin_owns_a_source_once_too() -> None:
    assert refusal(Trades(TRADE, declared(**{**OTHER, "source": TRADE.source}))).reason == (
        "its source 'channel:exchange:{exchange_id}:trades:{symbol}' overlaps with "
        "'channel:exchange:{exchange_id}:trades:{symbol}', the source of 'trade' of plugin 'Trades'"
    )


def test_a_plugin_may_have_two_event_types_that_do_not_overlap() -> None:
    registry = Registry([Trades(TRADE, declared(**OTHER))])
    assert [route.event_type.name for route in registry.routes("1")] == ["trade", "other"]


def test_a_transform_that_is_a_coroutine_function_is_refused() -> None:
    class Asynchronous(Trades):
        @hookimpl
        async def transform(self, event: Event[Any]) -> Any:  # type: ignore[override]
            return None

    with pytest.raises(PluginError, match="its transform is a coroutine function; it must be a plain function"):
        Registry([Asynchronous()])


def test_a_declaration_of_a_flow_from_what_is_not_read_stops_the_start() -> None:
    with pytest.raises(PluginError) as raised:
        Registry([Trades(declared(publishes={"side": "taker"}))])
    assert raised.value.reason == "'trade' declares 'side' to come from 'taker', which it does not read"

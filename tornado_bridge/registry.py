"""Loads plugins, checks each of them, and makes sure that each event type has one owner."""

import dataclasses
import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

import msgspec
import pluggy

from tornado_bridge import discovery, hookspecs
from tornado_bridge.channels import Grammar, SourceForm, globs_overlap
from tornado_bridge.discovery import Candidate
from tornado_bridge.errors import PluginError
from tornado_bridge.events import Event, EventType
from tornado_bridge.redaction.channel_schema import check_default_rules
from tornado_bridge.redaction.declaration import Declaration
from tornado_bridge.redaction.firewall import Firewall


@dataclasses.dataclass(frozen=True)
class Plugin:
    """A plugin that was admitted: its origin, its event types, and the names of the hooks that it implements.

    `transform` is pluggy's hook caller. `call` does the same and is what the relay calls, with the event alone.
    """

    name: str
    distribution: str
    version: str
    event_types: tuple[EventType, ...]
    hooks: tuple[str, ...]
    transform: pluggy.HookCaller = dataclasses.field(repr=False, compare=False)
    call: Callable[[Event[Any]], Any] = dataclasses.field(repr=False, compare=False)

    @property
    def origin(self) -> str:
        """The distribution with its version, or the path of the file, for messages to the operator."""
        return discovery.origin(self.distribution, self.version)


@dataclasses.dataclass(frozen=True)
class Route:
    """The route of one event type: its source channels, its decoder, its plugin and its firewall."""

    event_type: EventType
    plugin: Plugin
    source: SourceForm
    decode: Callable[[str], Any]
    firewall: Firewall

    def match(self, source: str) -> Mapping[str, str] | None:
        """Return the named parts of a source channel of this route, None for any other channel."""
        return self.source.match(source)


class Registry:
    """The plugins of one bridge.

    `plugins` holds names of installed entry points, candidates from `discovery`, or plugin objects; None loads every
    installed entry point. Raises PluginError for an invalid plugin, and ConfigurationError for a name that no installed
    distribution offers.
    """

    def __init__(self, plugins: Sequence[str | object] | None = None) -> None:
        admitted = [_admit(candidate) for candidate in _candidates(plugins)]
        self.plugins: tuple[Plugin, ...] = tuple(sorted(admitted, key=lambda plugin: plugin.name))
        self._prepared = {id(event_type): _prepare(plugin, event_type) for plugin, event_type in self._owned()}
        for first, second in itertools.combinations(list(self._owned()), 2):
            _refuse_conflict(*first, *second)
        self.grammar = Grammar(event_type.channel_form for _, event_type in self._owned())

    def routes(self, exchange_id: str) -> tuple[Route, ...]:
        """Return the routes of all event types, for the source channels of one exchange."""
        return tuple(
            Route(
                event_type=event_type,
                plugin=plugin,
                source=SourceForm(event_type.source_form, exchange_id),
                decode=self._prepared[id(event_type)][0],
                firewall=self._prepared[id(event_type)][1],
            )
            for plugin, event_type in self._owned()
        )

    def _owned(self) -> Iterator[tuple[Plugin, EventType]]:
        for plugin in self.plugins:
            for event_type in plugin.event_types:
                yield plugin, event_type


def _candidates(plugins: Sequence[str | object] | None) -> Iterator[Candidate]:
    if plugins is None:
        yield from discovery.choose(None, discovery.installed())
        return
    for choice in plugins:
        if isinstance(choice, Candidate):
            yield choice
        elif isinstance(choice, str):
            yield from discovery.choose([choice], discovery.installed())
        else:
            name = choice.__name__ if isinstance(choice, ModuleType) else type(choice).__name__
            yield Candidate(name, "the application", "", lambda choice=choice: choice)  # type: ignore[misc]


def _admit(candidate: Candidate) -> Plugin:
    name, origin = candidate.name, candidate.origin
    try:
        plugin = candidate.load()
        manager = _manager(name, plugin)
        event_types = manager.hook.register_event_types()
        declared = tuple(event_types) if event_types is not None else ()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # foreign code may raise anything here; the operator gets one sentence
        reason = " ".join(str(error).split()) or "no reason given"
        raise PluginError(name, origin, f"cannot be loaded: {reason} ({type(error).__name__})") from error
    hooks = tuple(sorted(caller.name for caller in manager.get_hookcallers(plugin) or ()))
    if "transform" not in hooks:
        raise PluginError(name, origin, "implements no transform hook")
    if any(inspect.iscoroutinefunction(impl.function) for impl in manager.hook.transform.get_hookimpls()):
        raise PluginError(name, origin, "its transform is a coroutine function; it must be a plain function")
    if not declared or not all(isinstance(event_type, EventType) for event_type in declared):
        raise PluginError(name, origin, "register_event_types must return at least one EventType, and nothing else")
    transform = manager.hook.transform
    return Plugin(name, candidate.distribution, candidate.version, declared, hooks, transform, _call(transform))


def _call(hook: pluggy.HookCaller) -> Callable[[Event[Any]], Any]:
    """Return a hook of one plugin as a plain function of the event.

    With a single implementation and no wrapper, that is the implementation itself: pluggy's own call would only add to
    the time of each event.
    """
    first, *others = hook.get_hookimpls()
    if not others and not first.wrapper and not first.hookwrapper and first.argnames == ("event",):
        function: Callable[[Event[Any]], Any] = first.function
        return function
    return lambda event: hook(event=event)


def _manager(name: str, plugin: object) -> pluggy.PluginManager:
    """Return a plugin manager for this plugin alone, so that its hooks are never called for another plugin's events."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(plugin, name)
    manager.check_pending()
    return manager


def _prepare(plugin: Plugin, event_type: EventType) -> tuple[Callable[[str], Any], Firewall]:
    """Return the decoder and the firewall of an event type; raises PluginError for an invalid declaration."""
    try:
        decode, firewall = msgspec.json.Decoder(event_type.reads).decode, Firewall(event_type)
        check_default_rules(event_type)
        Declaration(event_type)
    except (ValueError, TypeError, NameError) as error:  # the last two come from a structure's annotations
        raise PluginError(plugin.name, plugin.origin, str(error)) from None
    return decode, firewall


def _refuse_conflict(plugin: Plugin, first: EventType, other: Plugin, second: EventType) -> None:
    """Raise PluginError, naming the other plugin, if two event types share a source channel, a channel or a name."""
    owner = f"{first.name!r} of plugin {plugin.name!r}"
    # The exchange is not known yet. Any id will do, and each literal part: a source may name an exchange literally.
    if any(
        globs_overlap(
            SourceForm(first.source_form, exchange).redis_name, SourceForm(second.source_form, exchange).redis_name
        )
        for exchange in {"0", *first.source_form.parts, *second.source_form.parts}
    ):
        reason = f"its source {second.source!r} overlaps with {first.source!r}, the source of {owner}"
    elif first.channel_form.overlaps(second.channel_form):
        reason = f"its channel {second.channel!r} overlaps with {first.channel!r}, the channel of {owner}"
    elif first.name == second.name:
        reason = f"its event type {second.name!r} is also declared by plugin {plugin.name!r}"
    else:
        return
    raise PluginError(other.name, other.origin, reason)

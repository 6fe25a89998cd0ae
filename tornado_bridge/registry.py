"""Checks plugins as they are loaded, one by one, and gives each event type its one owner."""

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
    """An installed plugin that was admitted: where it comes from, what it declares, which hooks it implements.

    `transform` is pluggy's hook caller, `call` what the relay calls with an event.
    """

    name: str
    distribution: str
    version: str
    event_types: tuple[EventType, ...]
    hooks: tuple[str, ...]
    transform: pluggy.HookCaller = dataclasses.field(repr=False, compare=False)
    call: Callable[[Event[Any]], Any] = dataclasses.field(repr=False, compare=False)


@dataclasses.dataclass(frozen=True)
class Route:
    """The way of one event type: whom to call, how to decode for it, and what may leave."""

    event_type: EventType
    plugin: Plugin
    source: SourceForm
    decode: Callable[[str], Any]
    firewall: Firewall

    def match(self, source: str) -> Mapping[str, str] | None:
        return self.source.match(source)


class Registry:
    """The plugins of one bridge.

    `plugins` names entry points to load, holds candidates of `discovery` or plugin objects themselves; None loads every
    entry point that is installed. Raises PluginError for a plugin that is wrong in any way, ConfigurationError for a
    name that no installed distribution offers.
    """

    def __init__(self, plugins: Sequence[str | object] | None = None) -> None:
        found = [_admit(candidate) for candidate in _candidates(plugins)]
        self.plugins: tuple[Plugin, ...] = tuple(sorted(found, key=lambda plugin: plugin.name))
        self._ends = {
            id(event_type): _ends(plugin, event_type) for plugin in self.plugins for event_type in plugin.event_types
        }
        for mine, theirs in itertools.combinations(list(self._owned()), 2):
            _refuse_conflict(*mine, *theirs)
        self.grammar = Grammar(event_type.channel_form for _, event_type in self._owned())

    def routes(self, exchange_id: str) -> tuple[Route, ...]:
        """Return the routes of all event types, for the source channels of one exchange."""
        return tuple(
            Route(
                event_type=event_type,
                plugin=plugin,
                source=SourceForm(event_type.source_form, exchange_id),
                decode=self._ends[id(event_type)][0],
                firewall=self._ends[id(event_type)][1],
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
    name, where = candidate.name, candidate.origin
    try:
        plugin = candidate.load()
        manager = _manager(name, plugin)
        event_types = manager.hook.register_event_types()
        declared = tuple(event_types) if event_types is not None else ()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a stranger's module does when it is loaded, the operator gets a sentence
        reason = " ".join(str(error).split()) or "no reason given"
        raise PluginError(name, where, f"cannot be loaded: {reason} ({type(error).__name__})") from error
    hooks = tuple(sorted(caller.name for caller in manager.get_hookcallers(plugin) or ()))
    if "transform" not in hooks:
        raise PluginError(name, where, "implements no transform hook")
    if any(inspect.iscoroutinefunction(impl.function) for impl in manager.hook.transform.get_hookimpls()):
        raise PluginError(name, where, "its transform is a coroutine function; it must be a plain one")
    if not declared or not all(isinstance(event_type, EventType) for event_type in declared):
        raise PluginError(name, where, "register_event_types must return at least one EventType, and nothing else")
    transform = manager.hook.transform
    return Plugin(name, candidate.distribution, candidate.version, declared, hooks, transform, _call(transform))


def _call(hook: pluggy.HookCaller) -> Callable[[Event[Any]], Any]:
    """Return a hook of one plugin as a plain call.

    Where there is one implementation and no wrapper, pluggy's own call would do nothing but take the event's time.
    """
    first, *others = hook.get_hookimpls()
    if not others and not first.wrapper and not first.hookwrapper and first.argnames == ("event",):
        function: Callable[[Event[Any]], Any] = first.function
        return function
    return lambda event: hook(event=event)


def _manager(name: str, plugin: object) -> pluggy.PluginManager:
    """Return a plugin manager of that plugin alone: its hook callers reach nobody else's events."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(plugin, name)
    manager.check_pending()
    return manager


def _ends(plugin: Plugin, event_type: EventType) -> tuple[Callable[[str], Any], Firewall]:
    """Return how to read for an event type, and what may leave."""
    try:
        ends = msgspec.json.Decoder(event_type.reads).decode, Firewall(event_type)
        check_default_rules(event_type)
        Declaration(event_type)
        return ends
    except (ValueError, TypeError, NameError) as error:  # the last two of a structure's annotations
        raise PluginError(plugin.name, f"{plugin.distribution} {plugin.version}".strip(), str(error)) from None


def _refuse_conflict(plugin: Plugin, mine: EventType, other: Plugin, theirs: EventType) -> None:
    where = f"{other.distribution} {other.version}".strip()
    rival = f"{mine.name!r} of plugin {plugin.name!r}"
    # Any exchange will do, but for one that a literal part of the other source names.
    if any(
        globs_overlap(SourceForm(mine.source_form, some).redis_name, SourceForm(theirs.source_form, some).redis_name)
        for some in {"0", *mine.source_form.parts, *theirs.source_form.parts}
    ):
        raise PluginError(other.name, where, f"its source {theirs.source!r} overlaps with {mine.source!r}, {rival}")
    if mine.channel_form.overlaps(theirs.channel_form):
        raise PluginError(other.name, where, f"its channel {theirs.channel!r} is also the channel of {rival}")
    if mine.name == theirs.name:
        raise PluginError(
            other.name, where, f"its event type {theirs.name!r} is also declared by plugin {plugin.name!r}"
        )

"""Finds plugins, checks them, and gives each event type its one owner."""

import dataclasses
import importlib.metadata
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

import msgspec
import pluggy

from tornado_bridge import hookspecs
from tornado_bridge.channels import Grammar, SourceForm, globs_overlap
from tornado_bridge.egress import Firewall
from tornado_bridge.errors import ConfigurationError, PluginError
from tornado_bridge.events import EventType

ENTRY_POINT_GROUP = hookspecs.PROJECT


@dataclasses.dataclass(frozen=True)
class Plugin:
    """An installed plugin that was admitted: where it comes from, what it declares, which hooks it implements."""

    name: str
    distribution: str
    version: str
    event_types: tuple[EventType, ...]
    hooks: tuple[str, ...]
    transform: Callable[..., Any] = dataclasses.field(repr=False, compare=False)


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

    `plugins` names entry points to load, holds plugin objects themselves, or both; None loads every entry point that
    is installed. Raises PluginError for a plugin that is wrong in any way, ConfigurationError for a name that no
    installed distribution offers.
    """

    def __init__(self, plugins: Sequence[str | object] | None = None) -> None:
        found = [_admit(*candidate) for candidate in _candidates(plugins)]
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


_Candidate = tuple[str, str, str, Callable[[], object]]


def _candidates(plugins: Sequence[str | object] | None) -> Iterable[_Candidate]:
    entry_points: dict[str, list[importlib.metadata.EntryPoint]] = {}
    for point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        entry_points.setdefault(point.name, []).append(point)
    chosen: Sequence[str | object] = sorted(entry_points) if plugins is None else plugins
    for choice in chosen:
        if not isinstance(choice, str):
            name = choice.__name__ if isinstance(choice, ModuleType) else type(choice).__name__
            yield name, "the application", "", lambda choice=choice: choice  # type: ignore[misc]
        elif choice in entry_points:
            point, *rivals = entry_points[choice]
            for rival in rivals:
                raise PluginError(
                    choice, _distribution(rival), f"{_distribution(point)} offers a plugin of that name too"
                )
            # An entry point found by name always has its distribution.
            yield choice, point.dist.name, point.dist.version, point.load  # type: ignore[union-attr]
        else:
            offered = ", ".join(sorted(entry_points)) or "none"
            raise ConfigurationError(f"no installed distribution offers a plugin {choice!r} (installed: {offered})")


def _distribution(point: importlib.metadata.EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}"  # type: ignore[union-attr]


def _admit(name: str, distribution: str, version: str, load: Callable[[], object]) -> Plugin:
    where = f"{distribution} {version}".strip()
    try:
        plugin = load()
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
    if not declared or not all(isinstance(event_type, EventType) for event_type in declared):
        raise PluginError(name, where, "register_event_types must return at least one EventType, and nothing else")
    return Plugin(name, distribution, version, declared, hooks, manager.hook.transform)


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
        return msgspec.json.Decoder(event_type.reads).decode, Firewall(event_type)
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

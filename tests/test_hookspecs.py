"""tornado_bridge.hookspecs: names, arguments and kind of every hook."""

import inspect

import pluggy
import pytest

import tornado_bridge
from tornado_bridge import hookspecs

HOOKS = {"register_event_types": (), "transform": ("event",)}


@pytest.fixture
def manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager("tornado_bridge")
    manager.add_hookspecs(hookspecs)
    return manager


def test_the_hooks_are_those_of_the_design(manager: pluggy.PluginManager) -> None:
    specs = [caller.spec for caller in vars(manager.hook).values()]
    assert {spec.name: spec.argnames for spec in specs if spec is not None} == HOOKS


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_takes_the_first_answer(manager: pluggy.PluginManager, hook: str) -> None:
    spec = getattr(manager.hook, hook).spec
    assert spec.opts["firstresult"]


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_is_described_in_one_line(hook: str) -> None:
    described = inspect.getdoc(getattr(hookspecs, hook))
    assert described is not None
    assert described.endswith(".")
    assert "\n" not in described


def test_the_project_and_the_entry_point_group_have_one_name() -> None:
    assert hookspecs.PROJECT == "tornado_bridge"


def test_the_marker_for_plugins_is_exported() -> None:
    assert tornado_bridge.hookimpl is hookspecs.hookimpl

"""Turns settings into options, and options into settings and plugins."""

import functools
import os
from collections.abc import Callable, Mapping
from typing import Any

import click

from tornado_bridge.registry import Registry
from tornado_bridge.server import settings

_CHOICE_OF_PLUGINS = ("plugins", "plugins_dir")

# Settings that a server requires. The choice of plugins does not depend on them.
_NO_SERVER = {"exchange": "none:none", "api_keys": os.devnull}


class SettingsCommand(click.Command):
    """A command that takes every setting as an option, and groups them in its help."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.params += [
            setting_option(name) for name in settings.Settings.model_fields if name not in settings.NOT_AN_OPTION
        ]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for group in settings.GROUPS:
            records = [
                (settings.option(name), _help(name, field))
                for name, field in settings.Settings.model_fields.items()
                if field.json_schema_extra["group"] == group and name not in settings.NOT_AN_OPTION  # type: ignore[index]
            ]
            with formatter.section(group):
                formatter.write_dl(records)
        others = [p.get_help_record(ctx) for p in self.get_params(ctx) if p.name not in settings.Settings.model_fields]
        with formatter.section("Other"):
            formatter.write_dl([record for record in others if record is not None])


def setting_option(name: str) -> click.Option:
    """Return the option of a setting. It accepts any text, which `settings.settle` checks."""
    field = settings.Settings.model_fields[name]
    if field.annotation is bool:
        # Without a value it means true. A value can turn off what the environment or a file turns on.
        return click.Option([settings.option(name)], is_flag=False, flag_value="true", help=_help(name, field))
    repeatable = field.default == ()
    return click.Option([settings.option(name)], type=str, multiple=repeatable, help=_help(name, field))


def _help(name: str, field: Any) -> str:
    unit = field.json_schema_extra["unit"]
    if field.is_required() or field.default in (None, (), False):
        return str(field.description)
    return f"{field.description}  [default: {field.default}{' ' + unit if unit else ''}]"


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that appear on the command line."""
    return {name: value for name, value in options.items() if value not in (None, ())}


def chooses_plugins(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options --plugins and --plugins-dir.

    The command is called with `registry`, a function that loads the chosen plugins. An option that is missing on the
    command line is taken from the environment, as `serve` does.
    """

    @functools.wraps(command)
    def choosing(*, plugins: str | None, plugins_dir: str | None, **others: Any) -> None:
        command(registry=functools.partial(_registry, plugins=plugins, plugins_dir=plugins_dir), **others)

    for name in reversed(_CHOICE_OF_PLUGINS):
        description = settings.Settings.model_fields[name].description
        choosing = click.option(settings.option(name), type=str, help=description)(choosing)
    return choosing


def _registry(**options: str | None) -> Registry:
    variables = map(settings.environment_variable, _CHOICE_OF_PLUGINS)
    environment = {variable: os.environ[variable] for variable in variables if variable in os.environ}
    return Registry(settings.settle({**_NO_SERVER, **given(options)}, None, environment).candidates())

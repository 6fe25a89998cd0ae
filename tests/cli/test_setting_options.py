"""tornado_bridge.cli.setting_options: settings as options, and the plugins that a command gets."""

from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tornado_bridge.cli import setting_options
from tornado_bridge.errors import ConfigurationError
from tornado_bridge.registry import Registry
from tornado_bridge.server import settings


@click.command()
@setting_options.chooses_plugins
def listing(registry: Callable[[], Registry]) -> None:
    click.echo(" ".join(plugin.name for plugin in registry().plugins))


@click.command()
@setting_options.chooses_plugins
def indifferent(registry: Callable[[], Registry]) -> None:
    click.echo("not asked")


def output(*arguments: str, **environment: str) -> str:
    clean = {"TORNADO_BRIDGE_PLUGINS": None, "TORNADO_BRIDGE_PLUGINS_DIR": None}
    return CliRunner(env={**clean, **environment}).invoke(listing, arguments, catch_exceptions=False).output.strip()


def test_a_command_gets_all_plugins_by_default() -> None:
    assert output() == "candle signals"


def test_an_option_chooses_plugins() -> None:
    assert output("--plugins", "signals") == "signals"


def test_an_option_adds_single_files(quotes: Path) -> None:
    assert output("--plugins-dir", str(quotes)) == "candle quotes signals"


def test_the_environment_chooses_as_it_does_for_a_server(quotes: Path) -> None:
    found = output(TORNADO_BRIDGE_PLUGINS="quotes,candle", TORNADO_BRIDGE_PLUGINS_DIR=str(quotes))
    assert found == "candle quotes"


def test_an_option_beats_the_environment() -> None:
    assert output("--plugins", "signals", TORNADO_BRIDGE_PLUGINS="candle") == "signals"


def test_another_setting_in_the_environment_does_not_affect_the_choice() -> None:
    assert output(TORNADO_BRIDGE_PORT="none") == "candle signals"


def test_an_unusable_choice_is_reported_with_its_source() -> None:
    with pytest.raises(ConfigurationError) as raised:
        output(TORNADO_BRIDGE_PLUGINS="a,,b")
    assert str(raised.value).startswith("--plugins in the environment (TORNADO_BRIDGE_PLUGINS): expected names ")


def test_a_command_that_does_not_ask_loads_no_plugin() -> None:
    assert CliRunner().invoke(indifferent, ["--plugins", "nonsense"]).output == "not asked\n"


def test_options_that_were_not_given_are_left_out() -> None:
    assert setting_options.given({"a": None, "b": (), "c": "", "d": "1"}) == {"c": "", "d": "1"}


def test_the_option_of_a_setting_has_its_help_and_default() -> None:
    assert setting_options.setting_option("port").help == "Port to listen on. 0 picks a free one.  [default: 8765]"


@click.command(cls=setting_options.SettingsCommand)
@click.option("--config", help="A file.")
def taking(**options: object) -> None:
    click.echo(setting_options.given(options))


@pytest.mark.parametrize(
    ("words", "given"),
    [
        ([], "{}"),
        (["--port", "7", "--config", "f"], "{'port': '7', 'config': 'f'}"),
        (["--allow-origin", "a", "--allow-origin", "b"], "{'allow_origin': ('a', 'b')}"),
        (["--compression"], "{'compression': 'true'}"),
        (["--compression=false"], "{'compression': 'false'}"),
    ],
)
def test_a_command_takes_every_setting_as_text(words: list[str], given: str) -> None:
    assert CliRunner().invoke(taking, words).output == f"{given}\n"


def test_the_password_is_not_an_option() -> None:
    assert CliRunner().invoke(taking, ["--redis-password", "p"]).exit_code == 2


def test_the_help_of_a_command_groups_the_settings_and_ends_with_its_other_options() -> None:
    lines = CliRunner().invoke(taking, ["--help"]).output.splitlines()
    assert [line for line in lines if line.endswith(":") and not line.startswith(" ")] == [
        *(f"{group}:" for group in settings.GROUPS),
        "Other:",
    ]
    other = lines[lines.index("Other:") + 1 :]
    assert [line.split("  ")[1] for line in other] == ["--config TEXT", "--help"]


def test_the_help_of_a_setting_without_a_default_is_its_description() -> None:
    field = settings.Settings.model_fields["api_keys"]
    assert setting_options.setting_option("api_keys").help == field.description


def test_the_default_of_a_setting_has_its_unit() -> None:
    assert str(setting_options.setting_option("skip_bytes").help).endswith("  [default: 65536 bytes]")

"""tornado_bridge.cli.options: which registry a command gets, from its options and from the environment."""

from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tests.test_discovery import FILE
from tornado_bridge.cli import options
from tornado_bridge.errors import ConfigurationError
from tornado_bridge.registry import Registry


@click.command()
@options.chooses_plugins
def listing(registry: Callable[[], Registry]) -> None:
    click.echo(" ".join(plugin.name for plugin in registry().plugins))


@click.command()
@options.chooses_plugins
def indifferent(registry: Callable[[], Registry]) -> None:
    click.echo("not asked")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "quotes.py").write_text(FILE)
    return tmp_path


def output(*arguments: str, **environment: str) -> str:
    clean = {"TORNADO_BRIDGE_PLUGINS": None, "TORNADO_BRIDGE_PLUGINS_DIR": None}
    return CliRunner(env={**clean, **environment}).invoke(listing, arguments, catch_exceptions=False).output.strip()


def test_a_command_gets_all_plugins_unless_told_else() -> None:
    assert output() == "candle signals"


def test_an_option_chooses_plugins() -> None:
    assert output("--plugins", "signals") == "signals"


def test_an_option_adds_single_files(files: Path) -> None:
    assert output("--plugins-dir", str(files)) == "candle quotes signals"


def test_the_environment_chooses_as_it_does_for_a_server(files: Path) -> None:
    found = output(TORNADO_BRIDGE_PLUGINS="quotes,candle", TORNADO_BRIDGE_PLUGINS_DIR=str(files))
    assert found == "candle quotes"


def test_an_option_beats_the_environment() -> None:
    assert output("--plugins", "signals", TORNADO_BRIDGE_PLUGINS="candle") == "signals"


def test_another_setting_in_the_environment_is_no_concern_of_the_choice() -> None:
    assert output(TORNADO_BRIDGE_PORT="none") == "candle signals"


def test_an_unusable_choice_is_told_with_its_source() -> None:
    with pytest.raises(ConfigurationError) as raised:
        output(TORNADO_BRIDGE_PLUGINS="a,,b")
    assert str(raised.value).startswith("--plugins in the environment (TORNADO_BRIDGE_PLUGINS): expected names ")


def test_a_command_that_does_not_ask_loads_no_plugin() -> None:
    assert CliRunner().invoke(indifferent, ["--plugins", "nonsense"]).output == "not asked\n"


def test_options_that_were_not_given_are_left_out() -> None:
    assert options.given({"a": None, "b": (), "c": "", "d": "1"}) == {"c": "", "d": "1"}


def test_the_option_of_a_setting_has_its_help_and_default() -> None:
    assert options.setting_option("port").help == "Port to listen on. 0 picks a free one.  [default: 8765]"

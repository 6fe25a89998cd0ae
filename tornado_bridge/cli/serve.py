"""The command `tornado-bridge serve`."""

from pathlib import Path
from typing import Any

import click

from tornado_bridge import logs
from tornado_bridge.cli.options import version_option
from tornado_bridge.cli.setting_options import SettingsCommand, given
from tornado_bridge.server import process, settings


@click.command("serve", cls=SettingsCommand)
@version_option
@click.option(
    "--config", type=click.Path(path_type=Path), envvar="TORNADO_BRIDGE_CONFIG", help="TOML file with settings."
)
def command(config: Path | None, **options: Any) -> None:
    """Run the server.

    Each setting is taken from the first of these that has it: its option, the environment variable
    TORNADO_BRIDGE_NAME, NAME in the --config file, its default. The Redis password has no option: set
    TORNADO_BRIDGE_REDIS_PASSWORD or use --redis-password-file.
    """
    settled = settings.settle(given(options), config)
    logs.configure(settled.log_level, settled.log_format)
    # Not `output.write`: a server whose standard output is closed can still serve.
    process.run(settled, lambda url: click.echo(f"listening on {url}"))

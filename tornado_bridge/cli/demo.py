"""The command `tornado-bridge demo`."""

import asyncio
from typing import Any

import click

from tornado_bridge import demo, logs
from tornado_bridge.cli import output
from tornado_bridge.cli.options import version_option
from tornado_bridge.cli.setting_options import given, setting_option


@click.command("demo", params=[setting_option("port"), setting_option("host")])
@version_option
def command(**options: Any) -> None:
    """Run a server with an embedded Redis, a synthetic market and a demo key."""
    output.require()
    logs.configure("warning", "text")
    asyncio.run(demo.demo(given(options), output.write))

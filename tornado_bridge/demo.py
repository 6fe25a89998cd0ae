"""The demonstration: a server with everything that it needs, and a market that moves."""

import asyncio
import contextlib
import shlex
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tornado_bridge import app, market, server
from tornado_bridge.keys import KeyFile
from tornado_bridge.settings import EMBEDDED, settle

# One minute of the market takes this long, in seconds.
MINUTE = 1.0


async def demo(options: Mapping[str, Any], say: Callable[[str], object]) -> None:
    """Serve a synthetic market until SIGTERM or SIGINT; `say` gets what the user needs to know, line by line.

    `options` are host and port, as the command line gave them. Raises ConfigurationError for those that cannot be used.
    """
    publishing: list[asyncio.Task[None]] = []
    with tempfile.TemporaryDirectory(prefix="tornado-bridge-") as directory:
        path = Path(directory) / "keys.toml"
        key = KeyFile(path).create("demo")

        def on_listening(url: str, redis_url: str) -> None:
            stream = f"ws{url.removeprefix('http')}{app.STREAM_PATH}"
            say(f"stream  {stream}")
            say(f"key     {key}")
            say(f"redis   {redis_url}")
            say("")
            say("Follow it in another terminal:")
            say(
                f"TORNADO_BRIDGE_API_KEY={key} tornado-bridge tail --url {shlex.quote(stream)} 'candles:*:*' 'signals:*:*'"
            )
            publishing.append(asyncio.create_task(market.publish(market.Market(), redis_url, MINUTE)))

        fixed = {"exchange": "1:coinbase", "redis_url": f"{EMBEDDED}://127.0.0.1:0", "api_keys": path}
        settings = settle({**fixed, **options}, None, {})
        try:
            await server.serve(settings, on_listening)
        finally:
            for task in publishing:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

"""The demonstration: a server with everything that it needs, and a market that moves."""

import asyncio
import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path

from tornado_bridge import app, market, server
from tornado_bridge.keys import KeyFile
from tornado_bridge.settings import Settings

# One minute of the market takes this long, in seconds.
MINUTE = 1.0


async def demo(host: str, port: int, say: Callable[[str], object]) -> None:
    """Serve a synthetic market until SIGTERM or SIGINT; `say` gets what the user needs to know, line by line."""
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
            say(f"TORNADO_BRIDGE_API_KEY={key} tornado-bridge tail --url {stream} 'candles:*:*' 'signals:*:*'")
            publishing.append(asyncio.create_task(market.publish(market.Market(), redis_url, MINUTE)))

        settings = Settings(
            host=host, port=port, exchange="1:coinbase", redis_url=f"{server.EMBEDDED}://127.0.0.1:0", api_keys=path
        )
        try:
            await server.serve(settings, on_listening)
        finally:
            for task in publishing:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

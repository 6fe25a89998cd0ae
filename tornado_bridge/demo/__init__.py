"""The demonstration: a server with an embedded Redis, a key, and a synthetic market that publishes to it."""

import asyncio
import shlex
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tornado_bridge.demo import market
from tornado_bridge.errors import BridgeError
from tornado_bridge.key_file import KeyFile
from tornado_bridge.server import process
from tornado_bridge.server.embedded import EmbeddedRedis
from tornado_bridge.server.settings import KEY_VARIABLE, settle
from tornado_bridge.web import app

# How long one minute of the market takes, in seconds.
MINUTE = 1.0


async def demo(options: Mapping[str, Any], say: Callable[[str], object]) -> None:
    """Serve a synthetic market until SIGTERM or SIGINT. `say` receives the lines for the user, one by one.

    `options` are the host and the port from the command line. Raises ConfigurationError if they are invalid, and
    BridgeError if the market stops by itself.
    """
    publishing: list[asyncio.Task[None]] = []
    with tempfile.TemporaryDirectory(prefix="tornado-bridge-") as directory, EmbeddedRedis() as redis:
        path = Path(directory) / "keys.toml"
        key = KeyFile(path).create("demo")
        fixed = {"exchange": "1:coinbase", "redis_url": redis.url, "api_keys": path}
        settings = settle({**fixed, **options}, None, {})
        # Before the server starts: computing the market's past takes half a second.
        moving = market.Market()

        def on_listening(url: str) -> None:
            stream = f"ws{url.removeprefix('http')}{app.STREAM_PATH}"
            say(f"stream  {stream}")
            say(f"key     {key}")
            say(f"redis   {redis.url}")
            say("")
            say("Follow it in another terminal:")
            follow = shlex.join(["tornado-bridge", "tail", "--url", stream, "candles:*:*", "signals:*:*"])
            say(f"{KEY_VARIABLE}={key} {follow}")
            publishing.append(asyncio.create_task(market.publish(moving, redis.url, MINUTE)))

        try:
            await process.serve(settings, on_listening)
        finally:
            for task in publishing:
                await _stop(task)


async def _stop(task: asyncio.Task[None]) -> None:
    while not task.done():
        # Repeatedly: redis-py waits with asyncio.wait_for, which can lose a cancellation in Python 3.11.
        task.cancel()
        await asyncio.wait([task], timeout=1)
    error = None if task.cancelled() else task.exception()
    if error is not None:
        raise BridgeError(f"the market has stopped: {error}")

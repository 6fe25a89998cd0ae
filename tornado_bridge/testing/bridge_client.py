"""A bridge in the test's own process, on an embedded Redis, with a client that is subscribed to every channel."""

import asyncio
import contextlib
import json
from collections.abc import Coroutine, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import redis
from tornado.httpclient import HTTPRequest
from tornado.httpserver import HTTPServer
from tornado.websocket import WebSocketClientConnection, websocket_connect

from tornado_bridge.audit.generation import EXCHANGE_ID, EXCHANGE_NAME
from tornado_bridge.bridge import WebSocketBridge
from tornado_bridge.keys import FixedKeys, KeyRing
from tornado_bridge.server.embedded import EmbeddedRedis
from tornado_bridge.web import app

Result = TypeVar("Result")

# How long to wait for an event to come through, in seconds.
PATIENCE = 10.0

_KEY = "the key of the bridge client"


class BridgeClient:
    """A bridge with `plugins` and its client, as a context manager. The bridge's exchange is 1, `coinbase`.

    The methods run the event loop themselves, so no test needs to be asynchronous.
    """

    def __init__(self, plugins: Sequence[str | object]) -> None:
        self._plugins = plugins
        self._redis = EmbeddedRedis()
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._exits = contextlib.ExitStack()
        self._bridge: WebSocketBridge | None = None
        self._server: HTTPServer | None = None
        self._client: WebSocketClientConnection | None = None

    def publish(self, source: str, payload: str | bytes) -> None:
        """Publish an event on a source channel, as the platform does."""
        with redis.Redis(host=self._redis.host, port=self._redis.port) as client:
            client.publish(source, payload)

    def receive(self, timeout: float = PATIENCE) -> dict[str, Any]:
        """Return the next envelope; raises TimeoutError if none arrives within `timeout` seconds."""
        return self._wait(self._receive(timeout))

    async def _receive(self, seconds: float) -> dict[str, Any]:
        assert self._client is not None
        async with asyncio.timeout(seconds):
            message: dict[str, Any] = json.loads(await self._client.read_message() or "null")
        return message

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as exits:
            self._redis.start()
            exits.callback(self._redis.stop)
            exits.callback(self._runner.close)
            exits.callback(lambda: self._wait(self._stop()))
            self._wait(self._start())
            self._exits = exits.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.close()

    async def _start(self) -> None:
        keys = FixedKeys(KeyRing.single("tests", _KEY))
        self._bridge = WebSocketBridge(
            redis_url=self._redis.url,
            exchange_id=EXCHANGE_ID,
            exchange_name=EXCHANGE_NAME,
            keys=keys,
            plugins=self._plugins,
        )
        await self._bridge.start()
        self._server, port = app.serve(self._bridge, host="127.0.0.1", port=0)
        url = f"ws://127.0.0.1:{port}{app.STREAM_PATH}"
        self._client = await websocket_connect(HTTPRequest(url, headers={"X-API-Key": _KEY}))
        channels = [
            event_type.channel_form.wildcard
            for plugin in self._bridge.registry.plugins
            for event_type in plugin.event_types
        ]
        await self._client.write_message(json.dumps({"action": "subscribe", "channels": channels}))
        await self._receive(PATIENCE)

    async def _stop(self) -> None:
        if self._client is not None:
            self._client.close()
        if self._bridge is not None:
            await self._bridge.stop()
        if self._server is not None:
            self._server.stop()
            await self._server.close_all_connections()

    def _wait(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self._runner.run(work)

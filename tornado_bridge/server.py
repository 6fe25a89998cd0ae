"""A server process: settings to a bridge on a port, from its start until a signal ends it."""

import asyncio
import contextlib
import resource
import signal
import urllib.parse
from collections.abc import Callable

import structlog

from tornado_bridge import app
from tornado_bridge.bridge import WebSocketBridge
from tornado_bridge.embedded import EmbeddedRedis
from tornado_bridge.errors import BridgeError, ConfigurationError
from tornado_bridge.keys import KeyFile, KeyWatch
from tornado_bridge.metrics import serve_metrics
from tornado_bridge.settings import Settings

log = structlog.get_logger(__name__)

EMBEDDED = "embedded"


async def serve(settings: Settings, on_listening: Callable[[str, str], None]) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    `on_listening` gets the server's URL and Redis' once the port is open and the first try to reach Redis has ended.
    Raises ConfigurationError for settings that cannot be used.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    _raise_file_limit()
    async with contextlib.AsyncExitStack() as stack:
        redis_url = settings.redis_url
        if redis_url.startswith(f"{EMBEDDED}://"):
            redis_url = stack.enter_context(_embedded(redis_url)).url
        elif urllib.parse.urlsplit(redis_url).password and settings.redis_password_file is None:
            log.warning("a password in the Redis URL can be seen by others: use --redis-password-file")
        bridge = _bridge(settings, redis_url)
        try:
            server, port = app.serve(
                bridge,
                host=settings.host,
                port=settings.port,
                allow_origin=settings.allow_origin,
                max_handshakes=settings.max_handshakes,
            )
            if settings.metrics_port is not None:
                stack.callback(serve_metrics(bridge, settings.host, settings.metrics_port).stop)
        except OSError as error:
            raise ConfigurationError(
                f"--port: {settings.host} port {settings.port} cannot be listened on ({error.strerror or error})"
            ) from None
        starting = asyncio.create_task(bridge.start())
        first = asyncio.create_task(bridge.first_try())
        stopped = asyncio.create_task(stopping.wait())
        await asyncio.wait({first, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if first.done():
            on_listening(f"http://{_bracketed(settings.host)}:{port}", redis_url)
        failed = asyncio.create_task(bridge.failure())
        await asyncio.wait({failed, stopped}, return_when=asyncio.FIRST_COMPLETED)
        fault = failed.exception() if failed.done() else None
        log.info("stopping")
        server.stop()
        await bridge.stop()
        await server.close_all_connections()
        for task in (starting, first, failed, stopped):
            task.cancel()
        if fault is not None:
            raise BridgeError(f"the bridge has failed: {fault!r}")


def _bridge(settings: Settings, redis_url: str) -> WebSocketBridge:
    return WebSocketBridge(
        redis_url=redis_url,
        redis_password=settings.password(),
        exchange_id=settings.exchange_id,
        exchange_name=settings.exchange_name,
        keys=KeyWatch(KeyFile(settings.api_keys)),
        ping_interval=settings.ping_interval,
        max_connections=settings.max_connections,
        max_connections_per_key=settings.max_connections_per_key,
        max_subscriptions=settings.max_subscriptions,
        skip_bytes=settings.skip_bytes,
        abort_bytes=settings.abort_bytes,
        slow_timeout=settings.slow_timeout,
        rate_limit=settings.rate_limit,
        rate_burst=settings.rate_burst,
    )


def _embedded(url: str) -> EmbeddedRedis:
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or port is None:
        raise ConfigurationError("--redis-url: expected embedded://HOST:PORT; port 0 picks one")
    return EmbeddedRedis(host, port)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _raise_file_limit() -> None:
    """Allow as many connections as the system lets this process have files."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

"""A server process: it makes a bridge of the settings, and serves it until a signal ends it."""

import asyncio
import contextlib
import dataclasses
import errno
import gc
import os
import signal
import socket
import urllib.parse
from collections.abc import Callable, Iterator, Sequence

import structlog

from tornado_bridge import logs
from tornado_bridge.bridge import Limits, WebSocketBridge
from tornado_bridge.discovery import Candidate
from tornado_bridge.errors import BridgeError, ConfigurationError, PluginError
from tornado_bridge.excerpts import excerpt
from tornado_bridge.key_file import KeyFile, KeyWatch
from tornado_bridge.redis_client import has_password
from tornado_bridge.server import descriptors
from tornado_bridge.server.embedded import EmbeddedRedis, authority
from tornado_bridge.server.environment import Environment
from tornado_bridge.server.setting_types import EMBEDDED
from tornado_bridge.server.settings import COMMAND_LINE, Settings
from tornado_bridge.web import app
from tornado_bridge.web.metrics import serve_metrics

log = structlog.get_logger(__name__)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

# A collection of garbage starts after this many new objects that could be part of a cycle: more than one read of Redis
# makes. Older objects are looked at each tenth and each twentieth time, since clients that have gone leave some behind.
COLLECT_AFTER = (10_000, 10, 2)


def run(settings: Settings, on_listening: Callable[[str], None]) -> None:
    """Run `serve` to its end, on the event loop that the settings ask for. Raises what `serve` raises."""
    with asyncio.Runner(loop_factory=_loop_factory(settings)) as runner:
        runner.run(serve(settings, on_listening))


def _loop_factory(settings: Settings) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if settings.event_loop == "asyncio":
        return None
    try:
        import uvloop
    except ImportError:
        raise settings.refusal("event_loop", "uvloop is not installed: pip install uvloop") from None
    return uvloop.new_event_loop


async def serve(settings: Settings, on_listening: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, then disconnect the clients and return.

    SIGHUP reads the keys and the log level again. `on_listening` gets the server's URL once the port is open and the
    first try to reach Redis has ended. Raises ConfigurationError for settings that cannot be used.
    """
    stopping, reloading = asyncio.Event(), asyncio.Event()
    _handle_signals(stopping, reloading)
    settings = _within_open_files(settings)
    _log_environment(settings.environment)
    async with contextlib.AsyncExitStack() as stack:
        redis_url, password = _redis(settings, stack)
        bridge = _bridge(settings, redis_url, password)
        # Before the first client comes, since what is frozen is never freed.
        stack.enter_context(_settled_collector())
        with _listening(settings, "host", "port"):
            server, port = app.serve(
                bridge,
                host=settings.host,
                port=settings.port,
                allow_origin=settings.allow_origin,
                trusted_proxy=settings.trusted_proxy,
                max_handshakes=settings.max_handshakes,
            )
        stack.callback(server.stop)
        if settings.metrics_port is not None:
            with _listening(settings, "metrics_host", "metrics_port"):
                metrics, metrics_port = serve_metrics(bridge, settings.metrics_host, settings.metrics_port)
            stack.callback(metrics.stop)
            log.info("metrics", url=f"http://{authority(settings.metrics_host, metrics_port)}/metrics")
        starting = asyncio.create_task(bridge.start())
        first = asyncio.create_task(bridge.first_try())
        failed = asyncio.create_task(bridge.failure())
        reloader = asyncio.create_task(_reload(reloading, settings, bridge))
        stopped = asyncio.create_task(stopping.wait())
        await asyncio.wait({first, failed, reloader, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if first.done():
            on_listening(f"http://{authority(settings.host, port)}")
        await asyncio.wait({failed, reloader, stopped}, return_when=asyncio.FIRST_COMPLETED)
        fault = next((task.exception() for task in (failed, reloader) if task.done()), None)
        _ignore_signals()
        log.info("stopping")
        server.stop()
        await bridge.stop()
        await server.close_all_connections()
        tasks = (starting, first, failed, reloader, stopped)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if fault is not None:
        raise BridgeError(f"the bridge has failed: {type(fault).__name__}")


def _handle_signals(stopping: asyncio.Event, reloading: asyncio.Event) -> None:
    """Stop on SIGTERM and SIGINT, reload on SIGHUP, and survive SIGUSR1."""
    loop = asyncio.get_running_loop()
    on_terminal = os.isatty(0)

    def hang_up() -> None:
        # A terminal that is closed sends SIGHUP too, to end the programs that run in it.
        terminal_closed = on_terminal and not os.isatty(0)
        (stopping if terminal_closed else reloading).set()

    def handle(number: signal.Signals, function: Callable[[], None]) -> None:
        def handler(*_: object) -> None:
            # A bridge that has failed may be about to end, with its loop closed.
            if not loop.is_closed():
                loop.call_soon_threadsafe(function)

        signal.signal(number, handler)

    for number in STOP_SIGNALS:
        handle(number, stopping.set)
    handle(signal.SIGHUP, hang_up)
    handle(signal.SIGUSR1, lambda: log.info("SIGUSR1 is ignored"))


def _ignore_signals() -> None:
    """Let no further signal interrupt the drain, or the end of the process after it.

    Handlers of the loop are gone once it is closed, and Python's own handlers while the interpreter ends. Only a signal
    that is ignored stays ignored to the last moment.
    """
    for number in (*STOP_SIGNALS, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


async def _reload(asked: asyncio.Event, settings: Settings, bridge: WebSocketBridge) -> None:
    """Read the log level and the keys again, each time this is asked for."""
    level = settings.log_level
    while True:
        await asked.wait()
        asked.clear()
        log.info("SIGHUP: the log level and the keys are read again")
        try:
            new = settings.reread().log_level
        except ConfigurationError as error:
            log.error("settings cannot be used: the log level stays as it was", cause=str(error))
        else:
            if new != level:
                logs.set_level(new)
                level = new
        await bridge.refresh_keys()


def _log_environment(environment: Environment) -> None:
    """Log the variables that look like settings: mistyped ones, and the service links of Kubernetes."""
    for variable, nearest in environment.unknown.items():
        hint = {} if nearest is None else {"nearest": nearest}
        log.warning("unknown variable in the environment: it is ignored", variable=excerpt(variable), **hint)
    if environment.service_links:
        links = " ".join(map(excerpt, environment.service_links))
        log.info("service links of Kubernetes in the environment: they are ignored", variables=links)


def _redis(settings: Settings, stack: contextlib.ExitStack | contextlib.AsyncExitStack) -> tuple[str, str | None]:
    """Return URL and password of the Redis to use. An embedded one is started, and stops with the stack."""
    parts = urllib.parse.urlsplit(settings.redis_url)
    password = settings.password()
    if parts.scheme == EMBEDDED:
        assert parts.hostname is not None
        assert parts.port is not None
        try:
            return stack.enter_context(EmbeddedRedis(parts.hostname, parts.port)).url, None
        except ConfigurationError as error:
            raise settings.refusal("redis_url", str(error)) from None
        except UnicodeError:
            raise settings.refusal("redis_url", "expected a host name of this machine") from None
    if has_password(settings.redis_url) and settings.source("redis_url") == COMMAND_LINE:
        log.warning("a password in the Redis URL can be seen by others: use --redis-password-file")
    return settings.redis_url, password


def _bridge(settings: Settings, redis_url: str, password: str | None) -> WebSocketBridge:
    try:
        keys = KeyWatch(KeyFile(settings.api_keys))
    except ConfigurationError as error:
        raise settings.refusal("api_keys", str(error)) from None
    plugins = settings.candidates()
    try:
        return _bridge_of(settings, redis_url, password, keys, plugins)
    except PluginError:
        raise
    except ConfigurationError as error:
        # Redis, the keys and the names of plugins have been checked before.
        raise settings.refusal("exchange", str(error)) from None


def _bridge_of(
    settings: Settings, redis_url: str, password: str | None, keys: KeyWatch, plugins: Sequence[Candidate]
) -> WebSocketBridge:
    return WebSocketBridge(
        redis_url=redis_url,
        redis_password=password,
        exchange_id=settings.exchange_id,
        exchange_name=settings.exchange_name,
        keys=keys,
        plugins=plugins,
        limits=Limits(**{field.name: getattr(settings, field.name) for field in dataclasses.fields(Limits)}),
        compression=settings.compression,
        log_addresses=settings.log_addresses,
    )


@contextlib.contextmanager
def _listening(settings: Settings, host: str, port: str) -> Iterator[None]:
    """Name the setting at fault when an address cannot be listened on."""
    try:
        yield
    except (OSError, UnicodeError) as error:
        no_address = isinstance(error, socket.gaierror | UnicodeError) or error.errno == errno.EADDRNOTAVAIL
        problem = error.strerror if isinstance(error, OSError) and error.strerror else "no such name"
        raise settings.refusal(
            host if no_address else port,
            f"{getattr(settings, host)} port {getattr(settings, port)} cannot be listened on ({problem})",
        ) from None


@contextlib.contextmanager
def _settled_collector() -> Iterator[None]:
    """Let the cyclic collector skip all objects that live as long as the process, and start less often.

    A read brings thousands of messages, none of them part of a cycle. With Python's own threshold of 700 objects,
    looking at them took a quarter of the relay's time.
    """
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


def _within_open_files(settings: Settings) -> Settings:
    """Return the settings with as many connections as there are descriptors for."""
    limit = descriptors.raise_limit()
    connections, handshakes = descriptors.fit(settings.max_connections, settings.max_handshakes, limit)
    if (connections, handshakes) == (settings.max_connections, settings.max_handshakes):
        return settings
    log.warning(
        "fewer connections than set: the limit of open files is too low",
        open_files=limit,
        max_connections=connections,
        max_handshakes=handshakes,
    )
    return settings.model_copy(update={"max_connections": connections, "max_handshakes": handshakes})

"""A WebSocket server that plays a script on each connection, to test what a client does."""

import asyncio
import contextlib
import json
import logging
import re
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve
from websockets.utils import accept_key

KEY = "tb_SECRET_4711"
CHANNEL = "candles:BTC-USD:1h"
CANDLE: dict[str, Any] = {
    "type": "candle_close",
    "channel": "candles:BTC-USD:1h",
    "data": {
        "timestamp": "2024-02-18T14:00:00.000Z",
        "open": "42350.5",
        "high": "42450.75",
        "low": "42300.25",
        "close": "42400",
        "volume": "123.456",
    },
}
SIGNAL: dict[str, Any] = {
    "type": "trade_signal",
    "channel": "signals:BTC-USD:15m",
    "data": {
        "symbol": "BTC-USD",
        "exchange": "coinbase",
        "timeframe": "15m",
        "signal_type": "momentum_signal",
        "direction": "bullish",
        "strength": "strong",
        "price": "42350.5",
        "timestamp": "2026-02-19T12:00:00.000Z",
    },
}
CANDLE_TEXT = "O 42350.5 H 42450.75 L 42300.25 C 42400 V 123.456 2024-02-18T14:00:00.000Z"

# A dialogue on one connection, or the HTTP status that refuses the upgrade.
Script = Callable[[ServerConnection], None] | int


class Stream:
    """A WebSocket server that plays one script per connection, and the last one on all further ones."""

    def __init__(self, *scripts: Script) -> None:
        self._scripts = list(scripts)
        self.requests: list[Request] = []
        self.pinged = threading.Event()
        self.url = ""

    def admit(self, connection: ServerConnection, request: Request) -> Response | None:
        self.requests.append(request)
        script = self._scripts[0] if len(self._scripts) == 1 else self._scripts.pop(0)
        if isinstance(script, int):
            return connection.respond(script, "no\n")
        connection.script = script  # type: ignore[attr-defined]
        return None

    def converse(self, connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            connection.script(connection)  # type: ignore[attr-defined]


def _silent_log() -> logging.Logger:
    logger = logging.getLogger("scripted_server.websockets")
    logger.propagate = False
    return logger


@contextlib.contextmanager
def serving(*scripts: Script, port: int = 0) -> Iterator[Stream]:
    """Run the server in a thread."""
    stream = Stream(*scripts)

    class Connection(ServerConnection):
        def process_event(self, event: Any) -> None:
            if isinstance(event, Frame) and event.opcode is Opcode.PING:
                stream.pinged.set()
            super().process_event(event)

    with serve(
        stream.converse,
        "127.0.0.1",
        port,
        process_request=stream.admit,
        create_connection=Connection,
        compression=None,
        ping_interval=None,
        logger=_silent_log(),
    ) as server:
        stream.url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}/public/v1/stream"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield stream
        _cut_clients(server)
        server.shutdown()
        thread.join()


def _cut_clients(server: Server) -> None:
    for connection in server.connections:
        with contextlib.suppress(OSError):
            connection.socket.shutdown(socket.SHUT_RDWR)


def grant(connection: ServerConnection) -> list[str]:
    channels: list[str] = json.loads(connection.recv(timeout=10))["channels"]
    connection.send(json.dumps({"type": "subscribed", "channels": channels}))
    return channels


def refuse(connection: ServerConnection) -> None:
    connection.close(4001, "API key revoked")


def saying(*messages: str | bytes | dict[str, Any], code: int = 4001, reason: str = "") -> Script:
    """Return a script that grants the channels, sends `messages` and closes."""

    def script(connection: ServerConnection) -> None:
        grant(connection)
        for message in messages:
            connection.send(json.dumps(message) if isinstance(message, dict) else message)
        connection.close(code, reason)

    return script


def error(code: str, message: str) -> dict[str, Any]:
    return {"type": "error", "code": code, "message": message}


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


@contextlib.contextmanager
def answering(answer: Callable[[bytes], bytes]) -> Iterator[str]:
    """Run a TCP server that answers each request with bytes, and closes after the client has closed."""

    def converse() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client, contextlib.suppress(ConnectionResetError):
                    request = b""
                    while b"\r\n\r\n" not in request:
                        request += client.recv(65_536)
                    client.sendall(answer(request))
                    client.shutdown(socket.SHUT_WR)
                    while client.recv(65_536):
                        pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=converse)
        thread.start()
        yield f"ws://127.0.0.1:{listener.getsockname()[1]}/x"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def upgrade(request: bytes) -> bytes:
    [key] = re.findall(rb"(?i)sec-websocket-key: (\S+)", request)
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept_key(key.decode()).encode() + b"\r\n\r\n"
    )

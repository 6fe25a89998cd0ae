"""An embedded Redis: fakeredis behind a TCP port."""

import errno
import logging
import socket
import threading
import time
from types import TracebackType
from typing import Any, Self

from fakeredis import TcpFakeServer

from tornado_bridge.errors import ConfigurationError

# Seconds to wait for the clients' threads to end. They look for a shutdown every 10 ms, except in a blocking command.
_JOIN_TIMEOUT = 2.0

# Seconds until the accepting thread sees a shutdown.
_POLL_INTERVAL = 0.05

logger = logging.getLogger(__name__)


class EmbeddedRedis:
    """A Redis in this process, which any Redis client can reach over TCP.

    Port 0 takes a free one. A stopped server can be started again: it is empty then, and on the same port. It does not
    fail as Redis fails, so failures must be tested against a real Redis.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.host = host
        # The port to ask for. Once started, the port that it got.
        self.port = port
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The URL for Redis clients, valid once the server was started."""
        return f"redis://{authority(self.host, self.port)}/0"

    def start(self) -> None:
        """Bind and serve from a daemon thread; does nothing if it is serving already.

        Raises ConfigurationError if the address cannot be listened on.
        """
        if self._server is not None:
            return
        self._server = _bind(self.host, self.port)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_INTERVAL,), name="embedded-redis", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Disconnect every client, free the port and end the threads; does nothing if it is not serving.

        A thread that is in a blocking command, such as BLPOP, after 2 s is left behind. It is a daemon thread.
        """
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server.join_clients()
        self._server = self._thread = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def authority(host: str, port: int) -> str:
    """Return host and port as they stand in a URL, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _Server(TcpFakeServer):
    def __init__(self, family: socket.AddressFamily, address: tuple[Any, ...]) -> None:
        self.address_family = family
        self._clients: list[threading.Thread] = []
        super().__init__(address)
        # The constructor of fakeredis sets this to False. Such threads would keep the process from ending.
        self.daemon_threads = True

    # socketserver does not remember daemon threads, but `stop` has to wait for them.
    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(
            target=self.process_request_thread,
            args=(request, client_address),
            name="embedded-redis-client",
            daemon=self.daemon_threads,
        )
        self._clients = [client for client in self._clients if client.is_alive()]
        self._clients.append(thread)
        thread.start()

    # socketserver would print a traceback, only because a client has vanished in the middle of a reply.
    def handle_error(self, request: Any, client_address: Any) -> None:
        logger.debug("connection of %s ended", client_address, exc_info=True)

    def join_clients(self) -> None:
        deadline = time.monotonic() + _JOIN_TIMEOUT
        for client in self._clients:
            client.join(max(0.0, deadline - time.monotonic()))


def _bind(host: str, port: int) -> _Server:
    try:
        # getaddrinfo would take the port modulo 65,536.
        if not 0 <= port <= 65_535:
            raise OSError(errno.EINVAL, "no such port")
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return _Server(family, address)
    except OSError as error:
        raise ConfigurationError(f"embedded Redis cannot listen on {authority(host, port)}: {error.strerror}") from None

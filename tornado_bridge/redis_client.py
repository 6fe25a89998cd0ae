"""The one adapter to redis-py: it checks a Redis URL, connects, and reads replies in batches.

Every private part of redis-py that the bridge touches is touched here: `_parser` of a connection, `_reader` and
`_stream` of its hiredis parser, `_buffer` of asyncio's stream, and NOT_ENOUGH_DATA.
"""

import re
import urllib.parse
from typing import Any

from redis._parsers.hiredis import NOT_ENOUGH_DATA, _AsyncHiredisParser
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    InvalidResponse,
    NoPermissionError,
    RedisError,
)

from tornado_bridge.errors import ConfigurationError

# What using a connection raises while Redis is away, refuses us, or is another kind of server.
CONNECTION_ERRORS = (RedisError, OSError)

# Bytes that one read may take: more than asyncio buffers, so that one read empties the buffer.
READ_SIZE = 1 << 20

_SCHEMES = ("redis", "rediss", "unix")

# The options that a URL may have after its "?". Any other could replace the parser or the time-outs.
_URL_OPTIONS = ("db", "client_name", "username", "password")
_TLS_OPTIONS = "ssl_"

# No error quotes anything of the URL: what seems to be a host or an option may be a piece of the password.
_BAD_FORM = (
    "the Redis URL cannot be used: expected redis://USER:PASSWORD@HOST:PORT/DB, rediss:// or unix://PATH, "
    "with /, ?, #, @ and % of a password as %2F, %3F, %23, %40 and %25"
)
_BAD_OPTIONS = (
    "the Redis URL cannot be used: expected after its ? only db, client_name, username, password and redis-py's ssl_ "
    "options, each with a valid value"
)


class RedisConnection:
    """One connection to Redis, which may be opened again each time it was lost.

    It sets no time-out of its own: redis-py's go through asyncio.wait_for, which loses cancellations in Python 3.11.
    Raises ConfigurationError as `check_url` does.
    """

    def __init__(self, url: str, password: str | None = None) -> None:
        self._connection = _connection(url, password)
        parser = self._connection._parser
        assert isinstance(parser, _AsyncHiredisParser)
        # redis-py's annotations say that its private parts may be None; they are set once it has connected.
        self._parser: Any = parser

    async def connect(self) -> None:
        """Connect and authenticate; does nothing while connected. Raises one of CONNECTION_ERRORS."""
        await self._connection.connect()  # type: ignore[no-untyped-call]

    async def disconnect(self) -> None:
        """Close the connection without waiting for Redis; does nothing while not connected."""
        await self._connection.disconnect(nowait=True)

    async def send(self, *command: str) -> None:
        """Send a command without waiting for its reply. Raises one of CONNECTION_ERRORS."""
        await self._connection.send_command(*command)

    async def read_batch(self) -> list[Any]:
        """Wait for bytes and return every reply that they complete, with error replies as exceptions in the list.

        redis-py's own `read_response` returns one reply per call, at about eight times the cost per reply.
        Raises one of CONNECTION_ERRORS for a lost connection and for bytes that are not Redis' protocol.
        """
        parser = self._parser
        await parser.read_from_socket()
        gets = parser._reader.gets
        replies: list[Any] = []
        while True:
            reply = gets()
            if reply is NOT_ENOUGH_DATA:
                return replies
            replies.append(reply)

    @property
    def lacks_tls(self) -> bool:
        """Whether the URL asks for TLS and no TLS handshake has ended, since the connection is not open."""
        return isinstance(self._connection, SSLConnection) and not self._connection.is_connected

    @property
    def waiting(self) -> bool:
        """Whether bytes have arrived that were not read yet, so that `read_batch` would not have to wait."""
        return bool(self._parser._stream._buffer)


def check_url(url: str) -> None:
    """Check the URL of a Redis server, without connecting to it.

    Raises ConfigurationError for another form than redis://, rediss:// and unix://, and for an option that could
    change how the bridge reads. The error quotes nothing of the URL.
    """
    _connection(url, None)


def has_password(url: str) -> bool:
    """Tell whether a URL that `check_url` has accepted holds a password, be it an empty one."""
    parts = urllib.parse.urlsplit(url)
    return parts.password is not None or "password" in urllib.parse.parse_qs(parts.query, keep_blank_values=True)


def explain(error: Exception, *, lacks_tls: bool = False) -> str:
    """Describe one of CONNECTION_ERRORS in one clause, without any password.

    `lacks_tls` is what the connection says at the time of the error. A Redis without TLS waits for more bytes after the
    beginning of a TLS handshake, so a wrong port shows as a time-out alone.
    """
    if isinstance(error, AuthenticationError | AuthenticationWrongNumberOfArgsError):
        return "Redis asks for another user or password"
    if isinstance(error, NoPermissionError):
        return "the Redis user lacks the right to subscribe to these channels"
    if isinstance(error, InvalidResponse):
        return "what answers there does not speak Redis' protocol"
    if isinstance(error, TimeoutError) and lacks_tls:
        return "the TLS handshake was not answered: does that port speak TLS?"
    if isinstance(error, TimeoutError):
        return "Redis does not answer"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _connection(url: str, password: str | None) -> AbstractConnection:
    """Make a connection that is not open yet."""
    _check_form(url)
    credentials = {} if password is None else {"password": password}
    try:
        pool = ConnectionPool.from_url(
            url,
            protocol=2,
            parser_class=_AsyncHiredisParser,
            socket_connect_timeout=None,
            socket_timeout=None,
            socket_read_size=READ_SIZE,
            retry=Retry(NoBackoff(), 0),
            **credentials,
        )
        connection: AbstractConnection = pool.make_connection()  # type: ignore[no-untyped-call]
    except (ValueError, TypeError, RedisError):
        raise ConfigurationError(_BAD_OPTIONS) from None
    return connection


def _check_form(url: str) -> None:
    """Refuse a URL without a place to connect to, and one that is cut in two by a plain /, ? or # in its password."""
    try:
        parts = urllib.parse.urlsplit(url)
        # Reading the port raises ValueError for one that is not a number up to 65535.
        place = parts.path if parts.scheme == "unix" else parts.hostname and parts.port != 0
    except ValueError:
        raise ConfigurationError(_BAD_FORM) from None
    torn = parts.fragment or "@" in parts.path + parts.query
    if parts.scheme not in _SCHEMES or not place or torn or not re.fullmatch("[!-~]+", url):
        raise ConfigurationError(_BAD_FORM)
    for option, _ in urllib.parse.parse_qsl(parts.query):
        if option not in _URL_OPTIONS and not option.startswith(_TLS_OPTIONS):
            raise ConfigurationError(_BAD_OPTIONS)

"""Log lines about clients: who connects, who is refused, and who leaves and why."""

import logging
import time

import structlog

from tornado_bridge.connections.connection import Connection
from tornado_bridge.connections.disconnects import Disconnect
from tornado_bridge.keys import Key
from tornado_bridge.logs import ThrottledLog

log = structlog.get_logger(__name__)
_logger = logging.getLogger(__name__)


class Visits:
    """Logs the clients of a bridge at level info, each kind of line once in 10 s per key.

    With `addresses` the lines show IP addresses. No line shows an API key.
    """

    def __init__(self, addresses: bool) -> None:
        self._addresses = addresses
        self._log = ThrottledLog(log)

    def log_arrival(self, connection: Connection) -> None:
        # While nobody wants the line, it is not made.
        if _logger.isEnabledFor(logging.INFO):
            self._log.info(
                "client connected", varying=self._from(connection.address), key=connection.allowance.key.name
            )

    def log_refusal(self, why: Disconnect, key: Key | None, address: str) -> None:
        if _logger.isEnabledFor(logging.INFO):
            named = {} if key is None else {"key": key.name}
            self._log.info(
                "client refused", varying=self._from(address), code=int(why.code), reason=why.reason, **named
            )

    def log_departure(self, connection: Connection) -> None:
        if _logger.isEnabledFor(logging.INFO):
            code, reason = connection.websocket.ended_by or (None, connection.outlet.aborted_for or "connection lost")
            code = None if code is None else int(code)
            seconds = round(time.monotonic() - connection.began, 1)
            # A client chooses its own close code from thousands. They would be as many different lines.
            self._log.info(
                "client left",
                varying={
                    "code": code,
                    "seconds": seconds,
                    **self._from(connection.address),
                },
                key=connection.allowance.key.name,
                reason=reason or "closed by the client",
            )

    def _from(self, address: str) -> dict[str, str]:
        return {"address": address} if self._addresses else {}

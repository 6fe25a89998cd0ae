"""Why the bridge disconnects a client: close code, reason, and whether the client may come back."""

import dataclasses

from tornado_bridge.wire.frames import CloseCode


@dataclasses.dataclass(frozen=True, slots=True)
class Disconnect:
    """A close code and reason (docs/protocol.md sections 1 and 7).

    `reconnect` says whether the same client may come back later with the same key and fare better.
    """

    code: CloseCode
    reason: str
    reconnect: bool


KEY_REQUIRED = Disconnect(CloseCode.UNAUTHORIZED, "API key required", reconnect=False)
KEY_INVALID = Disconnect(CloseCode.UNAUTHORIZED, "Invalid API key", reconnect=False)
KEY_REVOKED = Disconnect(CloseCode.UNAUTHORIZED, "API key revoked", reconnect=False)
TOO_MANY_CONNECTIONS = Disconnect(CloseCode.TOO_MANY_CONNECTIONS, "Connection limit exceeded", reconnect=True)
SHUTTING_DOWN = Disconnect(CloseCode.GOING_AWAY, "Server shutting down", reconnect=True)
FLOODING = Disconnect(CloseCode.POLICY_VIOLATION, "Too many messages", reconnect=False)
INTERNAL_ERROR = Disconnect(CloseCode.INTERNAL_ERROR, "Internal error", reconnect=True)

DISCONNECTS = (KEY_REQUIRED, KEY_INVALID, KEY_REVOKED, TOO_MANY_CONNECTIONS, SHUTTING_DOWN, FLOODING, INTERNAL_ERROR)

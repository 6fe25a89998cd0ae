"""How many clients the limit of open files leaves room for."""

import contextlib
import resource

from tornado_bridge.connections.refusals import MAX_LINGERING

# Descriptors that clients never get: for Redis, the key file, the metrics, the log, and what plugins open.
RESERVE = 64

# The share of the room that connections without a client may take, where there is too little room.
_HANDSHAKE_SHARE = 8


def raise_limit() -> int | None:
    """Raise the limit of open files as far as the system allows, and return it. None means that there is no limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # On macOS the hard limit is infinite, and setting that as the soft limit is refused.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def fit(connections: int, handshakes: int, limit: int | None) -> tuple[int, int]:
    """Return the numbers of connections and of handshakes for which there are descriptors, at most those given.

    A refused client keeps its descriptor for a moment, so there is room for those too.
    """
    if limit is None:
        return connections, handshakes
    room = limit - RESERVE
    if connections + min(connections, MAX_LINGERING) + handshakes <= room:
        return connections, handshakes
    handshakes = max(1, min(handshakes, room // _HANDSHAKE_SHARE))
    rest = room - handshakes
    return max(1, min(connections, max(rest // 2, rest - MAX_LINGERING))), handshakes

"""Refuses clients: each gets its close code, and strangers who try API keys get it late."""

import asyncio
from collections import Counter
from collections.abc import Callable

from tornado.iostream import IOStream

from tornado_bridge.connections.addresses import group_of
from tornado_bridge.connections.connection import MAX_MESSAGE
from tornado_bridge.connections.disconnects import KEY_INVALID, Disconnect
from tornado_bridge.connections.outlet import Outlet
from tornado_bridge.connections.websocket import WebSocket
from tornado_bridge.connections.wrong_keys import DELAY, Answer, WrongKeys
from tornado_bridge.logs import ThrottledLog

# Refused clients whose connection has not ended yet. Beyond this many a further one is cut off right after its close
# frame, or without one.
MAX_LINGERING = 1_000


class Refusals:
    """The clients that a bridge has refused. `counts` has their number by reason.

    `clock` is monotonic, in seconds. At most `max_lingering` of them may still have a connection.
    """

    def __init__(self, log: ThrottledLog, clock: Callable[[], float], max_lingering: int = MAX_LINGERING) -> None:
        self._log = log
        self._max_lingering = max_lingering
        self._wrong_keys = WrongKeys(clock)
        self._lingering: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self.counts: Counter[Disconnect] = Counter()

    @property
    def lingering(self) -> int:
        """Refused clients whose connection has not ended yet."""
        return len(self._lingering)

    def refuse(self, stream: IOStream, outlet: Outlet, why: Disconnect, address: str) -> None:
        """Send a client its close code, and end its connection. Nothing that it sends is processed."""
        self.counts[why] += 1
        group = group_of(address)
        answer = self._wrong_keys.note(group) if why is KEY_INVALID else Answer.AT_ONCE
        if answer is not Answer.AT_ONCE:
            self._log.warning("wrong API keys are tried again and again: their answers come late")
        websocket = WebSocket(
            stream, outlet, max_message=MAX_MESSAGE, on_text=_ignore, on_pong=_ignore, on_closing=_ignore
        )
        if answer is Answer.NONE:
            outlet.abort()
        elif len(self._lingering) >= self._max_lingering:
            websocket.close(why.code, why.reason)
            outlet.abort()
            if answer is Answer.LATE:
                self._wrong_keys.answered(group)
        else:
            late = group if answer is Answer.LATE else None
            task = asyncio.create_task(self._end(websocket, why, late))
            self._lingering.add(task)
            task.add_done_callback(self._lingering.discard)

    async def stop(self) -> None:
        """Give the late answers now, and wait until all connections have ended."""
        self._stopping.set()
        await asyncio.gather(*self._lingering, return_exceptions=True)
        self._stopping.clear()

    async def _end(self, websocket: WebSocket, why: Disconnect, late: str | None) -> None:
        if late is not None:
            try:
                async with asyncio.timeout(DELAY):
                    await self._stopping.wait()
            except TimeoutError:
                pass
            finally:
                self._wrong_keys.answered(late)
        websocket.close(why.code, why.reason)
        await websocket.run()


def _ignore(*_: str) -> None:
    """Ignore what a refused client sends."""

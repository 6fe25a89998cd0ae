"""One admitted client, from its admission to the end of its connection."""

import time
from collections.abc import Callable

from tornado.iostream import IOStream

from tornado_bridge.connections.admission import Allowance
from tornado_bridge.connections.dialogue import Dialogue, is_granted, unsubscribed
from tornado_bridge.connections.disconnects import INTERNAL_ERROR, Disconnect
from tornado_bridge.connections.heartbeat import Heartbeat, Pings
from tornado_bridge.connections.outlet import Outlet
from tornado_bridge.connections.websocket import WebSocket
from tornado_bridge.keys import Key
from tornado_bridge.logs import ThrottledLog
from tornado_bridge.stream.cohort import NO_SUBSCRIPTIONS, Subscriptions
from tornado_bridge.stream.hub import Hub
from tornado_bridge.wire import frames

# A client message over this many bytes ends the connection with 1009 (docs/protocol.md section 1).
MAX_MESSAGE = 65_536


class Connection:
    """One admitted client. It holds a place of `allowance`.

    When the connection ends, for any reason, it gives back its place, its subscriptions and its slot in the heartbeat,
    once, and calls `on_end`. `pings` takes the place of the heartbeat.
    """

    __slots__ = (
        "_awaits_pong",
        "_dialogue",
        "_ended",
        "_faults",
        "_heartbeat",
        "_hub",
        "_on_end",
        "_pings",
        "_slot",
        "address",
        "allowance",
        "began",
        "outlet",
        "websocket",
    )

    def __init__(
        self,
        stream: IOStream,
        outlet: Outlet,
        allowance: Allowance,
        *,
        dialogue: Dialogue,
        hub: Hub,
        heartbeat: Heartbeat,
        pings: Pings | None,
        faults: ThrottledLog,
        address: str,
        on_end: "Callable[[Connection], None]",
    ) -> None:
        self.allowance = allowance
        self.address = address
        self.began = time.monotonic()
        self.outlet = outlet
        self.websocket = WebSocket(
            stream,
            outlet,
            max_message=MAX_MESSAGE,
            on_text=self._on_text,
            on_pong=self._on_pong,
            on_closing=self.end,
        )
        self._dialogue = dialogue
        self._hub = hub
        self._heartbeat = heartbeat
        self._faults = faults
        self._on_end = on_end
        self._awaits_pong = False
        self._ended = False
        self._pings = pings
        self._slot = -1
        if pings is None:
            self._slot = heartbeat.add(self)
        else:
            pings.attach(outlet)
        # A stream that is closed for any reason calls back, even if nothing is being read.
        stream.set_close_callback(self.end)

    @property
    def subscriptions(self) -> Subscriptions:
        cohort = self.outlet.cohort
        return NO_SUBSCRIPTIONS if cohort is None else cohort.subscriptions

    async def run(self) -> None:
        """Serve the client until its connection has ended."""
        try:
            await self.websocket.run()
        finally:
            self.end()

    def disconnect(self, why: Disconnect) -> None:
        """End the connection with a close code. Nothing that the client sends from now on is processed."""
        self.websocket.close(why.code, why.reason)

    def take_key(self, key: Key) -> None:
        """Take over the key's new row. Subscriptions that it no longer grants end, and the client is told."""
        self.allowance.key = key
        lost = [channel for channel in sorted(self.subscriptions) if not is_granted(key.channels, channel)]
        if lost:
            self._hub.assign(self.outlet, self.subscriptions.difference(lost))
            self.outlet.write(unsubscribed(lost))

    def end(self) -> None:
        """Give back everything that the bridge holds for the connection."""
        if self._ended:
            return
        self._ended = True
        self._hub.assign(self.outlet, NO_SUBSCRIPTIONS)
        if self._pings is None:
            self._heartbeat.remove(self, self._slot)
        else:
            self._pings.stop()
        self.allowance.give_place_back()
        self._on_end(self)

    def beat(self) -> None:
        if self._awaits_pong:
            self.outlet.abort("no answer to a ping")
        else:
            self._awaits_pong = True
            self.outlet.write(frames.PING)

    def _on_pong(self) -> None:
        self._awaits_pong = False
        if self._pings is not None:
            self._pings.note_pong()

    def _on_text(self, text: str) -> None:
        if self._ended:
            return
        try:
            answer = self._dialogue.answer(text, self.allowance, self.subscriptions)
            # First: this writes the events that were published to the subscriptions which the answer ends.
            self._hub.assign(self.outlet, answer.subscriptions)
            self.outlet.write(b"".join(answer.replies))
        except Exception as error:  # one client message: our own fault ends this connection and no other
            self._faults.error("client message failed", error=type(error).__name__, key=self.allowance.key.name)
            self.disconnect(INTERNAL_ERROR)

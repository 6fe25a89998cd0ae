"""One admitted client, from its admission to the end of its connection for whatever reason."""

from collections.abc import Callable

from tornado.iostream import IOStream

from tornado_bridge.connections.admission import Allowance
from tornado_bridge.connections.dialogue import Dialogue
from tornado_bridge.connections.heartbeat import Heartbeat
from tornado_bridge.connections.outlet import Outlet
from tornado_bridge.connections.websocket import WebSocket
from tornado_bridge.logs import ThrottledLog
from tornado_bridge.stream.hub import NO_SUBSCRIPTIONS, Hub, Subscriptions
from tornado_bridge.wire import frames
from tornado_bridge.wire.frames import CloseCode

# Client messages over this many bytes are refused with 1009 (PROTOCOL.md section 1).
MAX_MESSAGE = 65_536


class Connection:
    """One admitted client, which holds a place of `allowance`.

    The place, the subscriptions and the slot in the heartbeat are given back as the connection ends, once, in
    whichever way it does; `on_end` is called then.
    """

    __slots__ = (
        "_awaits_pong",
        "_dialogue",
        "_ended",
        "_faults",
        "_heartbeat",
        "_hub",
        "_on_end",
        "_slot",
        "allowance",
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
        faults: ThrottledLog,
        on_end: "Callable[[Connection], None]",
    ) -> None:
        self.allowance = allowance
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
        self._slot = heartbeat.add(self)
        # Also where nothing is being read: a stream that is closed for any reason calls back.
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

    def dismiss(self, code: CloseCode, reason: str) -> None:
        """End the connection with a close code; nothing that the client sends from now on is processed."""
        self.websocket.close(code, reason)

    def end(self) -> None:
        """Give back everything that is held for the connection."""
        if self._ended:
            return
        self._ended = True
        self._hub.assign(self.outlet, NO_SUBSCRIPTIONS)
        self._heartbeat.remove(self, self._slot)
        self.allowance.give_place_back()
        self._on_end(self)

    def beat(self) -> None:
        if self._awaits_pong:
            self.outlet.abort()
        else:
            self._awaits_pong = True
            self.outlet.write(frames.PING)

    def _on_pong(self) -> None:
        self._awaits_pong = False

    def _on_text(self, text: str) -> None:
        if self._ended:
            return
        try:
            answer = self._dialogue.answer(text, self.allowance, self.subscriptions)
            # First, since it writes what was published to the subscriptions that the answer ends.
            self._hub.assign(self.outlet, answer.subscriptions)
            self.outlet.write(b"".join(answer.replies))
        except Exception as error:  # one client message: a fault of ours ends this connection and no other
            self._faults.error("client message failed", error=type(error).__name__, key=self.allowance.key.name)
            self.dismiss(CloseCode.INTERNAL_ERROR, "Internal error")

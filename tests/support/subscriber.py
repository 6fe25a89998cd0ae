"""A subscriber of the hub whose socket the test controls."""

from tornado_bridge.stream.cohort import Cohort, Send


class Subscriber:
    """Receives what the hub sends, like the outlet of a connection.

    `room` is the number of bytes that its socket still accepts, None for any number. `gone` makes its socket fail.
    """

    def __init__(self, window: int | None = None) -> None:
        self.window = window
        self.cohort: Cohort | None = None
        self.room: int | None = None
        self.gone = False
        self.sends: list[bytes] = []
        self.offers: list[tuple[bytes, int]] = []
        self._held = b""

    @property
    def received(self) -> bytes:
        """All bytes that have reached the peer or will reach it, in order."""
        return b"".join(self.sends) + self._held

    @property
    def idle_send(self) -> Send | None:
        return None if self._held or self.gone else self._send

    def offer(self, batch: bytes, frames: int) -> None:
        self.offers.append((batch, frames))
        if not self.gone:
            self._held += batch

    def fell_short(self, batch: bytes, sent: int) -> None:
        if sent < 0:
            self.gone = True
        else:
            self._held += batch[sent:]
        self._place()

    def drain(self) -> None:
        """Let the peer read everything."""
        self.room = None
        if self._held:
            self.sends.append(self._held)
            self._held = b""
        self._place()

    def _place(self) -> None:
        if self.cohort is not None:
            self.cohort.place(self)

    def _send(self, data: bytes) -> int:
        if self.gone:
            raise ConnectionResetError
        if self.room == 0:
            raise BlockingIOError
        taken = data if self.room is None else data[: self.room]
        if self.room is not None:
            self.room -= len(taken)
        self.sends.append(taken)
        return len(taken)

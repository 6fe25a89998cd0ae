"""The clients that receive an event."""

import json
from collections.abc import Hashable
from typing import Generic, TypeVar

from benchmarks.servers.python.candle import compact

Client = TypeVar("Client", bound=Hashable)


class Subscribers(Generic[Client]):
    """Clients by their subscriptions: channels, or channels with a wildcard in place of a part."""

    def __init__(self) -> None:
        self._clients: dict[str, set[Client]] = {}

    def answer(self, client: Client, text: str | bytes) -> str:
        """Change a client's subscriptions as its message asks, and return the reply."""
        request = json.loads(text)
        channels = list(dict.fromkeys(request["channels"]))
        for channel in channels:
            if request["action"] == "subscribe":
                self._clients.setdefault(channel, set()).add(client)
            else:
                self._clients.get(channel, set()).discard(client)
        return compact({"type": f"{request['action']}d", "channels": channels})

    def forget(self, client: Client) -> None:
        """Drop all subscriptions of a client that has gone."""
        for clients in self._clients.values():
            clients.discard(client)

    def of(self, channel: str) -> set[Client]:
        """Return each client with a matching subscription once. The caller may change the set."""
        kind, symbol, timeframe = channel.split(":")
        matching = (channel, f"{kind}:*:{timeframe}", f"{kind}:{symbol}:*", f"{kind}:*:*")
        return set[Client]().union(*(self._clients.get(subscription, ()) for subscription in matching))

"""The peer written with picows: each event goes to each subscriber by `transport.send`."""

import sys
from argparse import Namespace
from http import HTTPStatus

import uvloop
from picows import (
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_create_server,
)

from benchmarks.servers.python.candle import candles
from benchmarks.servers.python.contract import (
    INVALID_KEY,
    KEY_HEADER,
    PATH,
    PING_SECONDS,
    is_valid_key,
    parse_arguments,
    say_listening,
)
from benchmarks.servers.python.subscribers import Subscribers


class Stream(WSListener):
    def __init__(self, subscribers: Subscribers[WSTransport]) -> None:
        self._subscribers = subscribers

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            reply = self._subscribers.answer(transport, frame.get_payload_as_bytes())
            transport.send(WSMsgType.TEXT, reply.encode())
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._subscribers.forget(transport)


async def run(options: Namespace) -> None:
    subscribers = Subscribers[WSTransport]()

    def admit(request: WSUpgradeRequest) -> Stream | WSUpgradeResponseWithListener | None:
        if request.path != PATH.encode():
            return None
        if not is_valid_key(request.headers.get(KEY_HEADER)):
            refusal = WSUpgradeResponse.create_error_response(HTTPStatus.UNAUTHORIZED, INVALID_KEY.encode())
            return WSUpgradeResponseWithListener(refusal, None)
        return Stream(subscribers)

    async with candles(options.redis_url, options.exchange) as texts:
        server = await ws_create_server(
            admit,
            "127.0.0.1",
            options.port,
            enable_auto_ping=True,
            auto_ping_idle_timeout=PING_SECONDS,
        )
        say_listening(server.sockets[0].getsockname()[1])
        async for channel, text in texts:
            payload = text.encode()
            for client in subscribers.of(channel):
                client.send(WSMsgType.TEXT, payload)


if __name__ == "__main__":
    arguments = parse_arguments(__doc__)
    if arguments.compression:
        print("picows has no permessage-deflate", file=sys.stderr)
        raise SystemExit(2)
    uvloop.run(run(arguments))

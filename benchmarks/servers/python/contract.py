"""The command line and the admission that all servers in Python share, whatever their WebSocket library."""

import argparse
import hmac
import os

PATH = "/public/v1/stream"
KEY_HEADER = "X-API-Key"
KEY_VARIABLE = "TORNADO_BRIDGE_API_KEY"
INVALID_KEY = "Invalid API key"
INVALID_KEY_CODE = 4001
PING_SECONDS = 30


def parse_arguments(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--redis-url", required=True)
    parser.add_argument("--exchange", required=True, help="ID:NAME")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--compression", action="store_true", help="offer permessage-deflate")
    return parser.parse_args()


def is_valid_key(candidate: str | None) -> bool:
    return hmac.compare_digest((candidate or "").encode(), os.environ[KEY_VARIABLE].encode())


def say_listening(port: int) -> None:
    print(f"listening on http://127.0.0.1:{port}", flush=True)

"""The types of settings: each raises ValueError, without a text, for an invalid value."""

import ipaddress
import re
import urllib.parse
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from tornado_bridge.errors import ConfigurationError
from tornado_bridge.redis_client import check_url

# The scheme of a URL that asks for an embedded Redis at its host and port.
EMBEDDED = "embedded"


def _text(text: str) -> str:
    if not text or not text.isprintable():
        raise ValueError
    return text


def _exchange(text: str) -> str:
    exchange_id, _, name = text.partition(":")
    if not (exchange_id and name):
        raise ValueError
    return text


def _origin(text: str) -> str:
    scheme, _, rest = text.partition("://")
    if not (scheme and rest) or "/" in rest:
        raise ValueError
    return text


def _network(value: Any) -> Any:
    """Read an address or a network. An address with bits behind its prefix length is refused, and so is a number."""
    if not isinstance(value, str):
        raise ValueError
    return ipaddress.ip_network(value)


def _redis_url(text: str) -> str:
    if text.startswith(f"{EMBEDDED}://"):
        parts = urllib.parse.urlsplit(text)
        # Reading the port raises ValueError for one that is not a number up to 65535.
        only_an_address = text == f"{EMBEDDED}://{parts.netloc}" and "@" not in text and re.fullmatch("[!-~]+", text)
        if not (only_an_address and parts.hostname and parts.port is not None):
            raise ValueError
        return text
    try:
        check_url(text)
    except ConfigurationError:
        raise ValueError from None
    return text


def _names(value: Any) -> Any:
    """Split a text at its commas; an empty text is an empty list."""
    if not isinstance(value, str):
        return value
    return tuple(name.strip() for name in value.split(",")) if value else ()


def _not_empty(value: Any) -> Any:
    """Refuse an empty text: as a path it would be the current directory."""
    if value == "":
        raise ValueError
    return value


def _no_truth(value: Any) -> Any:
    """Refuse true and false: pydantic would take them for 1 and 0."""
    if isinstance(value, bool):
        raise ValueError
    return value


Text = Annotated[str, AfterValidator(_text)]
Port = Annotated[int, BeforeValidator(_no_truth), Field(ge=0, le=65_535)]
Count = Annotated[int, BeforeValidator(_no_truth), Field(ge=1, le=2**31 - 1)]
Amount = Annotated[float, BeforeValidator(_no_truth), Field(gt=0, allow_inf_nan=False)]
Exchange = Annotated[str, AfterValidator(_exchange)]
Origin = Annotated[str, AfterValidator(_origin)]
Network = Annotated[ipaddress.IPv4Network | ipaddress.IPv6Network, BeforeValidator(_network)]
RedisUrl = Annotated[str, AfterValidator(_redis_url)]
Directory = Annotated[Path, BeforeValidator(_not_empty)]
Names = Annotated[tuple[Text, ...], BeforeValidator(_names)]

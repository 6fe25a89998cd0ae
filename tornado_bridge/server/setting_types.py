"""What the value of a setting may be; a ValueError without a text where it is none."""

import re
import urllib.parse
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

# The scheme of a Redis URL that asks for an embedded Redis.
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


def _redis_url(text: str) -> str:
    parts = urllib.parse.urlsplit(text)
    # Raises ValueError for a port that is none; without the text, of which a password may be part.
    port = parts.port
    place = {
        "redis": parts.hostname,
        "rediss": parts.hostname,
        "unix": parts.path,
        EMBEDDED: port is not None and parts.hostname,
    }.get(text.partition("://")[0])
    # Of a password with a plain /, ? or # a piece would pass for the host, and be told as such.
    torn = parts.fragment or "@" in parts.path + parts.query
    if not place or torn or not re.fullmatch("[!-~]+", text):
        raise ValueError
    return text


def _names(value: Any) -> Any:
    """Split a text at its commas; an empty one is no name at all."""
    if not isinstance(value, str):
        return value
    return tuple(name.strip() for name in value.split(",")) if value else ()


def _not_empty(value: Any) -> Any:
    """Refuse an empty text, which as a path is the current directory."""
    if value == "":
        raise ValueError
    return value


def _no_truth(value: Any) -> Any:
    """Refuse true and false, which pydantic takes for 1 and 0."""
    if isinstance(value, bool):
        raise ValueError
    return value


Text = Annotated[str, AfterValidator(_text)]
Port = Annotated[int, BeforeValidator(_no_truth), Field(ge=0, le=65_535)]
Count = Annotated[int, BeforeValidator(_no_truth), Field(ge=1, le=2**31 - 1)]
Amount = Annotated[float, BeforeValidator(_no_truth), Field(gt=0, allow_inf_nan=False)]
Exchange = Annotated[str, AfterValidator(_exchange)]
Origin = Annotated[str, AfterValidator(_origin)]
RedisUrl = Annotated[str, AfterValidator(_redis_url)]
Directory = Annotated[Path, BeforeValidator(_not_empty)]
Names = Annotated[tuple[Text, ...], BeforeValidator(_names)]

"""tornado_bridge.server.setting_types: what a text, or a value of a TOML file, becomes."""

import ipaddress
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from tornado_bridge.server import setting_types


@pytest.mark.parametrize(
    ("kind", "given", "value"),
    [
        (setting_types.Text, "a b", "a b"),
        (setting_types.Port, "0", 0),
        (setting_types.Count, "2147483647", 2**31 - 1),
        (setting_types.Amount, "0.5", 0.5),
        (setting_types.Exchange, "1:coinbase", "1:coinbase"),
        (setting_types.Origin, "https://app.example.com:81", "https://app.example.com:81"),
        (setting_types.Network, "192.0.2.1", ipaddress.IPv4Network("192.0.2.1/32")),
        (setting_types.Network, "10.0.0.0/8", ipaddress.IPv4Network("10.0.0.0/8")),
        (setting_types.Network, "2001:db8::/32", ipaddress.IPv6Network("2001:db8::/32")),
        (setting_types.RedisUrl, "unix:///run/redis.sock", "unix:///run/redis.sock"),
        (setting_types.Directory, "/etc/plugins", Path("/etc/plugins")),
        (setting_types.Directory, ".", Path()),
        (setting_types.Names, "", ()),
        (setting_types.Names, "a", ("a",)),
        (setting_types.Names, "a,b , c", ("a", "b", "c")),
        (setting_types.Names, ["a", "b"], ("a", "b")),
        (setting_types.Names, [], ()),
    ],
)
def test_a_value_of_its_kind_is_taken(kind: Any, given: object, value: object) -> None:
    assert TypeAdapter(kind).validate_python(given) == value


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (setting_types.Text, ""),
        (setting_types.Text, "a\n"),
        (setting_types.Network, ""),
        (setting_types.Network, "proxy"),
        (setting_types.Network, "10.0.0.1/8"),
        (setting_types.Network, "10.0.0.0/33"),
        (setting_types.Network, 10),
        (setting_types.Port, "65536"),
        (setting_types.Port, True),
        (setting_types.Count, "0"),
        (setting_types.Count, False),
        (setting_types.Amount, "0"),
        (setting_types.Amount, "inf"),
        (setting_types.Exchange, "coinbase"),
        (setting_types.Origin, "app.example.com"),
        (setting_types.RedisUrl, "redis://"),
        (setting_types.Directory, ""),
        (setting_types.Names, "a,,b"),
        (setting_types.Names, ","),
        (setting_types.Names, [""]),
        (setting_types.Names, 5),
        (setting_types.Names, [5]),
    ],
)
def test_a_value_of_another_kind_is_refused(kind: Any, given: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(kind).validate_python(given)

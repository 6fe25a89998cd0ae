"""Whom a connection comes from: the peer's address, or the one that a trusted proxy names."""

import ipaddress
from collections.abc import Sequence
from typing import Any

from tornado.httputil import HTTPHeaders

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# A client usually has a whole network of this length to itself, so its addresses count as one (RFC 6177 section 2).
IPV6_PREFIX = 64

# A peer without an IP address is on a Unix socket.
LOCAL = "local"


def peer_of(address: Any) -> str:
    """Return the IP address of a peer, from the address that `accept` gave."""
    return str(address[0]) if isinstance(address, tuple) and address else LOCAL


def client_of(peer: str, headers: HTTPHeaders, trusted: Sequence[Network]) -> str:
    """Return the IP address of the client: the peer's, or the last one in X-Forwarded-For that no trusted proxy has.

    The header counts only from a peer in `trusted`. Each proxy appends the address that it was asked from, so the
    addresses before the first untrusted one may be made up.
    """
    client = peer
    if _is_in(peer, trusted):
        for hop in reversed(headers.get("X-Forwarded-For", "").split(",")):
            hop = hop.strip()
            if not _is_address(hop):
                break
            client = hop
            if not _is_in(hop, trusted):
                break
    return client


def group_of(client: str) -> str:
    """Return what counts as one client: an IPv4 address, or the /64 network of an IPv6 address."""
    if ":" not in client:
        return client
    try:
        address = ipaddress.IPv6Address(client.partition("%")[0])
    except ValueError:
        return client
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address), IPV6_PREFIX), strict=False))


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_in(text: str, networks: Sequence[Network]) -> bool:
    if not networks or not _is_address(text):
        return False
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address.version == network.version and address in network for network in networks)

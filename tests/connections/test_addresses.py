"""tornado_bridge.connections.addresses: the client behind trusted proxies, and what counts as one client."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tornado.httputil import HTTPHeaders

from tornado_bridge.connections.addresses import Network, client_of, group_of, peer_of

PROXY = "10.0.0.1"
TRUSTED: tuple[Network, ...] = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))


def forwarded(*values: str) -> HTTPHeaders:
    headers = HTTPHeaders()
    for value in values:
        headers.add("X-Forwarded-For", value)
    return headers


# The peer


def test_the_peer_of_an_ipv4_connection_is_its_address() -> None:
    assert peer_of(("203.0.113.7", 40_000)) == "203.0.113.7"


def test_the_peer_of_an_ipv6_connection_is_its_address() -> None:
    assert peer_of(("2001:db8::1", 40_000, 0, 0)) == "2001:db8::1"


@pytest.mark.parametrize("address", ["", b"", None, ()])
def test_a_peer_on_a_unix_socket_is_local(address: object) -> None:
    assert peer_of(address) == "local"


# X-Forwarded-For


def test_without_trusted_proxies_the_header_is_ignored() -> None:
    assert client_of(PROXY, forwarded("203.0.113.7"), ()) == PROXY


@pytest.mark.parametrize("peer", ["203.0.113.9", "2001:db8::1", "local", ""])
def test_the_header_of_a_peer_that_is_not_trusted_is_ignored(peer: str) -> None:
    assert client_of(peer, forwarded("203.0.113.7"), TRUSTED) == peer


def test_a_trusted_proxy_names_the_client() -> None:
    assert client_of(PROXY, forwarded("203.0.113.7"), TRUSTED) == "203.0.113.7"


def test_a_trusted_proxy_without_the_header_is_the_client() -> None:
    assert client_of(PROXY, HTTPHeaders(), TRUSTED) == PROXY


def test_addresses_that_the_client_has_put_before_its_own_are_ignored() -> None:
    assert client_of(PROXY, forwarded("198.51.100.1, 10.1.1.1, 203.0.113.7"), TRUSTED) == "203.0.113.7"


def test_trusted_proxies_behind_the_client_are_skipped() -> None:
    assert client_of(PROXY, forwarded("198.51.100.1, 203.0.113.7,10.1.1.1 , 10.2.2.2"), TRUSTED) == "203.0.113.7"


def test_headers_on_several_lines_are_one_list() -> None:
    assert client_of(PROXY, forwarded("198.51.100.1", "203.0.113.7", "10.1.1.1"), TRUSTED) == "203.0.113.7"


def test_the_first_of_many_trusted_proxies_is_the_client_if_there_is_no_other() -> None:
    assert client_of(PROXY, forwarded("10.3.3.3, 10.2.2.2"), TRUSTED) == "10.3.3.3"


@pytest.mark.parametrize(
    "hop", ["unknown", "", "203.0.113.7:443", "[2001:db8::1]", "203.0.113", "gr\xfc\xdfe", "a" * 8_000]
)
def test_nothing_before_an_entry_that_is_not_an_address_counts(hop: str) -> None:
    assert client_of(PROXY, forwarded(f"203.0.113.7, {hop}, 10.2.2.2"), TRUSTED) == "10.2.2.2"


def test_an_ipv6_proxy_may_be_trusted() -> None:
    assert client_of("fd00::1", forwarded("2001:db8::7"), TRUSTED) == "2001:db8::7"


def test_a_trusted_ipv4_proxy_is_trusted_on_an_ipv6_socket() -> None:
    assert client_of("::ffff:10.0.0.1", forwarded("203.0.113.7, ::ffff:10.0.0.2"), TRUSTED) == "203.0.113.7"


addresses = st.ip_addresses().map(str)
strangers = st.ip_addresses(network="203.0.113.0/24").map(str) | st.ip_addresses(network="2001:db8::/32").map(str)


@given(st.lists(addresses, max_size=4), strangers, st.lists(st.sampled_from(["10.0.0.2", "fd00::2"]), max_size=4))
def test_no_header_that_a_client_sends_changes_who_it_is(made_up: list[str], client: str, proxies: list[str]) -> None:
    assert client_of(PROXY, forwarded(",".join([*made_up, client, *proxies])), TRUSTED) == client


# What counts as one client


def test_an_ipv4_address_counts_alone() -> None:
    assert group_of("203.0.113.7") == "203.0.113.7"
    assert group_of("203.0.113.7") != group_of("203.0.113.8")


def test_the_addresses_of_an_ipv6_64_network_count_as_one() -> None:
    assert group_of("2001:db8:0:1::1") == group_of("2001:db8:0:1:ffff:ffff:ffff:ffff") == "2001:db8:0:1::/64"


def test_two_ipv6_64_networks_count_apart() -> None:
    assert group_of("2001:db8:0:1::1") != group_of("2001:db8:0:2::1")


def test_an_ipv4_address_on_an_ipv6_socket_is_that_address() -> None:
    assert group_of("::ffff:203.0.113.7") == "203.0.113.7"


def test_the_zone_of_a_link_local_address_makes_no_difference() -> None:
    assert group_of("fe80::1%eth0") == group_of("fe80::2") == "fe80::/64"


@pytest.mark.parametrize("text", ["local", "", "not:an:address"])
def test_a_client_without_an_ip_address_counts_by_its_text(text: str) -> None:
    assert group_of(text) == text

"""tornado_bridge.connections.disconnects: the table, whose reasons fit into a close frame."""

import pytest

from tornado_bridge.connections import disconnects
from tornado_bridge.connections.disconnects import DISCONNECTS, Disconnect
from tornado_bridge.wire import frames


def test_the_table_holds_every_disconnect_of_the_module() -> None:
    named = [value for value in vars(disconnects).values() if isinstance(value, Disconnect)]
    assert sorted(named, key=id) == sorted(DISCONNECTS, key=id)


def test_the_codes_and_reasons_are_those_of_the_contract() -> None:
    assert {(int(why.code), why.reason) for why in DISCONNECTS} >= {
        (4001, "API key required"),
        (4001, "Invalid API key"),
        (4001, "API key revoked"),
        (4008, "Connection limit exceeded"),
        (1001, "Server shutting down"),
        (1008, "Too many messages"),
        (1011, "Internal error"),
    }


def test_a_client_with_a_bad_key_or_that_floods_need_not_come_back() -> None:
    assert {int(why.code) for why in DISCONNECTS if not why.reconnect} == {1008, 4001}


@pytest.mark.parametrize("why", DISCONNECTS, ids=lambda why: why.reason)
def test_a_reason_fits_into_a_close_frame(why: Disconnect) -> None:
    assert len(frames.close(why.code, why.reason)) <= 2 + 125

"""tornado_bridge.audit.drafts: events written with parts of them changed."""

from tornado_bridge.audit.drafts import Draft, Group, Slot, literal
from tornado_bridge.redaction.declaration import Input

SYMBOL = Slot(Input("symbol", part=True), "BTC")
PRICE = Slot(Input("price"), "1.50")
FIRST, SECOND = Slot(Input("items"), "1"), Slot(Input("items"), '"two"')
ITEMS = Group((("", FIRST), ("", SECOND)), array=True, given=Input("items"))
DRAFT = Draft(("quotes", SYMBOL), Group((('"price"', PRICE), ('"items"', ITEMS))))


def test_an_event_is_written_as_it_is() -> None:
    assert DRAFT.write() == ("quotes:BTC", b'{"price":1.50,"items":[1,"two"]}')


def test_a_value_is_written_otherwise() -> None:
    assert DRAFT.write({PRICE: "null"})[1] == b'{"price":null,"items":[1,"two"]}'


def test_a_member_is_left_out() -> None:
    assert DRAFT.write({PRICE: None})[1] == b'{"items":[1,"two"]}'


def test_an_item_that_is_left_out_is_null() -> None:
    assert DRAFT.write({FIRST: None})[1] == b'{"price":1.50,"items":[null,"two"]}'


def test_an_array_is_written_otherwise() -> None:
    assert DRAFT.write({ITEMS: "[]"})[1] == b'{"price":1.50,"items":[]}'


def test_a_part_of_the_source_is_written_otherwise() -> None:
    assert DRAFT.write({SYMBOL: "ETH"})[0] == "quotes:ETH"


def test_a_part_of_the_source_that_is_left_out_is_empty() -> None:
    assert DRAFT.write({SYMBOL: None})[0] == "quotes:"


def test_a_payload_that_is_left_out_is_empty() -> None:
    assert DRAFT.write({DRAFT.payload: None})[1] == b""


def test_the_values_are_found_in_order() -> None:
    assert DRAFT.slots() == [SYMBOL, PRICE, FIRST, SECOND]


def test_the_arrays_are_found_with_their_input() -> None:
    assert DRAFT.arrays() == [(ITEMS, Input("items"))]


def test_a_part_has_its_text() -> None:
    assert (literal(ITEMS), literal(Group((), array=True)), literal(Group(()))) == ('[1,"two"]', "[]", "{}")

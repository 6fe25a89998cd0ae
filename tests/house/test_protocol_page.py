"""docs/protocol.md, held against the schemas, the plugins and a running bridge."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import websockets

from tests.support.payloads import PRIVATE
from tests.support.pipeline import relayed
from tornado_bridge import load_schema
from tornado_bridge.bridge import DEFAULT_LIMITS
from tornado_bridge.connections.connection import MAX_MESSAGE
from tornado_bridge.connections.disconnects import DISCONNECTS, Disconnect
from tornado_bridge.connections.websocket import FLOOD_BURST, FLOOD_RATE
from tornado_bridge.connections.wrong_keys import FREE_TRIES
from tornado_bridge.redaction.validation import Validator

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")

CANDLE_SOURCE = "channel:exchange:1:candle:close:BTC-USD:1h"
ALERT_SOURCE = "channel:alerts:exchange:1"


def section(title: str) -> str:
    """Return the text under a heading, up to the next heading of any level."""
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#+ |\Z)", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[1]


def rows(title: str) -> list[list[str]]:
    """Return the cells of the table in a section, without its head."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    return [[cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in lines[2:]]


def published_event(title: str) -> tuple[str, str, str]:
    """Return the source channel, the payload and the envelope of a section's example."""
    found = re.search(r"```text\n(\S+)\n(.*?)```.*?```json\n(.*?)\n```", section(title), flags=re.DOTALL)
    assert found is not None
    return found[1], found[2], found[3]


# What the client of the conversation sends is left out: some of it is wrong on purpose.
MESSAGES = re.findall(r"^(?:← )?(\{.*\})$", PAGE, flags=re.MULTILINE)
EVENTS = ["A candle closes", "An alert is raised"]


def test_the_sections_keep_the_numbers_that_the_code_cites() -> None:
    sections = re.findall(r"^## (\d)\.", PAGE, flags=re.MULTILINE)
    assert sections == list("12345678")
    cited = {
        number
        for folder in ("tornado_bridge", "plugins")
        for path in (ROOT / folder).rglob("*.py")
        for number in re.findall(r"docs/protocol\.md sections? (\d+)", path.read_text(encoding="utf-8"))
    }
    assert cited
    assert cited <= set(sections)


@pytest.mark.parametrize("text", MESSAGES)
def test_an_example_is_valid_under_its_schema(text: str) -> None:
    message = json.loads(text)
    schema = load_schema(message.get("type", "client_message"))
    assert Validator(schema).first_error(message) is None


@pytest.mark.parametrize("title", EVENTS)
def test_the_payload_of_an_example_becomes_its_envelope(title: str) -> None:
    source, payload, envelope = published_event(title)
    assert relayed(source, payload.encode()) == envelope


@pytest.mark.parametrize("title", EVENTS)
def test_a_member_that_is_said_to_be_needed_is_needed_and_no_other(title: str) -> None:
    source, payload, _ = published_event(title)
    members = json.loads(payload)
    needed = {name for name in members if relayed(source, json.dumps(without(members, name)).encode()) is None}
    documented = {
        name
        for cells in rows(title)
        for name in cells[0].split(", ")
        if "no" not in cells[1:2]  # the table of candles has no such column: all are needed
    }
    assert needed == documented


def without(members: dict[str, Any], name: str) -> dict[str, Any]:
    return {other: value for other, value in members.items() if other != name}


def sent_if(title: str, member: str, value: str) -> dict[str, Any]:
    """Return the data that is sent if a member of a section's example is written like this; empty if none is sent."""
    source, payload, _ = published_event(title)
    rest = json.dumps(without(json.loads(payload), member))[1:-1]
    written = "" if value == "absent" else f'"{member}": {value}, '
    data: dict[str, Any] = json.loads(relayed(source, f"{{{written}{rest}}}".encode()) or '{"data":{}}')["data"]
    return data


@pytest.mark.parametrize(("published", "sent"), rows("Decimals"))
def test_a_decimal_is_sent_as_the_table_says(published: str, sent: str) -> None:
    data = sent_if("A candle closes", "close", published)
    assert data.get("close") == literal(sent)


@pytest.mark.parametrize(("published", "sent"), rows("Timestamps"))
def test_a_timestamp_is_sent_as_the_table_says(published: str, sent: str) -> None:
    data = sent_if("An alert is raised", "triggeredAt", published)
    assert data.get("timestamp") == literal(sent)


def literal(cell: str) -> str | None:
    """Return the text that a cell says is sent, None if it says that the event is dropped."""
    return None if cell.startswith("dropped: ") else str(json.loads(cell))


@pytest.mark.parametrize(("value", "strength"), rows("Strength"))
def test_the_strength_is_that_of_the_table(value: str, strength: str) -> None:
    assert sent_if("An alert is raised", "triggerValue", value)["strength"] == strength


@pytest.mark.parametrize(("label", "direction"), [row[:2] for row in rows("Direction")])
def test_the_direction_is_that_of_the_table(label: str, direction: str) -> None:
    assert sent_if("An alert is raised", "triggerLabel", label)["direction"] == direction


def test_every_member_of_an_envelope_is_described() -> None:
    sent = {member for title in EVENTS for member in json.loads(published_event(title)[2])["data"]}
    described = {name for cells in rows("5. Envelopes") for name in cells[0].split(", ")}
    assert described == {"type", "channel", *(f"data.{member}" for member in sent)}


def test_every_private_member_is_named() -> None:
    assert set(PRIVATE) <= set(re.findall(r"`(\w+)`", section("What is never sent")))


@pytest.mark.gen_test
async def test_the_conversation_takes_place_as_it_is_written(stream_url: str, key: str) -> None:
    lines = re.findall(r"^([→←]) (.+)$", section("Answers"), flags=re.MULTILINE)
    async with websockets.connect(stream_url, additional_headers={"X-API-Key": key}) as client:
        for direction, text in lines:
            if direction == "→":
                await client.send(text)
            else:
                assert await client.recv() == text


@pytest.mark.parametrize("disconnect", DISCONNECTS, ids=lambda disconnect: disconnect.reason)
def test_a_close_of_the_bridge_stands_in_the_table_with_whether_to_come_back(disconnect: Disconnect) -> None:
    answers = {(code, reason): answer.split()[0].strip(":,") for code, reason, _, answer in rows("Close codes")}
    answer = answers[str(int(disconnect.code)), disconnect.reason]
    assert answer in (("yes", "later") if disconnect.reconnect else ("no",))


def test_the_limits_of_a_connection_are_the_defaults() -> None:
    client_message = load_schema("client_message")["properties"]["channels"]
    documented = {cells[0]: cells[1] for cells in rows("Limits of a connection")}
    assert documented == {
        "live connections per key": f"{DEFAULT_LIMITS.max_connections_per_key}",
        "size of a client message": f"{MAX_MESSAGE:,} bytes",
        "channels in one message": f"{client_message['maxItems']}",
        "length of a channel name": f"{client_message['items']['maxLength']} characters",
        "subscriptions per connection": f"{DEFAULT_LIMITS.max_subscriptions}",
        "messages per key": f"{DEFAULT_LIMITS.rate_burst} at once, {DEFAULT_LIMITS.rate_limit:.0f} per minute",
    }


def test_the_numbers_in_the_text_are_those_of_the_code() -> None:
    text = " ".join(PAGE.split())
    for clause in (
        f"more than {FLOOD_BURST:,.0f} frames at once, or more than {FLOOD_RATE:.0f} per second in the long run",
        f"After {FREE_TRIES} wrong keys within a minute from one IP address",
        f"All clients together may have {DEFAULT_LIMITS.max_buffered_bytes // 2**20} MiB buffered.",
    ):
        assert clause in text


def test_the_thresholds_for_slow_clients_are_the_defaults() -> None:
    skip, abort = f"{DEFAULT_LIMITS.skip_bytes:,} bytes", f"{DEFAULT_LIMITS.abort_bytes:,} bytes"
    assert [cells[0] for cells in rows("6. Slow clients")] == [
        f"up to {skip}",
        f"more than {skip}",
        f"more than {abort}",
        f"more than {skip} for {DEFAULT_LIMITS.slow_timeout:.0f} s without a break",
    ]

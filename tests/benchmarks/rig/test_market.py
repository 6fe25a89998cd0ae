"""benchmarks.rig.market: the events, as they are published and as they must arrive."""

import json

from benchmarks.rig.market import MICROSECONDS, MILLISECONDS, Market, instruments

LISTED = instruments(3, ("1m", "1h"))
MOMENT_US = 1_708_264_800_123_456


def test_every_symbol_is_listed_in_every_timeframe() -> None:
    assert [one.channel for one in instruments(2, ("1m", "1h"))] == [
        "candles:C000-USD:1m",
        "candles:C000-USD:1h",
        "candles:C001-USD:1m",
        "candles:C001-USD:1h",
    ]


def test_events_are_on_the_channels_in_turn() -> None:
    candles = Market(LISTED).next_burst(8).candles
    assert [(candle.number, candle.instrument) for candle in candles] == list(enumerate([*LISTED, *LISTED[:2]]))


def test_the_command_of_an_event_publishes_its_payload_on_its_source_channel() -> None:
    burst = Market(LISTED).next_burst(1)
    channel = b"channel:exchange:1:candle:close:C000-USD:1m"
    payload = burst.candles[0].payload.replace(MILLISECONDS, "1708264800123").replace(MICROSECONDS, "456").encode()
    assert burst.command(0, MOMENT_US) == (
        b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(channel), channel, len(payload), payload)
    )


def test_the_commands_of_a_burst_are_those_of_its_events() -> None:
    burst = Market(LISTED).next_burst(3)
    assert burst.commands(MOMENT_US) == b"".join(burst.command(index, MOMENT_US) for index in range(3))


def test_the_envelope_has_the_published_values() -> None:
    for candle in Market(LISTED).next_burst(200).candles:
        text = candle.payload.replace(MILLISECONDS, "1708264800123").replace(MICROSECONDS, "456")
        sent = json.loads(candle.envelope(MOMENT_US))
        assert sent["data"]["timestamp"] == "2024-02-18T14:00:00.123Z"
        number, high = json.loads(text, parse_float=str)["volume"], sent["data"]["high"]
        assert (sent["data"]["volume"], number.partition(".")[0]) == (number, str(candle.number))
        assert high.startswith("42456.")

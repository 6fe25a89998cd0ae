"""tornado_bridge.stream.hub: the receivers of an envelope, batches, the table of matches, and a model of the whole."""

import itertools
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.support.peer import Inflating
from tests.support.subscriber import Subscriber
from tornado_bridge.channels import Form, Grammar, Rule
from tornado_bridge.redaction.firewall import CheckedEnvelope
from tornado_bridge.stream import hub as hub_module
from tornado_bridge.stream.hub import Hub, batches
from tornado_bridge.wire import deflate, frames

RULES: dict[str, Rule] = {
    "symbol": "[A-Za-z0-9]{1,20}-[A-Za-z0-9]{1,20}",
    "timeframe": ("1m", "5m", "15m", "1h", "4h", "1d"),
}
GRAMMAR = Grammar([Form("candles:{symbol}:{timeframe}", RULES), Form("signals:{symbol}:{timeframe}", RULES)])

BTC = "candles:BTC-USD:1h"
ETH = "candles:ETH-USD:1h"


@pytest.fixture
def hub() -> Hub:
    return Hub(GRAMMAR)


def subscriber(hub: Hub, *subscriptions: str, window: int | None = None) -> Subscriber:
    one = Subscriber(window)
    hub.assign(one, frozenset(subscriptions))
    return one


def publish(hub: Hub, channel: str, *texts: bytes) -> None:
    for text in texts:
        hub.publish(CheckedEnvelope(channel, text))


def framed(*texts: bytes) -> bytes:
    """Return the plain frames of texts, one after the other."""
    return b"".join(map(frames.text, texts))


def pending(ones: list[Subscriber]) -> list[list[bytes]]:
    """Return the frames that the cohorts of subscribers have pending."""
    return [one.cohort.pending for one in ones if one.cohort is not None]


def counted_frames(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return a list to which the text of each new frame is added."""
    made: list[bytes] = []
    text = frames.text

    def counting(payload: bytes) -> bytes:
        made.append(payload)
        return text(payload)

    monkeypatch.setattr(frames, "text", counting)
    return made


# Which subscribers receive an envelope


@pytest.mark.parametrize("subscription", ["candles:BTC-USD:1h", "candles:*:1h", "candles:BTC-USD:*", "candles:*:*"])
def test_an_envelope_reaches_a_subscription_that_matches(hub: Hub, subscription: str) -> None:
    one = subscriber(hub, subscription)
    publish(hub, "candles:BTC-USD:1h", b"event")
    hub.flush()

    assert one.sends == [b"\x81\x05event"]


@pytest.mark.parametrize(
    "subscription",
    [
        "signals:BTC-USD:1h",
        "signals:*:*",
        "candles:ETH-USD:1h",
        "candles:BTC-USD:1m",
        "candles:ETH-USD:*",
        "candles:*:1m",
    ],
)
def test_an_envelope_does_not_reach_a_subscription_that_does_not_match(hub: Hub, subscription: str) -> None:
    one = subscriber(hub, subscription)
    publish(hub, "candles:BTC-USD:1h", b"event")
    hub.flush()

    assert one.sends == []


def test_an_envelope_that_matches_several_subscriptions_of_a_client_reaches_it_once(hub: Hub) -> None:
    one = subscriber(hub, "candles:BTC-USD:1h", "candles:*:1h", "candles:BTC-USD:*", "candles:*:*")
    publish(hub, "candles:BTC-USD:1h", b"event")
    hub.flush()

    assert one.sends == [framed(b"event")]


def test_an_envelope_reaches_everyone_who_subscribes(hub: Hub) -> None:
    clients = [subscriber(hub, BTC), subscriber(hub, BTC), subscriber(hub, BTC, ETH), subscriber(hub, "candles:*:*")]
    publish(hub, BTC, b"event")
    hub.flush()

    assert [one.sends for one in clients] == [[framed(b"event")]] * 4


def test_an_envelope_without_subscribers_is_due_to_no_connection(hub: Hub) -> None:
    publish(hub, BTC, b"event")
    hub.flush()

    assert hub.due == 0


def test_a_channel_of_an_unknown_form_reaches_no_client(hub: Hub) -> None:
    one = subscriber(hub, "candles:*:*", "signals:*:*")
    publish(hub, "news:BTC-USD:1h", b"event")
    hub.flush()

    assert one.sends == []


def test_an_earlier_event_does_not_reach_a_subscription(hub: Hub) -> None:
    publish(hub, BTC, b"before")
    one = subscriber(hub, BTC)
    publish(hub, BTC, b"after")
    hub.flush()

    assert one.sends == [framed(b"after")]


@pytest.mark.parametrize("subscription", ["candles:BTC-USD:1h", "candles:*:1h"])
def test_a_channel_that_was_seen_before_reaches_a_client_that_subscribes_later(hub: Hub, subscription: str) -> None:
    publish(hub, BTC, b"before")
    hub.flush()
    one = subscriber(hub, subscription)
    publish(hub, BTC, b"after")
    hub.flush()

    assert one.sends == [framed(b"after")]


@pytest.mark.parametrize("subscription", ["candles:BTC-USD:1h", "candles:*:1h"])
def test_a_later_event_does_not_reach_a_subscription_that_was_given_up(hub: Hub, subscription: str) -> None:
    one = subscriber(hub, subscription)
    publish(hub, BTC, b"before")
    hub.flush()
    hub.assign(one, frozenset())
    publish(hub, BTC, b"after")
    hub.flush()

    assert one.sends == [framed(b"before")]


def test_a_pending_event_reaches_a_client_that_gives_up_its_subscription_before_the_flush(hub: Hub) -> None:
    one = subscriber(hub, BTC)
    publish(hub, BTC, b"event")
    hub.assign(one, frozenset())

    assert one.sends == [framed(b"event")]


def test_a_pending_event_does_not_reach_a_client_that_joins_a_cohort_before_the_flush(hub: Hub) -> None:
    first = subscriber(hub, BTC)
    publish(hub, BTC, b"event")
    second = subscriber(hub, BTC)
    hub.flush()

    assert (first.sends, second.sends) == ([framed(b"event")], [])


def test_a_change_of_subscriptions_changes_what_is_received(hub: Hub) -> None:
    one = subscriber(hub, BTC)
    hub.assign(one, frozenset({ETH}))
    publish(hub, BTC, b"btc")
    publish(hub, ETH, b"eth")
    hub.flush()

    assert one.sends == [framed(b"eth")]


# When and how it is written


def test_nothing_is_sent_before_the_flush(hub: Hub) -> None:
    one = subscriber(hub, BTC)
    publish(hub, BTC, b"event")

    assert one.sends == []


def test_all_that_is_pending_is_one_send_a_connection_in_the_order_of_the_source(hub: Hub) -> None:
    one = subscriber(hub, "candles:*:*")
    publish(hub, BTC, b"1", b"2")
    publish(hub, ETH, b"3")
    publish(hub, BTC, b"4")
    hub.flush()

    assert one.sends == [framed(b"1", b"2", b"3", b"4")]


def test_flushed_events_are_not_sent_again(hub: Hub) -> None:
    one = subscriber(hub, BTC)
    publish(hub, BTC, b"first")
    hub.flush()
    hub.flush()
    publish(hub, BTC, b"second")
    hub.flush()

    assert one.sends == [framed(b"first"), framed(b"second")]


def test_frames_of_64_kib_are_one_send(hub: Hub) -> None:
    one = subscriber(hub, BTC)
    publish(hub, BTC, b"a" * 64_996, b"b" * 532)
    hub.flush()

    assert [len(send) for send in one.sends] == [65_536]
    assert one.received == framed(b"a" * 64_996, b"b" * 532)


def test_one_byte_more_than_64_kib_is_two_sends(hub: Hub) -> None:
    one = subscriber(hub, BTC)
    publish(hub, BTC, b"a" * 64_996, b"b" * 533)
    hub.flush()

    assert one.sends == [framed(b"a" * 64_996), framed(b"b" * 533)]


def test_a_frame_over_64_kib_is_sent_whole(hub: Hub) -> None:
    one = subscriber(hub, BTC)
    publish(hub, BTC, b"a", b"b" * 70_000, b"c", b"d")
    hub.flush()

    assert one.sends == [framed(b"a"), framed(b"b" * 70_000), framed(b"c", b"d")]


def test_the_frame_of_an_event_is_made_once_for_all_plain_cohorts(hub: Hub) -> None:
    ones = [subscriber(hub, BTC), subscriber(hub, BTC, ETH), subscriber(hub, "candles:*:*")]
    publish(hub, BTC, b"event")

    [first], [second], [third] = pending(ones)
    assert first == b"\x81\x05event"
    assert first is second is third


def test_an_event_without_subscribers_makes_no_frame(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    made = counted_frames(monkeypatch)
    one = subscriber(hub, ETH)
    publish(hub, BTC, b"event")

    assert (made, pending([one])) == ([], [[]])
    hub.flush()
    assert (made, hub.due, one.sends) == ([], 0, [])


def test_the_frames_that_are_due_are_counted_for_each_connection(hub: Hub) -> None:
    subscriber(hub, BTC)
    subscriber(hub, BTC)
    subscriber(hub, "candles:*:*")
    publish(hub, BTC, b"1", b"2")
    publish(hub, ETH, b"3")
    hub.flush()

    assert hub.due == 7


@settings(deadline=None)
@given(st.lists(st.integers(0, 70_000), min_size=1, max_size=20), st.sampled_from([0, 4]))
def test_batches_hold_every_piece_in_order_and_as_many_as_fit(sizes: list[int], header: int) -> None:
    pieces = [bytes((i,)) * size for i, size in enumerate(sizes)]

    found = list(batches(pieces, header))

    def size(*run: bytes) -> int:
        return sum(len(piece) + header for piece in run)

    assert [piece for run in found for piece in run] == pieces
    assert all(len(run) == 1 or size(*run) <= 65_536 for run in found)
    assert all(size(*one, next_[0]) > 65_536 for one, next_ in itertools.pairwise(found))


@pytest.mark.parametrize(("last", "expected"), [(28, 1), (29, 2)])
def test_a_batch_of_pieces_counts_their_headers(last: int, expected: int) -> None:
    assert len(list(batches([b"a" * 65_500, b"b" * last], 4))) == expected


# Slow connections


def test_a_busy_connection_is_offered_its_batch_with_the_number_of_frames(hub: Hub) -> None:
    one = subscriber(hub, BTC)
    one.room = 0
    publish(hub, BTC, b"first")
    hub.flush()
    publish(hub, BTC, b"1", b"2", b"3")
    hub.flush()

    assert one.offers == [(framed(b"1", b"2", b"3"), 3)]


def test_a_busy_connection_is_offered_each_64_kib_by_themselves(hub: Hub) -> None:
    one = subscriber(hub, BTC)
    one.room = 0
    publish(hub, BTC, b"first")
    hub.flush()
    publish(hub, BTC, b"a" * 40_000, b"b" * 20_000, b"c" * 40_000)
    hub.flush()

    assert one.offers == [(framed(b"a" * 40_000, b"b" * 20_000), 2), (framed(b"c" * 40_000), 1)]


def test_a_connection_that_falls_short_of_one_batch_is_offered_the_next_of_the_same_flush(hub: Hub) -> None:
    one = subscriber(hub, BTC)
    one.room = 10
    publish(hub, BTC, b"a" * 40_000, b"b" * 40_000)
    hub.flush()

    assert (one.sends, one.offers) == ([b"\x81\x7e\x9c\x40aaaaaa"], [(framed(b"b" * 40_000), 1)])


def test_a_connection_that_took_part_of_a_batch_loses_nothing(hub: Hub) -> None:
    one = subscriber(hub, BTC)
    one.room = 3
    publish(hub, BTC, b"event")
    hub.flush()

    assert (one.sends, one.received) == ([b"\x81\x05e"], b"\x81\x05event")


def test_a_connection_that_was_busy_is_written_again_once_it_is_idle(hub: Hub) -> None:
    one = subscriber(hub, BTC)
    one.room = 0
    publish(hub, BTC, b"first")
    hub.flush()
    one.drain()
    publish(hub, BTC, b"second")
    hub.flush()

    assert (one.sends, one.offers) == ([framed(b"first"), framed(b"second")], [])


def test_a_busy_connection_that_changes_its_subscriptions_stays_busy(hub: Hub) -> None:
    one = subscriber(hub, BTC)
    one.room = 0
    publish(hub, BTC, b"first")
    hub.flush()
    hub.assign(one, frozenset({ETH}))
    publish(hub, ETH, b"second")
    hub.flush()

    assert (one.sends, one.offers) == ([], [(framed(b"second"), 1)])


@pytest.mark.parametrize("room", [0, 2, 4])
def test_a_slow_connection_changes_nothing_for_the_others(hub: Hub, room: int) -> None:
    before, slow, after = (subscriber(hub, BTC) for _ in range(3))
    slow.room = room
    for number in range(3):
        publish(hub, BTC, b"event%d" % number)
        hub.flush()

    assert before.sends == after.sends == [framed(b"event0"), framed(b"event1"), framed(b"event2")]


def test_a_socket_that_is_gone_changes_nothing_for_the_others(hub: Hub) -> None:
    before, gone, after = (subscriber(hub, BTC) for _ in range(3))
    gone.gone = True
    publish(hub, BTC, b"event")
    hub.flush()

    assert (before.sends, gone.sends, after.sends) == ([framed(b"event")], [], [framed(b"event")])


# Cohorts


def test_equal_subscriptions_are_one_cohort(hub: Hub) -> None:
    for _ in range(100):
        subscriber(hub, BTC, ETH)

    assert hub.cohorts == 1


def test_different_subscriptions_are_different_cohorts(hub: Hub) -> None:
    subscriber(hub, BTC)
    subscriber(hub, BTC, ETH)
    subscriber(hub, ETH)

    assert hub.cohorts == 3


def test_a_client_without_subscriptions_is_not_in_a_cohort(hub: Hub) -> None:
    one = subscriber(hub)

    assert (one.cohort, hub.cohorts) == (None, 0)


def test_to_be_assigned_the_same_again_changes_nothing(hub: Hub) -> None:
    one = subscriber(hub, BTC)
    cohort = one.cohort
    hub.assign(one, frozenset({BTC}))

    assert (one.cohort is cohort, hub.cohorts) == (True, 1)


def test_a_cohort_ends_with_its_last_client(hub: Hub) -> None:
    first, second = subscriber(hub, BTC), subscriber(hub, BTC)
    hub.assign(first, frozenset())
    assert hub.cohorts == 1
    hub.assign(second, frozenset({ETH}))
    assert hub.cohorts == 1
    hub.assign(second, frozenset())
    assert hub.cohorts == 0


def test_a_busy_client_can_leave(hub: Hub) -> None:
    one = subscriber(hub, BTC)
    one.room = 0
    publish(hub, BTC, b"event")
    hub.flush()
    hub.assign(one, frozenset())

    assert hub.cohorts == 0


def test_nothing_is_left_of_clients_that_have_gone(hub: Hub) -> None:
    clients = [subscriber(hub, BTC), subscriber(hub, BTC, "candles:*:*"), subscriber(hub, "candles:*:*", window=12)]
    clients[0].room = 0
    clients[1].gone = True
    publish(hub, BTC, b"event")
    for one in clients:
        hub.assign(one, frozenset())

    assert (hub._cohorts, hub._index, hub._dirty, hub._deflating) == ({}, {}, [], 0)
    assert (hub._matches, hub._matched) == ({}, 0)


# The table of matches


class Sink(Subscriber):
    """A subscriber that counts the bytes it gets and keeps none of them."""

    size = 0

    def _send(self, data: bytes) -> int:
        self.size += len(data)
        return len(data)


def counted_matches(hub: Hub) -> int:
    """Return the size of the table of matches, counted from its rows."""
    return sum(16 + len(plain) + len(deflating) for plain, deflating in hub._matches.values())


def test_a_channel_that_was_seen_before_is_not_matched_again(hub: Hub) -> None:
    subscriber(hub, BTC)
    publish(hub, BTC, b"first")
    row = hub._matches[BTC]
    publish(hub, BTC, b"second")

    assert hub._matches[BTC] is row


def test_a_new_subscription_without_a_wildcard_keeps_the_rows_of_other_channels(hub: Hub) -> None:
    subscriber(hub, BTC)
    publish(hub, BTC, b".")
    publish(hub, ETH, b".")
    row = hub._matches[BTC]
    one = subscriber(hub, ETH)

    assert hub._matches == {BTC: row}
    assert hub._matched == 17
    publish(hub, ETH, b"event")
    hub.flush()
    assert one.sends == [framed(b"event")]


@pytest.mark.parametrize("subscription", ["candles:*:1h", "signals:*:*"])
def test_a_new_subscription_with_a_wildcard_empties_the_table(hub: Hub, subscription: str) -> None:
    publish(hub, BTC, b".")
    publish(hub, ETH, b".")
    subscriber(hub, BTC, subscription)

    assert (hub._matches, hub._matched) == ({}, 0)


def test_more_channels_than_the_table_of_matches_holds_are_still_matched(hub: Hub) -> None:
    one = subscriber(hub, "candles:*:1h")
    for number in range(65_537):
        publish(hub, f"candles:{number}-A:1h", b".")
    hub.flush()

    assert one.received == b"\x81\x01." * 65_537
    # A row with one cohort counts as 17.
    assert 0 < len(hub._matches) <= 58_823
    assert hub._matched == counted_matches(hub) <= 1_000_000


def test_the_rows_of_many_wildcards_hold_a_million_cohorts_at_most(hub: Hub) -> None:
    sinks = [Sink() for _ in range(5_000)]
    for number, sink in enumerate(sinks):
        hub.assign(sink, frozenset({"candles:*:1h", f"candles:{number}-A:1m"}))
    # A row counts as 5,016, so the table is emptied before the 200th channel.
    for number in range(199):
        publish(hub, f"candles:{number}-A:1h", b".")
    assert (len(hub._matches), hub._matched) == (199, 998_184)
    publish(hub, "candles:199-A:1h", b".")
    assert (len(hub._matches), hub._matched) == (1, 5_016)
    hub.flush()

    assert {sink.size for sink in sinks} == {200 * 3}


# The bound and the number of wildcards are a tenth of the real 1,000,000 and 5,000. With those, the test would take
# seconds. Without a bound, the tables would take 4.4, 3.7 and 2.8 MB.
@pytest.mark.parametrize(
    ("sets", "channels"),
    [
        pytest.param(500, 1_000, id="many wildcards"),
        pytest.param(1, 20_000, id="many channels"),
        pytest.param(0, 20_000, id="many channels without subscribers"),
    ],
)
def test_the_table_of_matches_takes_2_mb_at_most_per_100_000_cohorts(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, sets: int, channels: int
) -> None:
    monkeypatch.setattr(hub_module, "_MAX_MATCHES", 100_000)
    sinks = [Sink() for _ in range(sets)]
    for number, sink in enumerate(sinks):
        hub.assign(sink, frozenset({"candles:*:1h", f"candles:{number}-A:1m"}))
    most = 0
    tracemalloc.start()
    try:
        for number in range(channels):
            publish(hub, f"candles:{number}-A:1h", b".")
            most = max(most, hub._matched)
            if number % 50 == 0:
                hub.flush()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    hub.flush()

    assert peak < 2_000_000
    assert most <= 100_000
    assert {sink.size for sink in sinks} == ({channels * 3} if sets else set())


def test_an_event_reaches_every_subscriber_once_however_often_the_table_is_emptied(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A row counts as 16, plus one for each of 20 cohorts. So the table holds exactly two rows.
    monkeypatch.setattr(hub_module, "_MAX_MATCHES", 72)
    ones = [
        subscriber(hub, "candles:*:1h", f"candles:{number}-A:1m", window=window)
        for number, window in zip(range(20), itertools.cycle([None, 12]), strict=False)
    ]
    sizes: list[int] = []
    # Some channels are published again while their row is in the table, some after it has been removed.
    channels = [f"candles:{number}-A:1h" for number in (0, 1, 1, 2, 3, 0, 3, 4, 0)]
    for number, channel in enumerate(channels):
        publish(hub, channel, b'{"number":"%d"}' % number)
        assert hub._matched == counted_matches(hub) <= 72
        sizes.append(len(hub._matches))
    hub.flush()

    assert sizes == [1, 2, 2, 1, 2, 1, 2, 1, 2]
    assert [read(one) for one in ones] == [[f'{{"number":"{number}"}}' for number in range(9)]] * 20


def test_a_channel_with_more_cohorts_than_the_table_holds_has_the_table_to_itself(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "_MAX_MATCHES", 40)
    ones = [subscriber(hub, "candles:*:1h", f"candles:{number}-A:1m") for number in range(30)]
    for channel in (BTC, ETH, BTC):
        publish(hub, channel, b".")
        assert list(hub._matches) == [channel]
    hub.flush()

    assert {one.received for one in ones} == {framed(b".", b".", b".")}


# Compression


def texts(count: int) -> list[str]:
    return [f'{{"type":"candle_close","channel":"{BTC}","data":{{"volume":"{number}"}}}}' for number in range(count)]


def encoded(messages: list[str]) -> list[bytes]:
    return [message.encode() for message in messages]


def publish_texts(hub: Hub, channel: str, messages: list[str]) -> None:
    publish(hub, channel, *encoded(messages))


def read(one: Subscriber) -> list[str]:
    """Return the texts that another project's client reads from the bytes of a subscriber."""
    return Inflating(one.window or 15).read(one.received)


@pytest.mark.parametrize("window", [None, 9, 12])
def test_everyone_reads_the_same_compressed_or_not(hub: Hub, window: int | None) -> None:
    one, other = subscriber(hub, BTC, window=window), subscriber(hub, BTC)
    publish_texts(hub, BTC, texts(50))
    hub.flush()

    assert read(one) == read(other) == texts(50)


def test_a_client_that_agreed_on_nothing_gets_plain_frames(hub: Hub) -> None:
    _, one = subscriber(hub, BTC, window=12), subscriber(hub, BTC)
    publish_texts(hub, BTC, texts(50))
    hub.flush()

    assert one.received == framed(*encoded(texts(50)))


def test_plain_cohorts_get_one_frame_and_compressing_cohorts_the_text(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = counted_frames(monkeypatch)
    plain = [subscriber(hub, BTC), subscriber(hub, "candles:*:*")]
    deflating = [subscriber(hub, *subscriptions, window=12) for subscriptions in ([BTC], ["candles:*:*"], [BTC, ETH])]
    publish(hub, BTC, b"event")

    assert made == [b"event"]
    assert pending(plain) == [[b"\x81\x05event"]] * 2
    assert pending(deflating) == [[b"event"]] * 3
    [first], [second] = pending(plain)
    assert first is second
    hub.flush()
    assert [read(one) for one in plain + deflating] == [["event"]] * 5


def test_an_event_only_for_compressing_cohorts_makes_no_frame_before_the_flush(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = counted_frames(monkeypatch)
    one = subscriber(hub, BTC, window=12)
    publish(hub, BTC, b"event")

    assert (made, pending([one])) == ([], [[b"event"]])


def test_a_client_that_agreed_gets_a_batch_in_a_context_of_its_cohort(hub: Hub) -> None:
    ones = [subscriber(hub, BTC, window=12) for _ in range(3)]
    publish_texts(hub, BTC, texts(50))
    hub.flush()

    batch = deflate.compress(encoded(texts(50)), 12)
    assert [one.sends for one in ones] == [[batch]] * 3


def test_a_batch_is_compressed_once_for_its_cohort(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    compressed: list[int] = []

    def compress(batch: list[bytes], window: int) -> bytes:
        compressed.append(len(batch))
        return b"compressed"

    monkeypatch.setattr(deflate, "compress", compress)
    ones = [subscriber(hub, BTC, window=12) for _ in range(100)]
    publish_texts(hub, BTC, texts(50))
    hub.flush()

    assert (compressed, {one.received for one in ones}) == ([50], {b"compressed"})


def test_each_64_kib_are_compressed_by_themselves(hub: Hub) -> None:
    one = subscriber(hub, BTC, window=12)
    large = [f"{number}" * 30_000 for number in range(5)]
    publish_texts(hub, BTC, large)
    hub.flush()

    assert [Inflating(12).read(send) for send in one.sends] == [large[:2], large[2:4], large[4:]]


@pytest.mark.parametrize(("last", "sends"), [(532, 1), (533, 2)])
def test_the_64_kib_that_are_compressed_count_the_headers_of_plain_frames(hub: Hub, last: int, sends: int) -> None:
    one = subscriber(hub, BTC, window=12)
    publish(hub, BTC, b"a" * 64_996, b"b" * last)
    hub.flush()

    assert len(one.sends) == sends
    assert read(one) == ["a" * 64_996, "b" * last]


def test_other_windows_are_other_cohorts(hub: Hub) -> None:
    for window in (None, 9, 12, None, 9, 12):
        subscriber(hub, BTC, window=window)

    assert hub.cohorts == 3


def test_a_client_that_changes_its_subscriptions_keeps_its_window(hub: Hub) -> None:
    one = subscriber(hub, BTC, window=9)
    hub.assign(one, frozenset({ETH}))
    publish_texts(hub, ETH, texts(50))
    hub.flush()

    assert one.cohort is not None
    assert one.cohort.window == 9
    assert len(one.received) < 50 * 40


def test_many_small_cohorts_of_few_events_get_plain_frames(hub: Hub) -> None:
    ones = [subscriber(hub, BTC, f"candles:A-{number}:1h", window=12) for number in range(50)]
    publish_texts(hub, BTC, texts(20))
    hub.flush()

    assert {one.received for one in ones} == {framed(*encoded(texts(20)))}


def test_an_event_for_very_many_small_cohorts_is_compressed_once(hub: Hub) -> None:
    ones = [subscriber(hub, BTC, f"candles:A-{number}:1h", window=12) for number in range(200)]
    message = texts(1)[0] * 3
    publish_texts(hub, BTC, [message])
    hub.flush()

    compressed = deflate.compress([message.encode()], 9)
    assert compressed[0] == 0xC1
    assert {one.received for one in ones} == {compressed}


def test_the_events_of_one_flush_do_not_count_for_the_next(hub: Hub) -> None:
    ones = [subscriber(hub, BTC, f"candles:A-{number}:1h", window=12) for number in range(50)]
    publish(hub, "candles:X-X:1h", *[b"."] * 1_000)
    hub.flush()
    publish_texts(hub, BTC, texts(20))
    hub.flush()

    assert {one.received[0] for one in ones} == {0x81}


def test_the_frames_that_are_due_are_counted_the_same_when_compressed(hub: Hub) -> None:
    subscriber(hub, BTC, window=12)
    subscriber(hub, BTC)
    publish_texts(hub, BTC, texts(50))
    hub.flush()

    assert hub.due == 100


def test_a_busy_connection_is_offered_a_compressed_batch_with_its_number_of_frames(hub: Hub) -> None:
    one = subscriber(hub, BTC, window=12)
    one.room = 0
    publish_texts(hub, BTC, texts(3))
    hub.flush()
    publish_texts(hub, BTC, texts(50))
    hub.flush()

    [(batch, number)] = one.offers
    assert (len(batch) < 2_500, number) == (True, 50)


class Lossy(Subscriber):
    """A subscriber that skips offered batches. `skips` says which, and is repeated without end.

    `losses` has a pair for each skipped batch: the number of bytes received before it, and its number of frames.
    """

    def __init__(self, window: int | None, skips: list[bool]) -> None:
        super().__init__(window)
        self._skips = itertools.cycle(skips)
        self.losses: list[tuple[int, int]] = []

    def offer(self, batch: bytes, frames: int) -> None:
        if next(self._skips):
            self.losses.append((len(self.received), frames))
        else:
            super().offer(batch, frames)


COMPRESSED_CHANNELS = [BTC, ETH, "signals:BTC-USD:1h"]


@settings(deadline=None)
@given(
    clients=st.lists(
        st.tuples(
            st.sampled_from([None, None, 9, 12]),
            st.frozensets(st.sampled_from([*COMPRESSED_CHANNELS, "candles:*:*"]), min_size=1),
            st.lists(st.booleans(), min_size=1, max_size=5),
        ),
        min_size=1,
        max_size=6,
    ),
    flushes=st.lists(
        st.tuples(
            st.lists(st.tuples(st.sampled_from(COMPRESSED_CHANNELS), st.sampled_from([0, 1, 60, 30_000])), max_size=12),
            st.dictionaries(st.integers(0, 5), st.sampled_from([0, 1, 50, 2_000, None])),
        ),
        max_size=8,
    ),
    large=st.sampled_from([1, 2, 100]),
    many=st.sampled_from([1, 3, 200]),
)
def test_every_client_reads_all_but_the_batches_it_has_lost(
    clients: list[tuple[int | None, frozenset[str], list[bool]]],
    flushes: list[tuple[list[tuple[str, int]], dict[int, int | None]]],
    large: int,
    many: int,
) -> None:
    hub = Hub(GRAMMAR)
    ones = [Lossy(window, skips) for window, _, skips in clients]
    due: list[list[str]] = [[] for _ in clients]
    numbers = itertools.count()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deflate, "LARGE_COHORT", large)
        patch.setattr(deflate, "MANY_DELIVERIES", many)
        for one, (_, subscriptions, _) in zip(ones, clients, strict=True):
            hub.assign(one, subscriptions)
        for events, rooms in flushes:
            for client, room in rooms.items():
                if client < len(ones) and room is None:
                    ones[client].drain()
                elif client < len(ones):
                    ones[client].room = room
            for channel, size in events:
                text = f'{{"channel":"{channel}","number":"{next(numbers)}","more":"{"abc" * size}"}}'
                publish_texts(hub, channel, [text])
                for messages, (_, subscriptions, _) in zip(due, clients, strict=True):
                    if any(matches(subscription, channel) for subscription in subscriptions):
                        messages.append(text)
            hub.flush()

    for one, messages in zip(ones, due, strict=True):
        reader = Inflating(one.window or 15)
        expected = iter(messages)
        start = 0
        for end, lost in one.losses:
            for text in reader.read(one.received[start:end]):
                assert text == next(expected)
            assert not reader.waits
            assert len(list(itertools.islice(expected, lost))) == lost
            start = end
        assert reader.read(one.received[start:]) == list(expected)


# Against a model

SYMBOLS = ("A-A", "B-B")
TIMEFRAMES = ("1m", "1h")
CHANNELS = [":".join(parts) for parts in itertools.product(("candles", "signals"), SYMBOLS, TIMEFRAMES)]
SUBSCRIPTIONS = [
    ":".join(parts) for parts in itertools.product(("candles", "signals"), (*SYMBOLS, "*"), (*TIMEFRAMES, "*"))
]


def matches(subscription: str, channel: str) -> bool:
    return all(mine in ("*", theirs) for mine, theirs in zip(subscription.split(":"), channel.split(":"), strict=True))


class HubAgainstModel(RuleBasedStateMachine):
    """Each envelope reaches exactly its subscribers, once and in order, after any sequence of operations."""

    def __init__(self) -> None:
        super().__init__()
        self.hub = Hub(GRAMMAR)
        self.clients = [Subscriber() for _ in range(5)]
        self.subscriptions: list[frozenset[str]] = [frozenset()] * 5
        self.expected = [b""] * 5
        self.numbers: Iterator[int] = itertools.count()

    @rule(client=st.integers(0, 4), wanted=st.frozensets(st.sampled_from(SUBSCRIPTIONS), max_size=3))
    def assign(self, client: int, wanted: frozenset[str]) -> None:
        self.hub.assign(self.clients[client], wanted)
        self.subscriptions[client] = wanted

    @rule(client=st.integers(0, 4), other=st.integers(0, 4))
    def join(self, client: int, other: int) -> None:
        self.assign(client, self.subscriptions[other])

    @rule(channels=st.lists(st.sampled_from(CHANNELS), min_size=1, max_size=8), size=st.sampled_from([0, 10, 30_000]))
    def publish(self, channels: list[str], size: int) -> None:
        for channel in channels:
            text = b"<%d%s>" % (next(self.numbers), b"." * size)
            self.hub.publish(CheckedEnvelope(channel, text))
            for client, subscriptions in enumerate(self.subscriptions):
                if any(matches(subscription, channel) for subscription in subscriptions):
                    self.expected[client] += framed(text)

    @rule(client=st.integers(0, 4), room=st.integers(0, 20))
    def block(self, client: int, room: int) -> None:
        self.clients[client].room = room

    @rule(client=st.integers(0, 4))
    def drain(self, client: int) -> None:
        self.clients[client].drain()

    @rule()
    def flush(self) -> None:
        self.hub.flush()
        assert [client.received for client in self.clients] == self.expected

    @invariant()
    def there_is_one_cohort_for_each_set_of_subscriptions(self) -> None:
        assert self.hub.cohorts == len({wanted for wanted in self.subscriptions if wanted})

    @invariant()
    def the_table_of_matches_stays_within_its_bound(self) -> None:
        assert self.hub._matched == counted_matches(self.hub) <= hub_module._MAX_MATCHES

    def teardown(self) -> None:
        self.flush()
        for client in self.clients:
            self.hub.assign(client, frozenset())
        assert self.hub.cohorts == 0


@pytest.mark.parametrize("bound", [1_000_000, 40])
def test_the_hub_behaves_as_a_naive_model(monkeypatch: pytest.MonkeyPatch, bound: int) -> None:
    # The smaller bound allows one or two rows, so the table is emptied all the time.
    monkeypatch.setattr(hub_module, "_MAX_MATCHES", bound)
    run_state_machine_as_test(
        HubAgainstModel, settings=settings(deadline=None, max_examples=150, stateful_step_count=40)
    )

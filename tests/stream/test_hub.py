import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.support.peer import Inflating
from tests.support.subscriber import Subscriber
from tornado_bridge.channels import Form, Grammar, Rule
from tornado_bridge.redaction.firewall import CheckedEnvelope
from tornado_bridge.stream.hub import Hub, batches
from tornado_bridge.wire import deflate
from tornado_bridge.wire import frames as rfc6455

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


def publish(hub: Hub, channel: str, *frames: bytes) -> None:
    for frame in frames:
        hub.publish(CheckedEnvelope(channel, frame))


# Who receives an envelope


@pytest.mark.parametrize("subscription", ["candles:BTC-USD:1h", "candles:*:1h", "candles:BTC-USD:*", "candles:*:*"])
def test_an_envelope_reaches_a_subscription_that_matches(hub: Hub, subscription: str) -> None:
    one = subscriber(hub, subscription)
    publish(hub, "candles:BTC-USD:1h", b"frame")
    hub.flush()

    assert one.sends == [b"frame"]


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
    publish(hub, "candles:BTC-USD:1h", b"frame")
    hub.flush()

    assert one.sends == []


def test_an_envelope_that_matches_several_subscriptions_of_a_client_reaches_it_once(hub: Hub) -> None:
    one = subscriber(hub, "candles:BTC-USD:1h", "candles:*:1h", "candles:BTC-USD:*", "candles:*:*")
    publish(hub, "candles:BTC-USD:1h", b"frame")
    hub.flush()

    assert one.sends == [b"frame"]


def test_an_envelope_reaches_everyone_who_subscribes(hub: Hub) -> None:
    clients = [subscriber(hub, BTC), subscriber(hub, BTC), subscriber(hub, BTC, ETH), subscriber(hub, "candles:*:*")]
    publish(hub, BTC, b"frame")
    hub.flush()

    assert [one.sends for one in clients] == [[b"frame"]] * 4


def test_an_envelope_that_nobody_subscribes_to_is_no_error(hub: Hub) -> None:
    publish(hub, BTC, b"frame")
    hub.flush()

    assert hub.due == 0


def test_a_channel_of_no_known_form_reaches_nobody(hub: Hub) -> None:
    one = subscriber(hub, "candles:*:*", "signals:*:*")
    publish(hub, "news:BTC-USD:1h", b"frame")
    hub.flush()

    assert one.sends == []


def test_what_was_published_before_a_subscription_does_not_reach_it(hub: Hub) -> None:
    publish(hub, BTC, b"before")
    one = subscriber(hub, BTC)
    publish(hub, BTC, b"after")
    hub.flush()

    assert one.sends == [b"after"]


@pytest.mark.parametrize("subscription", ["candles:BTC-USD:1h", "candles:*:1h"])
def test_a_channel_that_was_seen_before_reaches_who_subscribes_later(hub: Hub, subscription: str) -> None:
    publish(hub, BTC, b"before")
    hub.flush()
    one = subscriber(hub, subscription)
    publish(hub, BTC, b"after")
    hub.flush()

    assert one.sends == [b"after"]


@pytest.mark.parametrize("subscription", ["candles:BTC-USD:1h", "candles:*:1h"])
def test_what_is_published_after_a_subscription_was_given_up_does_not_reach_it(hub: Hub, subscription: str) -> None:
    one = subscriber(hub, subscription)
    publish(hub, BTC, b"before")
    hub.flush()
    hub.assign(one, frozenset())
    publish(hub, BTC, b"after")
    hub.flush()

    assert one.sends == [b"before"]


def test_what_was_published_reaches_who_gives_its_subscription_up_before_the_flush(hub: Hub) -> None:
    one = subscriber(hub, BTC)
    publish(hub, BTC, b"frame")
    hub.assign(one, frozenset())

    assert one.sends == [b"frame"]


def test_what_was_published_does_not_reach_who_joins_a_cohort_before_the_flush(hub: Hub) -> None:
    first = subscriber(hub, BTC)
    publish(hub, BTC, b"frame")
    second = subscriber(hub, BTC)
    hub.flush()

    assert (first.sends, second.sends) == ([b"frame"], [])


def test_a_change_of_subscriptions_changes_what_is_received(hub: Hub) -> None:
    one = subscriber(hub, BTC)
    hub.assign(one, frozenset({ETH}))
    publish(hub, BTC, b"btc")
    publish(hub, ETH, b"eth")
    hub.flush()

    assert one.sends == [b"eth"]


# When and how it is written


def test_nothing_is_sent_before_the_flush(hub: Hub) -> None:
    one = subscriber(hub, BTC)
    publish(hub, BTC, b"frame")

    assert one.sends == []


def test_all_that_is_pending_is_one_send_a_connection_in_the_order_of_the_source(hub: Hub) -> None:
    one = subscriber(hub, "candles:*:*")
    publish(hub, BTC, b"1", b"2")
    publish(hub, ETH, b"3")
    publish(hub, BTC, b"4")
    hub.flush()

    assert one.sends == [b"1234"]


def test_what_was_flushed_is_not_sent_again(hub: Hub) -> None:
    one = subscriber(hub, BTC)
    publish(hub, BTC, b"first")
    hub.flush()
    hub.flush()
    publish(hub, BTC, b"second")
    hub.flush()

    assert one.sends == [b"first", b"second"]


def test_a_batch_of_64_kib_is_one_send(hub: Hub) -> None:
    one = subscriber(hub, BTC)
    publish(hub, BTC, b"a" * 65_000, b"b" * 536)
    hub.flush()

    assert one.sends == [b"a" * 65_000 + b"b" * 536]


def test_one_byte_more_than_64_kib_is_two_sends(hub: Hub) -> None:
    one = subscriber(hub, BTC)
    publish(hub, BTC, b"a" * 65_000, b"b" * 537)
    hub.flush()

    assert one.sends == [b"a" * 65_000, b"b" * 537]


def test_a_frame_over_64_kib_is_sent_whole(hub: Hub) -> None:
    one = subscriber(hub, BTC)
    publish(hub, BTC, b"a", b"b" * 70_000, b"c", b"d")
    hub.flush()

    assert one.sends == [b"a", b"b" * 70_000, b"cd"]


def test_the_frames_that_are_due_are_counted_for_each_connection(hub: Hub) -> None:
    subscriber(hub, BTC)
    subscriber(hub, BTC)
    subscriber(hub, "candles:*:*")
    publish(hub, BTC, b"1", b"2")
    publish(hub, ETH, b"3")
    hub.flush()

    assert hub.due == 7


@settings(deadline=None)
@given(st.lists(st.integers(0, 70_000), min_size=1, max_size=20))
def test_batches_hold_every_frame_in_order_and_as_many_as_fit(sizes: list[int]) -> None:
    frames = [bytes((i,)) * size for i, size in enumerate(sizes)]

    found = list(batches(frames))

    assert [frame for batch in found for frame in batch] == frames
    assert all(len(batch) == 1 or sum(map(len, batch)) <= 65_536 for batch in found)
    assert all(sum(map(len, one)) + len(next_[0]) > 65_536 for one, next_ in itertools.pairwise(found))


# Slow connections


def test_a_socket_that_takes_part_of_a_batch_is_told_how_much(hub: Hub) -> None:
    one = subscriber(hub, BTC)
    one.room = 3
    publish(hub, BTC, b"frame")
    hub.flush()

    assert (one.sends, one.received) == ([b"fra"], b"frame")


def test_a_socket_that_takes_nothing_loses_nothing(hub: Hub) -> None:
    one = subscriber(hub, BTC)
    one.room = 0
    publish(hub, BTC, b"frame")
    hub.flush()

    assert (one.sends, one.received) == ([], b"frame")


def test_a_busy_connection_is_offered_its_batch_with_the_number_of_frames(hub: Hub) -> None:
    one = subscriber(hub, BTC)
    one.room = 0
    publish(hub, BTC, b"first")
    hub.flush()
    publish(hub, BTC, b"1", b"2", b"3")
    hub.flush()

    assert one.offers == [(b"123", 3)]


def test_a_busy_connection_is_offered_each_64_kib_by_themselves(hub: Hub) -> None:
    one = subscriber(hub, BTC)
    one.room = 0
    publish(hub, BTC, b"first")
    hub.flush()
    publish(hub, BTC, b"a" * 40_000, b"b" * 20_000, b"c" * 40_000)
    hub.flush()

    assert one.offers == [(b"a" * 40_000 + b"b" * 20_000, 2), (b"c" * 40_000, 1)]


def test_a_connection_that_falls_short_of_one_batch_is_offered_the_next_of_the_same_flush(hub: Hub) -> None:
    one = subscriber(hub, BTC)
    one.room = 10
    publish(hub, BTC, b"a" * 40_000, b"b" * 40_000)
    hub.flush()

    assert (one.sends, one.offers) == ([b"a" * 10], [(b"b" * 40_000, 1)])


def test_a_connection_that_was_busy_is_written_again_once_it_is_idle(hub: Hub) -> None:
    one = subscriber(hub, BTC)
    one.room = 0
    publish(hub, BTC, b"first")
    hub.flush()
    one.drain()
    publish(hub, BTC, b"second")
    hub.flush()

    assert (one.sends, one.offers) == ([b"first", b"second"], [])


def test_a_busy_connection_that_changes_its_subscriptions_stays_busy(hub: Hub) -> None:
    one = subscriber(hub, BTC)
    one.room = 0
    publish(hub, BTC, b"first")
    hub.flush()
    hub.assign(one, frozenset({ETH}))
    publish(hub, ETH, b"second")
    hub.flush()

    assert (one.sends, one.offers) == ([], [(b"second", 1)])


@pytest.mark.parametrize("room", [0, 2])
def test_a_slow_connection_changes_nothing_for_the_others(hub: Hub, room: int) -> None:
    before, slow, after = (subscriber(hub, BTC) for _ in range(3))
    slow.room = room
    for number in range(3):
        publish(hub, BTC, b"frame%d" % number)
        hub.flush()

    assert before.sends == after.sends == [b"frame0", b"frame1", b"frame2"]


def test_a_socket_that_is_gone_changes_nothing_for_the_others(hub: Hub) -> None:
    before, gone, after = (subscriber(hub, BTC) for _ in range(3))
    gone.gone = True
    publish(hub, BTC, b"frame")
    hub.flush()

    assert (before.sends, gone.sends, after.sends) == ([b"frame"], [], [b"frame"])


def test_a_socket_that_is_gone_is_told_so(hub: Hub) -> None:
    told: list[int] = []

    class Gone(Subscriber):
        def fell_short(self, batch: bytes, sent: int) -> None:
            told.append(sent)

    one = Gone()
    hub.assign(one, frozenset({BTC}))
    one.gone = True
    publish(hub, BTC, b"frame")
    hub.flush()

    assert told == [-1]


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


def test_a_client_without_subscriptions_is_in_no_cohort(hub: Hub) -> None:
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
    publish(hub, BTC, b"frame")
    hub.flush()
    hub.assign(one, frozenset())

    assert hub.cohorts == 0


def test_nothing_is_left_of_clients_that_have_gone(hub: Hub) -> None:
    clients = [subscriber(hub, BTC), subscriber(hub, BTC, "candles:*:*"), subscriber(hub, "candles:*:*", window=12)]
    clients[0].room = 0
    clients[1].gone = True
    publish(hub, BTC, b"frame")
    for one in clients:
        hub.assign(one, frozenset())

    assert (hub._cohorts, hub._index, hub._dirty, hub._deflating) == ({}, {}, [], 0)
    assert not any(hub._matches.values())


def test_more_channels_than_the_table_of_matches_holds_are_still_matched(hub: Hub) -> None:
    one = subscriber(hub, "candles:*:1h")
    for number in range(65_537):
        publish(hub, f"candles:{number}-A:1h", b".")
    hub.flush()

    assert len(one.received) == 65_537
    assert len(hub._matches) <= 65_536


# Compression


def texts(count: int) -> list[str]:
    return [f'{{"type":"candle_close","channel":"{BTC}","data":{{"volume":"{number}"}}}}' for number in range(count)]


def publish_texts(hub: Hub, channel: str, messages: list[str]) -> None:
    publish(hub, channel, *(rfc6455.text(message.encode()) for message in messages))


def read(one: Subscriber) -> list[str]:
    """What somebody else's client reads of all that a subscriber got."""
    return Inflating(one.window or 15).read(one.received)


@pytest.mark.parametrize("window", [None, 9, 12])
def test_everyone_reads_the_same_compressed_or_not(hub: Hub, window: int | None) -> None:
    one, other = subscriber(hub, BTC, window=window), subscriber(hub, BTC)
    publish_texts(hub, BTC, texts(50))
    hub.flush()

    assert read(one) == read(other) == texts(50)


def test_who_agreed_on_nothing_gets_the_frames_as_they_are(hub: Hub) -> None:
    _, one = subscriber(hub, BTC, window=12), subscriber(hub, BTC)
    publish_texts(hub, BTC, texts(50))
    hub.flush()

    assert one.received == b"".join(rfc6455.text(text.encode()) for text in texts(50))


def test_who_agreed_gets_a_batch_in_a_context_of_its_cohort(hub: Hub) -> None:
    ones = [subscriber(hub, BTC, window=12) for _ in range(3)]
    publish_texts(hub, BTC, texts(50))
    hub.flush()

    batch = deflate.compress([rfc6455.text(text.encode()) for text in texts(50)], 12)
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


def test_many_small_cohorts_of_few_events_get_their_frames_as_they_are(hub: Hub) -> None:
    ones = [subscriber(hub, BTC, f"candles:A-{number}:1h", window=12) for number in range(50)]
    publish_texts(hub, BTC, texts(20))
    hub.flush()

    plain = b"".join(rfc6455.text(text.encode()) for text in texts(20))
    assert {one.received for one in ones} == {plain}


def test_an_event_for_very_many_small_cohorts_is_compressed_once(hub: Hub) -> None:
    ones = [subscriber(hub, BTC, f"candles:A-{number}:1h", window=12) for number in range(200)]
    message = texts(1)[0] * 3
    publish_texts(hub, BTC, [message])
    hub.flush()

    compressed = deflate.compress([rfc6455.text(message.encode())], 9)
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
    """Skips every batch that it is offered and `skips` says so; `losses` is what it had got before each, and frames."""

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
    """Any order of what can happen delivers each envelope once, in order, to exactly those who subscribe."""

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
            frame = b"<%d%s>" % (next(self.numbers), b"." * size)
            self.hub.publish(CheckedEnvelope(channel, frame))
            for client, subscriptions in enumerate(self.subscriptions):
                if any(matches(subscription, channel) for subscription in subscriptions):
                    self.expected[client] += frame

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

    def teardown(self) -> None:
        self.flush()
        for client in self.clients:
            self.hub.assign(client, frozenset())
        assert self.hub.cohorts == 0


def test_the_hub_does_what_a_naive_model_does() -> None:
    run_state_machine_as_test(
        HubAgainstModel, settings=settings(deadline=None, max_examples=150, stateful_step_count=40)
    )

"""tornado_bridge.connections.outlet, over TCP with small kernel buffers, in a cohort of the hub."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import pytest
import tornado.ioloop
from hypothesis import given, settings
from hypothesis import strategies as st
from tornado.iostream import IOStream

from tests.support.raw import PATIENCE, PONG, TEXT, Frame, RawClient, tcp_pair, until
from tornado_bridge.connections.outlet import Outlet, SlowRule
from tornado_bridge.stream.hub import Cohort
from tornado_bridge.wire import frames

A_FRAME = frames.text(b"x" * 200)


class Clock:
    """A clock that shows the time that a test sets, in seconds."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Line:
    """An outlet on a real connection, its peer, and the outlets that were reported as slow."""

    def __init__(self, near: socket.socket, peer: RawClient, rule: SlowRule | None = None) -> None:
        self.near = near
        self.peer = peer
        self.stream = IOStream(near)
        self.rule = rule or SlowRule(skip_bytes=65_536, abort_bytes=262_144, timeout=30.0)
        self.clock = Clock()
        self.slow: list[Outlet] = []
        self.outlet = Outlet(self.stream, self.rule, clock=self.clock, on_slow=self.slow.append)
        self.cohort = Cohort(frozenset({"candles:*:*"}))
        self.outlet.cohort = self.cohort
        self.cohort.place(self.outlet)

    def clog(self) -> int:
        """Fill the buffers of the kernel. Returns the number of bytes that they took."""
        taken = refusals = 0
        while refusals < 3:
            try:
                taken += self.near.send(b"\0" * 65_536)
            except BlockingIOError:
                refusals += 1
        return taken

    async def read(self, size: int) -> bytes:
        """Read `size` bytes as the peer."""
        received = b""
        async with asyncio.timeout(PATIENCE):
            while len(received) < size:
                received += await asyncio.get_running_loop().sock_recv(self.peer.socket, size - len(received))
        return received

    @property
    def is_idle(self) -> bool:
        return list(self.cohort.idle) == [self.outlet] and not self.cohort.busy

    @property
    def is_busy(self) -> bool:
        return self.cohort.busy == {self.outlet} and not self.cohort.idle


@pytest.fixture
def line(io_loop: tornado.ioloop.IOLoop) -> Iterator[Line]:
    with tcp_pair() as (near, peer):
        line = Line(near, peer)
        yield line
        line.stream.close()


# While nothing is buffered


@pytest.mark.gen_test
async def test_an_idle_outlet_gives_the_hub_its_sockets_own_send(line: Line) -> None:
    send = line.outlet.idle_send
    assert send is not None
    assert send(A_FRAME) == len(A_FRAME)
    assert await line.peer.frame() == Frame(TEXT, b"x" * 200)


@pytest.mark.gen_test
async def test_an_answer_goes_out_before_the_loop_turns(line: Line) -> None:
    line.outlet.write(A_FRAME)
    assert line.peer.socket.recv(1000) == A_FRAME
    assert line.outlet.buffered == 0


@pytest.mark.gen_test
async def test_a_pong_carries_the_payload_of_its_ping(line: Line) -> None:
    line.outlet.pong(b"are you there")
    assert await line.peer.frame() == Frame(PONG, b"are you there")


@pytest.mark.gen_test
async def test_the_rest_of_the_handshake_is_sent_first(io_loop: tornado.ioloop.IOLoop) -> None:
    with tcp_pair() as (near, peer):
        stream = IOStream(near)
        stream.write(b"h" * 400_000)
        assert stream.writing()
        outlet = Outlet(stream, SlowRule(65_536, 262_144, 30), clock=Clock(), on_slow=lambda _: None)
        peer.socket.recv(65_536)
        assert outlet.idle_send is None

        outlet.write(A_FRAME)
        outlet.finish()

        rest = await peer.rest()
        assert rest.index(A_FRAME) == len(rest) - len(A_FRAME)
        stream.close()


# While the client does not read


@pytest.mark.gen_test
async def test_the_part_of_a_batch_that_the_socket_does_not_take_is_buffered(line: Line) -> None:
    line.clog()
    line.cohort.write(A_FRAME, 1)
    assert line.outlet.buffered == len(A_FRAME)


@pytest.mark.gen_test
async def test_an_outlet_with_buffered_bytes_has_no_idle_send(line: Line) -> None:
    line.clog()
    line.cohort.write(A_FRAME, 1)
    assert line.outlet.idle_send is None
    assert line.is_busy


@pytest.mark.gen_test
async def test_an_answer_that_the_socket_does_not_take_is_held_back(line: Line) -> None:
    line.clog()
    line.outlet.write(A_FRAME)
    assert line.outlet.buffered == len(A_FRAME)
    assert line.is_busy


@pytest.mark.gen_test
async def test_an_outlet_without_a_cohort_buffers_too(line: Line) -> None:
    line.cohort.remove(line.outlet)
    line.outlet.cohort = None
    clogged = line.clog()

    line.outlet.write(A_FRAME)

    assert (await line.read(clogged + len(A_FRAME))).endswith(A_FRAME)
    await until(lambda: line.outlet.idle_send is not None)


@pytest.mark.gen_test
async def test_a_batch_that_the_socket_took_in_part_arrives_whole(line: Line) -> None:
    batch = bytes(range(256)) * 2000
    line.cohort.write(batch, 1)
    assert 0 < line.outlet.buffered < len(batch)
    assert await line.read(len(batch)) == batch


@pytest.mark.gen_test
async def test_frames_reach_a_client_that_reads_again_whole_and_in_order(line: Line) -> None:
    clogged = line.clog()
    for number in range(300):
        line.cohort.write(frames.text(b"%03d" % number * 60), 1)
    line.outlet.write(frames.text(b"answer"))
    await line.read(clogged)
    for number in range(300):
        assert await line.peer.frame() == Frame(TEXT, b"%03d" % number * 60)
    assert await line.peer.frame() == Frame(TEXT, b"answer")


@pytest.mark.gen_test
async def test_an_outlet_is_idle_again_once_everything_is_taken(line: Line) -> None:
    clogged = line.clog()
    line.cohort.write(A_FRAME, 1)
    await line.read(clogged + len(A_FRAME))
    await until(lambda: line.is_idle)
    assert line.outlet.buffered == 0


@pytest.mark.gen_test
async def test_a_batch_is_sent_while_64_kib_are_held_back(line: Line) -> None:
    clogged = line.clog()
    line.outlet.write(b"\0" * 65_536)
    line.cohort.write(A_FRAME, 1)
    assert line.outlet.buffered == 65_536 + len(A_FRAME)
    assert (await line.read(clogged + 65_536 + len(A_FRAME))).endswith(A_FRAME)


@pytest.mark.gen_test
async def test_a_batch_is_skipped_while_more_than_64_kib_are_held_back(line: Line) -> None:
    line.clog()
    line.outlet.write(b"\0" * 65_537)
    line.cohort.write(A_FRAME, 1)
    assert line.outlet.buffered == 65_537


@pytest.mark.gen_test
async def test_skipped_frames_are_counted_for_the_client_and_for_the_bridge(line: Line) -> None:
    line.clog()
    line.outlet.write(b"\0" * 65_537)
    line.cohort.write(A_FRAME * 3, 3)
    line.cohort.write(A_FRAME, 1)
    assert (line.outlet.skipped, line.rule.skipped) == (4, 4)


@pytest.mark.gen_test
async def test_frames_are_sent_again_once_64_kib_or_less_are_held_back(line: Line) -> None:
    clogged = line.clog()
    line.outlet.write(b"\0" * 65_537)
    line.cohort.write(frames.text(b"skipped"), 1)
    await line.read(clogged)
    await until(lambda: line.outlet.buffered <= 65_536)

    line.cohort.write(frames.text(b"sent"), 1)

    await line.read(65_537)
    assert await line.peer.frame() == Frame(TEXT, b"sent")


@pytest.mark.gen_test
async def test_at_256_kib_a_client_still_lives(line: Line) -> None:
    line.clog()
    line.outlet.write(b"\0" * 262_144)
    line.cohort.write(A_FRAME, 1)
    assert not line.stream.closed()
    assert line.outlet.skipped == 1


@pytest.mark.gen_test
async def test_past_256_kib_a_client_is_reset_when_a_batch_is_due(line: Line) -> None:
    line.clog()
    line.cohort.write(b"\0" * 262_145, 1)
    assert not line.stream.closed()

    line.cohort.write(A_FRAME, 1)

    with pytest.raises(ConnectionResetError):
        await line.peer.rest()


@pytest.mark.gen_test
async def test_past_256_kib_a_client_is_reset_when_an_answer_is_due(line: Line) -> None:
    line.clog()
    line.outlet.write(b"\0" * 262_144)
    line.outlet.write(A_FRAME)
    with pytest.raises(ConnectionResetError):
        await line.peer.rest()


@pytest.mark.gen_test
async def test_a_client_cut_off_for_being_slow_is_counted_once(line: Line) -> None:
    line.clog()
    line.outlet.write(b"\0" * 262_145)
    line.outlet.write(A_FRAME)
    line.outlet.abort_slow()
    assert line.rule.aborted == 1


@pytest.mark.gen_test
async def test_a_client_that_is_cut_off_knows_why(line: Line) -> None:
    assert not line.outlet.cut_off
    line.outlet.abort_slow()
    assert line.outlet.cut_off


@pytest.mark.gen_test
async def test_a_very_large_frame_arrives_whole(line: Line) -> None:
    payload = bytes(range(256)) * 4_000
    line.cohort.write(frames.text(payload), 1)
    assert await line.peer.frame() == Frame(TEXT, payload)
    await until(lambda: line.is_idle)


@pytest.mark.gen_test
async def test_a_client_that_does_not_read_costs_another_nothing(line: Line) -> None:
    with tcp_pair() as (near, peer):
        other = Line(near, peer)
        other.outlet.cohort = line.cohort
        line.cohort.place(other.outlet)
        line.clog()
        for number in range(500):
            line.cohort.write(frames.text(b"%03d" % number * 60), 1)
            assert await peer.frame() == Frame(TEXT, b"%03d" % number * 60)
        assert (line.outlet.skipped > 0, other.outlet.skipped) == (True, 0)
        other.stream.close()


# How long a client has been slow


@pytest.mark.gen_test
async def test_a_client_is_slow_from_the_first_byte_past_64_kib(line: Line) -> None:
    line.clog()
    line.outlet.write(b"\0" * 65_536)
    assert line.outlet.slow_since is None
    line.clock.now = 1007.0

    line.outlet.write(b"\0")

    assert line.outlet.slow_since == 1007.0
    assert line.slow == [line.outlet]


@pytest.mark.gen_test
async def test_a_client_that_stays_slow_is_reported_once(line: Line) -> None:
    line.clog()
    line.outlet.write(b"\0" * 65_537)
    line.clock.now = 1010.0
    line.outlet.write(b"\0")
    assert line.outlet.slow_since == 1000.0
    assert line.slow == [line.outlet]


@pytest.mark.gen_test
async def test_a_client_is_slow_no_longer_once_it_has_read_down_to_64_kib(line: Line) -> None:
    clogged = line.clog()
    line.outlet.write(b"\0" * 65_537)
    await line.read(clogged)
    await until(lambda: line.outlet.slow_since is None)


@pytest.mark.gen_test
async def test_a_client_is_overdue_after_the_timeout_without_a_break(line: Line) -> None:
    line.clog()
    line.outlet.write(b"\0" * 65_537)
    assert not line.outlet.overdue(1029.9)
    assert line.outlet.overdue(1030.0)


@pytest.mark.gen_test
async def test_a_client_that_is_not_slow_is_never_overdue(line: Line) -> None:
    assert not line.outlet.overdue(1_000_000.0)


# Pings while bytes are buffered


@pytest.mark.gen_test
async def test_of_many_pings_of_a_client_that_does_not_read_the_latest_is_answered(line: Line) -> None:
    clogged = line.clog()
    line.cohort.write(A_FRAME, 1)
    for number in range(1000):
        line.outlet.pong(b"%d" % number)
    assert line.outlet.buffered == len(A_FRAME)

    await line.read(clogged + len(A_FRAME))

    assert await line.peer.frame() == Frame(PONG, b"999")
    line.outlet.write(frames.text(b"next"))
    assert await line.peer.frame() == Frame(TEXT, b"next")


# Ends


@pytest.mark.gen_test
async def test_an_abort_resets_the_connection(line: Line) -> None:
    line.clog()
    line.outlet.abort()
    with pytest.raises(ConnectionResetError):
        await line.peer.rest()


@pytest.mark.gen_test
async def test_an_abort_after_the_close_does_nothing(line: Line) -> None:
    line.stream.close()
    line.outlet.abort()
    assert line.rule.aborted == 0


@pytest.mark.gen_test
async def test_a_batch_for_a_peer_that_has_gone_ends_the_connection(line: Line) -> None:
    line.peer.reset()
    line.cohort.write(A_FRAME, 1)
    assert line.stream.closed()


@pytest.mark.gen_test
async def test_an_answer_for_a_peer_that_has_gone_ends_the_connection(line: Line) -> None:
    line.peer.reset()
    line.outlet.write(A_FRAME)
    assert line.stream.closed()


@pytest.mark.gen_test
async def test_the_buffer_of_a_peer_that_goes_is_freed(line: Line) -> None:
    line.clog()
    line.outlet.write(b"\0" * 200_000)
    line.peer.reset()
    await until(lambda: line.outlet.buffered == 0)
    assert line.stream.closed()
    assert line.outlet.idle_send is None


@pytest.mark.gen_test
async def test_an_answer_after_the_end_is_dropped(line: Line) -> None:
    line.stream.close()
    line.outlet.write(A_FRAME)
    assert line.outlet.buffered == 0


@pytest.mark.gen_test
async def test_a_batch_after_the_end_is_dropped(line: Line) -> None:
    line.stream.close()
    line.cohort.write(A_FRAME, 1)
    assert line.outlet.buffered == 0


@pytest.mark.gen_test
async def test_after_finishing_the_peer_sees_the_end(line: Line) -> None:
    line.outlet.write(A_FRAME)
    line.outlet.finish()
    assert await line.peer.rest() == A_FRAME


@pytest.mark.gen_test
async def test_finishing_waits_for_the_buffered_bytes(line: Line) -> None:
    clogged = line.clog()
    line.outlet.write(A_FRAME)
    line.outlet.finish()
    rest = await line.peer.rest()
    assert len(rest) == clogged + len(A_FRAME)
    assert rest.endswith(A_FRAME)


@pytest.mark.gen_test
async def test_no_pong_follows_after_finishing(line: Line) -> None:
    line.clog()
    line.outlet.write(A_FRAME)
    line.outlet.pong(b"late")
    line.outlet.finish()
    assert (await line.peer.rest()).endswith(A_FRAME)


@pytest.mark.gen_test
async def test_finishing_towards_a_peer_that_has_gone_raises_nothing(line: Line) -> None:
    line.peer.reset()
    with contextlib.suppress(OSError):
        line.near.send(b"x")
    line.outlet.finish()


@pytest.mark.gen_test
async def test_finishing_after_the_close_raises_nothing(line: Line) -> None:
    line.stream.close()
    line.outlet.finish()


# The budget of all clients together


@contextlib.contextmanager
def lines(count: int, budget: int) -> Iterator[list[Line]]:
    """Give outlets with a common rule, whose kernels take no more."""
    rule = SlowRule(skip_bytes=65_536, abort_bytes=262_144, timeout=30.0, budget=budget)
    with contextlib.ExitStack() as stack:
        made = [Line(*stack.enter_context(tcp_pair()), rule) for _ in range(count)]
        for line in made:
            line.clog()
        yield made
        for line in made:
            line.outlet.abort()
    assert_nothing_buffered(rule)


def assert_nothing_buffered(rule: SlowRule) -> None:
    assert (rule.buffered, len(rule.waiting)) == (0, 0)


@pytest.mark.gen_test
async def test_what_is_buffered_for_all_clients_is_counted() -> None:
    with lines(3, budget=1_000_000) as (one, two, three):
        one.outlet.write(b"\0" * 10_000)
        two.outlet.write(b"\0" * 20_000)
        one.outlet.write(b"\0" * 5_000)
        assert one.rule.buffered == 35_000
        assert list(one.rule.waiting) == [one.outlet, two.outlet]
        assert three.outlet not in one.rule.waiting


@pytest.mark.gen_test
async def test_up_to_the_budget_nobody_is_disconnected() -> None:
    with lines(2, budget=100_000) as (one, two):
        one.outlet.write(b"\0" * 50_000)
        two.outlet.write(b"\0" * 50_000)
        assert not one.stream.closed()
        assert not two.stream.closed()


@pytest.mark.gen_test
async def test_past_the_budget_the_client_that_was_waited_for_longest_goes_and_the_others_keep_theirs() -> None:
    with lines(3, budget=100_000) as (one, two, three):
        one.outlet.write(b"\0" * 40_000)
        two.outlet.write(b"\0" * 40_000)
        one.outlet.write(b"\0" * 10_000)

        three.outlet.write(b"\0" * 20_000)

        assert [line.stream.closed() for line in (one, two, three)] == [True, False, False]
        assert [line.outlet.buffered for line in (one, two, three)] == [0, 40_000, 20_000]
        assert (one.rule.buffered, one.rule.aborted) == (60_000, 1)
        assert (one.outlet.cut_off, one.outlet.aborted_for) == (True, "too slow")
        with pytest.raises(ConnectionResetError):
            await one.peer.rest()


@pytest.mark.gen_test
async def test_as_many_clients_go_as_the_budget_demands() -> None:
    with lines(4, budget=100_000) as (*early, last):
        for line in early:
            line.outlet.write(b"\0" * 30_000)
        last.outlet.write(b"\0" * 65_000)
        assert [line.stream.closed() for line in (*early, last)] == [True, True, False, False]


@pytest.mark.gen_test
async def test_a_client_alone_past_the_budget_goes_itself() -> None:
    with lines(2, budget=100_000) as (one, two):
        one.outlet.write(b"\0" * 100_001)
        assert (one.stream.closed(), two.stream.closed()) == (True, False)
        assert_nothing_buffered(one.rule)


@pytest.mark.gen_test
async def test_a_client_that_has_read_everything_goes_to_the_back_of_the_queue() -> None:
    with lines(2, budget=1_000_000) as (one, two):
        clogged = one.clog()
        one.outlet.write(b"\0" * 1_000)
        two.outlet.write(b"\0" * 1_000)
        await one.read(clogged + 1_000)
        await until(lambda: one.outlet.buffered == 0)
        one.clog()
        one.outlet.write(b"\0" * 1_000)
        assert list(one.rule.waiting) == [two.outlet, one.outlet]


@pytest.mark.gen_test
async def test_a_batch_of_the_hub_past_the_budget_reaches_the_clients_that_read() -> None:
    rule = SlowRule(skip_bytes=65_536, abort_bytes=262_144, timeout=30.0, budget=50_000)
    with tcp_pair() as (near, peer), tcp_pair() as (other_near, other_peer):
        slow, healthy = Line(near, peer, rule), Line(other_near, other_peer, rule)
        healthy.outlet.cohort = slow.cohort
        slow.cohort.place(healthy.outlet)
        slow.clog()
        for number in range(400):
            slow.cohort.write(frames.text(b"%03d" % number * 60), 1)
            assert await other_peer.frame() == Frame(TEXT, b"%03d" % number * 60)
        assert (slow.stream.closed(), healthy.stream.closed()) == (True, False)
        healthy.outlet.abort()
    assert_nothing_buffered(rule)


@pytest.mark.gen_test
async def test_a_handshake_that_is_still_going_out_counts_until_it_is_out() -> None:
    rule = SlowRule(65_536, 262_144, 30)
    with tcp_pair() as (near, peer):
        stream = IOStream(near)
        stream.write(b"h" * 400_000)
        outlet = Outlet(stream, rule, clock=Clock(), on_slow=lambda _: None)
        assert list(rule.waiting) == [outlet]
        outlet.finish()
        await peer.rest()
        await until(lambda: not rule.waiting)
        assert_nothing_buffered(rule)
        stream.close()


OPERATIONS = ("write", "batch", "pong", "read", "turn", "finish", "abort", "abort_slow", "reset", "close")


async def operate(line: Line, operation: str, size: int) -> None:
    match operation:
        case "write":
            line.outlet.write(b"\0" * size)
        case "batch":
            line.cohort.write(b"\0" * size, 1)
        case "pong":
            line.outlet.pong(b"x" * (size % 126))
        case "read":
            with contextlib.suppress(OSError):
                line.peer.socket.recv(size)
        case "turn":
            for _ in range(3):
                await asyncio.sleep(0)
        case "finish":
            line.outlet.finish()
        case "abort":
            line.outlet.abort()
        case "abort_slow":
            line.outlet.abort_slow()
        case "reset":
            if line.peer.socket.fileno() >= 0:
                line.peer.reset()
        case "close":
            line.stream.close()


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from(OPERATIONS), st.integers(0, 120_000)), max_size=25),
    st.integers(1, 400_000),
)
def test_whatever_happens_the_budget_holds_and_nothing_is_left_of_it_at_the_end(
    operations: list[tuple[int, str, int]], budget: int
) -> None:
    async def carry_out() -> None:
        rule = SlowRule(skip_bytes=65_536, abort_bytes=262_144, timeout=30.0, budget=budget)
        with contextlib.ExitStack() as stack:
            made = [Line(*stack.enter_context(tcp_pair()), rule) for _ in range(3)]
            for number, operation, size in operations:
                await operate(made[number], operation, size)
                assert rule.buffered == sum(line.outlet.buffered for line in made) <= budget
                assert set(rule.waiting) == {line.outlet for line in made if line.outlet.buffered}
            for line in made:
                if line.peer.socket.fileno() >= 0 and not line.stream.closed():
                    await drained(line)
                line.stream.close()
            await until(lambda: not rule.waiting)
            assert_nothing_buffered(rule)

    asyncio.run(carry_out())


async def drained(line: Line) -> None:
    """Read as the peer until nothing is buffered, or the connection has ended."""
    async with asyncio.timeout(PATIENCE):
        while line.outlet.buffered:
            with contextlib.suppress(OSError):
                line.peer.socket.recv(65_536)
            await asyncio.sleep(0)

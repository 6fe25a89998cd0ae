"""Quarantine: a plugin that fails or blocks too often gets no events for a while.

A synchronous plugin cannot be interrupted. The bridge can only stop calling it.

The clock alone does not show that a plugin blocks: a call also takes long when the process is stopped, or when the
machine is paused or busy. So the first slow call only puts the plugin under watch. Its next calls are measured, and
only time with one of two proofs counts against the plugin:

1. The thread that called the plugin used CPU time. A thread that is stopped or waits for a CPU uses none.
2. The thread used no CPU time, yet a second thread, the pulse, woke up every 10 ms and was on time. Then the plugin was
   asleep. The pulse is late whenever the machine does not run the process. It is also late while any thread holds the
   interpreter lock, and a thread that computes holds that lock even while it waits for a CPU. A thread that sleeps or
   waits for a socket has released the lock.

The first proof has an exception. Some hypervisors hide a pause of the virtual machine from its kernel, and the kernel
then counts the pause as CPU time. So CPU time is ignored if the kernel did not run the pulse meanwhile. Without a pause
it runs the pulse every 10 ms, or every 5 ms while the pulse waits for the interpreter lock. Only Linux reports this.

In doubt the plugin is not blamed. A sleep is not proved while other threads of the process compute, or if the plugin
sleeps in C code without releasing the interpreter lock.
"""

import collections
import contextlib
import math
import os
import sys
import threading
import time
from collections.abc import Callable

# Faults count for this many seconds. A slow call puts the plugin under watch for the same time.
WINDOW = 10.0

# A plugin is quarantined after this many failures among so many events, …
MAX_FAILURES = 20
AMONG = 200

# … or when its calls have blocked for this many seconds.
MAX_BLOCKED = 1.0

# Seconds that a plugin stays in quarantine before it gets an event again.
PAUSE = 30.0

# A call that takes more seconds than this is slow: it delays every client.
SLOW_CALL = 0.05

# Additional seconds that a call may take per byte of its payload. The plugin does not choose the payload's size.
SLOW_BYTE = 1e-7

# Seconds between two beats of the pulse. A beat is late if ON_TIME has passed since the last one. A thread that holds
# the interpreter lock delays a beat by at least 5 ms (sys.getswitchinterval), an idle machine by about 0.1 ms.
BEAT = 0.01
ON_TIME = 0.014

# Seconds that the pulse goes on after a call. Starting a thread for each read takes up to 1 ms on a busy machine.
LINGER = 1.0


class Quarantine:
    """The record of one plugin.

    `clock` is monotonic, in seconds. The caller adds one to `calls` for every call of the plugin.

    While `watched` is set, the caller asks `admits` before each event and measures the call with a `Watch`. A slow call
    sets `watched` for WINDOW seconds.

    `closed` is set while the plugin is in quarantine; `watched` is set as well then. After each pause the plugin gets
    one event. If the plugin handles it well, the caller releases the plugin. Otherwise the next pause begins.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # For each fault: its time, the seconds for which the call blocked, and the number of the call.
        self._faults: collections.deque[tuple[float, float, int]] = collections.deque(maxlen=MAX_FAILURES)
        # The end of the pause while `closed` is set, otherwise the end of the watch.
        self._until = 0.0
        self.watched = False
        self.closed = False
        self.calls = 0
        self.slow_calls = 0

    def admits(self) -> bool:
        """Return whether the plugin may get an event. Ends the watch when its time is over."""
        over = self._clock() >= self._until
        if self.closed:
            return over
        if over:
            self.watched = False
        return True

    def note_slow(self) -> None:
        """Record a slow call and put the plugin under watch. A slow call alone does not lead to quarantine."""
        self.slow_calls += 1
        if not self.closed:
            self.watched = True
            self._until = self._clock() + WINDOW

    def note_blocked(self, seconds: float) -> bool:
        """Record a call that was proved to block. Returns whether the plugin is in quarantine now."""
        return self._note(seconds)

    def note_failure(self) -> bool:
        """Record a failed event. Returns whether the plugin is in quarantine now."""
        return self._note(0.0)

    def _note(self, blocked: float) -> bool:
        now = self._clock()
        self._faults.append((now, blocked, self.calls))
        recent = [fault for fault in self._faults if now - fault[0] <= WINDOW]
        failing = len(recent) >= MAX_FAILURES and self.calls - recent[0][2] < AMONG
        blocking = sum(seconds for _, seconds, _ in recent) >= MAX_BLOCKED
        if self.closed or failing or blocking:
            self.closed = self.watched = True
            self._until = now + PAUSE
            return True
        return False

    def release(self) -> None:
        """Release the plugin with a clean record, after it handled an event well."""
        self._faults.clear()
        self.closed = self.watched = False


class Watch:
    """Measures how long a call blocked its thread. The module's docstring explains the two proofs.

    `begin` is called right before a call, `blocked` right after it, and `end` once for every `begin`, all of them on
    the same thread. The first `begin` starts the pulse. The pulse ends by itself LINGER seconds after the last `end`.
    `cpu` returns the CPU time of the calling thread, in seconds.
    """

    def __init__(self, cpu: Callable[[], float]) -> None:
        self._cpu = cpu
        self._pulse: _Pulse | None = None
        # The readings before the call.
        self._cpu_time = 0.0
        self._on_time = 0.0
        self._wakeups: int | None = None

    def begin(self) -> None:
        """Take the readings before a call."""
        if self._pulse is None or not self._pulse.hold():
            self._pulse = _start_pulse()
        if self._pulse is not None:
            self._on_time = self._pulse.on_time
            self._wakeups = self._pulse.wakeups()
        self._cpu_time = self._cpu()

    def blocked(self, seconds: float) -> float:
        """Return how many seconds the call is proved to have blocked, of the `seconds` that it took."""
        computed = min(seconds, self._cpu() - self._cpu_time)
        slept = seconds - computed
        if self._pulse is None:
            return computed
        if self._pulse.on_time - self._on_time < slept / 2:
            slept = 0.0
        wakeups = self._pulse.wakeups()
        if wakeups is not None and self._wakeups is not None:
            # Half of the wake-ups of a pulse that waits for the interpreter lock at every beat: a busy CPU takes some.
            expected = computed / (BEAT + sys.getswitchinterval()) / 2
            if wakeups - self._wakeups < expected:
                computed = 0.0
        return computed + slept

    def end(self) -> None:
        """End the measurement of a call."""
        if self._pulse is not None:
            self._pulse.release()


class _Pulse(threading.Thread):
    """A thread that wakes up every BEAT seconds. `on_time` is the total of all beats that were on time, in seconds."""

    def __init__(self) -> None:
        super().__init__(name="plugin-watch", daemon=True)
        self._lock = threading.Lock()
        self._until = math.inf
        self._ended = False
        self._statistics: int | None = None
        self.on_time = 0.0

    def start(self) -> None:
        """Start the thread. It is held until `release`."""
        super().start()
        with contextlib.suppress(OSError):
            self._statistics = os.open(f"/proc/self/task/{self.native_id}/schedstat", os.O_RDONLY)

    def run(self) -> None:
        last = time.perf_counter()
        while not self._is_over(last):
            time.sleep(BEAT)
            now = time.perf_counter()
            if now - last < ON_TIME:
                self.on_time += now - last
            last = now

    def _is_over(self, now: float) -> bool:
        with self._lock:
            if now < self._until:
                return False
            self._ended = True
        if self._statistics is not None:
            os.close(self._statistics)
        return True

    def hold(self) -> bool:
        """Keep the pulse running until `release`. Returns False if it has ended already."""
        with self._lock:
            self._until = math.inf
            return not self._ended

    def release(self) -> None:
        """Let the pulse end after LINGER seconds."""
        self._until = time.perf_counter() + LINGER

    def wakeups(self) -> int | None:
        """Return how often the kernel let this thread run. Only Linux reports it, as the third number of schedstat."""
        if self._statistics is None:
            return None
        return int(os.pread(self._statistics, 64, 0).split()[2])


def _start_pulse() -> _Pulse | None:
    pulse = _Pulse()
    try:
        pulse.start()
    except RuntimeError:
        # The system refuses another thread. CPU time is then the only proof.
        return None
    return pulse

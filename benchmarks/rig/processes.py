"""Child processes of a benchmark. Each is pinned to a processor, is read with a deadline, and always ends."""

import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

STOP_SECONDS = 10.0
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
MAX_LINE = 1 << 20  # bytes


class ProcessFailed(Exception):
    """A child process could not do its part. The text ends with the last lines of its stderr."""


class ProcessSilent(ProcessFailed):
    """A child process wrote nothing before the deadline."""


class Process:
    """A child process that runs inside the `with` block and not after it."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        processor: int,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> None:
        self._name = name
        self._unread = b""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self._child = subprocess.Popen(
            ["taskset", "--cpu-list", str(processor), *argv],  # taskset becomes argv[0], so the id stays the same
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**own_environment(), **(environment or {})},
            cwd=directory,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._child.poll() is None:
                self._child.terminate()
                self._wait(STOP_SECONDS)
        finally:
            if self._child.poll() is None:
                self._child.kill()
                self._child.wait()
            self.end_input()
            for pipe in (self._child.stdout, self._errors):
                assert pipe is not None
                pipe.close()

    def _wait(self, seconds: float) -> None:
        try:
            self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            return

    def read_line(self, seconds: float) -> str:
        """Return the next line of stdout without its newline.

        Raises ProcessSilent when no line comes within `seconds`, and ProcessFailed when the process has ended.
        """
        assert self._child.stdout is not None
        deadline = time.monotonic() + seconds
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._child.stdout], [], [], left)[0]:
                raise ProcessSilent(str(self.failed(f"said nothing for {seconds:g} s")))
            fresh = os.read(self._child.stdout.fileno(), 65536)
            if not fresh or len(self._unread) > MAX_LINE:
                self._wait(1)
                raise self.failed(f"ended with {self._child.poll()}")
            self._unread += fresh
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()

    def send_line(self, line: str) -> None:
        """Write a line to stdin. Raises ProcessFailed when the process has ended."""
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(f"{line}\n".encode())
            self._child.stdin.flush()
        except BrokenPipeError:
            self._wait(1)
            raise self.failed(f"ended with {self._child.poll()}") from None

    def end_input(self) -> None:
        """Close stdin."""
        assert self._child.stdin is not None
        try:
            self._child.stdin.close()
        except BrokenPipeError:
            return

    def failed(self, reason: str) -> ProcessFailed:
        """Return the exception to raise about this process: its name, the reason, the end of its stderr."""
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - 2000))
        written = self._errors.read().decode(errors="replace")
        return ProcessFailed(f"{self._name} {reason}\n{written}".rstrip())

    @property
    def pid(self) -> int:
        return self._child.pid

    def cpu_seconds(self) -> float:
        """User and system time of all threads of the process and its descendants."""
        return sum(_cpu_seconds(pid) for pid in self._family())

    def memory_bytes(self) -> int:
        """Anonymous memory in use by the process and its descendants. Mapped files and kernel memory do not count."""
        return sum(_status_bytes(pid, "RssAnon") for pid in self._family())

    def _family(self) -> list[int]:
        family = [self.pid]
        for pid in family:  # the list grows while it is walked
            for task in _tasks(pid):
                try:
                    family += map(int, (task / "children").read_text().split())
                except OSError:  # the thread has ended meanwhile
                    continue
        return family


def run_to_end(
    failure: str,
    argv: Sequence[str],
    *,
    seconds: float,
    directory: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run a program and wait for its end.

    Raises ProcessFailed, in one line that begins with `failure`, after `seconds` or when the exit status is not 0.
    """
    try:
        done = subprocess.run(
            argv,
            cwd=directory,
            env={**own_environment(), **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ProcessFailed(f"{failure} within {seconds:g} s") from None
    if done.returncode:
        lines = done.stdout.strip().splitlines()
        errors = [line for line in lines if "error" in line.lower()]
        reasons = [*errors[:1], *lines[-1:], f"exit status {done.returncode}"]
        raise ProcessFailed(f"{failure}: {reasons[0]}")


def _tasks(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []


def _cpu_seconds(pid: int) -> float:
    """Processor time of one process.

    The scheduler's own count is exact to the nanosecond, but it lacks threads that have ended. Where it is clearly
    less than the count in ticks of 10 ms, threads have ended, and the ticks are returned.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        exact = sum(int((task / "schedstat").read_text().split()[0]) for task in _tasks(pid)) / 1e9
    except OSError:
        return 0.0
    counted = (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND
    return counted if counted > exact + 3 / TICKS_PER_SECOND else exact


def _status_bytes(pid: int, name: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def exit_on_sigterm() -> None:
    """Let SIGTERM end this process by an exception, so that its child processes end too."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)


def own_environment() -> dict[str, str]:
    """The environment without the bridge settings that it may hold."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TORNADO_BRIDGE_")}


def processor_seconds(processor: int) -> float:
    """How long a processor has been in use since boot, by all processes. Time stolen by the host counts."""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith(f"cpu{processor} "):
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, line.split()[1:9])
            return (user + nice + system + irq + softirq + steal) / TICKS_PER_SECOND
    raise ProcessFailed(f"/proc/stat has no processor {processor}")

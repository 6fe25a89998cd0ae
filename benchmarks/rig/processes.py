"""Child processes of a benchmark: pinned to a processor, read line by line with a deadline, always ended."""

import os
import select
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

STOP_SECONDS = 10.0
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
MAX_LINE = 1 << 20


class ProcessFailed(Exception):
    """A child could not do its part; the text has the end of what it wrote on stderr."""


class ProcessSilent(ProcessFailed):
    """A child said nothing in time."""


class Process:
    """One child, running inside the `with` block and not after it."""

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
            ["taskset", "--cpu-list", str(processor), *argv],  # taskset becomes argv[0]: the id stays
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
            self._close_stdin()
            for pipe in (self._child.stdout, self._errors):
                assert pipe is not None
                pipe.close()

    def _wait(self, seconds: float) -> None:
        try:
            self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            return

    def _close_stdin(self) -> None:
        assert self._child.stdin is not None
        try:
            self._child.stdin.close()
        except BrokenPipeError:
            return

    def read_line(self, seconds: float) -> str:
        """The next line of stdout without its end; raises ProcessSilent when none comes within `seconds`."""
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
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(f"{line}\n".encode())
            self._child.stdin.flush()
        except BrokenPipeError:
            self._wait(1)
            raise self.failed(f"ended with {self._child.poll()}") from None

    def end_input(self) -> None:
        self._close_stdin()

    def failed(self, reason: str) -> ProcessFailed:
        """The exception to raise when this child is of no more use."""
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - 2000))
        written = self._errors.read().decode(errors="replace")
        return ProcessFailed(f"{self._name} {reason}\n{written}".rstrip())

    @property
    def pid(self) -> int:
        return self._child.pid

    def cpu_seconds(self) -> float:
        """User and system time of the process and its descendants, with all their threads."""
        return sum(_cpu_seconds(pid) for pid in self._family())

    def memory_bytes(self) -> int:
        """Anonymous memory of the process and its descendants that is in use: neither files nor the kernel's."""
        return sum(_status_bytes(pid, "RssAnon") for pid in self._family())

    def _family(self) -> list[int]:
        family = [self.pid]
        for pid in family:  # grows on the way
            for task in _tasks(pid):
                try:
                    family += map(int, (task / "children").read_text().split())
                except OSError:  # it has ended meanwhile
                    continue
        return family


def _tasks(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []


def _cpu_seconds(pid: int) -> float:
    """To the nanosecond from the scheduler; in ticks of 10 ms if threads have ended, whose share is only there."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        exact = sum(int((task / "schedstat").read_text().split()[0]) for task in _tasks(pid)) / 1e9
    except OSError:
        return 0.0
    counted = (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND
    return counted if counted > exact + 3 / TICKS_A_SECOND else exact


def _status_bytes(pid: int, name: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def own_environment() -> dict[str, str]:
    """The environment without the settings of a bridge that whoever runs the benchmark may have in it."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TORNADO_BRIDGE_")}


def processor_seconds(processor: int) -> float:
    """The time a processor has been in use since boot, by anybody (time stolen by the host included)."""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith(f"cpu{processor} "):
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, line.split()[1:9])
            return (user + nice + system + irq + softirq + steal) / TICKS_A_SECOND
    raise ProcessFailed(f"/proc/stat has no processor {processor}")

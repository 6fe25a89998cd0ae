"""benchmarks.rig.processes: the cost of child processes, and how their failures read."""

import os
import sys

import pytest

from benchmarks.rig.processes import Process, ProcessFailed, run_to_end

BUSY = "import time\nwhile time.process_time() < 0.3: pass\n"
PARENT = f"""
import subprocess, sys, threading
child = subprocess.Popen([sys.executable, "-c", {BUSY + "print('done', flush=True); input()"!r}], stdin=subprocess.PIPE)
thread = threading.Thread(target=child.wait)
thread.start()
memory = bytearray(b"x" * (8 << 20))
input()
child.communicate(b"\\n")
"""


def test_the_cost_of_a_process_is_that_of_its_children_too() -> None:
    with Process("parent", [sys.executable, "-c", PARENT], processor=min(os.sched_getaffinity(0))) as process:
        assert process.read_line(20) == "done"
        assert 0.3 <= process.cpu_seconds() < 2
        assert process.memory_bytes() > 8 << 20
        process.send_line("")


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("print('first'); print('an error'); print('last'); exit(1)", "an error"),
        ("print('first'); print('last'); exit(1)", "last"),
        ("exit(3)", "exit status 3"),
    ],
)
def test_a_program_that_fails_is_one_line_with_its_reason(program: str, reason: str) -> None:
    with pytest.raises(ProcessFailed) as failure:
        run_to_end("no result", [sys.executable, "-c", program], seconds=20)
    assert str(failure.value) == f"no result: {reason}"


def test_a_program_that_does_not_end_in_time_is_named() -> None:
    with pytest.raises(ProcessFailed, match=r"\Ano result within 0\.2 s\Z"):
        run_to_end("no result", [sys.executable, "-c", "import signal; signal.pause()"], seconds=0.2)

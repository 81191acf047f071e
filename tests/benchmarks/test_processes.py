import os
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread

import pytest

from benchmarks.processes import (
    TICKS,
    ProcessorTime,
    ended_children_seconds,
    family,
    family_seconds,
    parent,
    processor_seconds,
    resident_kib,
)

BUSY = "import time\nwhile time.process_time() < {seconds}: pass\n"
PARENT = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {BUSY.format(seconds=0.3)!r}])
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print("ready", flush=True)
sys.stdin.read()
child.kill()
child.wait()
"""


def test_ended_children_are_read_in_ticks() -> None:
    fields = ["S", "1", *["0"] * 9, "111", "222", str(TICKS), str(2 * TICKS), "20"]  # from the third field on

    assert ended_children_seconds(f"7 (a (strange) name) {' '.join(fields)}\n") == pytest.approx(3)


def test_processor_time_includes_ended_threads() -> None:
    def work() -> None:
        until = time.thread_time() + 0.2
        while time.thread_time() < until:
            pass

    before = processor_seconds(os.getpid())
    thread = Thread(target=work)
    thread.start()
    thread.join()

    assert processor_seconds(os.getpid()) - before >= 0.19


def test_processor_time_per_request_is_the_growth_in_microseconds() -> None:
    earlier, later = ProcessorTime(1.0, 10.0), ProcessorTime(3.0, 10.5)

    assert later.per_request(earlier, 10_000) == pytest.approx((200, 50))


def test_a_family_is_a_process_with_its_descendants() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        first, *children = family(process.pid)
        used = family_seconds(process.pid)
        process.communicate("")

    assert first == process.pid
    assert len(children) == 1
    assert used >= 0.29  # of the child that has ended


def test_parent_and_memory_of_this_process_are_read() -> None:
    status = Path("/proc/self/status").read_text()

    assert parent(os.getpid()) == os.getppid()
    assert resident_kib(os.getpid()) == pytest.approx(int(status.split("VmRSS:")[1].split()[0]), rel=0.1)


def test_processor_time_of_an_ended_process_is_zero() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()

    assert family_seconds(process.pid) == 0

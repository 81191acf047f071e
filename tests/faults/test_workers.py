"""Workers that are killed or hang, at any moment: the supervisor replaces them and waits for none of them alone."""

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from threading import Event, Thread
from time import monotonic, sleep

import pytest
from sqlalchemy import URL

from tests.support.command import COMMAND
from tests.support.load import HANG_SECONDS, TIMES
from tests.support.preparations import kill_workers_soon
from tests.support.process import children, wait_for_state
from tests.support.servers import Server, serving, starting

CLIENTS = 4
IS_LONG = TIMES > 1
KILLS = 10 * TIMES if IS_LONG else 3
"""`make test` kills forked workers, which start in a tenth of a second; `make faults`, 100 of the real server."""

ANSWER_SECONDS = 2 if IS_LONG else HANG_SECONDS
"""No answer may take longer while a worker is left; `make test` has other work beside it."""

REACTION_SECONDS = 1 if IS_LONG else HANG_SECONDS


@pytest.fixture
def server(database_of: Callable[[str], URL]) -> Iterator[Server]:
    """A server with two workers."""
    with serving(database_of("sqlite"), workers=2, command=(COMMAND,) if IS_LONG else None) as server:
        yield server
        assert server.end() == 0
    assert "Traceback" not in server.said


def workers(server: Server) -> list[int]:
    """List the workers that run; the real server also has a process of the module `multiprocessing`."""
    found = []
    for child in children(server.process.pid):
        with suppress(OSError):
            if b"resource_tracker" not in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(child)
    return found


def kill(*victims: int, how: signal.Signals = signal.SIGKILL) -> float:
    """Send processes a signal; return when."""
    for victim in victims:
        with suppress(ProcessLookupError):
            os.kill(victim, how)
    return monotonic()


def wait_for_workers(server: Server, known: set[int], number: int = 1) -> set[int]:
    """Wait for this many workers that are not known."""
    while len(found := set(workers(server)) - known) < number:
        sleep(0.01)
    return found


def status(server: Server, seconds: float) -> int:
    """Ask over a new connection; each wait has this bound."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=seconds)
    try:
        connection.request("GET", "/health/live")
        return connection.getresponse().status
    finally:
        connection.close()


def serves(server: Server, seconds: float = HANG_SECONDS) -> bool:
    """Ask until the connection is not one that a killed worker had accepted."""
    while True:
        with suppress(ConnectionError, HTTPException):
            return status(server, seconds) == 200


@contextmanager
def clients(server: Server) -> Iterator[Counter[str]]:
    """Ask again and again, over new connections; count statuses and broken connections."""
    outcomes = Counter[str]()
    is_over = Event()

    def ask() -> None:
        while not is_over.wait(0.05):
            try:
                outcomes[str(status(server, ANSWER_SECONDS))] += 1
            except TimeoutError:
                outcomes["late"] += 1
            except (ConnectionError, HTTPException):
                outcomes["broken"] += 1

    threads = [Thread(target=ask) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield outcomes
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def seconds_to_start(server: Server) -> float:
    """Kill all workers; return how long their successors take from their start to a response, at most."""
    longest = 0.0
    for _ in range(3 if IS_LONG else 1):
        before = workers(server)
        kill(*before)
        wait_for_workers(server, set(before))
        started = monotonic()
        assert serves(server, 60)
        longest = max(longest, monotonic() - started)
    return longest


def test_no_request_waits_while_one_worker_is_left(server: Server) -> None:
    kept, victim = workers(server)
    start = start_of(server, victim)
    with clients(server) as outcomes:
        known = set(workers(server))
        for number in range(KILLS):
            (victim,) = known - {kept}
            kill(victim)
            (new,) = wait_for_workers(server, known)
            sleep(1.2 * start * number / KILLS)  # the moment of its life at which the next one is killed
            known = {kept, new}
    assert set(outcomes) <= {"200", "broken"}
    assert outcomes["200"] > KILLS


def start_of(server: Server, victim: int) -> float:
    """Kill a worker; return how long its successor takes to start."""
    starts = server.said.count("Application startup complete")
    before = kill(victim)
    server.wait_until_it_says("Application startup complete", starts + 1)
    return monotonic() - before


def test_service_returns_whenever_all_workers_are_killed(server: Server) -> None:
    start = seconds_to_start(server)
    for number in range(KILLS):
        before = set(workers(server))
        kill(*before)
        new = wait_for_workers(server, before, 2)
        sleep(1.2 * start * number / KILLS)  # the moment of their life at which they are killed
        killed = kill(*new)
        wait_for_workers(server, before | new)
        reaction = monotonic() - killed
        assert reaction < REACTION_SECONDS
        assert serves(server, 60)
        if IS_LONG:
            assert monotonic() - killed < start + REACTION_SECONDS


def test_a_worker_that_hangs_at_its_start_delays_no_other(server: Server) -> None:
    one, other = workers(server)
    kill(one)
    (hanging,) = wait_for_workers(server, {one, other})
    kill(hanging, how=signal.SIGSTOP)
    kill(other)
    assert serves(server)
    kill(hanging)
    wait_for_workers(server, {one, other, hanging}, 2)
    server.wait_until_it_says("Application startup complete", 4)


if IS_LONG:  # forked workers import nothing, so make faults starts real ones

    def test_sigint_while_workers_import_is_quiet(database_of: Callable[[str], URL]) -> None:
        with starting(database_of("sqlite"), workers=2, command=(COMMAND,)) as server:
            while len(workers(server)) < 2:
                sleep(0.01)
            sleep(0.5)  # they import
            os.killpg(server.process.pid, signal.SIGINT)
            assert server.wait() == 0
        assert "Traceback" not in server.said


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP])
def test_a_worker_that_does_not_stop_is_killed(database_of: Callable[[str], URL], how: signal.Signals) -> None:
    with serving(database_of("sqlite"), workers=2, prepare=kill_workers_soon) as server:
        hanging, other = workers(server)
        kill(hanging, how=signal.SIGSTOP)
        wait_for_state(hanging, "T")
        server.process.send_signal(how)
        if how == signal.SIGHUP:
            server.wait_until_it_says("Application startup complete", 4)
            assert not {hanging, other} & set(wait_for_workers(server, {hanging, other}, 2))
        assert server.end() == 0
    assert server.said.count("a worker did not stop") == 1


def test_sigterm_ends_a_server_that_replaces_its_workers(database_of: Callable[[str], URL]) -> None:
    with serving(database_of("sqlite"), workers=2, prepare=kill_workers_soon) as server:
        server.process.send_signal(signal.SIGHUP)
        (successor,) = wait_for_workers(server, set(server.workers))
        kill(successor, how=signal.SIGSTOP)
        assert server.end() == 0
    assert server.said.count("a worker did not stop") == 1

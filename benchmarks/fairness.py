"""Fairness between clients: what one that floods the server costs another."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from threading import Event
from typing import Final
from urllib.parse import urlencode

from benchmarks.data import COMMON, PASSWORD, Data, email
from benchmarks.databases import Databases
from benchmarks.peers import Running, agora
from benchmarks.report import Bar, Finding

GUESSERS: Final = 100
"""Connections of one address that guesses passwords beyond its limit."""

SEARCHERS: Final = 16
"""Connections of one user whose searches read every title."""

SIGN_INS: Final = 40
READS: Final = 200
PAUSE_SECONDS: Final = 0.05
WARM_UP_SECONDS: Final = 3

SERVED_BAR: Final = Bar(1.0)
READ_BAR: Final = Bar(250, at_most=True)


def fairness(server: Databases, folder: Path, data: Data) -> Iterator[Finding]:
    """Measure another client's sign-ins during guesses, and reads during searches."""
    url = server.agora("agora_fairness", data)
    with agora(url, folder, settings={"TRUSTED_PROXIES": "127.0.0.1"}) as running:
        with _flooding(GUESSERS, lambda number: _sign_in(running, number % 90 + 1, "a wrong guess", "192.0.2.1")):
            found = [_timed(partial(_sign_in, running, 91, PASSWORD, f"198.51.100.{n}")) for n in range(SIGN_INS)]
        statuses = Counter(status for status, _ in found)
        served = f"{dict(statuses)}, median {median(seconds for _, seconds in found) * 1e3:.0f} ms"
        yield Finding("sign-ins during 100 guesses", served, "", statuses[200] / SIGN_INS, SERVED_BAR)
        quiet = [_timed(lambda: _read(running)) for _ in range(READS)]
        search = f"/posts?search={COMMON}&sort_by=votes&skip=9990"
        with _flooding(SEARCHERS, lambda _number: running.ask("GET", search, caller=1).status):
            busy = [_timed(lambda: _read(running)) for _ in range(READS)]
        theirs, ours = ([seconds * 1e3 for _, seconds in each] for each in (quiet, busy))
        refused = sum(status != 200 for status, _ in busy)  # noqa: PLR2004 - HTTP's OK
        shown = f"median {median(ours):.1f}, worst {max(ours):.0f} ms, {refused} refused"
        against = f"median {median(theirs):.1f}, worst {max(theirs):.0f} ms"
        yield Finding("reads during 16 searches, p95", shown, against, sorted(ours)[READS * 95 // 100], READ_BAR, " ms")


@contextmanager
def _flooding(connections: int, send: Callable[[int], int]) -> Iterator[None]:
    """Send requests over this many connections until the block ends."""
    is_over = Event()

    def flood(number: int) -> None:
        while not is_over.is_set():
            send(number)

    with ThreadPoolExecutor(connections) as threads:
        floods = [threads.submit(flood, number) for number in range(connections)]
        try:
            time.sleep(WARM_UP_SECONDS)
            yield
        finally:
            is_over.set()
    for each in floods:
        each.result()


def _timed(send: Callable[[], int]) -> tuple[int, float]:
    time.sleep(PAUSE_SECONDS)
    started = time.perf_counter()
    return send(), time.perf_counter() - started


def _read(running: Running) -> int:
    return running.ask("GET", "/posts/7", caller=2).status


def _sign_in(running: Running, user: int, password: str, address: str) -> int:
    headers = {"Content-Type": "application/x-www-form-urlencoded", "X-Forwarded-For": address}
    with closing(HTTPConnection("127.0.0.1", running.port, timeout=30)) as connection:
        connection.request("POST", "/login", urlencode({"username": email(user), "password": password}), headers)
        response = connection.getresponse()
        response.read()
        return response.status

"""Load by wrk, over connections that send the next request after each response."""

import json
import random
import shutil
import subprocess
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks.peers import Running

SCRIPT: Final = Path(__file__).with_name("load.lua")
TIMEOUT_SECONDS: Final = 10
STEADY: Final = 1.05
"""Times the best rate so far, above which a rate still rises."""

STEADY_SECONDS: Final = 2


class LoadError(Exception):
    """wrk failed, or a response was not the expected one."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What one round came to, or the medians of several; latencies in milliseconds.

    `refused` counts answers with a status of 400 or more among the requests. Processor time is in microseconds per
    request, of the server's processes and of the database's.
    """

    requests: int
    per_second: float
    p50: float
    p99: float
    refused: int = 0
    server: float = 0.0
    database: float = 0.0


@dataclass(frozen=True, slots=True)
class Load:
    """Requests of one kind, in the words of load.lua."""

    scenario: str
    posts: int = 0
    text: str = ""

    def on(self, server: Running, connections: int, seconds: int) -> Measured:
        """Drive a server for a while, over connections that stay open.

        Raises:
            LoadError: some answer was an error, or wrk failed.
        """
        before = server.processor_time()
        with self.running(server, connections, seconds) as wrk:
            output, errors = wrk.communicate()
        after = server.processor_time()
        found = measured(f"{self.scenario} on {server.name}", output, errors)
        of_server, of_database = after.per_request(before, found.requests)
        return replace(found, server=of_server, database=of_database)

    @contextmanager
    def running(self, server: Running, connections: int, seconds: int) -> Iterator["subprocess.Popen[str]"]:
        """Drive a server while the block runs, and no longer."""
        seed = random.randrange(2**31)  # noqa: S311 - requests, not secrets
        arguments: list[str | Path] = [
            *(require_wrk(), "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s"),
            *("--timeout", f"{TIMEOUT_SECONDS}s", "--script", SCRIPT, server.address),
            *("--", self.scenario, server.tokens, str(self.posts), str(seed), self.text),
        ]
        wrk = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        with wrk:
            try:
                yield wrk
            finally:
                wrk.kill()  # nothing happens where it is done


@dataclass(frozen=True, slots=True)
class Rounds:
    """Number and seconds of rounds, most seconds of warm-up, and connections."""

    rounds: int
    seconds: int
    warm_up: int
    connections: int

    def interleaved(
        self, trials: Mapping[str, Callable[[int], Measured]], warm: Container[str] = ()
    ) -> dict[str, Measured]:
        """Alternate trials, each for a number of seconds; return the medians of each.

        Alternation spreads other load of the machine over all trials. Those that are `warm` need no warm-up.
        """
        for name, trial in trials.items():
            if name not in warm:
                self._warm_up(trial)
        found: dict[str, list[Measured]] = {name: [] for name in trials}
        for _ in range(self.rounds):
            for name, trial in trials.items():
                found[name].append(trial(self.seconds))
        return {name: medians(rounds) for name, rounds in found.items()}

    def _warm_up(self, trial: Callable[[int], Measured]) -> None:
        """Run seconds of a trial until its rate has stopped rising."""
        best, steady = 0.0, 0
        for _ in range(self.warm_up):
            rate = trial(1).per_second
            steady = 0 if rate > best * STEADY else steady + 1
            best = max(best, rate)
            if steady == STEADY_SECONDS:
                return


def require_wrk() -> str:
    """Find wrk.

    Raises:
        LoadError: it is not installed.
    """
    found = shutil.which("wrk")
    if found is None:
        raise LoadError("the benchmarks drive servers with wrk, which is missing; on Debian: apt install wrk")
    return found


def measured(what: str, output: str, errors: str = "", *, may_be_refused: bool = False) -> Measured:
    """Read what load.lua printed when wrk was done.

    Raises:
        LoadError: it printed nothing, or some requests failed, or were refused although they may not be.
    """
    for line in output.splitlines():
        if line.startswith("measured "):
            found: dict[str, Any] = json.loads(line.removeprefix("measured "))
            requests, failures, refused = found["requests"], found["failures"], found["refused"]
            if not requests or failures or (refused and not may_be_refused):
                raise LoadError(f"{what}: of {requests:,} requests {failures:,} failed and {refused:,} were refused")
            per_second = requests / found["microseconds"] * 1e6
            return Measured(requests, per_second, found["p50"] / 1000, found["p99"] / 1000, refused)
    raise LoadError(f"{what}: wrk measured nothing\n{output}{errors}")


def medians(rounds: Sequence[Measured]) -> Measured:
    """Sum up rounds: the median of each figure, and all of the requests and refusals."""
    return Measured(
        sum(each.requests for each in rounds),
        median(each.per_second for each in rounds),
        median(each.p50 for each in rounds),
        median(each.p99 for each in rounds),
        sum(each.refused for each in rounds),
        median(each.server for each in rounds),
        median(each.database for each in rounds),
    )

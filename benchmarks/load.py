"""The load: wrk, which keeps connections open and asks as fast as it is answered."""

import json
import random
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SCRIPT: Final = Path(__file__).with_name("load.lua")
WRK: Final = "wrk"
TIMEOUT_SECONDS: Final = 10


class LoadError(Exception):
    """The load could not be put on, or was not answered as it should be."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What one round came to; latencies in milliseconds."""

    requests: int
    per_second: float
    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class Load:
    """Requests of one kind, by a number of connections for a while."""

    scenario: str
    posts: int = 0
    text: str = ""

    def put_on(self, address: str, tokens: Path, *, connections: int, seconds: int) -> Measured:
        """Drive a server.

        Raises:
            LoadError: wrk is missing, or an answer was an error.
        """
        wrk = shutil.which(WRK)
        if wrk is None:
            raise LoadError("the benchmark drives its servers with wrk, which is missing; on Debian: apt install wrk")
        seed = random.randrange(2**31)  # noqa: S311 - requests, not secrets
        done = subprocess.run(  # noqa: S603 - our own arguments
            [
                *(wrk, "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s"),
                *("--timeout", f"{TIMEOUT_SECONDS}s", "--script", SCRIPT, address),
                *("--", self.scenario, tokens, str(self.posts), str(seed), self.text),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        return measured(done.stdout, done.stderr)


def measured(output: str, errors: str = "") -> Measured:
    """Read what the script printed when wrk was done.

    Raises:
        LoadError: it printed nothing, or counts failures.
    """
    for line in output.splitlines():
        if line.startswith("measured "):
            found = json.loads(line.removeprefix("measured "))
            if found["failures"] or not found["requests"]:
                raise LoadError(f"{found['failures']} of {found['requests']} requests failed")
            seconds = found["microseconds"] / 1e6
            return Measured(found["requests"], found["requests"] / seconds, found["p50"] / 1000, found["p99"] / 1000)
    raise LoadError(f"wrk measured nothing:\n{output}{errors}")

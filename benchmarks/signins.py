"""Duration of refused sign-ins, by the kind of the account's password hash."""

import random
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from http.client import HTTPConnection
from ipaddress import IPv4Address
from itertools import count
from pathlib import Path
from statistics import median
from typing import Final
from urllib.parse import urlencode

import bcrypt
from argon2 import PasswordHasher
from sqlalchemy import URL

from benchmarks.data import Data, email
from benchmarks.databases import Databases, connected
from benchmarks.peers import PeerError, agora
from benchmarks.report import Bar, Finding

PASSWORD: Final = "correct horse battery staple"
WRONG: Final = "incorrect horse battery staple"
BAR: Final = Bar(1.05, at_most=True)
"""Times by which the median of a kind may differ from that of unknown accounts."""

SETTINGS: Final = {"TRUSTED_PROXIES": "127.0.0.1", "THROTTLE_NEW_ADDRESS_FAILURES": "0"}
"""Each sign-in comes from an address of its own, so that only one kind is throttled."""

WALKERS: Final = 4
"""Sign-ins at once, each of a random kind: most of the time they wait."""

FAILURES: Final = 6
UNKNOWN: Final = "no account"

_addresses = count()


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of refused sign-in: whose, with which password, and its status."""

    email: str
    password: str
    status: int
    address: str = ""


def durations(server: Databases, folder: Path, data: Data, rounds: int) -> Iterator[Finding]:
    """Compare medians of interleaved sign-ins, one of each kind a round."""
    url = server.agora("agora_signins", data)
    kinds = _prepared(url)
    found: dict[str, list[float]] = {name: [] for name in kinds}
    with agora(url, folder, settings=SETTINGS) as running, ThreadPoolExecutor(WALKERS) as walkers:

        def walk(_round: int) -> None:
            for name in random.sample(list(kinds), len(kinds)):
                found[name].append(_seconds(running.port, kinds[name]))

        list(walkers.map(walk, range(rounds)))
    usual = median(found[UNKNOWN])
    for name, seconds in found.items():
        value = max(median(seconds) / usual, usual / median(seconds))
        yield Finding(
            f"refused sign-in, {name}", f"{median(seconds) * 1e3:.1f} ms", f"{usual * 1e3:.1f} ms", value, BAR
        )


def _prepared(url: URL) -> dict[str, Kind]:
    """Give accounts hashes of each kind."""
    hashes: Mapping[str, str] = {
        "bcrypt 10": bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(10)).decode(),
        "bcrypt 12": bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(12)).decode(),
        "old Argon2": PasswordHasher(time_cost=1, memory_cost=8_192, parallelism=1).hash(PASSWORD),
        "new Argon2": PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1).hash(PASSWORD),
        "inactive": bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(10)).decode(),
        "throttled": PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1).hash(PASSWORD),
    }
    kinds = {UNKNOWN: Kind("unknown@example.com", WRONG, 403)}
    with connected(url) as database, database.cursor() as cursor:
        for number, (name, hashed) in enumerate(hashes.items(), 1):
            row = (hashed, name != "inactive", number)
            cursor.execute("UPDATE users SET password_hash = %s, is_active = %s WHERE id = %s", row)
            kinds[name] = Kind(email(number), PASSWORD if name == "inactive" else WRONG, 403)
    kinds["throttled"] = Kind(kinds["throttled"].email, PASSWORD, 429, "192.0.2.1")
    return kinds


def _seconds(port: int, kind: Kind) -> float:
    for _ in range(2):
        started = time.perf_counter()
        status = _refused(port, kind)
        seconds = time.perf_counter() - started
        if status == kind.status:
            return seconds
        for _ in range(FAILURES if kind.address else 0):  # its window has ended, or has not begun
            _refused(port, replace(kind, password=WRONG))
    raise PeerError(f"a sign-in was answered {status}, not {kind.status}")


def _refused(port: int, kind: Kind) -> int:
    address = kind.address or str(IPv4Address("10.0.0.0") + next(_addresses))
    headers = {"Content-Type": "application/x-www-form-urlencoded", "X-Forwarded-For": address}
    body = urlencode({"username": kind.email, "password": kind.password})
    with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("POST", "/login", body, headers)
        response = connection.getresponse()
        response.read()
        return response.status

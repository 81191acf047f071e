"""Passwords, really hashed; and what happens when too many come at once, told by a hasher that waits for a sign."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from threading import Barrier, Event
from typing import Literal

import bcrypt
import pytest
from argon2 import PasswordHasher, extract_parameters
from argon2.low_level import Type
from sqlalchemy import URL

from application.errors import Unavailable
from infrastructure.database.engine import open_database
from infrastructure.database.users import SqlUserReader
from infrastructure.metrics import NO_METRICS, Metrics
from infrastructure.passwords import MARGIN, RECENT, Argon2PasswordHasher, _kind, is_password_hash
from infrastructure.timeouts import Timeouts
from tests.fakes.services import CountingSpan
from tests.support.backends import sql_backend
from tests.support.samples import a_user

PASSWORD = "correct horse battery staple"
AT_ONCE = 2
USUAL = 19_456, 2, 1


def quick_hasher(at_once: int, metrics: Metrics = NO_METRICS) -> Argon2PasswordHasher:
    return Argon2PasswordHasher(8, 1, 1, at_once, Timeouts(acquire=0.01), metrics)


@pytest.fixture(scope="module")
def hasher() -> Argon2PasswordHasher:
    return Argon2PasswordHasher(*USUAL)


def legacy_hash(password: str | bytes) -> str:
    """Hash as the past did, which cut what is over 72 bytes off."""
    text = password.encode() if isinstance(password, str) else password
    return bcrypt.hashpw(text[:72], bcrypt.gensalt(4)).decode()


def test_a_password_is_known_by_its_hash(hasher: Argon2PasswordHasher) -> None:
    assert hasher.verify(PASSWORD, hasher.hash(PASSWORD)).is_right is True


@pytest.mark.parametrize("other", ["", PASSWORD + " ", PASSWORD.upper(), PASSWORD[:-1], "x" * 128])
def test_another_password_is_not(hasher: Argon2PasswordHasher, other: str) -> None:
    assert hasher.verify(other, hasher.hash(PASSWORD)).is_right is False


@pytest.mark.parametrize("password", ["pässwörd 🔑", " " * 8, "e\u0301e\u0301e\u0301e\u0301", "x" * 128])
def test_any_characters_make_a_password(hasher: Argon2PasswordHasher, password: str) -> None:
    assert hasher.verify(password, hasher.hash(password)).is_right is True


def test_what_looks_the_same_is_another_password(hasher: Argon2PasswordHasher) -> None:
    assert hasher.verify("caf\u00e9 au lait", hasher.hash("cafe\u0301 au lait")).is_right is False


def test_one_password_never_has_the_same_hash_twice(hasher: Argon2PasswordHasher) -> None:
    assert hasher.hash(PASSWORD) != hasher.hash(PASSWORD)


def test_the_hash_does_not_hold_the_password(hasher: Argon2PasswordHasher) -> None:
    assert PASSWORD not in hasher.hash(PASSWORD)


@pytest.mark.parametrize("password", [PASSWORD, "", "None"])
def test_without_a_hash_no_password_is_right(hasher: Argon2PasswordHasher, password: str) -> None:
    assert hasher.verify(password, None).is_right is False


def test_without_a_hash_a_verification_of_one_like_any_other_is_paid_for(hasher: Argon2PasswordHasher) -> None:
    believing = BelievingArgon2()
    asked = Argon2PasswordHasher(*USUAL)
    asked.calibrate()
    asked._argon2 = believing
    assert asked.verify(PASSWORD, None).is_right is False
    assert [extract_parameters(hashed) for hashed in believing.asked] == [extract_parameters(hasher.hash(PASSWORD))]


@pytest.mark.parametrize(
    "garbage",
    [
        "garbage",
        " ",
        "$argon2id$",
        "$argon2id$v=19$m=19456,t=2,p=1$",
        "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$!",
        "$2b$12$abcdefghijklmnopqrstuuAbCdEfGhIjKlMnOpQrStUvWxYz01234",
        "ünïcode",
    ],
)
def test_no_password_is_right_for_a_hash_that_is_none(hasher: Argon2PasswordHasher, garbage: str) -> None:
    assert hasher.verify(PASSWORD, garbage).is_right is False


def test_a_hash_says_how_it_was_made(hasher: Argon2PasswordHasher) -> None:
    made = extract_parameters(hasher.hash(PASSWORD))
    assert (made.type, made.memory_cost, made.time_cost, made.parallelism) == (Type.ID, 19_456, 2, 1)
    assert hasher.hash(PASSWORD).startswith("$argon2id$v=19$m=19456,t=2,p=1$")


@pytest.mark.parametrize("parameters", [(8, 1, 1), (64, 3, 2)])
def test_the_parameters_are_those_of_the_settings(parameters: tuple[int, int, int]) -> None:
    made = extract_parameters(Argon2PasswordHasher(*parameters).hash(PASSWORD))
    assert (made.memory_cost, made.time_cost, made.parallelism) == parameters


# Hashes of other times.


@pytest.mark.parametrize("others", [(8, 2, 1), (19_456, 1, 1), (19_456, 2, 2)])
def test_a_hash_of_other_parameters_verifies_and_is_outdated(
    hasher: Argon2PasswordHasher, others: tuple[int, int, int]
) -> None:
    old = Argon2PasswordHasher(*others).hash(PASSWORD)
    assert hasher.verify(PASSWORD, old).is_right is True
    assert hasher.is_outdated(old) is True


def test_a_hash_of_todays_parameters_is_not_outdated(hasher: Argon2PasswordHasher) -> None:
    assert hasher.is_outdated(hasher.hash(PASSWORD)) is False


@pytest.mark.parametrize("prefix", ["$2a$", "$2b$", "$2y$"])
def test_a_legacy_hash_verifies_and_is_outdated(hasher: Argon2PasswordHasher, prefix: str) -> None:
    legacy = legacy_hash(PASSWORD).replace("$2b$", prefix)
    assert hasher.verify(PASSWORD, legacy).is_right is True
    assert hasher.verify(PASSWORD + "!", legacy).is_right is False
    assert hasher.verify("", legacy).is_right is False
    assert hasher.is_outdated(legacy) is True


@pytest.mark.parametrize("password", ["x" * 73, "x" * 128, "🔑" * 18 + "tail", "ü" * 35 + "x" + "ü" * 20])
def test_of_a_long_password_a_legacy_hash_knows_the_beginning(hasher: Argon2PasswordHasher, password: str) -> None:
    legacy = legacy_hash(password)
    assert hasher.verify(password, legacy).is_right is True
    assert hasher.verify(password + "more", legacy).is_right is True
    assert hasher.verify("y" + password[1:], legacy).is_right is False


@pytest.mark.parametrize(
    "garbage", ["$2", "$2b$", "$2b$99$x", "$2b$04$short", "$2z$04$" + "a" * 53, "$2b$04$" + "\0" * 53]
)
def test_no_password_is_right_for_a_broken_legacy_hash(hasher: Argon2PasswordHasher, garbage: str) -> None:
    assert hasher.verify(PASSWORD, garbage).is_right is False


class BelievingArgon2(PasswordHasher):
    """Takes every password for right, and remembers by which hash."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:  # noqa: A002
        assert password == PASSWORD
        self.asked.append(str(hash))
        return True


class SlowArgon2(PasswordHasher):
    """Takes until it is told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.all_busy = Barrier(AT_ONCE + 1)
        self.go_on = Event()

    def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
        assert salt is None
        self.all_busy.wait(timeout=30)
        assert self.go_on.wait(timeout=30)
        return f"hash of {password!r}"


@contextmanager
def busy_hasher(metrics: Metrics = NO_METRICS) -> Iterator[Argon2PasswordHasher]:
    """Yield a hasher whose threads are all busy."""
    hasher, slow = quick_hasher(AT_ONCE, metrics), SlowArgon2()
    quick = hasher._argon2
    hasher._argon2 = slow
    with ThreadPoolExecutor(AT_ONCE) as threads:
        hashes = [threads.submit(hasher.hash, PASSWORD) for _ in range(AT_ONCE)]
        try:
            slow.all_busy.wait(timeout=30)
            hasher._argon2 = quick
            yield hasher
        finally:
            slow.go_on.set()
    assert [made.result() for made in hashes] == [f"hash of {PASSWORD!r}"] * AT_ONCE


ASKED: list[Callable[[Argon2PasswordHasher], object]] = [
    lambda hasher: hasher.hash(PASSWORD),
    lambda hasher: hasher.verify(PASSWORD, "a hash"),
    lambda hasher: hasher.verify(PASSWORD, None),
    lambda hasher: hasher.verify(PASSWORD, legacy_hash(PASSWORD)),
]


@pytest.mark.parametrize("ask", ASKED)
def test_who_waits_too_long_for_a_turn_is_sent_away(ask: Callable[[Argon2PasswordHasher], object]) -> None:
    with busy_hasher() as hasher, pytest.raises(Unavailable):
        ask(hasher)


def test_it_is_seen_how_many_hash_and_wait() -> None:
    running, waiting = CountingSpan(), CountingSpan()
    with busy_hasher(Metrics(hashes_running=running, hashes_waiting=waiting)) as hasher:
        assert (running.inside, waiting.inside) == (AT_ONCE, 0)
        with pytest.raises(Unavailable):
            hasher.hash(PASSWORD)
    assert (running.entered, waiting.entered) == (AT_ONCE, AT_ONCE + 1)
    assert (running.inside, waiting.inside) == (0, 0)


def test_turns_come_back_when_the_work_is_done() -> None:
    with busy_hasher() as hasher, pytest.raises(Unavailable):
        hasher.hash(PASSWORD)
    for _ in range(AT_ONCE + 1):
        assert hasher.verify(PASSWORD, hasher.hash(PASSWORD)).is_right is True


def test_turns_come_back_when_the_work_fails() -> None:
    hasher = quick_hasher(at_once=1)
    for _ in range(3):
        with pytest.raises(UnicodeEncodeError):
            hasher.hash("\ud800")
        assert hasher.verify(PASSWORD, "garbage").is_right is False


@pytest.mark.parametrize("prefix", ["2a", "2b", "2x", "2y"])
def test_a_hash_of_bcrypt_is_told_from_other_text(prefix: str) -> None:
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode().replace("$2b$", f"${prefix}$")
    assert is_password_hash(hashed)
    assert not is_password_hash(hashed[:-1])
    assert not is_password_hash(hashed + "\n")
    assert not is_password_hash(hashed.replace("$04$", "$99$"))


def test_a_hash_of_argon2_is_told_from_other_text(hasher: Argon2PasswordHasher) -> None:
    assert is_password_hash(hasher.hash(PASSWORD))
    assert not is_password_hash(hasher.hash(PASSWORD).replace("argon2id", "argon3"))


@pytest.mark.parametrize("text", ["", PASSWORD, "$2b$", "$argon2id$", "!", "pbkdf2_sha256$260000$salt$hash", "ü"])
def test_what_is_no_hash_is_told_from_one(text: str) -> None:
    assert not is_password_hash(text)


# What a refusal is padded with.


class PacedHasher(Argon2PasswordHasher):
    """Hashes of which each kind takes the seconds in `costs`, by a clock that stands still otherwise."""

    def __init__(self, costs: Mapping[str, float], *stored: str) -> None:
        self._per_kind = costs
        self._now = 0.0

        def stopwatch() -> float:
            return self._now

        super().__init__(8, 1, 1, 1, stored_kinds=lambda: stored, stopwatch=stopwatch, cpu_stopwatch=stopwatch)

    def _verify(self, password: str, password_hash: str | None) -> bool:
        known = password_hash or self._dummy_hash
        self._now += next(seconds for kind, seconds in self._per_kind.items() if known.startswith(kind))
        return super()._verify(password, password_hash)


COSTS = {"$2b$04$": 4.0, "$argon2id$v=19$m=16,t=1,p=1$": 2.0, "$argon2id$v=19$m=8,t=1,p=1$": 1.0, "garbage": 0.25}
OLD_ARGON2 = "$argon2id$v=19$m=16,t=1,p=1$"


def test_every_kind_of_hash_is_padded_to_the_costliest_stored() -> None:
    hasher = PacedHasher(COSTS, "$2b$04$", OLD_ARGON2, "garbage")
    hasher.calibrate()
    old = Argon2PasswordHasher(16, 1, 1).hash(PASSWORD)
    paddings = [
        hasher.verify(password, password_hash).padding
        for password in (PASSWORD, "wrong")
        for password_hash in (legacy_hash(PASSWORD), old, hasher.hash(PASSWORD), None, "garbage")
    ]

    budget = MARGIN * 4.0
    assert paddings == [budget - 4, budget - 2, budget - 1, budget - 1, budget - 0.25] * 2


def test_hash_of_an_unexpected_kind_raises_the_budget() -> None:
    hasher = PacedHasher(COSTS)
    hasher.calibrate()
    assert hasher.verify(PASSWORD, legacy_hash(PASSWORD)).padding == MARGIN * 4 - 4
    assert hasher.verify(PASSWORD, None).padding == MARGIN * 4 - 1


def test_load_of_the_machine_raises_the_budget_of_every_kind() -> None:
    costs = dict(COSTS)
    hasher = PacedHasher(costs, "$2b$04$")
    hasher.calibrate()
    costs.update({kind: 3 * seconds for kind, seconds in COSTS.items()})
    for _ in range(RECENT):
        hasher.verify(PASSWORD, None)
    assert hasher.verify(PASSWORD, legacy_hash(PASSWORD)).padding == 3 * (MARGIN * 4 - 4)
    assert hasher.verify(PASSWORD, None).padding == 3 * (MARGIN * 4 - 1)


def test_verification_past_the_budget_is_padded_to_its_double() -> None:
    costs = {"$argon2": 1.0}
    hasher = PacedHasher(costs, OLD_ARGON2)
    hasher.calibrate()
    costs["$argon2"] = MARGIN + 0.25
    assert hasher.verify(PASSWORD, None).padding == MARGIN - 0.25


def test_budget_is_learned_when_stored_kinds_cannot_be_read() -> None:
    def unavailable() -> list[str]:
        raise Unavailable("no database")

    hasher = Argon2PasswordHasher(8, 1, 1, 1, stored_kinds=unavailable)
    hasher.calibrate()

    assert hasher.verify(PASSWORD, hasher.hash(PASSWORD)).is_right


@pytest.mark.parametrize(
    ("password_hash", "kind"),
    [
        ("$2b$12$" + "a" * 53, "$2b$12$"),
        ("$argon2id$v=19$m=1048576,t=2,p=16$c29tZXNhbHQ$aGFzaA", "$argon2id$v=19$m=1048576,t=2,p=16$"),
        ("$argon2i$v=19$m=8,t=1,p=1$c29tZXNhbHQ$aGFzaA", "$argon2i$v=19$m=8,t=1,p=1$"),
    ],
)
def test_stored_kinds_are_read_without_their_salts(url: URL, password_hash: str, kind: str) -> None:
    with sql_backend(url) as backend, backend.uow() as tx:
        for name, hashed in (("ann", password_hash), ("bob", password_hash + "b"), ("cleo", "!")):
            tx.users.add(a_user(name).with_password(hashed))
    with closing(open_database(url, 1)) as database:
        kinds = SqlUserReader(database.read).hash_kinds()

    assert kind in kinds
    assert len(kinds) == 2
    assert _kind(password_hash) == kind

"""Contract of throttles."""

from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from functools import partial

from sqlalchemy import URL, func, select

from application.views import Attempt
from infrastructure.database.engine import open_database, open_engine
from infrastructure.database.tables import attempts
from tests.support.backends import Backend, sql_backend
from tests.support.concurrency import all_at_once
from tests.support.connections import connection_of
from tests.support.samples import NOW

A_MINUTE = timedelta(minutes=1)
THREE, FIVE = Attempt("three", 3, A_MINUTE), Attempt("five", 5, 2 * A_MINUTE)
ANY_NUMBER = Attempt("any", 0, A_MINUTE)


def use_up(backend: Backend, attempt: Attempt) -> None:
    for _ in range(attempt.limit):
        assert backend.throttle.count([attempt], NOW) == [0]


def test_no_more_than_the_limit_are_let_through(backend: Backend) -> None:
    use_up(backend, THREE)

    assert backend.throttle.count([THREE], NOW + timedelta(seconds=15.5)) == [45]
    assert backend.throttle.remaining([THREE], NOW) == [60]


def test_a_limit_that_is_not_reached_is_open(backend: Backend) -> None:
    assert backend.throttle.remaining([THREE], NOW) == [0]
    for _ in range(THREE.limit - 1):
        backend.throttle.count([THREE], NOW)

    assert backend.throttle.remaining([THREE], NOW) == [0]


def test_counting_restarts_after_the_window(backend: Backend) -> None:
    use_up(backend, THREE)

    assert backend.throttle.remaining([THREE], NOW + A_MINUTE) == [0]
    for _ in range(THREE.limit):
        backend.throttle.count([THREE], NOW + A_MINUTE)
    assert backend.throttle.count([THREE], NOW + A_MINUTE) == [60]


def test_each_of_several_limits_has_its_own_count(backend: Backend) -> None:
    for _ in range(THREE.limit):
        backend.throttle.count([THREE, FIVE], NOW)
    assert backend.throttle.count([THREE, FIVE, ANY_NUMBER], NOW) == [60, 0, 0]

    assert backend.throttle.remaining([FIVE], NOW) == [0]
    assert backend.throttle.remaining([ANY_NUMBER, FIVE, THREE], NOW) == [0, 0, 60]


def test_reset_starts_the_count_of_a_limit_again(backend: Backend) -> None:
    use_up(backend, THREE)
    use_up(backend, FIVE)

    backend.throttle.reset([THREE, ANY_NUMBER])
    backend.throttle.reset([ANY_NUMBER])

    assert backend.throttle.count([THREE], NOW) == [0]
    assert backend.throttle.count([FIVE], NOW) == [120]


def test_no_limit_is_never_reached(backend: Backend) -> None:
    for _ in range(10):
        assert backend.throttle.count([ANY_NUMBER], NOW) == [0]
        assert backend.throttle.remaining([ANY_NUMBER], NOW) == [0]


def test_concurrent_attempts_pass_up_to_the_limit(backend: Backend) -> None:
    outcomes = all_at_once([lambda: backend.throttle.count([FIVE], NOW)] * 32)

    assert outcomes.count([0]) == FIVE.limit


def test_window_from_before_the_clock_was_set_back_begins_now(backend: Backend) -> None:
    later = NOW + timedelta(hours=1)
    for _ in range(THREE.limit):
        backend.throttle.count([THREE], later)

    assert backend.throttle.remaining([THREE], NOW) == [60]
    assert backend.throttle.count([THREE], NOW) == [60]
    assert backend.throttle.remaining([THREE], NOW + timedelta(seconds=59)) == [1]
    assert backend.throttle.remaining([THREE], NOW + A_MINUTE) == [0]


def test_concurrent_counts_of_many_limits_lose_none(backend: Backend) -> None:
    limits = [Attempt(f"limit {number}", 100, A_MINUTE) for number in range(6)]

    all_at_once([partial(backend.throttle.count, limits[number % 3 :], NOW) for number in range(24)])

    counts = (8, 16, 24, 24, 24, 24)
    for more, seconds in ((0, 60), (1, 0)):
        full = [Attempt(each.bucket, count + more, A_MINUTE) for each, count in zip(limits, counts, strict=True)]
        assert backend.throttle.remaining(full, NOW) == [seconds] * 6


def test_expired_bucket_that_is_locked_delays_no_other(database_of: Callable[[str], URL]) -> None:
    url = database_of("postgres")
    with sql_backend(url) as backend, closing(open_database(url, 1)) as other:
        backend.throttle.count([THREE], NOW)

        with other.write() as querier:
            connection_of(querier).execute(select(attempts).with_for_update())
            assert backend.throttle.count([FIVE], NOW + A_MINUTE) == [0]


def test_expired_buckets_do_not_accumulate(url: URL) -> None:
    engine = open_engine(url, connections=1)
    with sql_backend(url) as backend:
        for number in range(30):
            backend.throttle.count([Attempt(f"bucket {number}", 3, A_MINUTE)], NOW)
        for _ in range(5):
            backend.throttle.count([FIVE], NOW + A_MINUTE)
        with engine.connect() as connection:
            assert connection.scalar(select(func.count()).select_from(attempts)) == 1
    engine.dispose()

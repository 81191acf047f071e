"""What every throttle promises."""

from datetime import timedelta

import pytest
from sqlalchemy import URL, func, select

from application.views import Attempt
from domain.errors import TooManyRequests
from infrastructure.database.engine import open_engine
from infrastructure.database.tables import attempts
from tests.backends import Backend, sql_backend
from tests.contracts.test_races import all_at_once
from tests.samples import NOW

A_MINUTE = timedelta(minutes=1)
THREE, FIVE = Attempt("three", 3, A_MINUTE), Attempt("five", 5, 2 * A_MINUTE)
ANY_NUMBER = Attempt("any", 0, A_MINUTE)


def use_up(backend: Backend, attempt: Attempt) -> None:
    for _ in range(attempt.limit):
        backend.throttle.count([attempt], NOW)


def test_no_more_than_the_limit_are_let_through(backend: Backend) -> None:
    use_up(backend, THREE)

    with pytest.raises(TooManyRequests) as refusal:
        backend.throttle.count([THREE], NOW + timedelta(seconds=15.5))
    assert refusal.value.retry_after == 45
    with pytest.raises(TooManyRequests):
        backend.throttle.require_open([THREE], NOW)


def test_a_limit_that_is_not_reached_is_open(backend: Backend) -> None:
    backend.throttle.require_open([THREE], NOW)
    for _ in range(THREE.limit - 1):
        backend.throttle.count([THREE], NOW)

    backend.throttle.require_open([THREE], NOW)


def test_counting_begins_anew_when_the_window_has_passed(backend: Backend) -> None:
    use_up(backend, THREE)

    backend.throttle.require_open([THREE], NOW + A_MINUTE)
    for _ in range(THREE.limit):
        backend.throttle.count([THREE], NOW + A_MINUTE)
    with pytest.raises(TooManyRequests):
        backend.throttle.count([THREE], NOW + A_MINUTE)


def test_the_strictest_of_several_limits_counts(backend: Backend) -> None:
    for _ in range(THREE.limit):
        backend.throttle.count([THREE, FIVE], NOW)
    with pytest.raises(TooManyRequests) as refusal:
        backend.throttle.count([THREE, FIVE], NOW)
    assert refusal.value.retry_after == 60

    backend.throttle.require_open([FIVE], NOW)
    with pytest.raises(TooManyRequests):
        backend.throttle.require_open([FIVE, THREE], NOW)


def test_what_is_forgotten_counts_no_more(backend: Backend) -> None:
    use_up(backend, THREE)
    use_up(backend, FIVE)

    backend.throttle.forget(THREE)
    backend.throttle.forget(ANY_NUMBER)

    backend.throttle.count([THREE], NOW)
    with pytest.raises(TooManyRequests):
        backend.throttle.count([FIVE], NOW)


def test_no_limit_is_never_reached(backend: Backend) -> None:
    for _ in range(10):
        backend.throttle.count([ANY_NUMBER], NOW)
        backend.throttle.require_open([ANY_NUMBER], NOW)


def test_of_any_number_at_once_just_the_limit_is_let_through(backend: Backend) -> None:
    outcomes = all_at_once([lambda: backend.throttle.count([FIVE], NOW)] * 32)

    assert outcomes.count(None) == FIVE.limit


def test_what_has_passed_does_not_pile_up(url: URL) -> None:
    engine = open_engine(url, connections=1)
    with sql_backend(url) as backend:
        for number in range(30):
            backend.throttle.count([Attempt(f"bucket {number}", 3, A_MINUTE)], NOW)
        for _ in range(5):
            backend.throttle.count([FIVE], NOW + A_MINUTE)
        with engine.connect() as connection:
            assert connection.scalar(select(func.count()).select_from(attempts)) == 1
    engine.dispose()

"""The wiring: which settings reach which adapter, and that what is shared is shared."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import astuple

import pytest
from argon2 import extract_parameters
from dependency_injector import providers
from pydantic import SecretStr
from sqlalchemy import URL

from application.app import App
from application.passwords import Limits
from application.views import Claims
from domain.errors import TooManyRequests
from domain.users import InvalidCredentials, InvalidToken
from infrastructure.container import Container
from infrastructure.database.throttle import SqlThrottle
from infrastructure.settings import Settings
from infrastructure.tokens import key_id
from tests.fakes.services import MemoryTimer, PlainHasher
from tests.support.app import container_with
from tests.support.connections import connection_of
from tests.support.metrics import values
from tests.support.samples import NOW

KEY, OLD_KEY, OLDER_KEY = (letter * 64 for letter in "abc")
PASSWORD = "correct horse"
HOME, ELSEWHERE, FAR_AWAY = "192.0.2.1", "198.51.100.1", "203.0.113.1"


@contextmanager
def wired(url: URL | None = None, **values: object) -> Iterator[Container]:
    """Wire everything, as a process of its own would, on a database; only the hasher is quick."""
    where = SecretStr(url.render_as_string(hide_password=False)) if url else None
    container = container_with(settings=Settings.model_validate({"database_url": where, **values}))
    with closing(container.database()):
        yield container


@contextmanager
def worker(url: URL, **values: object) -> Iterator[App]:
    """Start what a worker of the server is made of."""
    with wired(url, **values) as container:
        container.hasher.override(providers.Singleton(PlainHasher))
        container.timer.override(providers.Singleton(MemoryTimer))
        yield container.app()


def register(app: App, name: str = "ann") -> None:
    app.commands.register_user(f"{name}@example.com", PASSWORD, name, address=HOME)


def try_password(app: App, password: str, address: str = ELSEWHERE) -> str:
    """Try to sign in as Ann, and tell what became of it."""
    try:
        app.commands.sign_in("ann@example.com", password, user_agent="a browser", address=address)
    except (InvalidCredentials, TooManyRequests) as error:
        return error.code
    return "signed in"


# Throttling.


def test_the_settings_set_the_limits() -> None:
    with wired(throttle_account_failures=7, throttle_address_failures=0, throttle_registrations=9) as container:
        assert astuple(container.limits()) == (7, 0, 100, 9)
    with wired() as container:
        assert container.limits() == Limits()  # the defaults of both are the same
        assert isinstance(container.throttle(), SqlThrottle)
    with wired(throttle=False, throttle_account_failures=7) as container:
        assert container.limits() == Limits(0, 0, 0, 0)


def test_without_a_throttle_no_attempt_is_refused(url: URL) -> None:
    with worker(url, throttle=False, throttle_account_failures=1, throttle_registrations=1) as app:
        register(app)
        register(app, "bob")
        assert {try_password(app, "wrong") for _ in range(8)} == {"invalid-credentials"}
        assert try_password(app, PASSWORD) == "signed in"


def test_what_one_worker_counts_counts_for_every_other(url: URL) -> None:
    with worker(url) as one, worker(url) as other:
        register(one)
        tries = [try_password(app, "wrong") for app in (one, other, one, other, other)]
        assert tries == ["invalid-credentials"] * 5
        assert [try_password(app, "wrong") for app in (one, other)] == ["rate-limited"] * 2
        assert [try_password(app, PASSWORD) for app in (one, other)] == ["rate-limited"] * 2
        assert try_password(other, PASSWORD, address=FAR_AWAY) == "signed in"


def test_what_was_counted_survives_a_restart(url: URL) -> None:
    with worker(url, throttle_account_failures=2, throttle_registrations=1) as before:
        register(before)
        assert [try_password(before, "wrong") for _ in range(2)] == ["invalid-credentials"] * 2
    with worker(url, throttle_account_failures=2, throttle_registrations=1) as after:
        assert try_password(after, PASSWORD) == "rate-limited"
        with pytest.raises(TooManyRequests):
            register(after, "bob")


def test_a_limit_of_none_is_none(url: URL) -> None:
    with worker(url, throttle_account_failures=0, throttle_address_failures=3, throttle_registrations=0) as app:
        for name in ("ann", "bob", "cyd"):
            register(app, name)
        assert [try_password(app, "wrong") for _ in range(4)] == [*["invalid-credentials"] * 3, "rate-limited"]


# Keys and costs.


def test_both_keys_reach_the_tokens() -> None:
    old, key = SecretStr(OLD_KEY), SecretStr(KEY)
    with (
        wired(secret_key=old) as before,
        wired(secret_key=key, secret_key_previous=old, access_token_expire_minutes=30) as rotated,
        wired(secret_key=SecretStr(OLDER_KEY), secret_key_previous=key) as later,
    ):
        claims = Claims(7, 70)
        signed_before = before.tokens().issue(claims, NOW).access_token
        signed_now = rotated.tokens().issue(claims, NOW).access_token
        assert rotated.tokens().read(signed_before, NOW) == rotated.tokens().read(signed_now, NOW) == claims
        assert later.tokens().read(signed_now, NOW) == claims
        for tokens, token in ((later.tokens(), signed_before), (before.tokens(), signed_now)):
            with pytest.raises(InvalidToken):
                tokens.read(token, NOW)


@pytest.mark.parametrize("minutes", [1, 1440])
def test_a_token_lives_as_long_as_the_settings_say(minutes: int) -> None:
    with wired(secret_key=SecretStr(KEY), access_token_expire_minutes=minutes) as container:
        assert container.tokens().issue(Claims(7, 70), NOW).expires_in == 60 * minutes


def test_the_key_of_the_settings_signs() -> None:
    with wired(secret_key=SecretStr(KEY)) as container:
        assert list(container.tokens()._keys) == [key_id(KEY)]


def test_the_costs_of_the_settings_reach_the_hasher() -> None:
    with wired(argon2_memory_kib=64, argon2_time_cost=3, argon2_parallelism=2) as container:
        made = extract_parameters(container.hasher().hash(PASSWORD))
    assert (made.memory_cost, made.time_cost, made.parallelism) == (64, 3, 2)


def test_common_passwords_are_refused_by_everything_that_sets_one() -> None:
    with wired() as container:
        app, common = container.app(), container.common()
        assert (
            app.commands.register_user.common
            is app.commands.create_admin.common
            is app.commands.change_password.common
            is common
        )
        assert "password1" in common


def test_everything_that_checks_a_password_counts_the_same_failures() -> None:
    with wired() as container:
        app, check = container.app(), container.check()
        for use_case in (
            app.commands.sign_in,
            app.commands.edit_own_account,
            app.commands.change_password,
            app.commands.delete_own_account,
        ):
            assert use_case.check is check
        assert app.commands.register_user.guard is check.guard


# Metrics.


def test_what_goes_on_reaches_the_metrics(url: URL) -> None:
    with wired(url, metrics=True) as container:
        metrics, executor = container.metrics(), container.executor()
        with container.database().read() as querier:
            assert connection_of(querier)
            assert values(metrics.page() or b"", "agora_database_connections_in_use") == {(): 1}
        assert executor._retried == metrics.retried
        hashing = container.hasher()._threads
        assert (hashing._running, hashing._waiting) == (metrics.hashes_running, metrics.hashes_waiting)
        assert container.check().guard.meter is container.app().commands.cast_votes.meter is metrics


def test_unless_enabled_nothing_is_kept() -> None:
    with wired() as container:
        assert container.metrics().page() is None

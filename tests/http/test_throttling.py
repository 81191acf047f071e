"""Limits on guesses of passwords and on registrations, and their exceptions."""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import httpx2
import pytest
from sqlalchemy import URL

from tests.fakes.services import FrozenClock
from tests.support.api import Api, Person, but_its_id, require_problem, running_api
from tests.support.concurrency import all_at_once

HOME, ELSEWHERE = "203.0.113.7", "198.51.100.9"


@pytest.fixture
def guarded(url: URL, clock: FrozenClock) -> Iterator[Api]:
    """The API behind a trusted proxy, with default limits and a frozen clock."""
    with running_api(url, {"clock": clock}, throttle=True, peer="10.0.0.1", trusted_proxies=("10.0.0.0/8",)) as api:
        yield api


@pytest.fixture
def ann(guarded: Api) -> Person:
    """An account that never signed in from the address of the tests."""
    return guarded.person("ann")


def coming_from(address: str) -> dict[str, str]:
    return {"X-Forwarded-For": address}


def sign_in(api: Api, email: str, password: str, address: str = HOME) -> httpx2.Response:
    return api.client.post("/login", data={"username": email, "password": password}, headers=coming_from(address))


def fail(api: Api, email: str, times: int, address: str = HOME) -> None:
    for _ in range(times):
        require_problem(sign_in(api, email, "a wrong guess", address), "invalid-credentials")


def require_refusal(answer: httpx2.Response, seconds: int) -> None:
    require_problem(answer, "rate-limited")
    assert answer.headers["Retry-After"] == str(seconds)


# Wrong passwords for an account.


def test_after_five_wrong_passwords_even_the_right_one_is_refused(guarded: Api, ann: Person) -> None:
    fail(guarded, ann.email, 5)

    require_refusal(sign_in(guarded, ann.email, "a wrong guess"), 900)
    require_refusal(sign_in(guarded, ann.email, ann.password), 900)


def test_the_refusal_ends_when_it_said_it_would(guarded: Api, ann: Person, clock: FrozenClock) -> None:
    fail(guarded, ann.email, 4)
    clock.advance(timedelta(minutes=1))
    fail(guarded, ann.email, 1)
    require_refusal(sign_in(guarded, ann.email, ann.password), 840)
    clock.advance(timedelta(seconds=839, milliseconds=500))
    require_refusal(sign_in(guarded, ann.email, ann.password), 1)  # a refusal does not extend it

    clock.advance(timedelta(milliseconds=500))

    assert sign_in(guarded, ann.email, ann.password).status_code == 200


def test_an_account_that_is_not_there_is_refused_alike(guarded: Api, ann: Person) -> None:
    hers = [but_its_id(sign_in(guarded, ann.email, "a wrong guess")) for _ in range(7)]
    unknown = [but_its_id(sign_in(guarded, "unknown@example.com", "a wrong guess")) for _ in range(7)]
    no_email = [but_its_id(sign_in(guarded, "no e-mail", "a wrong guess")) for _ in range(7)]

    assert hers == unknown == no_email
    require_problem(sign_in(guarded, "unknown@example.com", ann.password), "rate-limited")


def test_one_account_is_one_however_its_email_is_written(guarded: Api, ann: Person) -> None:
    for spelling in ("ANN@example.com", " ann@Example.com", "ann@example.com ", "Ann@EXAMPLE.COM", ann.email):
        fail(guarded, spelling, 1)

    for spelling in (ann.email, "aNN@example.com"):
        require_problem(sign_in(guarded, spelling, ann.password), "rate-limited")


def test_guesses_from_another_address_do_not_lock_the_account(guarded: Api, ann: Person) -> None:
    fail(guarded, ann.email, 5, ELSEWHERE)
    require_problem(sign_in(guarded, ann.email, ann.password, ELSEWHERE), "rate-limited")

    assert sign_in(guarded, ann.email, ann.password, HOME).status_code == 200
    require_problem(sign_in(guarded, ann.email, ann.password, ELSEWHERE), "rate-limited")


def test_another_account_at_the_same_address_is_not_concerned(guarded: Api, ann: Person) -> None:
    bob = guarded.person("bob")
    fail(guarded, ann.email, 5)

    assert sign_in(guarded, bob.email, bob.password).status_code == 200


def test_right_password_resets_the_count(guarded: Api, ann: Person) -> None:
    for _ in range(3):
        fail(guarded, ann.email, 4)
        assert sign_in(guarded, ann.email, ann.password).status_code == 200


def test_a_deactivated_account_is_guessed_no_faster(guarded: Api, ann: Person) -> None:
    guarded.run_sql("UPDATE users SET is_active = false WHERE id = :id", id=ann.id)
    require_problem(sign_in(guarded, ann.email, ann.password), "account-inactive")
    fail(guarded, ann.email, 5)

    require_problem(sign_in(guarded, ann.email, ann.password), "rate-limited")


def test_invalid_sign_in_is_not_counted(guarded: Api, ann: Person) -> None:
    for _ in range(10):
        require_problem(guarded.client.post("/login", data={"username": ann.email}), "validation")
        require_problem(guarded.client.post("/login", data={"username": ann.email, "password": "\0"}), "validation")

    fail(guarded, ann.email, 5)


def test_at_most_five_concurrent_guesses_are_checked(guarded: Api, ann: Person) -> None:
    answers = all_at_once([partial(sign_in, guarded, ann.email, "a wrong guess")] * 20)

    assert Counter(answer.status_code for answer in answers) == {403: 5, 429: 15}
    require_problem(sign_in(guarded, ann.email, ann.password), "rate-limited")


def test_right_password_among_concurrent_guesses_counts_only_in_time(guarded: Api, ann: Person) -> None:
    wrong = [partial(sign_in, guarded, ann.email, "a wrong guess")] * 20

    *guesses, right = all_at_once([*wrong, partial(sign_in, guarded, ann.email, ann.password)])

    answered = Counter(answer.status_code for answer in guesses)[403]
    assert right.status_code in {200, 429}
    assert 5 <= answered <= (10 if right.status_code == 200 else 5)  # in time, it reset the count


def test_a_restart_forgets_nothing(url: URL, clock: FrozenClock) -> None:
    with running_api(url, {"clock": clock}, throttle=True) as api:
        ann = api.person("ann")
        fail(api, ann.email, 5)
    with running_api(url, {"clock": clock}, throttle=True) as api:
        require_refusal(sign_in(api, ann.email, ann.password), 900)


# Confirming with the password.


def confirmations(password: str) -> list[tuple[str, str, dict[str, str]]]:
    return [
        ("PATCH", "/users/me", {"email": "other@example.com", "current_password": password}),
        ("PUT", "/users/me/password", {"new_password": "an unusual one", "current_password": password}),
        ("DELETE", "/users/me", {"current_password": password}),
    ]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_stolen_token_guesses_no_faster(guarded: Api, ann: Person, number: int) -> None:
    method, path, wrong = confirmations("a wrong guess")[number]
    for _ in range(5):
        require_problem(ann(method, path, json=wrong, headers=coming_from(HOME)), "invalid-credentials")

    for method, path, body in confirmations(ann.password):  # one count for all, and for signing in
        require_refusal(ann(method, path, json=body, headers=coming_from(HOME)), 900)
    require_refusal(sign_in(guarded, ann.email, ann.password), 900)
    assert ann("GET", "/profile", headers=coming_from(HOME)).json()["email"] == ann.email
    assert ann("PATCH", "/users/me", json={"username": "ann_2"}, headers=coming_from(HOME)).status_code == 200


# Addresses.


def test_after_thirty_wrong_passwords_an_address_is_refused(guarded: Api, ann: Person, clock: FrozenClock) -> None:
    for number in range(30):
        fail(guarded, f"user{number}@example.com", 1)

    require_refusal(sign_in(guarded, "user30@example.com", "a wrong guess"), 300)
    require_refusal(sign_in(guarded, ann.email, ann.password), 300)
    assert sign_in(guarded, ann.email, ann.password, ELSEWHERE).status_code == 200
    clock.advance(timedelta(minutes=5))
    assert sign_in(guarded, ann.email, ann.password).status_code == 200


def test_who_signed_in_from_there_before_is_not_locked_out(guarded: Api, ann: Person, clock: FrozenClock) -> None:
    assert sign_in(guarded, ann.email, ann.password).status_code == 200
    clock.advance(timedelta(days=29))
    for number in range(40):
        sign_in(guarded, f"user{number}@example.com", "a wrong guess")
    require_problem(sign_in(guarded, "unknown@example.com", "a wrong guess"), "rate-limited")

    assert sign_in(guarded, ann.email, ann.password).status_code == 200
    assert sign_in(guarded, ann.email, ann.password).status_code == 200


def test_neighbours_in_one_ipv6_network_are_one_address(guarded: Api, ann: Person) -> None:
    for number in range(5):
        fail(guarded, ann.email, 1, f"2001:db8:1:2:{number:x}::{number:x}")

    require_problem(sign_in(guarded, ann.email, ann.password, "2001:db8:1:2:ffff::1"), "rate-limited")
    assert sign_in(guarded, ann.email, ann.password, "2001:db8:1:3::1").status_code == 200


def test_client_cannot_choose_its_address(guarded: Api, ann: Person) -> None:
    for number in range(5):
        fail(guarded, ann.email, 1, f"192.0.2.{number}, {HOME}")  # the proxy wrote the last

    for forged in (f"192.0.2.9, {HOME}", f"10.0.0.9, {HOME}", f"{ELSEWHERE},{HOME}", f"{HOME}, 10.0.0.9", HOME):
        require_problem(sign_in(guarded, ann.email, ann.password, forged), "rate-limited")


def test_forwarding_header_of_an_untrusted_peer_is_ignored(url: URL, clock: FrozenClock) -> None:
    with running_api(url, {"clock": clock}, throttle=True, trusted_proxies=("10.0.0.0/8",)) as api:
        ann = api.person("ann")
        for number in range(5):
            fail(api, ann.email, 1, f"192.0.2.{number}")
        require_problem(sign_in(api, ann.email, ann.password, "192.0.2.9"), "rate-limited")


# Registering.


def register(api: Api, number: int, address: str = HOME, **fields: str) -> httpx2.Response:
    body = {"email": f"user{number}@example.com", "password": "an unusual one"} | fields
    return api.client.post("/users", json=body, headers=coming_from(address))


def test_address_registers_a_limited_number_in_an_hour(url: URL, clock: FrozenClock) -> None:
    proxied: dict[str, Any] = {"peer": "10.0.0.1", "trusted_proxies": ("10.0.0.0/8",)}
    with running_api(url, {"clock": clock}, throttle=True, throttle_registrations=3, **proxied) as api:
        for number in range(3):
            assert register(api, number).status_code == 201
            for unfit in ({"password": "short"}, {"password": "password"}, {"email": "x"}, {"username": "?"}):
                require_problem(register(api, 9, **unfit), "validation")  # these open nothing, and do not count

        clock.advance(timedelta(minutes=10))
        require_refusal(register(api, 3), 3000)
        require_refusal(register(api, 0), 3000)
        require_problem(register(api, 4, f"{ELSEWHERE}, {HOME}"), "rate-limited")
        assert register(api, 5, ELSEWHERE).status_code == 201
        clock.advance(timedelta(minutes=50))
        assert register(api, 6).status_code == 201


def test_of_many_registrations_at_once_no_more_than_the_limit_succeed(url: URL) -> None:
    with running_api(url, throttle=True, throttle_registrations=5) as api:
        answers = all_at_once([partial(register, api, number) for number in range(16)])

        assert Counter(answer.status_code for answer in answers) == {201: 5, 429: 11}


# Settings.


def test_the_limits_are_settings(url: URL) -> None:
    limits: dict[str, Any] = {
        "throttle_account_failures": 2,
        "throttle_address_failures": 3,
        "throttle_registrations": 2,
    }
    with running_api(url, throttle=True, **limits) as api:
        ann, bob = api.person("ann"), api.person("bob")
        require_problem(register(api, 1), "rate-limited")
        fail(api, "unknown@example.com", 2)
        require_problem(sign_in(api, "unknown@example.com", "a wrong guess"), "rate-limited")
        require_problem(sign_in(api, "other@example.com", "a wrong guess"), "rate-limited")
        for person in (ann, bob):
            assert sign_in(api, person.email, person.password).status_code == 200  # known here


@pytest.mark.parametrize("off", ["throttle_account_failures", "throttle_address_failures", "throttle_registrations"])
def test_a_limit_of_nothing_is_none(url: URL, off: str) -> None:
    limits: dict[str, Any] = {
        "throttle_account_failures": 2,
        "throttle_address_failures": 2,
        "throttle_registrations": 2,
    }
    with running_api(url, throttle=True, **limits | {off: 0}) as api:
        registrations = [register(api, number).status_code for number in range(4)]
        one_account = [sign_in(api, "user0@example.com", "a wrong guess").status_code for _ in range(4)]
        for_many = [sign_in(api, f"unknown{number}@example.com", "a wrong guess").status_code for number in range(4)]

    assert registrations == ([201] * 4 if off == "throttle_registrations" else [201, 201, 429, 429])
    assert one_account == [403, 403, 429, 429]  # the other limit holds
    assert for_many == ([403] * 4 if off == "throttle_address_failures" else [429] * 4)


def test_throttling_can_be_turned_off(url: URL) -> None:
    limits: dict[str, Any] = {
        "throttle_account_failures": 2,
        "throttle_address_failures": 2,
        "throttle_registrations": 2,
    }
    with running_api(url, throttle=False, **limits) as api:
        ann = api.person("ann")
        for number in range(40):
            fail(api, ann.email, 1)
            assert register(api, number).status_code == 201
        assert sign_in(api, ann.email, ann.password).status_code == 200

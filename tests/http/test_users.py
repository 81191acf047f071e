"""Accounts over HTTP: registration, visibility, and the revocation of rights."""

from collections import Counter
from datetime import timedelta
from functools import partial
from typing import Any

import httpx2
import pytest
from sqlalchemy import URL

from domain.users import RESERVED_USERNAMES
from tests.fakes.services import FrozenClock
from tests.support.api import Api, Person, as_json, require_problem, running_api
from tests.support.concurrency import all_at_once

PASSWORD = "eight or more"


def register(api: Api, **fields: object) -> httpx2.Response:
    return api.client.post("/users", **as_json({"password": PASSWORD} | fields))


# Registering.


def test_a_new_account_is_shown_to_its_owner(frozen_api: Api) -> None:
    ignored = {"id": 99, "role": "admin", "is_active": False, "created_at": "x"}

    answer = register(frozen_api, email=" Ann@Example.COM ", username="Ann_1", **ignored)

    assert answer.status_code == 201
    assert answer.headers["Location"] == "/users/1"
    assert answer.json() == {
        "id": 1,
        "username": "Ann_1",
        "created_at": "2026-01-01T00:00:00Z",
        "email": "Ann@Example.COM",
        "role": "user",
        "is_active": True,
    }


@pytest.mark.parametrize("fields", [{}, {"username": None}])
def test_a_username_may_be_left_out_by_many(api: Api, fields: dict[str, None]) -> None:
    for name in ("ann", "bob"):
        answer = register(api, email=f"{name}@example.com", **fields)
        assert (answer.status_code, answer.json()["username"]) == (201, None)


def test_no_response_contains_a_password_or_its_hash(api: Api, ann: Person, root: Person) -> None:
    post_id = ann.posts()
    paths = ("/profile", "/users/me", f"/users/{ann.id}", "/users", "/posts", f"/posts/{post_id}", "/admin-dashboard")
    answers = [root("GET", path) for path in paths]
    answers += [register(api, email="carl@example.com"), register(api, email="carl@example.com")]
    answers += [register(api, email="dora", username="?")]

    for answer in answers:
        assert not any(word in answer.text for word in (PASSWORD, "password", "plain:", "hash")), answer.text


SAME_EMAILS = [
    ("ann@example.com", "ANN@Example.COM"),
    ("bob@example.com", "  bob@example.com\t\n"),
    ("jos\u00e9@example.com", "jose\u0301@example.com"),
    ("JOS\u00c9@example.org", "jos\u00e9@example.org"),
    ("carl@b\u00fccher.example", "carl@xn--bcher-kva.example"),
    ("dora@xn--bcher-kva.example", "Dora@B\u00dcCHER.example"),
    ("emil@b\u00fccher.example", "emil@bu\u0308cher.example"),
]
OTHER_EMAILS = ["ann@example.org", "a.nn@example.com", "ann+1@example.com", "jose@example.com", "carl@bucher.example"]


def test_emails_that_a_person_would_take_for_one_are_one(api: Api) -> None:
    for first, second in SAME_EMAILS:
        answer = register(api, email=first)
        assert (answer.status_code, answer.json().get("email")) == (201, first)  # stored unchanged
        for again in (first, second):
            require_problem(register(api, email=again), "email-taken")
    for other in OTHER_EMAILS:
        assert register(api, email=other).status_code == 201, other


def test_username_is_unique_ignoring_case_and_stored_unchanged(api: Api) -> None:
    assert register(api, email="ann@example.com", username="Ann").json()["username"] == "Ann"

    for number, again in enumerate(("Ann", "ann", "ANN")):
        require_problem(register(api, email=f"ann{number}@example.com", username=again), "username-taken")
    assert register(api, email="ann0@example.com", username="Ann_").status_code == 201


def test_reserved_usernames_are_refused(url: URL) -> None:
    with running_api(url, reserved_usernames=("staff",)) as api:
        for name in sorted(RESERVED_USERNAMES - {"me"} | {"STAFF", "Root"}):
            require_problem(register(api, email=f"{name}@example.com", username=name), "username-taken")
        require_problem(api.person("ann")("PATCH", "/users/me", json={"username": "staff"}), "username-taken")


HOST = ".".join(["h" * 63, "h" * 63, "h" * 53, "example"])  # 189 characters
FITTING: dict[str, list[str | None]] = {
    "email": ["a@b.example", "l" * 64 + "@" + HOST, "o'neil+tag@example.com", "ü@bücher.example", "x@host.test"],
    "password": ["p" * 7 + "w", "pw" * 64, " " * 7 + "p", "pässwörd", "😀" * 7 + "!", "\n\t\x01\x7f\u202e\ufeff  "],
    "username": ["abc", "u" * 32, "___", "012", "A_z_9", None],
}
UNFIT: dict[str, list[object]] = {
    "email": [
        *("", " ", "ann", "ann@", "@example.com", "ann@@example.com", "ann @example.com", "ann@exa mple.com"),
        *("ann@example..com", "ann@-example.com", "ann@example.com, bob@example.com", "Ann <ann@example.com>"),
        *("l" * 64 + "@" + HOST.replace(".example", "h.example"), "x" * 10_000 + "@example.com"),
        *("\0ann@example.com", "ann@example.com\0", "\ud800@example.com", "ann@exa\nmple.com", 1, None, True, []),
    ],
    "password": [
        "",
        "p" * 7,
        "😀" * 7,
        "p" * 129,
        "p" * 100_000,
        "p" * 8 + "\0",
        "p" * 8 + "\ud800",
        12345678,
        None,
        "p" * 8,
        " " * 8,
        "agora2026",
    ],
    "username": [
        "",
        "ab",
        "u" * 33,
        "ann smith",
        "änn",
        "\u0430nn",
        "ann\n",
        " ann",
        "ann-1",
        "ann\0",
        "\ud800ab",
        123,
    ],
}


@pytest.mark.parametrize("name", FITTING)
def test_each_field_of_a_registration_has_its_bounds(api: Api, name: str) -> None:
    for number, value in enumerate(FITTING[name]):
        answer = register(api, **{"email": f"ann{number}@example.com", name: value})
        assert answer.status_code == 201, (value, answer.text)
    for unfit in UNFIT[name]:
        problem = require_problem(register(api, **{"email": "unfit@example.com", name: unfit}), "validation")
        assert [error["loc"] for error in problem["errors"]] == [["body", name]], unfit


def test_email_and_password_are_required(api: Api) -> None:
    problem = require_problem(api.client.post("/users", json={"username": "ann"}), "validation")

    assert [error["loc"] for error in problem["errors"]] == [["body", "email"], ["body", "password"]]


def test_a_password_counts_as_it_was_typed(api: Api) -> None:
    password = " P\u00e4ss e\u0301 "
    register(api, email="ann@example.com", password=password)

    def sign_in(typed: str) -> int:
        return api.client.post("/login", data={"username": "ann@example.com", "password": typed}).status_code

    assert sign_in(password) == 200
    for other in (password.strip(), password.upper(), " P\u00e4ss \u00e9 "):
        assert sign_in(other) == 403


def test_equal_registrations_at_once_make_one_account(api: Api, root: Person) -> None:
    spellings = ("ann@example.com", "ANN@example.com", " Ann@Example.Com", "ann@EXAMPLE.com")

    answers = all_at_once([partial(register, api, email=email) for email in spellings * 4])

    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 15}
    for answer in answers:
        if answer.status_code == 409:
            require_problem(answer, "email-taken")
    assert len(root("GET", "/users").json()) == 2


def test_one_username_wanted_by_many_at_once_goes_to_one(api: Api) -> None:
    answers = all_at_once(
        [partial(register, api, email=f"u{number}@example.com", username="Ann") for number in range(16)]
    )

    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 15}


# Seeing people.


def test_an_account_is_shown_as_its_reader_may_see_it(api: Api, ann: Person, bob: Person, root: Person) -> None:
    path = f"/users/{ann.id}"
    own = ann("GET", path).json()

    assert own.keys() == {"id", "username", "created_at", "email", "role", "is_active"}
    assert (own["id"], own["username"], own["email"], own["role"]) == (ann.id, "ann", "ann@example.com", "user")
    assert ann("GET", "/profile").json() == ann("GET", "/users/me").json() == root("GET", path).json() == own
    public = {name: own[name] for name in ("id", "username", "created_at")}
    assert bob("GET", path).json() == api.client.get(path).json() == public


def test_own_account_of_an_administrator_shows_the_role(root: Person) -> None:
    assert root("GET", "/profile").json()["role"] == "admin"


def test_optional_token_is_checked(api: Api, ann: Person) -> None:
    for user_id in (ann.id, 99, "abc"):
        answer = api.client.get(f"/users/{user_id}", headers={"Authorization": "Bearer forged"})
        require_problem(answer, "invalid-token")


def test_an_account_that_is_not_there_is_not_found(api: Api, ann: Person) -> None:
    for user_id in (0, 99, 2**63 - 1, 2**63, "9" * 5000):
        require_problem(api.client.get(f"/users/{user_id}"), "user-not-found")
        require_problem(ann("GET", f"/users/{user_id}"), "user-not-found")
    for path in ("/profile", "/users/me"):
        require_problem(api.client.get(path), "not-authenticated")


def test_administrators_list_search_and_page_through_accounts(api: Api, root: Person) -> None:
    for email, username in (
        ("ann@example.com", "nn_100"),
        ("bob@ÄPFEL.example", None),
        ("bobby@example.com", "100_x"),
    ):
        assert register(api, email=email, username=username).status_code == 201

    def found(**query: object) -> list[str]:
        answer = root("GET", "/users", params=query)
        assert answer.status_code == 200, answer.text
        return [user["email"] for user in answer.json()]

    everybody = ["ruth@example.com", "ann@example.com", "bob@ÄPFEL.example", "bobby@example.com"]
    assert found() == found(search="") == everybody
    assert found(limit=2) == everybody[:2]
    assert found(limit=2, skip=1) == everybody[1:3]
    assert found(skip=10_000) == []
    assert found(search="BOB") == everybody[2:]
    assert found(search="äpfel") == [everybody[2]]
    assert found(search="nn_1") == [everybody[1]]
    assert found(search="100_X") == [everybody[3]]
    assert found(search="%") == found(search="\\") == found(search="absent") == []
    assert found(search="b", limit=1, skip=1) == [everybody[3]]
    assert root("GET", "/users").json()[0] == root("GET", "/profile").json()


def test_the_list_of_accounts_has_bounds(root: Person) -> None:
    for query in ("limit=0", "limit=101", "skip=-1", "skip=10001", "limit=9223372036854775808", "search=%00"):
        require_problem(root("GET", f"/users?{query}"), "validation")
    require_problem(root("GET", "/users", params={"search": "s" * 201}), "validation")
    assert root("GET", "/users", params={"limit": 100, "search": "s" * 200}).json() == []


@pytest.mark.parametrize("path", ["/users", "/admin-dashboard"])
def test_some_things_are_for_administrators_only(api: Api, ann: Person, path: str) -> None:
    require_problem(ann("GET", path), "admins-only")
    require_problem(api.client.get(path), "not-authenticated")


# Rights that end.

END_OF_ACCOUNT = ["DELETE FROM users WHERE id = :id", "UPDATE users SET is_active = false WHERE id = :id"]


@pytest.mark.parametrize("statement", END_OF_ACCOUNT)
def test_the_token_of_an_account_that_ended_is_worth_nothing_at_once(api: Api, ann: Person, statement: str) -> None:
    requests: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", "/profile", {}),
        ("GET", f"/users/{ann.id}", {}),
        ("GET", "/posts", {}),
        ("POST", "/posts", {"json": {"title": "t", "content": "c"}}),
        ("POST", "/vote", {"json": {"post_id": 1, "dir": 1}}),
    ]
    assert ann("GET", "/profile").status_code == 200

    api.run_sql(statement, id=ann.id)

    for method, path, options in requests:
        require_problem(ann(method, path, **options), "invalid-token")


def test_deleted_account_and_its_posts_are_not_found(api: Api, ann: Person, bob: Person) -> None:
    post_id = ann.posts()
    api.run_sql("DELETE FROM users WHERE id = :id", id=ann.id)

    require_problem(bob("GET", f"/users/{ann.id}"), "user-not-found")
    require_problem(bob("GET", f"/posts/{post_id}"), "post-not-found")
    require_problem(
        api.client.post("/login", data={"username": ann.email, "password": ann.password}), "invalid-credentials"
    )


def test_a_demoted_administrator_is_a_user_at_once(api: Api, ann: Person, root: Person) -> None:
    draft = ann.posts(published=False)
    assert root("GET", f"/posts/{draft}").status_code == 200

    api.run_sql("UPDATE users SET role = 'user' WHERE id = :id", id=root.id)

    for path in ("/users", "/admin-dashboard"):
        require_problem(root("GET", path), "admins-only")
    require_problem(root("GET", f"/posts/{draft}"), "post-not-found")
    assert "email" not in root("GET", f"/users/{ann.id}").json()
    assert root("GET", "/profile").json()["role"] == "user"


# The dashboard.


def test_the_dashboard_of_an_empty_house(root: Person) -> None:
    assert root("GET", "/admin-dashboard").json() == {
        "users": 1,
        "posts": 0,
        "votes": 0,
        "last_24h": {"users": 1, "posts": 0, "votes": 0},
        "top_posts": [],
    }


def test_dashboard_counts_all_rows_and_those_of_the_last_day(frozen_api: Api, clock: FrozenClock) -> None:
    root, ann = frozen_api.admin(), frozen_api.person("ann")
    old = [ann.posts(title=f"old {number}") for number in range(3)]
    for post_id in old:
        ann("POST", "/vote", json={"post_id": post_id, "dir": -1})
    clock.advance(timedelta(hours=24, seconds=1))
    root.sign_in()
    bob = frozen_api.person("bob")
    new = [bob.posts(title=f"new {number}") for number in range(9)]
    for person, post_id, direction in ((bob, new[0], 1), (bob, new[1], 1), (bob, old[0], -1), (bob, new[2], -1)):
        person("POST", "/vote", json={"post_id": post_id, "dir": direction})

    dashboard = root("GET", "/admin-dashboard").json()

    ranking = [new[1], new[0], *new[:2:-1], new[2], old[2], old[1], old[0]][:10]
    votes = {new[0]: 1, new[1]: 1, new[2]: -1, old[0]: -2, old[1]: -1, old[2]: -1}
    names = {post_id: f"old {number}" for number, post_id in enumerate(old)}
    names |= {post_id: f"new {number}" for number, post_id in enumerate(new)}
    assert dashboard == {
        "users": 3,
        "posts": 12,
        "votes": 7,
        "last_24h": {"users": 1, "posts": 9, "votes": 4},
        "top_posts": [{"id": post_id, "title": names[post_id], "votes": votes.get(post_id, 0)} for post_id in ranking],
    }

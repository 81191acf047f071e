"""Posts over HTTP: writing, reading, finding, editing, removing, and who may."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from sqlalchemy import URL

from domain.posts import KeyInUse
from tests.fakes.services import FrozenClock
from tests.support.api import Api, Failing, Person, as_json, but_its_id, require_problem, running_api

NEW_YEAR = "2026-01-01T00:00:00Z"
FIVE_PAST = "2026-01-01T00:05:00Z"
POST = {"title": "A title", "content": "Some content"}


def get(person: Person, post_id: int) -> dict[str, Any]:
    answer = person("GET", f"/posts/{post_id}")
    assert answer.status_code == 200, answer.text
    post: dict[str, Any] = answer.json()
    return post


def titles(answer: httpx2.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [post["title"] for post in answer.json()]


# Writing.


def test_request_repeated_with_its_key_gets_the_same_response(ann: Person) -> None:
    once = {"headers": {"Idempotency-Key": "a-key"}}
    first = ann("POST", "/posts", json=POST, **once)
    assert first.status_code == 201
    assert "Idempotency-Replayed" not in first.headers
    ann("PATCH", first.headers["Location"], json={"title": "Another"})

    again = ann("POST", "/posts", content=b'{"content": "Some content", "title": "A title"}', **once)

    body, headers = but_its_id(again)
    assert headers.pop("idempotency-replayed") == "true"
    assert (again.status_code, body, headers) == (201, *but_its_id(first))
    assert len(ann("GET", "/posts").json()) == 1


def test_a_key_is_not_for_another_post(ann: Person) -> None:
    once = {"headers": {"Idempotency-Key": "a-key"}}
    ann("POST", "/posts", json=POST, **once)

    problem = require_problem(ann("POST", "/posts", json=POST | {"title": "Another"}, **once), "idempotency-key-reused")

    assert [error["loc"] for error in problem["errors"]] == [["header", "Idempotency-Key"]]
    assert len(ann("GET", "/posts").json()) == 1


def test_a_key_that_is_in_use_is_a_conflict(url: URL) -> None:
    with running_api(url) as api:
        ann = api.person("ann")
    with running_api(url, {"uow": Failing(KeyInUse())}) as api:
        answer = api.client.post(
            "/posts", json=POST, headers={"Authorization": f"Bearer {ann.token}", "Idempotency-Key": "a-key"}
        )
    require_problem(answer, "idempotency-key-in-use")
    assert answer.headers["Retry-After"] == "1"


@pytest.mark.parametrize("key", ["!", "~" * 255, '"in-quotes"', "8e03978e-40d5-43dd-bc93-6894a57f9324"])
def test_valid_keys_are_accepted(ann: Person, key: str) -> None:
    for replayed in (None, "true"):
        answer = ann("POST", "/posts", json=POST, headers={"Idempotency-Key": key})
        assert (answer.status_code, answer.headers.get("Idempotency-Replayed")) == (201, replayed)


@pytest.mark.parametrize("key", [b"", b"~" * 256, b"two words", b"caf\xc3\xa9", b"a\x7f", b"a\tb"])
def test_invalid_keys_are_refused(ann: Person, key: bytes) -> None:
    answer = ann("POST", "/posts", json=POST, headers={b"Idempotency-Key": key})

    problem = require_problem(answer, "validation")
    assert [error["loc"] for error in problem["errors"]] == [["header", "Idempotency-Key"]]
    assert ann("GET", "/posts").json() == []


@pytest.mark.parametrize("other", ["one", "other", ""])
def test_of_two_keys_none_is_chosen(ann: Person, other: str) -> None:
    answer = ann("POST", "/posts", json=POST, headers=[("Idempotency-Key", "one"), ("Idempotency-Key", other)])

    problem = require_problem(answer, "validation")
    assert [error["loc"] for error in problem["errors"]] == [["header", "Idempotency-Key"]]
    assert ann("GET", "/posts").json() == []


def test_a_new_post_is_shown_whole(frozen_api: Api) -> None:
    ann = frozen_api.person("ann")
    sent = {"title": " \n A  title\t", "content": "  Some content\n", "published": False}
    ignored = {"id": 99, "owner_id": 99, "votes": 99, "version": 99, "created_at": FIVE_PAST, "else": None}

    answer = ann("POST", "/posts", json=sent | ignored)

    assert answer.status_code == 201
    assert answer.headers["Location"] == "/posts/1"
    assert answer.json() == {
        "id": 1,
        "title": "A  title",
        "content": "  Some content\n",
        "published": False,
        "created_at": NEW_YEAR,
        "updated_at": NEW_YEAR,
        "version": 1,
        "owner_id": ann.id,
        "owner": {"id": ann.id, "username": "ann", "created_at": NEW_YEAR},
        "votes": 0,
        "upvotes": 0,
        "downvotes": 0,
        "my_vote": 0,
    }
    assert get(ann, 1) == answer.json()
    assert ann("GET", "/posts").json() == [answer.json()]


def test_posts_are_published_unless_they_say_otherwise(ann: Person) -> None:
    assert ann("POST", "/posts", json=POST).json()["published"] is True


FITTING: list[tuple[str, object]] = [
    ("title", "t"),
    ("title", " " * 450 + "t" * 300 + " " * 450),
    ("title", "ü" * 299 + "😀"),
    ("content", "c"),
    ("content", "😀" * 65_536),
    ("content", " c\r\n\t"),
    ("published", False),
]
UNFIT: dict[str, list[object]] = {
    "title": [
        "",
        " \n\t\u2003",
        "\x1c",
        "a\x1cb",
        "a\u2028b",
        "\u200b\u2800",
        "t" * 301,
        " " * 1_200 + "t",
        "\0",
        "a\0",
        "\ud800",
        1,
        None,
        ["t"],
    ],
    "content": ["", " \n", "\u2003", "\ufeff\u2800", "c" * 65_537, "c\0", "\udfff", 1, True, None, {}],
    "published": [None, 1, 0, "true", "", []],
}


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_each_field_has_its_bounds(ann: Person, method: str) -> None:
    path = "/posts" if method == "POST" else f"/posts/{ann.posts()}"

    for name, value in FITTING:
        answer = ann(method, path, json=POST | {name: value})
        assert answer.status_code in {200, 201}, (name, value)
        assert answer.json()[name] == (value.strip() if name == "title" and isinstance(value, str) else value)
    for name, values in UNFIT.items():
        for value in values:
            problem = require_problem(ann(method, path, **as_json(POST | {name: value})), "validation")
            assert [error["loc"] for error in problem["errors"]] == [["body", name]], (name, value)


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_title_and_content_are_required(ann: Person, method: str) -> None:
    path = "/posts" if method == "POST" else f"/posts/{ann.posts()}"
    for name in ("title", "content"):
        rest = {other: value for other, value in POST.items() if other != name}
        problem = require_problem(ann(method, path, json=rest), "validation")
        assert [(error["loc"], error["code"]) for error in problem["errors"]] == [(["body", name], "missing")]


def test_length_of_text_is_reported_in_terms_of_text(ann: Person) -> None:
    problem = require_problem(ann("POST", "/posts", json={"title": "", "content": "c" * 65_537}), "validation")

    assert {(error["loc"][1], error["code"]) for error in problem["errors"]} == {
        ("title", "string_too_short"),
        ("content", "string_too_long"),
    }


# Finding.


def test_lists_are_newest_first_and_ten_long(frozen_api: Api, clock: FrozenClock) -> None:
    ann = frozen_api.person("ann")
    written = []
    for number in range(12):
        written.append(ann.posts(title=f"post {number}"))
        if number % 3 == 0:  # some share a moment: then the later id is first
            clock.advance(timedelta(seconds=1))

    def ids(query: str) -> list[int]:
        return [post["id"] for post in ann("GET", f"/posts{query}").json()]

    newest_first = written[::-1]
    assert ids("") == newest_first[:10]
    for limit, skip in ((1, 0), (5, 5), (100, 0), (100, 11), (3, 10), (10, 12), (10, 10_000)):
        assert ids(f"?limit={limit}&skip={skip}") == newest_first[skip : skip + limit]


GOOD_QUERIES = ["", "limit=1", "limit=100", "skip=0", "skip=10000", "owner_id=0", "owner_id=9223372036854775807"]
GOOD_QUERIES += ["published=true", "published=false", "search=", "search=" + "s" * 200, "unknown=1", "unknown=%00"]
BAD_QUERIES = [
    *(f"limit={value}" for value in ("0", "-1", "101", "", "1.0", "ten", "true", "1e1", "%D9%A1", "1_0", "9" * 5000)),
    *(f"skip={value}" for value in ("-1", "10001", "", "1.0", "9223372036854775808", "9" * 5000)),
    *(f"owner_id={value}" for value in ("", "me", "-1", "1.0", "9223372036854775808", "%00", "9" * 5000)),
    *(f"published={value}" for value in ("", "1", "0", "yes", "null", "%00")),
    *(f"search={value}" for value in ("s" * 201, "%00", "a%00b")),
]


def test_the_parameters_of_a_list_have_their_bounds(ann: Person) -> None:
    assert {query: ann("GET", f"/posts?{query}").status_code for query in GOOD_QUERIES} == dict.fromkeys(
        GOOD_QUERIES, 200
    )
    for query in BAD_QUERIES:
        problem = require_problem(ann("GET", f"/posts?{query}"), "validation")
        assert [error["loc"] for error in problem["errors"]] == [["query", query.partition("=")[0]]], query


SEARCHES = {
    "äpfel": ["Äpfel & Birnen"],
    "ÄPFEL": ["Äpfel & Birnen"],
    "fel & b": ["Äpfel & Birnen"],
    "apfel": [],
    "STRAẞE": ["straße"],
    "ДОМ": ["Дом"],
    "%": ["100% sure"],
    "0% S": ["100% sure"],
    "1%s": [],
    "_": ["snake_case"],
    "e_C": ["snake_case"],
    "\\": ["back\\slash"],
    "\\%": [],
    "!": ["wow!"],
    "!%": [],
    "'": ['it\'s "quoted"'],
    '"': ['it\'s "quoted"'],
    "😀": ["smile 😀"],
    "content": [],
    " ": ["Äpfel & Birnen", "100% sure", 'it\'s "quoted"', "smile 😀"],
}
TITLES = ["Äpfel & Birnen", "straße", "Дом", "100% sure", "snake_case", "back\\slash", "wow!", 'it\'s "quoted"']
TITLES += ["smile 😀"]


def test_search_finds_titles_that_hold_the_text_whatever_the_case(ann: Person) -> None:
    for title in TITLES:
        ann.posts(title=title)

    found = {text: titles(ann("GET", "/posts", params={"search": text})) for text in SEARCHES}

    assert {text: set(found[text]) for text in found} == {text: set(wanted) for text, wanted in SEARCHES.items()}
    assert set(titles(ann("GET", "/posts?search="))) == set(TITLES)


def test_search_follows_an_edited_title(ann: Person) -> None:
    post_id = ann.posts(title="before")
    ann("PATCH", f"/posts/{post_id}", json={"title": "AFTER"})

    assert titles(ann("GET", "/posts?search=before")) == []
    assert titles(ann("GET", "/posts?search=after")) == ["AFTER"]


ANN, BOB, ROOT = 1, 2, 3
FILTERS: dict[tuple[str, str], list[str]] = {
    ("ann", ""): ["ann's post", "ann's draft", "bob's post"],
    ("ann", "published=true"): ["ann's post", "bob's post"],
    ("ann", "published=false"): ["ann's draft"],
    ("ann", f"owner_id={ANN}"): ["ann's post", "ann's draft"],
    ("ann", f"owner_id={BOB}"): ["bob's post"],
    ("ann", f"owner_id={BOB}&published=false"): [],
    ("ann", f"owner_id={ROOT}"): [],
    ("ann", "owner_id=99"): [],
    ("ann", "search=DRAFT"): ["ann's draft"],
    ("ann", "search=b&published=false"): [],
    ("ann", "search=ann&published=true"): ["ann's post"],
    ("ann", f"search=post&owner_id={ANN}&published=true&limit=1&skip=0"): ["ann's post"],
    ("ann", f"search=post&owner_id={ANN}&published=true&limit=1&skip=1"): [],
    ("root", ""): ["ann's post", "bob's post", "root's draft"],
    ("root", "published=true"): ["ann's post", "bob's post"],
    ("root", "published=false"): ["ann's draft", "bob's draft", "root's draft"],
    ("root", f"owner_id={ANN}"): ["ann's post"],
    ("root", f"owner_id={ANN}&published=false"): ["ann's draft"],
    ("root", "search=draft"): ["root's draft"],
    ("root", "search=bob&published=false"): ["bob's draft"],
}


def test_filters_reveal_no_post_that_the_caller_cannot_see(ann: Person, bob: Person, root: Person) -> None:
    assert (ann.id, bob.id, root.id) == (ANN, BOB, ROOT)
    for person, title, published in (
        (ann, "ann's post", True),
        (ann, "ann's draft", False),
        (bob, "bob's post", True),
        (bob, "bob's draft", False),
        (root, "root's draft", False),
    ):
        person.posts(title=title, published=published)
    readers = {"ann": ann, "root": root}

    found = {(who, query): titles(readers[who]("GET", f"/posts?{query}"))[::-1] for who, query in FILTERS}

    assert found == FILTERS


# Editing.


def test_putting_a_post_is_a_new_version(frozen_api: Api, clock: FrozenClock) -> None:
    ann = frozen_api.person("ann")
    post_id = ann.posts(published=False)
    before = get(ann, post_id)
    clock.advance(timedelta(minutes=5))

    answer = ann("PUT", f"/posts/{post_id}", json={"title": " New title ", "content": "New content"})

    assert answer.status_code == 200
    changes = {"title": "New title", "content": "New content", "version": 2, "updated_at": FIVE_PAST}
    assert answer.json() == before | changes
    assert get(ann, post_id) == answer.json()


def test_a_whole_post_may_be_sent_back(ann: Person, bob: Person) -> None:
    post_id = ann.posts(published=False)
    post = get(ann, post_id)
    forged = {"id": 99, "owner_id": bob.id, "owner": None, "votes": 9, "upvotes": 9, "my_vote": 1, "version": 9}

    answer = ann("PUT", f"/posts/{post_id}", json=post | forged | {"published": True})

    assert answer.status_code == 200
    now = answer.json()
    assert now == post | {"published": True, "version": 2, "updated_at": now["updated_at"]}
    assert get(bob, post_id) == now


PATCHES: list[dict[str, Any]] = [
    {"title": "New title"},
    {"content": "New content"},
    {"published": False},
    {"title": "New title", "published": False},
    {"title": "New title", "content": "New content", "published": False},
    {"title": "A title"},  # named, though nothing changes
]


def test_patch_changes_only_the_fields_it_names(frozen_api: Api, clock: FrozenClock) -> None:
    ann = frozen_api.person("ann")
    written = {ann.posts(): changes for changes in PATCHES}
    before = {post_id: get(ann, post_id) for post_id in written}
    clock.advance(timedelta(minutes=5))

    for post_id, changes in written.items():
        answer = ann("PATCH", f"/posts/{post_id}", json=changes | {"votes": 9, "owner_id": 9})
        assert answer.status_code == 200
        assert answer.json() == before[post_id] | changes | {"version": 2, "updated_at": FIVE_PAST}
        assert get(ann, post_id) == answer.json()


def test_patching_nothing_changes_nothing(frozen_api: Api, clock: FrozenClock) -> None:
    ann = frozen_api.person("ann")
    post_id = ann.posts()
    before = get(ann, post_id)
    clock.advance(timedelta(minutes=5))

    for nothing in ({}, {"unknown": 1, "version": 7}):
        answer = ann("PATCH", f"/posts/{post_id}", json=nothing)
        assert (answer.status_code, answer.json()) == (200, before)


def test_edits_leave_votes_alone(ann: Person, bob: Person) -> None:
    post_id = ann.posts()
    bob("POST", "/vote", json={"post_id": post_id, "dir": -1})

    for method, body in (("PUT", POST), ("PATCH", {"title": "New title"})):
        answer = ann(method, f"/posts/{post_id}", json=body)
        assert [answer.json()[name] for name in ("votes", "upvotes", "downvotes", "my_vote")] == [-1, 0, 1, 0]
    assert get(bob, post_id)["my_vote"] == -1


# Removing.


@pytest.mark.parametrize("remover", ["ann", "root"])
def test_deleting_a_post_takes_its_votes_along(ann: Person, bob: Person, root: Person, remover: str) -> None:
    post_id, other_id = ann.posts(), ann.posts()
    for person, voted_on in ((ann, post_id), (bob, post_id), (bob, other_id)):
        person("POST", "/vote", json={"post_id": voted_on, "dir": 1})

    answer = {"ann": ann, "root": root}[remover]("DELETE", f"/posts/{post_id}")

    assert (answer.status_code, answer.content) == (204, b"")
    assert "Content-Type" not in answer.headers
    for method in ("GET", "DELETE"):
        require_problem(ann(method, f"/posts/{post_id}"), "post-not-found")
    counts = root("GET", "/admin-dashboard").json()
    assert (counts["posts"], counts["votes"]) == (1, 1)


# Rights.

Send = Callable[[Person, int], httpx2.Response]
ROUTES: dict[str, Send] = {
    "get": lambda person, post_id: person("GET", f"/posts/{post_id}"),
    "put": lambda person, post_id: person("PUT", f"/posts/{post_id}", json=POST),
    "patch": lambda person, post_id: person("PATCH", f"/posts/{post_id}", json={"published": True}),
    "patch nothing": lambda person, post_id: person("PATCH", f"/posts/{post_id}", json={}),
    "delete": lambda person, post_id: person("DELETE", f"/posts/{post_id}"),
    "vote": lambda person, post_id: person("POST", "/vote", json={"post_id": post_id, "dir": 1}),
    "put vote": lambda person, post_id: person("PUT", f"/posts/{post_id}/vote", json={"dir": 1}),
    "delete vote": lambda person, post_id: person("DELETE", f"/posts/{post_id}/vote"),
}


def test_to_a_stranger_a_draft_is_an_id_that_was_never_used(ann: Person, bob: Person) -> None:
    post_id = ann.posts(published=False)
    before = get(ann, post_id)

    hidden = {name: send(bob, post_id) for name, send in ROUTES.items()}
    assert get(ann, post_id) == before
    ann("DELETE", f"/posts/{post_id}")
    missing = {name: send(bob, post_id) for name, send in ROUTES.items()}

    for name, answer in hidden.items():
        assert require_problem(answer, "post-not-found")["detail"] == f"post with id: {post_id} not found"
        assert but_its_id(answer) == but_its_id(missing[name]), name


def test_a_post_that_is_hidden_vanishes_for_strangers_and_comes_back(ann: Person, bob: Person) -> None:
    post_id = ann.posts()
    for published, status in ((False, 404), (True, 200)):
        ann("PATCH", f"/posts/{post_id}", json={"published": published})
        assert bob("GET", f"/posts/{post_id}").status_code == status
        assert len(bob("GET", "/posts").json()) == int(published)


@pytest.mark.parametrize(("reader", "published"), [("bob", True), ("root", True), ("root", False)])
def test_the_post_of_another_is_not_changed(
    ann: Person, bob: Person, root: Person, reader: str, published: bool
) -> None:
    post_id = ann.posts(published=published)
    before = get(ann, post_id)
    person = {"bob": bob, "root": root}[reader]
    bodies: list[dict[str, object]] = [
        {},
        {"unknown": 1},
        {"title": "Mine now"},
        {"content": "Mine now"},
        {"title": "Mine now", "published": True},
    ]

    for body in bodies:
        require_problem(person("PATCH", f"/posts/{post_id}", json=body), "forbidden")
    require_problem(person("PUT", f"/posts/{post_id}", json=before), "forbidden")
    if reader == "bob":
        require_problem(person("PATCH", f"/posts/{post_id}", json={"published": True}), "forbidden")
        require_problem(person("DELETE", f"/posts/{post_id}"), "forbidden")
    assert get(ann, post_id) == before


def test_an_administrator_shows_and_hides_any_post(ann: Person, bob: Person, root: Person) -> None:
    post_id = ann.posts()
    before = get(ann, post_id)

    hidden = root("PATCH", f"/posts/{post_id}", json={"published": False, "unknown": 1})

    assert hidden.status_code == 200
    now = hidden.json()
    assert now == before | {"published": False, "version": 2, "updated_at": now["updated_at"]}
    require_problem(bob("GET", f"/posts/{post_id}"), "post-not-found")
    for person in (ann, root):
        assert get(person, post_id)["published"] is False
    assert root("PATCH", f"/posts/{post_id}", json={"published": True}).json()["version"] == 3


def test_nothing_about_posts_goes_without_a_token(api: Api, ann: Person) -> None:
    post_id = ann.posts()
    for method, path in (
        ("GET", "/posts"),
        ("POST", "/posts"),
        *((method, f"/posts/{post_id}") for method in ("GET", "PUT", "PATCH", "DELETE")),
    ):
        require_problem(api.client.request(method, path, json=POST), "not-authenticated")


# PUBLIC_READS.


@pytest.fixture
def public_api(url: URL) -> Iterator[Api]:
    """The API with public reads."""
    with running_api(url, public_reads=True) as api:
        yield api


def test_public_reads_show_published_posts_without_a_token(public_api: Api) -> None:
    ann, client = public_api.person("ann"), public_api.client
    shown, draft = ann.posts(title="shown"), ann.posts(title="draft", published=False)
    ann("POST", "/vote", json={"post_id": shown, "dir": 1})

    assert get(ann, shown)["my_vote"] == 1
    assert client.get(f"/posts/{shown}").json() == get(ann, shown) | {"my_vote": 0}
    assert client.get("/posts").json() == [client.get(f"/posts/{shown}").json()]
    assert titles(ann("GET", "/posts")) == ["draft", "shown"]
    for query in ("published=false", f"owner_id={ann.id}&published=false", "search=draft", "owner_id=0"):
        assert client.get(f"/posts?{query}").json() == []
    hidden = client.get(f"/posts/{draft}")
    ann("DELETE", f"/posts/{draft}")
    assert but_its_id(hidden) == but_its_id(client.get(f"/posts/{draft}"))


def test_public_reads_still_check_tokens_and_refuse_anonymous_writes(public_api: Api) -> None:
    ann, client = public_api.person("ann"), public_api.client
    post_id = ann.posts()
    for path in ("/posts", f"/posts/{post_id}"):
        require_problem(client.get(path, headers={"Authorization": "Bearer forged"}), "invalid-token")
    require_problem(client.get("/posts/abc"), "validation")
    require_problem(client.get("/posts?limit=0"), "validation")
    for name, send in ROUTES.items():
        if name != "get":
            anonymous: Any = client.request
            require_problem(send(anonymous, post_id), "not-authenticated")


def test_account_beyond_its_quota_is_refused_until_the_hour_ends(url: URL) -> None:
    clock = FrozenClock(datetime(2026, 1, 1, 12, 45, tzinfo=UTC))
    with running_api(url, {"clock": clock}, quota_rows=2) as api:
        ann, bob = api.person("ann"), api.person("bob")
        post_id = ann.posts()
        assert ann("PUT", f"/posts/{post_id}/vote", json={"dir": 1}).status_code == 200
        for method, path, body in (
            ("POST", "/posts", {"title": "A title", "content": "Some content"}),
            ("PATCH", f"/posts/{post_id}", {"title": "Another"}),
            ("DELETE", f"/posts/{post_id}/vote", None),
        ):
            answer = ann(method, path, json=body)
            require_problem(answer, "rate-limited")
            assert answer.headers["Retry-After"] == "900"
        bob.posts()

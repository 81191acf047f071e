"""Voting over HTTP: the whole table, the resource for clients that retry, and who may vote on what."""

from collections import Counter
from functools import partial

import httpx2
import pytest

from tests.support.api import Api, Person, but_its_id, require_problem
from tests.support.concurrency import all_at_once

UP, DOWN, NONE = 1, -1, 0


@pytest.mark.parametrize(
    ("present", "sent", "status", "said"),
    [
        (NONE, UP, 201, "successfully added vote"),
        (NONE, DOWN, 201, "successfully added vote"),
        (NONE, NONE, 404, "/problems/vote-not-found"),
        (UP, UP, 409, "/problems/already-voted"),
        (UP, DOWN, 201, "successfully changed vote"),
        (UP, NONE, 201, "successfully deleted vote"),
        (DOWN, UP, 201, "successfully changed vote"),
        (DOWN, DOWN, 409, "/problems/already-voted"),
        (DOWN, NONE, 201, "successfully deleted vote"),
    ],
)
def test_each_cell_of_the_vote_table(ann: Person, present: int, sent: int, status: int, said: str) -> None:
    post_id = ann.posts()
    if present:
        ann("POST", "/vote", json={"post_id": post_id, "dir": present})

    answer = ann("POST", "/vote", json={"post_id": post_id, "dir": sent})

    assert answer.status_code == status
    stands = sent if status == 201 else present
    if status == 201:
        assert answer.json() == {
            "message": said,
            "post_id": post_id,
            "dir": sent,
            "votes": stands,
            "upvotes": int(stands == UP),
            "downvotes": int(stands == DOWN),
        }
    else:
        assert answer.json()["type"] == said
    post = ann("GET", f"/posts/{post_id}").json()
    assert (post["votes"], post["my_vote"]) == (stands, stands)


def cast(person: Person, method: str, post_id: object, direction: object) -> httpx2.Response:
    """Vote in the classic form (POST), or through the resource (PUT, DELETE)."""
    if method == "POST":
        return person("POST", "/vote", json={"post_id": post_id, "dir": direction})
    body = {"json": {"dir": direction}} if method == "PUT" else {}
    return person(method, f"/posts/{post_id}/vote", **body)


def tally(person: Person, post_id: int) -> tuple[int, int, int, int]:
    post = person("GET", f"/posts/{post_id}").json()
    return post["votes"], post["upvotes"], post["downvotes"], post["my_vote"]


def test_second_vote_replaces_the_first(ann: Person, bob: Person) -> None:
    post_id = ann.posts()
    cast(bob, "POST", post_id, UP)

    assert cast(ann, "POST", post_id, UP).json()["votes"] == 2
    assert cast(ann, "POST", post_id, DOWN).json()["votes"] == 0

    assert tally(ann, post_id) == (0, 1, 1, DOWN)
    assert tally(bob, post_id) == (0, 1, 1, UP)


@pytest.mark.parametrize("present", [NONE, UP, DOWN])
@pytest.mark.parametrize("wanted", [UP, DOWN])
def test_putting_a_vote_may_be_repeated(ann: Person, present: int, wanted: int) -> None:
    post_id = ann.posts()
    if present:
        cast(ann, "PUT", post_id, present)

    first, second = (cast(ann, "PUT", post_id, wanted) for _ in range(2))

    numbers = {
        "post_id": post_id,
        "dir": wanted,
        "votes": wanted,
        "upvotes": int(wanted == UP),
        "downvotes": int(wanted == DOWN),
    }
    said = {NONE: "successfully added vote", -wanted: "successfully changed vote"}
    for answer, before in ((first, present), (second, wanted)):
        assert (answer.status_code, answer.json()) == (200, {**numbers, "message": said.get(before, "vote unchanged")})
    assert tally(ann, post_id) == (wanted, int(wanted == UP), int(wanted == DOWN), wanted)


@pytest.mark.parametrize("present", [NONE, UP, DOWN])
def test_deleting_a_vote_may_be_repeated(ann: Person, present: int) -> None:
    post_id = ann.posts()
    if present:
        cast(ann, "PUT", post_id, present)

    for _ in range(2):
        answer = cast(ann, "DELETE", post_id, NONE)
        assert (answer.status_code, answer.content) == (204, b"")
        assert tally(ann, post_id) == (0, 0, 0, NONE)


CELLS = [("POST", UP), ("POST", DOWN), ("POST", NONE), ("PUT", UP), ("PUT", DOWN), ("DELETE", NONE)]


@pytest.mark.parametrize("present", [NONE, UP, DOWN])
def test_a_post_out_of_sight_is_in_every_cell_like_one_that_never_was(ann: Person, bob: Person, present: int) -> None:
    post_id = ann.posts()
    if present:
        cast(bob, "POST", post_id, present)
    ann("PATCH", f"/posts/{post_id}", json={"published": False})

    hidden = [cast(bob, method, post_id, direction) for method, direction in CELLS]
    counted = tally(ann, post_id)
    ann("DELETE", f"/posts/{post_id}")
    missing = [cast(bob, method, post_id, direction) for method, direction in CELLS]

    for answer in hidden:
        assert require_problem(answer, "post-not-found")["detail"] == f"post with id: {post_id} not found"
    assert [but_its_id(answer) for answer in hidden] == [but_its_id(answer) for answer in missing]
    assert counted[0] == present


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_any_other_direction_is_refused(ann: Person, method: str) -> None:
    post_id = ann.posts()
    wrong: list[object] = [
        2,
        -2,
        1.0,
        "1",
        True,
        False,
        None,
        [1],
        {},
        2**63,
        10**30,
        *([0] if method == "PUT" else []),
    ]

    for direction in wrong:
        problem = require_problem(cast(ann, method, post_id, direction), "validation")
        assert [error["loc"] for error in problem["errors"]] == [["body", "dir"]], direction
    path = "/vote" if method == "POST" else f"/posts/{post_id}/vote"
    require_problem(ann(method, path, json={"post_id": post_id}), "validation")
    assert tally(ann, post_id) == (0, 0, 0, NONE)


def test_post_id_of_a_vote_is_a_valid_integer_or_refused(ann: Person) -> None:
    for wrong in ("1", 1.0, True, None, -1, 2**63, -(2**63) - 1, 10**30, [1]):
        problem = require_problem(cast(ann, "POST", wrong, UP), "validation")
        assert [error["loc"] for error in problem["errors"]] == [["body", "post_id"]], wrong
    for unused in (0, 1, 2**63 - 1):
        require_problem(cast(ann, "POST", unused, UP), "post-not-found")
    for unused in (0, 1, 2**63 - 1, 2**63, 10**30):
        require_problem(cast(ann, "PUT", unused, UP), "post-not-found")


def test_owner_and_administrators_vote_on_a_draft(ann: Person, root: Person) -> None:
    post_id = ann.posts(published=False)

    assert [cast(person, "POST", post_id, UP).status_code for person in (ann, root)] == [201, 201]
    assert tally(ann, post_id) == (2, 2, 0, UP)


def test_votes_are_no_edits(ann: Person, bob: Person) -> None:
    post_id = ann.posts()
    before = ann("GET", f"/posts/{post_id}").json()

    cast(bob, "POST", post_id, DOWN)

    assert ann("GET", f"/posts/{post_id}").json() == before | {"votes": -1, "downvotes": 1}


def test_vote_without_a_token_is_refused(api: Api, ann: Person) -> None:
    post_id = ann.posts()
    for method, path in (("POST", "/vote"), ("PUT", f"/posts/{post_id}/vote"), ("DELETE", f"/posts/{post_id}/vote")):
        answer = api.client.request(method, path, json={"post_id": post_id, "dir": UP})
        require_problem(answer, "not-authenticated")


def test_equal_votes_at_once_make_one_vote_and_one_success(ann: Person) -> None:
    post_id = ann.posts()

    answers = all_at_once([lambda: cast(ann, "POST", post_id, UP)] * 64)

    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 63}
    for answer in answers:
        if answer.status_code == 409:
            require_problem(answer, "already-voted")
    assert tally(ann, post_id) == (1, 1, 0, UP)


def test_a_crowd_voting_at_once_is_counted_to_the_last(api: Api, ann: Person) -> None:
    post_id = ann.posts()
    crowd = [api.person(f"voter{number}") for number in range(16)]

    answers = all_at_once([partial(cast, voter, "POST", post_id, UP) for voter in crowd])

    assert [answer.status_code for answer in answers] == [201] * 16
    assert tally(ann, post_id) == (16, 16, 0, NONE)

"""Lists over HTTP: parameters, links between pages, and signed cursors."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from string import ascii_letters, digits
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2
import pytest
from pydantic import SecretStr
from sqlalchemy import URL

from application.paging import PageCursor
from interfaces.http.paging import MAC_BYTES, Cursors, InvalidCursor
from tests.fakes.services import FrozenClock
from tests.support.api import SECRET_KEY, Api, Person, require_problem, running_api

PATHS = ("/posts", "/users", "/users/me/votes")
"""Every list that takes a cursor."""

SECOND = timedelta(seconds=1)
BASE64URL = ascii_letters + digits + "-_"
NEXT = re.compile(r'<([^<>"]+)>; rel="next", <([^<>"]+)>; rel="first"')
LAST = re.compile(r'<([^<>"]+)>; rel="first"')


def links(answer: httpx2.Response) -> tuple[str | None, str]:
    """Get the links to the next page, if there is one, and to the first."""
    assert answer.status_code == 200, answer.text
    if found := NEXT.fullmatch(answer.headers["Link"]):
        return found[1], found[2]
    found = LAST.fullmatch(answer.headers["Link"])
    assert found is not None, answer.headers["Link"]
    return None, found[1]


def following(answer: httpx2.Response) -> str:
    url, _ = links(answer)
    assert url is not None
    return url


def cursor_of(answer: httpx2.Response) -> str:
    return parse_qs(urlsplit(following(answer)).query)["cursor"][0]


def pages(person: Person, url: str) -> Iterator[list[Any]]:
    """Follow the links from page to page."""
    following: str | None = url
    while following is not None:
        answer = person("GET", following)
        following, _ = links(answer)
        yield answer.json()


def walked(person: Person, url: str, name: str = "id") -> list[int]:
    return [row[name] for page in pages(person, url) for row in page]


def ids(answer: httpx2.Response) -> list[int]:
    assert answer.status_code == 200, answer.text
    return [row["id"] for row in answer.json()]


@pytest.fixture
def written(frozen_api: Api, clock: FrozenClock) -> tuple[Person, list[int]]:
    """An author of twelve posts, one a second except for two, with votes on some."""
    ann = frozen_api.person("ann")
    posts = []
    for number in range(12):
        posts.append(ann.posts(title=f"post {number}", published=number % 5 != 4))
        if number != 6:
            clock.advance(SECOND)
    for number in (3, 7, 8):
        ann("PUT", f"/posts/{posts[number]}/vote", json={"dir": -1 if number == 7 else 1})
    return ann, posts


# Parameters.


GOOD = [
    *(f"sort_by={value}" for value in ("date", "votes", "hot")),
    *(f"order={value}" for value in ("asc", "desc")),
    *(
        f"{name}={value}"
        for name in ("since", "until")
        for value in (
            "2026-01-01T00:00:00Z",
            "2026-01-01t00:00:00z",
            "2026-01-01T00:00:00.5Z",
            "2026-01-01T00:00:00.123456789Z",
            "2026-01-01T01:00:00%2B01:00",
            "2025-12-31T19:00:00-05:00",
            "2026-01-01T00:00:00-00:00",
            "0001-01-01T00:00:00%2B14:00",
            "9999-12-31T23:59:59.9999999-12:00",
        )
    ),
]
BAD = [
    *(f"sort_by={value}" for value in ("", "Date", "id", "created_at", "date,votes", "%00")),
    *(f"order={value}" for value in ("", "DESC", "up", "-1", "%00")),
    *(
        f"{name}={value}"
        for name in ("since", "until")
        for value in (
            "",
            "now",
            "1767225600",
            "2026-01-01",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00.5",
            "2026-01-01T00:00Z",
            "2026-01-01%2000:00:00Z",
            "2026-01-01T01:00:00+01:00",  # a plus means a space in a query
            "2026-01-01T00:00:00%2B0100",
            "2026-01-01T00:00:00%2B01",
            "2026-01-01T00:00:00%2B25:00",
            "2026-13-01T00:00:00Z",
            "2026-02-30T00:00:00Z",
            "2026-01-01T25:00:00Z",
            "20260101T000000Z",
            "02026-01-01T00:00:00Z",
            "2026-01-01T00:00:00Z%00",
            "%D9%A2026-01-01T00:00:00Z",
        )
    ),
]


def test_list_accepts_its_parameters(ann: Person) -> None:
    assert {query: ann("GET", f"/posts?{query}").status_code for query in GOOD} == dict.fromkeys(GOOD, 200)
    for query in BAD:
        problem = require_problem(ann("GET", f"/posts?{query}"), "validation")
        assert [error["loc"] for error in problem["errors"]] == [["query", query.partition("=")[0]]], query


def test_unescaped_plus_of_an_offset_is_explained(ann: Person) -> None:
    for name in ("since", "until"):
        problem = require_problem(ann("GET", f"/posts?{name}=2026-01-01T01:00:00.5+01:00"), "validation")
        assert "%2B" in problem["detail"]
    assert "%2B" not in require_problem(ann("GET", "/posts?since=2026-01-01 01:00:00Z"), "validation")["detail"]


def test_skip_beyond_the_limit_is_refused_with_a_hint_at_cursors(root: Person) -> None:
    for path in PATHS:
        assert root("GET", f"{path}?skip=10000").status_code == 200
        problem = require_problem(root("GET", f"{path}?skip=10001"), "validation")
        assert "cursor" in problem["detail"]
        assert [error["loc"] for error in problem["errors"]] == [["query", "skip"]]


def test_parameters_of_every_list_are_bounded(root: Person) -> None:
    for path in PATHS:
        for name, value in (
            ("limit", ""),
            ("limit", "0"),
            ("limit", "101"),
            ("limit", "ten"),
            ("skip", "-1"),
            ("skip", ""),
        ):
            problem = require_problem(root("GET", f"{path}?{name}={value}"), "validation")
            assert [error["loc"] for error in problem["errors"]] == [["query", name]]
    for value in ("0", "2", "up", ""):
        require_problem(root("GET", f"/users/me/votes?dir={value}"), "validation")


SPANS = {
    "since=2026-01-01T00:00:09Z": [9, 10, 11],
    "since=2026-01-01T00:00:09.000001Z": [11],
    "since=2026-01-01T00:00:08.9999999Z": [9, 10, 11],
    "since=2026-01-01T00:00:09.0000001Z": [11],
    "until=2026-01-01T00:00:01Z": [0],
    "until=2026-01-01T00:00:01.0000001Z": [0, 1],
    "since=2026-01-01T02:00:02%2B02:00&until=2025-12-31T19:00:04-05:00": [2, 3],
    "since=2026-01-01T00:00:02Z&until=2026-01-01T00:00:02Z": [],
    "since=2026-01-01T00:00:04Z&until=2026-01-01T00:00:02Z": [],
    "since=0001-01-01T00:00:00%2B14:00&until=2026-01-01T00:00:01Z": [0],
    "until=0001-01-01T00:00:00Z": [],
    "since=9999-12-31T23:59:59.999999999Z": [],
    "since=2026-01-01T00:00:10Z&until=9999-12-31T23:59:59-12:00": [11],
}


def test_a_list_may_be_cut_to_a_span_of_time_its_end_excluded(frozen_api: Api, clock: FrozenClock) -> None:
    ann = frozen_api.person("ann")
    posts = []
    for number in range(12):
        posts.append(ann.posts())
        if number != 9:
            clock.advance(SECOND)

    for query, numbers in SPANS.items():
        for order in ("asc", "desc"):
            wanted = [posts[number] for number in (numbers if order == "asc" else reversed(numbers))]
            answer = ann("GET", f"/posts?{query}&order={order}&limit=100")
            assert ids(answer) == wanted, query
            assert walked(ann, f"/posts?{query}&order={order}&limit=1") == wanted


def test_each_order_sorts_by_its_key(frozen_api: Api, clock: FrozenClock) -> None:
    people = [frozen_api.person(f"person{number}") for number in range(10)]
    ann = people[0]
    liked, old = ann.posts(), ann.posts()
    clock.advance(timedelta(hours=12))
    ann.sign_in()
    disliked, young = ann.posts(), ann.posts()
    clock.advance(timedelta(hours=12))
    ann.sign_in()
    youngest = ann.posts()
    for person in people:
        person.sign_in()
        person("PUT", f"/posts/{liked}/vote", json={"dir": 1})
    ann("PUT", f"/posts/{young}/vote", json={"dir": 1})
    for person in people[:2]:
        person("PUT", f"/posts/{disliked}/vote", json={"dir": -1})

    wanted = {
        "date": [youngest, young, disliked, old, liked],
        "votes": [liked, young, youngest, old, disliked],
        "hot": [youngest, liked, young, disliked, old],  # a day is 1.92, ten votes are 1, two votes down -0.3
    }
    for by, order in wanted.items():
        assert ids(ann("GET", f"/posts?sort_by={by}")) == order
        assert ids(ann("GET", f"/posts?sort_by={by}&order=asc")) == order[::-1]


# Links.


def test_a_page_links_to_the_next_and_to_the_first(written: tuple[Person, list[int]]) -> None:
    ann, posts = written

    for query, first in (
        ("", "/posts"),
        ("?limit=10", "/posts"),
        ("?limit=4", "/posts?limit=4"),
        ("?limit=4&skip=2", "/posts?limit=4"),
        ("?sort_by=date&order=desc&search=", "/posts"),
        ("?order=asc&limit=3&sort_by=hot", "/posts?sort_by=hot&order=asc&limit=3"),
        ("?published=true&limit=3", "/posts?published=true&limit=3"),
        (f"?owner_id={ann.id}&limit=3", f"/posts?owner_id={ann.id}&limit=3"),
    ):
        url, told_first = links(ann("GET", f"/posts{query}"))
        assert told_first == first
        assert url is not None
        assert url.startswith(f"{first}{'&' if '?' in first else '?'}cursor=")
        assert links(ann("GET", url))[1] == first
        assert ids(ann("GET", first))[0] == posts[0 if "order=asc" in query else -1]


def test_links_are_relative_whatever_host_is_claimed(written: tuple[Person, list[int]]) -> None:
    ann, _ = written
    headers = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example"}

    answer = ann("GET", "/posts?limit=1", headers=headers)

    assert following(answer).startswith("/posts?")
    assert "evil" not in answer.headers["Link"]


def test_the_last_page_links_to_no_next(written: tuple[Person, list[int]]) -> None:
    ann, posts = written

    for query in ("limit=12", "limit=100", "limit=5&skip=7", "skip=12", "search=nothing", "owner_id=0"):
        assert links(ann("GET", f"/posts?{query}"))[0] is None
    assert links(ann("GET", "/posts?limit=11"))[0] is not None
    last = ann("GET", following(ann("GET", "/posts?limit=11")))
    assert (ids(last), links(last)[0]) == ([posts[0]], None)


WALKS = [f"sort_by={by}&order={order}" for by in ("date", "votes", "hot") for order in ("asc", "desc")]
FILTERS = ["", "published=false", "search=POST%201", "since=2026-01-01T00:00:02Z&published=true"]


def test_following_the_links_to_the_end_gives_the_whole_list_once(written: tuple[Person, list[int]]) -> None:
    ann, _ = written

    for order in WALKS:
        for which in FILTERS:
            query = f"/posts?{order}&{which}"
            whole = ids(ann("GET", f"{query}&limit=100"))
            assert len(set(whole)) == len(whole) > 0
            for limit in (2, len(whole)):
                found = list(pages(ann, f"{query}&limit={limit}"))
                assert [row["id"] for page in found for row in page] == whole
                assert all(len(page) == limit for page in found[:-1])


def test_head_tells_the_same_links(written: tuple[Person, list[int]]) -> None:
    ann, _ = written
    get, head = ann("GET", "/posts?limit=5"), ann("HEAD", "/posts?limit=5")

    assert head.headers["Link"] == get.headers["Link"]
    assert head.content == b""


def test_links_repeat_the_search_with_any_characters(ann: Person) -> None:
    for search in ("ä & b", "100%", "a+b=c", "what?", "<>\"'; rel=", "#1", "\\_%", "🦊 ü"):
        posts = [ann.posts(title=f"{number} {search}!") for number in range(3)]

        query = urlencode({"search": search.upper(), "limit": 1})

        assert walked(ann, f"/posts?{query}") == posts[::-1]


# Cursors.


def test_a_cursor_belongs_to_its_order_and_filters_and_to_no_limit(written: tuple[Person, list[int]]) -> None:
    ann, posts = written
    cursor = cursor_of(ann("GET", "/posts?limit=3"))
    rest = posts[-4::-1]

    for same in ("", "&limit=100", "&limit=2", "&sort_by=date", "&order=desc", "&search=", "&skip=0", "&unknown=1"):
        found = ids(ann("GET", f"/posts?cursor={cursor}{same}"))
        assert found == rest[: len(found)]
        assert found
    for other in (
        "sort_by=votes",
        "sort_by=hot",
        "order=asc",
        "search=p",
        "published=true",
        "published=false",
        f"owner_id={ann.id}",
        "since=2026-01-01T00:00:00Z",
        "until=2027-01-01T00:00:00Z",
    ):
        require_invalid(ann("GET", f"/posts?cursor={cursor}&{other}"))
        narrowed = following(ann("GET", f"/posts?{other}&limit=1"))
        assert ann("GET", narrowed).status_code == 200
        require_invalid(ann("GET", f"/posts?limit=1&cursor={parse_qs(urlsplit(narrowed).query)['cursor'][0]}"))


def test_a_filter_is_the_same_however_it_is_written(written: tuple[Person, list[int]]) -> None:
    ann, _ = written
    cursor = cursor_of(ann("GET", "/posts?since=2026-01-01T00:00:02Z&limit=2"))

    for since in ("2026-01-01T00:00:02.000000z", "2026-01-01T02:00:02%2B02:00", "2026-01-01T00:00:01.9999999Z"):
        assert ann("GET", f"/posts?since={since}&cursor={cursor}").status_code == 200
    require_invalid(ann("GET", f"/posts?since=2026-01-01T00:00:02.000001Z&cursor={cursor}"))


def require_invalid(answer: httpx2.Response) -> None:
    problem = require_problem(answer, "invalid-cursor")
    assert [error["loc"] for error in problem["errors"]] == [["query", "cursor"]]


def test_a_cursor_goes_with_no_skip(written: tuple[Person, list[int]]) -> None:
    ann, posts = written
    url = following(ann("GET", "/posts?limit=3"))

    assert ids(ann("GET", f"{url}&skip=0")) == posts[-4:-7:-1]
    problem = require_problem(ann("GET", f"{url}&skip=1"), "validation")
    assert [error["loc"] for error in problem["errors"]] == [["query", "skip"]]
    assert "cursor" in problem["detail"]


def test_signature_of_a_cursor_separates_list_and_position() -> None:
    cursors = Cursors(["a key"])
    signed = urlsafe_b64decode(cursors.write("/posts", POSITIONS[0]) + "==")

    moved = urlsafe_b64encode(signed[:MAC_BYTES] + signed[MAC_BYTES + 1 :]).rstrip(b"=").decode()

    with pytest.raises(InvalidCursor):
        cursors.read("/posts" + signed[MAC_BYTES : MAC_BYTES + 1].decode(), moved)


def test_malformed_cursor_is_refused(root: Person) -> None:
    wrong = ["", "x", "0", "null", "%00", "%20", "%ED%A0%80", "ü", "-1", "....", "="]
    wrong += ["A" * size for size in (4, 22, 60, 5_000)]
    for path, cursor in product(PATHS, wrong):
        require_invalid(root("GET", f"{path}?cursor={cursor}"))


def altered(cursor: str) -> Iterator[str]:
    """Change a cursor in every place, cut it off everywhere, and lengthen it."""
    for at, char in enumerate(cursor):
        yield cursor[:at] + ("B" if char == "A" else "A") + cursor[at + 1 :]
        yield cursor[:at]
    yield cursor[:-1] + BASE64URL[(BASE64URL.index(cursor[-1]) + 1) % 64]
    yield from (cursor + more for more in ("A", "=", "==", "%20", "%0A", "%00", ".", "AAAA"))
    yield from (less + cursor for less in ("A", "%20", "%0A"))
    yield cursor.swapcase()
    yield cursor[::-1]


def test_an_altered_cursor_is_refused(written: tuple[Person, list[int]]) -> None:
    ann, _ = written
    cursor = cursor_of(ann("GET", "/posts?limit=3"))

    assert re.fullmatch("[A-Za-z0-9_-]+", cursor)
    for wrong in altered(cursor):
        require_invalid(ann("GET", f"/posts?cursor={wrong}"))


POSITIONS = [
    PageCursor(datetime(2026, 1, 1, 12, 30, 15, 1, tzinfo=UTC), 7),
    PageCursor(datetime(1970, 1, 1, tzinfo=UTC), 2**63 - 1),
    PageCursor(-12, 3),
    PageCursor(0, 1),
    PageCursor(39_272.640_000_000_01, 12),
    PageCursor(-1e-300, 1),
]


@pytest.mark.parametrize("position", POSITIONS)
def test_cursor_keeps_its_position_exactly_and_refuses_any_change(position: PageCursor) -> None:
    cursors = Cursors(["a secret key"])
    cursor = cursors.write("/posts", position)

    read = cursors.read("/posts", cursor)
    assert read == position
    assert type(read.key) is type(position.key)
    for at, char in enumerate(cursor):
        for other in BASE64URL + "+/=%. \n\0é":
            if other != char:
                with pytest.raises(InvalidCursor):
                    cursors.read("/posts", cursor[:at] + other + cursor[at + 1 :])


def test_a_cursor_of_another_list_or_of_another_key_is_none() -> None:
    cursor = Cursors(["a secret key"]).write("/posts", POSITIONS[0])

    for keys, of_list in ((["a secret key"], "/post"), (["a secret key"], "/posts?"), (["another"], "/posts")):
        with pytest.raises(InvalidCursor):
            Cursors(keys).read(of_list, cursor)
    assert Cursors(["another", "a secret key"]).read("/posts", cursor) == POSITIONS[0]


def test_a_cursor_outlives_the_post_that_it_was_given_at(written: tuple[Person, list[int]]) -> None:
    ann, posts = written
    url = following(ann("GET", "/posts?limit=3"))

    for number in (9, 10, 8):
        assert ann("DELETE", f"/posts/{posts[number]}").status_code == 204
    ann.posts(title="a newer one")

    assert ids(ann("GET", url)) == posts[7:4:-1]


OTHER_KEY = "another key of at least thirty-two bytes, for the time after"


def test_a_cursor_outlives_the_key_that_signed_it_by_one_rotation(url: URL) -> None:
    keys = [SecretStr(key) for key in (SECRET_KEY, OTHER_KEY, "a third key, for the time after that, long enough")]
    with running_api(url, public_reads=True) as api:
        ann = api.person("ann")
        posts = [ann.posts() for _ in range(4)]
        before = following(api.client.get("/posts?limit=1"))

    with running_api(url, public_reads=True, secret_key=keys[1], secret_key_previous=keys[0]) as api:
        second = api.client.get(before)
        assert ids(second) == [posts[2]]
        after = following(second)

    with running_api(url, public_reads=True, secret_key=keys[1]) as api:
        require_invalid(api.client.get(before))
        assert ids(api.client.get(after)) == [posts[1]]

    with running_api(url, public_reads=True, secret_key=keys[2], secret_key_previous=keys[1]) as api:
        require_invalid(api.client.get(before))
        assert ids(api.client.get(after)) == [posts[1]]


def test_cursor_is_checked_after_the_token_and_the_other_parameters(ann: Person, root: Person) -> None:
    require_problem(ann("GET", "/posts?cursor=x", headers={"Authorization": ""}), "not-authenticated")
    require_problem(ann("GET", "/posts?cursor=x", headers={"Authorization": "Bearer x"}), "invalid-token")
    require_problem(ann("GET", "/users?cursor=x"), "admins-only")
    for path in PATHS:
        require_problem(root("GET", f"{path}?cursor=x&limit=0"), "validation")


# Accounts, and one's own votes.


def test_the_links_of_accounts_lead_through_all_of_them(api: Api, root: Person) -> None:
    people = [root.id, *(api.person(f"person{number}").id for number in range(5))]

    assert walked(root, "/users?limit=2") == people
    assert walked(root, "/users?limit=5&search=PERSON") == people[1:]
    first = root("GET", "/users?limit=2&search=person")
    assert links(first)[1] == "/users?search=person&limit=2"
    url, cursor = following(first), cursor_of(first)
    api.run_sql("DELETE FROM users WHERE id = :id", id=people[2])
    assert ids(root("GET", url)) == people[3:5]
    for other in ("", "&search=perso"):
        require_invalid(root("GET", f"/users?cursor={cursor}{other}"))
    require_problem(root("GET", f"{url}&skip=1"), "validation")
    for wrong in list(altered(cursor))[::7]:
        require_invalid(root("GET", f"/users?search=person&cursor={wrong}"))


def test_the_links_of_ones_own_votes_lead_through_all_of_them(ann: Person) -> None:
    posts = [ann.posts() for _ in range(7)]
    for number, post_id in enumerate(posts):
        ann("PUT", f"/posts/{post_id}/vote", json={"dir": -1 if number % 3 == 0 else 1})
    latest_first = posts[::-1]

    assert walked(ann, "/users/me/votes?limit=2", "post_id") == latest_first
    assert walked(ann, "/users/me/votes?dir=-1&limit=1", "post_id") == latest_first[0::3]
    first = ann("GET", "/users/me/votes?dir=1&limit=2")
    assert links(first)[1] == "/users/me/votes?dir=1&limit=2"
    url, cursor = following(first), cursor_of(first)
    ann("DELETE", f"/posts/{latest_first[2]}/vote")
    assert [row["post_id"] for row in ann("GET", url).json()] == latest_first[4:6]
    for other in ("", "&dir=-1"):
        require_invalid(ann("GET", f"/users/me/votes?cursor={cursor}{other}"))
    require_problem(ann("GET", f"{url}&skip=1"), "validation")
    for wrong in list(altered(cursor))[::7]:
        require_invalid(ann("GET", f"/users/me/votes?dir=1&cursor={wrong}"))


def test_no_list_takes_the_cursor_of_another(api: Api, root: Person) -> None:
    api.person("ann")
    posts = [root.posts() for _ in range(2)]
    for post_id in posts:
        root("PUT", f"/posts/{post_id}/vote", json={"dir": 1})
    cursors = {path: cursor_of(root("GET", f"{path}?limit=1")) for path in PATHS}

    for path in PATHS:
        for other, cursor in cursors.items():
            answer = root("GET", f"{path}?limit=1&cursor={cursor}")
            if other == path:
                assert answer.status_code == 200
            else:
                require_invalid(answer)

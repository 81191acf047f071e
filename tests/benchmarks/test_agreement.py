"""Differences between servers are found; the servers here are made up."""

from collections.abc import Mapping
from email.message import Message

import pytest

from benchmarks.agreement import differences, next_link, questions, require_agreement
from benchmarks.peers import Answer, PeerError

POSTS = 30
TAG = '"1"'


def answer(status: int = 200, body: object = None, **headers: str) -> Answer:
    message = Message()
    for name, value in {"X-Request-ID": "7", **headers}.items():
        message[name.replace("_", "-")] = value
    return Answer(status, body, message)


class FakeServer:
    """Answers the questions as all servers do, except for one request."""

    def __init__(self, name: str, other: Mapping[tuple[str, str], Answer] | None = None) -> None:
        self.name = name
        self._other = other or {}
        self._statuses = {
            (question.method, question.path, question.caller, repr(question.body)): question.status
            for question in questions(POSTS)
            if not question.then
        }

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        caller: int | None = 1,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        if (method, path) in self._other:
            return self._other[method, path]
        if (headers or {}).get("If-None-Match") == TAG:
            return answer(304, ETag=TAG)
        if path.endswith("after"):
            return answer(200, [{"id": 2}], Link='</posts>; rel="first"')
        if method == "GET" and "limit=" in path and "limit=0" not in path:
            return answer(200, [{"id": 3}], Link=f'<{path}&cursor=after>; rel="next", </posts>; rel="first"')
        status = self._statuses[method, path, caller, repr(body)]
        shown = {"type": "/problems/some", "detail": self.name} if status >= 400 else {"id": 3, "created_at": self.name}
        if status < 400 and method != "POST":
            shown.pop("created_at")
        return answer(status, shown, **({"ETag": TAG} if status < 400 and method != "PUT" else {}))


def test_equal_servers_agree() -> None:
    require_agreement([FakeServer("one"), FakeServer("two")], POSTS)


@pytest.mark.parametrize(
    ("request_", "other", "complaint"),
    [
        (("GET", f"/posts/{POSTS // 2}"), answer(200, {"id": 4}, ETag=TAG), "two differs from one in id"),
        (("GET", f"/posts/{POSTS // 2}"), answer(200, {"id": 3}), "two differs from one in ETag"),
        (("GET", f"/posts/{POSTS // 2}"), answer(200, {"id": 3}, ETag="always 200"), "two answers 200, not 304"),
        (("GET", "/posts/first"), answer(404, {"type": "/problems/some"}), "two answers 404, not 422"),
        (("GET", "/posts/first"), answer(422, {"type": "/problems/another"}), "two differs from one in type"),
        (("POST", "/posts"), answer(201, {"id": 3}, ETag=TAG, Location="/"), "two differs from one in Location"),
        (
            ("GET", "/posts?limit=10&cursor=after"),
            answer(200, [{"id": 2}], Link='</posts>; rel="first"', Vary="Origin"),
            "next: two differs from one in Vary",
        ),
        (
            ("GET", "/posts?limit=10&cursor=after"),
            answer(200, [{"id": 3}], Link='</posts>; rel="first"'),
            "next: two differs from one in 0.id",
        ),
        (
            ("GET", "/posts?limit=10"),
            answer(200, [{"id": 3}], Link='</posts>; rel="first"'),
            "two differs from one in Link",
        ),
    ],
)
def test_each_difference_is_found(request_: tuple[str, str], other: Answer, complaint: str) -> None:
    with pytest.raises(PeerError, match=f"{complaint}$"):
        require_agreement([FakeServer("one"), FakeServer("two", {request_: other})], POSTS)


def test_the_naive_application_answers_plain_questions_only() -> None:
    bare = {
        ("GET", "/posts/first"): answer(500),
        ("GET", f"/posts/{POSTS // 2}"): answer(200, {"id": 3}),
        ("POST", "/posts"): answer(201, {"id": 77, "created_at": "now"}),
    }

    require_agreement([FakeServer("one"), FakeServer("naive", bare)], POSTS)
    with pytest.raises(PeerError, match="naive differs from one in id"):
        require_agreement(
            [FakeServer("one"), FakeServer("naive", {**bare, ("GET", "/posts/15"): answer(200, {"id": 4})})], POSTS
        )


def test_media_types_are_compared_without_parameters() -> None:
    plain, with_charset = (
        answer(200, {}, Content_Type=value) for value in ("application/json", "application/json; charset=utf-8")
    )

    assert differences(plain, with_charset) == set()
    assert differences(plain, answer(200, {}, Content_Type="text/html")) == {"Content-Type"}


def test_the_next_link_is_read_from_among_others() -> None:
    assert next_link(answer(Link='</a>; rel="first", </b?c=1&d=2>; rel="next"')) == "/b?c=1&d=2"
    assert next_link(answer(Link='</a>; rel="first"')) is None

"""Agreement of measured servers, so that ratios compare equal work."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from benchmarks.peers import Answer, PeerError

PLAIN: Final = frozenset({"naive"})
"""Servers that answer the plain questions only, without headers of their own, and store no drafts."""

COMPARED_HEADERS: Final = (
    "Cache-Control",
    "Content-Security-Policy",
    "Cross-Origin-Resource-Policy",
    "Location",
    "Referrer-Policy",
    "Vary",
    "WWW-Authenticate",
    "X-Content-Type-Options",
    "X-Frame-Options",
)
OPAQUE_HEADERS: Final = ("ETag", "X-Request-ID")
"""Headers that every server fills in its own way: compared by whether they are there."""

PROBLEM_MEMBERS: Final = frozenset({"type", "status"})
"""Members of a refusal that are compared; the others explain it."""

TIMES: Final = frozenset({"created_at", "updated_at"})


class Asked(Protocol):
    """A server that answers."""

    @property
    def name(self) -> str:
        """Its name in messages."""

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        caller: int | None = 1,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request, as one of the accounts or as none."""


@dataclass(frozen=True, slots=True)
class Question:
    """A request, and the status that it gets everywhere.

    `then` sends it again: `unchanged` with the response's entity tag, `next` for the page that follows.
    """

    status: int
    method: str
    path: str
    body: object = None
    caller: int | None = 1
    headers: Mapping[str, str] = field(default_factory=dict)
    then: str = ""
    is_plain: bool = False

    def __str__(self) -> str:
        """Name it by its request."""
        return f"{self.method} {self.path}" + (f", {self.then}" if self.then else "")

    def ask(self, server: Asked) -> Answer:
        """Ask a server, twice if the question says so."""
        answer = server.ask(self.method, self.path, self.body, caller=self.caller, headers=self.headers)
        if self.then == "unchanged":
            tag = answer.headers.get("ETag", "")
            return server.ask(self.method, self.path, caller=self.caller, headers={"If-None-Match": tag})
        if self.then == "next":
            return server.ask(self.method, next_link(answer) or self.path, caller=self.caller)
        return answer


def questions(posts: int) -> Iterator[Question]:
    """Ask for everything that is measured, and for what is refused."""
    post, vote, unknown = f"/posts/{posts // 2}", f"/posts/{posts // 3}/vote", posts * 1_000
    new = {"title": "The same title", "content": "The same content."}
    yield Question(200, "GET", "/posts?limit=10", is_plain=True)
    yield Question(200, "GET", "/posts?limit=10", then="next")
    yield Question(200, "GET", "/posts?limit=3&published=false", then="next")
    yield Question(200, "GET", "/posts?limit=3&owner_id=8", then="next")
    yield Question(200, "GET", post, is_plain=True)
    yield Question(304, "GET", post, then="unchanged")
    yield Question(200, "GET", post, headers={"If-None-Match": '"another"'})
    yield Question(200, "PUT", vote, {"dir": 1}, is_plain=True)
    yield Question(200, "PUT", vote, {"dir": 1})
    yield Question(200, "PUT", vote, {"dir": -1}, is_plain=True)
    yield Question(201, "POST", "/posts", new, is_plain=True)
    for path in ("/posts", post):
        yield Question(401, "GET", path, caller=None)
        yield Question(401, "GET", path, caller=None, headers={"Authorization": "Bearer not.a.token"})
    yield Question(401, "POST", "/posts", new, caller=None)
    yield Question(401, "PUT", vote, {"dir": 1}, caller=None)
    yield Question(404, "GET", f"/posts/{unknown}")
    yield Question(404, "GET", f"/posts/{posts + 1}", caller=9)  # the draft of another account
    yield Question(404, "PUT", f"/posts/{unknown}/vote", {"dir": 1})
    for path in ("/posts?limit=0", "/posts?cursor=made.up", "/posts/first"):
        yield Question(422, "GET", path)
    yield Question(422, "PUT", vote, {"dir": 7})
    yield Question(422, "POST", "/posts", {"title": " ", "content": "Some"})


def require_agreement(servers: Sequence[Asked], posts: int) -> None:
    """Require equal responses of all servers.

    Raises:
        PeerError: two of them differ.
    """
    for question in questions(posts):
        asked = [server for server in servers if question.is_plain or server.name not in PLAIN]
        answers = [question.ask(server) for server in asked]
        for server, answer in zip(asked, answers, strict=True):
            if answer.status != question.status:
                raise PeerError(f"{question}: {server.name} answers {answer.status}, not {question.status}")
            names = differences(answer, answers[0], has_headers=server.name not in PLAIN)
            if question.status == 201:  # noqa: PLR2004 - HTTP's Created
                names -= TIMES if server.name not in PLAIN else TIMES | {"id"}
            if names:
                raise PeerError(f"{question}: {server.name} differs from {asked[0].name} in {', '.join(sorted(names))}")


def differences(answer: Answer, other: Answer, *, has_headers: bool = True) -> set[str]:
    """Name what two responses differ in, of what is compared."""
    names = {name for name, _ in set(leaves(answer.body)) ^ set(leaves(other.body))}
    if answer.status >= 400:  # noqa: PLR2004 - refusals
        names &= PROBLEM_MEMBERS
    if has_headers:
        ours, theirs = _headers(answer), _headers(other)
        names |= {name for name in ours if ours[name] != theirs[name]}
    return names


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Name every value in a JSON document by the way to it."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, repr(value)


def next_link(answer: Answer) -> str | None:
    """Return the path of the page that follows, if the response links to one."""
    found = re.search(r'<([^>]*)>; rel="next"', answer.headers.get("Link", ""))
    return found[1] if found else None


def _headers(answer: Answer) -> dict[str, object]:
    """Return what is compared of a response's headers."""
    found: dict[str, object] = {name: answer.headers.get(name) for name in COMPARED_HEADERS}
    found |= {name: name in answer.headers for name in OPAQUE_HEADERS}
    found["Link"] = re.findall(r'rel="(\w+)"', answer.headers.get("Link", ""))
    if answer.body is not None:
        found["Content-Type"] = answer.headers.get("Content-Type", "").partition(";")[0]
    return found

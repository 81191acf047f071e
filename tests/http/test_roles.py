"""Who may do what to what: every operation of the OpenAPI document, every kind of caller, every object, one table.

The posts belong to `owner`; `own` is the caller's, `other` another account's. An anonymous caller owns nothing, so
`own` is another account's then. `deactivated` is an account that an administrator deactivated after its sign-in.
Requests are valid: with the caller's own password, tokens and e-mail, where they have any.
"""

from collections.abc import Iterator
from itertools import count
from typing import Any

from sqlalchemy import URL

from tests.support.api import Api, Person, running_api
from tests.support.openapi import Operation, operations

ROLES = ("anonymous", "stranger", "owner", "admin", "deactivated")

TABLE = """
method path                            object                  anonymous  stranger  owner  admin  deactivated
GET    /                               -                             200       200    200    200          200
GET    /health/live                    -                             200       200    200    200          200
GET    /health/ready                   -                             200       200    200    200          200
GET    /problems                       -                             200       200    200    200          200
GET    /problems/{slug}                -                             200       200    200    200          200
POST   /users                          -                             201       201    201    201          201
GET    /users                          -                             401       403    403    200          401
GET    /profile                        -                             401       200    200    200          401
GET    /users/me                       -                             401       200    200    200          401
DELETE /users/me                       -                             401       204    204    204          401
PATCH  /users/me                       -                             401       200    200    200          401
PUT    /users/me/password              -                             401       204    204    204          401
GET    /users/me/export                -                             401       200    200    200          401
GET    /users/{user_id}                own account                   200       200    200    200          401
GET    /users/{user_id}                other account                 200       200    200    200          401
PATCH  /users/{user_id}                own account                   401       403    403    200          401
PATCH  /users/{user_id}                other account                 401       403    403    200          401
POST   /login                          -                             403       200    200    200          403
POST   /refresh                        -                             401       200    200    200          401
POST   /refresh                        form                          401       200    200    200          401
POST   /logout                         -                             401       204    204    204          401
POST   /logout                         form                          200       200    200    200          200
GET    /users/me/sessions              -                             401       200    200    200          401
DELETE /users/me/sessions/{session_id} own session                   401       204    204    204          401
DELETE /users/me/sessions/{session_id} other session                 401       404    404    404          401
GET    /posts                          -                             401       200    200    200          401
POST   /posts                          -                             401       201    201    201          401
GET    /posts/{post_id}                published post                401       200    200    200          401
GET    /posts/{post_id}                draft                         401       404    200    200          401
PUT    /posts/{post_id}                published post                401       403    200    403          401
PUT    /posts/{post_id}                draft                         401       404    200    403          401
PATCH  /posts/{post_id}                published post                401       403    200    403          401
PATCH  /posts/{post_id}                draft                         401       404    200    403          401
PATCH  /posts/{post_id}                published post, to hide       401       403    200    200          401
PATCH  /posts/{post_id}                draft, to show                401       404    200    200          401
DELETE /posts/{post_id}                published post                401       403    204    204          401
DELETE /posts/{post_id}                draft                         401       404    204    204          401
POST   /vote                           published post                401       201    201    201          401
POST   /vote                           draft                         401       404    201    201          401
GET    /users/me/votes                 -                             401       200    200    200          401
PUT    /posts/{post_id}/vote           published post                401       200    200    200          401
PUT    /posts/{post_id}/vote           draft                         401       404    200    200          401
DELETE /posts/{post_id}/vote           published post                401       204    204    204          401
DELETE /posts/{post_id}/vote           draft                         401       404    204    204          401
GET    /admin-dashboard                -                             401       403    403    200          401
"""

PUBLIC = {
    "GET    /posts                          -": "200",
    "GET    /posts/{post_id}                published post": "200",
    "GET    /posts/{post_id}                draft": "404",
}
"""What PUBLIC_READS changes for the anonymous."""


def objects_of(operation: Operation) -> tuple[str, ...]:
    if operation.takes == "form" and len(operation.details["requestBody"]["content"]) > 1:
        return ("form",)
    names = {slot.name for slot in operation.slots() if slot.place in {"path", "json"}}
    if "post_id" in names:
        shown_or_hidden = ("published post, to hide", "draft, to show") if operation.method == "PATCH" else ()
        return ("published post", "draft", *shown_or_hidden)
    return next((("own " + kind, "other " + kind) for kind in ("account", "session") if KEYS[kind] in names), ("-",))


KEYS = {"account": "user_id", "session": "session_id"}


class Stage:
    """Plays one cell of the table after another, each with people and things of its own."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._root = api.admin()
        self._numbers = count()

    def play(self, operation: Operation, about: str, role: str) -> int:
        """Send a request, and give the status of its answer."""
        owner = self._newcomer()
        caller = {"anonymous": None, "owner": owner}.get(role) or self._newcomer()
        other = self._newcomer() if role == "owner" else owner
        if role == "admin":
            self._root("PATCH", f"/users/{caller.id}", json={"role": "admin"})
        own = other if role == "anonymous" else caller
        subject = own if about.startswith("own") else other
        samples: dict[str, Any] = {
            "email": f"new{next(self._numbers)}@example.com",
            "username": f"new{next(self._numbers)}",
            "user_id": subject.id,
            "session_id": self._session_of(subject),
        }
        if "post" in about or "draft" in about:
            samples["post_id"] = owner.posts(published=about.startswith("published"))
        if role != "anonymous":
            samples |= {"current_password": caller.password, "refresh_token": caller.refresh_token}
        if role != "anonymous" and operation.path == "/login":
            samples |= {"username": caller.email, "password": caller.password}
        if role == "deactivated":
            self._root("PATCH", f"/users/{caller.id}", json={"is_active": False})
        send = self._api.client.request if role == "anonymous" else caller
        if about.endswith(("to hide", "to show")):
            return send("PATCH", f"/posts/{samples['post_id']}", json={"published": "show" in about}).status_code
        return operation.send(send, **samples).status_code

    def _newcomer(self) -> Person:
        return self._api.person(f"person{next(self._numbers)}")

    @staticmethod
    def _session_of(person: Person) -> int:
        session_id: int = person("GET", "/users/me/sessions").json()[0]["id"]
        return session_id


def played(api: Api, roles: tuple[str, ...]) -> Iterator[str]:
    """Write the table as it really is."""
    stage = Stage(api)
    for operation in operations(api.client.request):
        for about in objects_of(operation):
            statuses = [stage.play(operation, about, role) for role in roles]
            cells = "".join(f"{status:>{width}}" for status, width in zip(statuses, (10, 10, 7, 7, 13), strict=False))
            yield f"{operation.method:6} {operation.path:31} {about:23}{cells}"


def test_everybody_may_do_what_the_table_says_and_nothing_else(api: Api) -> None:
    _, header, *rows = TABLE.splitlines()
    assert tuple(header.split()[3:]) == ROLES

    assert "\n".join(sorted(played(api, ROLES))) == "\n".join(sorted(rows))


def test_public_reads_open_the_reading_of_posts_and_nothing_else(url: URL) -> None:
    rows = [row[:72].rstrip() for row in TABLE.splitlines()[2:]]
    expected = [
        next((row[:-3] + status for key, status in PUBLIC.items() if row[:-3].rstrip() == key), row) for row in rows
    ]
    with running_api(url, public_reads=True) as api:
        assert sorted(played(api, ("anonymous",))) == sorted(expected)

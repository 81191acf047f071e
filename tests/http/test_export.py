"""The export of one's own data leaves page by page, as fast as the client takes it."""

import json
from collections.abc import Callable
from typing import Any

from starlette.types import Message

from infrastructure.execution.deadline import clear_deadline, is_expired, start_deadline
from tests.support.api import Api, Person

POSTS = 50


def export(api: Api, person: Person, taken: Callable[[int], None]) -> dict[str, Any]:
    """Export everything, calling `taken` with the number of each part before the client has taken it."""
    parts: list[bytes] = []

    async def send(message: Message) -> None:
        if message.get("body"):
            taken(len(parts))
            parts.append(message["body"])

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "http",
        "method": "GET",
        "path": "/users/me/export",
        "raw_path": b"/users/me/export",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"authorization", f"Bearer {person.token}".encode())],
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 80),
        "state": {},
    }
    api.portal.call(api.app, scope, receive, send)
    found: dict[str, Any] = json.loads(b"".join(parts))
    return found


def test_export_reads_on_only_when_the_client_has_taken_the_part_before(api: Api, ann: Person) -> None:
    posts = [ann.posts() for _ in range(POSTS)]

    def delete_the_oldest(part: int) -> None:
        if part == 1:  # the first posts, the newest ones
            api.run_sql("DELETE FROM posts WHERE id = :id", id=posts[0])

    exported = export(api, ann, delete_the_oldest)

    assert [post["id"] for post in exported["posts"]] == posts[:0:-1]


def test_each_part_of_an_export_has_the_time_of_a_request(api: Api, ann: Person) -> None:
    for _ in range(POSTS):
        ann.posts()
    expired = []

    def let_time_pass(_part: int) -> None:
        expired.append(is_expired())
        clear_deadline()
        start_deadline(-1)

    exported = export(api, ann, let_time_pass)

    assert len(exported["posts"]) == POSTS
    assert expired.count(False) >= POSTS // 20

"""Every operation of the API, and what of it runs on the event loop's thread: nothing that takes long."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any, ParamSpec, TypeVar

from psycopg2.extensions import connection, get_wait_callback, set_wait_callback
from sqlalchemy import URL, event
from sqlalchemy.util.concurrency import in_greenlet
from starlette.types import ASGIApp, Message

from infrastructure.execution.deadline import is_expired, start_deadline
from infrastructure.metrics import Metrics
from infrastructure.passwords import Argon2PasswordHasher
from tests.support.api import Api, running_api

P = ParamSpec("P")
T = TypeVar("T")
PASSWORD = "correct horse battery"


class Expiring:
    """Executes use cases, and notes whether their deadline passed before; after each it has."""

    def __init__(self) -> None:
        self.expired: list[bool] = []

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        self.expired.append(is_expired())
        start_deadline(-1.0)
        return work(*args, **kwargs)

    def close(self) -> None:
        pass


def test_deadline_of_a_request_is_not_that_of_the_next(url: URL) -> None:
    executor = Expiring()
    head = {"type": "http", "method": "GET", "path": "/posts/1", "raw_path": b"/posts/1", "query_string": b""}
    statuses: list[int] = []

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        statuses.append(message.get("status", 0))

    async def serve(app: ASGIApp) -> None:
        for _ in range(2):  # in one context, as servers do with what is pipelined
            await app({**head, "headers": [], "client": None, "scheme": "http"}, receive, send)

    with running_api(url, {"executor": executor}, public_reads=True) as api:
        executor.expired.clear()
        asyncio.run(serve(api.app))
    assert statuses == [404, 0, 404, 0]
    assert executor.expired == [False, False]


class Threads:
    """A span that notes on which threads it is entered."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def __enter__(self) -> None:
        self.seen.append(get_ident())

    def __exit__(self, *_error: object) -> None:
        pass


@contextmanager
def waits_on(loop_thread: int) -> Iterator[dict[str, int]]:
    """Count the waits for PostgreSQL on this thread that release its event loop, and those that block it."""
    counts = {"released": 0, "blocked": 0}
    before: Any = get_wait_callback()

    def wait(awaited: connection) -> None:
        if get_ident() == loop_thread:
            counts["released" if in_greenlet() else "blocked"] += 1
        before(awaited)

    set_wait_callback(wait if before else None)
    try:
        yield counts
    finally:
        set_wait_callback(before)


def walk(api: Api) -> set[str]:
    """Request every operation successfully, and name them."""
    client, requested = api.client, set()

    def ask(method: str, template: str, path: str = "", token: str = "", **options: Any) -> Any:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        response = client.request(method, path or template, headers=headers, **options)
        assert response.is_success, (method, template, response.text)
        requested.add(f"{method} {template}")
        return response.json() if response.content[:1] in b"{[" and response.content else None

    registration = {"email": "ann@example.com", "password": PASSWORD, "username": "ann"}
    ann = ask("POST", "/users", json=registration)["id"]
    api.run_sql("UPDATE users SET role = 'admin' WHERE id = :id", id=ann)
    other = ask("POST", "/users", json=registration | {"email": "bob@example.com", "username": "bob"})["id"]
    form = {"username": "ann@example.com", "password": PASSWORD}
    spent = ask("POST", "/login", data=form)
    first = ask("POST", "/refresh", json={"refresh_token": spent["refresh_token"]})
    ask("POST", "/logout", token=first["access_token"])
    token = ask("POST", "/login", data=form)["access_token"]
    post = ask("POST", "/posts", token=token, json={"title": "A title", "content": "Some content"})["id"]
    for template in ("/", "/problems", "/health/live", "/health/ready", "/posts", "/profile", "/users", "/users/me"):
        ask("GET", template, token=token)
    for template in ("/users/me/sessions", "/users/me/votes", "/users/me/export", "/admin-dashboard"):
        ask("GET", template, token=token)
    ask("GET", "/problems/{slug}", "/problems/not-found")
    ask("GET", "/users/{user_id}", f"/users/{other}")
    ask("PATCH", "/users/{user_id}", f"/users/{other}", token, json={"is_active": False})
    ask("GET", "/posts/{post_id}", f"/posts/{post}", token)
    ask("PUT", "/posts/{post_id}", f"/posts/{post}", token, json={"title": "Another", "content": "Text"})
    ask("PATCH", "/posts/{post_id}", f"/posts/{post}", token, json={"title": "Another"})
    ask("POST", "/vote", token=token, json={"post_id": post, "dir": 1})
    ask("PUT", "/posts/{post_id}/vote", f"/posts/{post}/vote", token, json={"dir": -1})
    ask("DELETE", "/posts/{post_id}/vote", f"/posts/{post}/vote", token)
    ask("DELETE", "/posts/{post_id}", f"/posts/{post}", token)
    ask("PATCH", "/users/me", token=token, json={"email": "eve@example.com", "current_password": PASSWORD})
    passwords = {"current_password": PASSWORD, "new_password": "another horse"}
    ask("PUT", "/users/me/password", token=token, json=passwords)
    ended = ask("POST", "/login", data={"username": "eve@example.com", "password": "another horse"})["access_token"]
    (current,) = [each["id"] for each in ask("GET", "/users/me/sessions", token=ended) if each["current"]]
    ask("DELETE", "/users/me/sessions/{session_id}", f"/users/me/sessions/{current}", ended)
    api.run_sql("UPDATE users SET role = 'admin', is_active = true WHERE id = :id", id=other)
    ask("DELETE", "/users/me", token=token, json={"current_password": "another horse"})
    return requested


def test_nothing_slow_runs_on_the_event_loop(url: URL) -> None:
    hashing, querying = Threads(), Threads()
    hasher = Argon2PasswordHasher(8, 1, 1, metrics=Metrics(hashes_running=hashing))
    with running_api(url, {"hasher": hasher}) as api:
        loop_thread = api.portal.call(get_ident)
        sqlite = url.get_backend_name() == "sqlite"
        if sqlite:
            event.listen(
                api.container.database().engine, "before_cursor_execute", lambda *_arguments: querying.__enter__()
            )
        with waits_on(loop_thread) as waits:
            requested = walk(api)
        document = api.client.get("/openapi.json").json()
    assert len(hashing.seen) >= 8
    assert loop_thread not in hashing.seen
    assert waits["blocked"] == 0
    assert bool(waits["released"]) is not sqlite
    assert loop_thread not in querying.seen
    assert bool(querying.seen) is sqlite
    assert requested == {f"{method.upper()} {path}" for path, item in document["paths"].items() for method in item}

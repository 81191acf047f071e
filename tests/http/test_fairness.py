"""One client's requests that wait, and those of another client."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from sqlalchemy import URL, text

from infrastructure.database.engine import open_engine
from infrastructure.execution.threads import WorkerThreads
from tests.support.api import Api, running_api

PATIENCE_SECONDS = 30
LOCK_POST = "SELECT id FROM posts WHERE id = :id FOR UPDATE"


@contextmanager
def locked(url: URL, post_id: int) -> Iterator[None]:
    """Lock a post in another process's place; on SQLite the whole database."""
    engine = open_engine(url, connections=1)
    with engine.begin() as connection:
        if url.get_backend_name() == "postgresql":
            connection.execute(text(LOCK_POST), {"id": post_id})
        yield
    engine.dispose()


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def waiting_for_a_turn(api: Api, user_id: int) -> int:
    retries: Any = api.container.executor()
    executor: Any = retries._executor._executor
    database: Any = api.container.database()
    queue = executor._first if isinstance(executor, WorkerThreads) else database._limiter._queue
    return int(queue.size(user_id))


def test_requests_of_one_user_leave_connections_to_others(url: URL) -> None:
    with running_api(url, database_connections=2) as api, ThreadPoolExecutor(2) as threads:
        ann, bob = api.person("ann"), api.person("bob")
        post = ann.posts()
        with locked(url, post):
            edits = [threads.submit(ann, "PATCH", f"/posts/{post}", json={"title": "Another"}) for _ in range(2)]
            wait_until(lambda: waiting_for_a_turn(api, ann.id) == 1)
            assert bob("GET", f"/posts/{post}").status_code == 200
            assert not any(edit.done() for edit in edits)
        assert [edit.result().status_code for edit in edits] == [200, 200]

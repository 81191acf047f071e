"""What reading may cost: statements and rows, whatever the number of votes. Never time."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import URL, Engine, event

from application.votes import CastVote
from domain.votes import Direction
from tests.backends import sql_backend
from tests.fakes.services import FrozenClock
from tests.samples import add_post, add_user

POSTS, VOTERS = 3_000, 20


@contextmanager
def statements(engine: Engine) -> Iterator[list[str]]:
    """Collect what is sent to the database meanwhile."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield sent
    event.remove(engine, "before_cursor_execute", note)


def test_a_vote_is_no_dearer_on_a_post_with_many(url: URL) -> None:
    with sql_backend(url) as backend:
        ann = add_user(backend.uow, "ann")
        cast = CastVote(backend.uow, FrozenClock())
        engine = backend.posts._reading.__self__.engine  # type: ignore[attr-defined]
        counts: list[int] = []
        for _ in range(2):
            post = add_post(backend.uow, ann)
            for number in range(10 * len(counts)):
                cast(add_user(backend.uow, f"user{number}"), post.id, Direction.UP)
            with statements(engine) as sent:
                cast(ann, post.id, Direction.UP)
            counts.append(len(sent))

    assert counts[0] == counts[1]

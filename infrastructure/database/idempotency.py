"""Answers kept for requests that are repeated under one key: statements, then the repository that sends them."""

from datetime import datetime
from hashlib import blake2b
from typing import Any, Final

from pydantic import TypeAdapter
from sqlalchemy import Boolean, ScalarSelect, bindparam, delete, func, insert, literal_column, select, true, tuple_

from application.views import PostView
from domain.posts import KeyInUse
from infrastructure.database.links import Link, Statement
from infrastructure.database.tables import answers

FORGOTTEN_AT_ONCE: Final = 10
"""Answers past their time that keeping one clears away: more than it makes, so they never pile up."""

_OF_KEY: Final = (answers.c.user_id == bindparam("of_user"), answers.c.key == bindparam("of_key"))
_PASSED: Final = answers.c.ends_at <= bindparam("now")
_ANSWER: Final[ScalarSelect[Any]] = select(answers.c.answer).where(*_OF_KEY, ~_PASSED).scalar_subquery()
# PostgreSQL holds the key until the transaction ends; SQLite has one writer at a time.
FIND: Final = Statement(
    select(func.pg_try_advisory_xact_lock(bindparam("lock"), type_=Boolean), _ANSWER),
    sqlite=select(true(), _ANSWER),
)
INSERT: Final = Statement(
    insert(answers).values({name: bindparam(name) for name in ("user_id", "key", "answer", "ends_at")})
)
FORGET_PASSED: Final = Statement(
    delete(answers).where(
        tuple_(answers.c.user_id, answers.c.key).in_(
            select(answers.c.user_id, answers.c.key)
            .where(_PASSED)
            .order_by(answers.c.ends_at)
            .limit(literal_column(str(FORGOTTEN_AT_ONCE)))
            .with_for_update(skip_locked=True)
        )
    )
)
FORGET: Final = Statement(delete(answers).where(*_OF_KEY, _PASSED))

_POST: Final = TypeAdapter(PostView)


class SqlIdempotencyStore:
    """Keeps answers inside one transaction."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def find(self, user_id: int, key: str, now: datetime) -> PostView | None:
        """Find the answer that was given under a key, and keep everybody else from using the key if there is none.

        What is found may be from a moment before the key was ours; then its row is in the way of the one that is added.
        """
        name = blake2b(f"{user_id} {key}".encode(), digest_size=8).digest()
        values = {"of_user": user_id, "of_key": key, "now": now, "lock": int.from_bytes(name, signed=True)}
        ((is_ours, answer),) = self._link.rows(FIND, values)
        if answer is not None:
            return _POST.validate_json(answer)
        if not is_ours:
            raise KeyInUse
        return None

    def add(self, user_id: int, key: str, answer: PostView, now: datetime, ends_at: datetime) -> None:
        """Keep the answer that is given under a key until its time is over."""
        self._link.later(FORGET, {"of_user": user_id, "of_key": key, "now": now})
        self._link.later(FORGET_PASSED, {"now": now})
        values = {"user_id": user_id, "key": key, "answer": _POST.dump_json(answer).decode(), "ends_at": ends_at}
        self._link.later(INSERT, values)

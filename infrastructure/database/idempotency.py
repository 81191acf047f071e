"""Responses under idempotency keys: statements, and the store that executes them."""

from datetime import datetime
from hashlib import blake2b
from typing import Any, Final

from pydantic import TypeAdapter
from sqlalchemy import (
    Boolean,
    ScalarSelect,
    bindparam,
    delete,
    func,
    insert,
    select,
    true,
    update,
)

from application.views import PostView
from domain.posts import KeyInUse
from infrastructure.database.pipeline import Querier, Statement
from infrastructure.database.sql import delete_expired
from infrastructure.database.tables import answers

_OF_KEY: Final = (answers.c.user_id == bindparam("of_user"), answers.c.key == bindparam("of_key"))
_EXPIRED: Final = answers.c.ends_at <= bindparam("now")
_RESPONSE: Final[ScalarSelect[Any]] = select(answers.c.answer).where(*_OF_KEY, ~_EXPIRED).scalar_subquery()
# PostgreSQL locks the key until the transaction ends; SQLite has one writer at a time.
FIND: Final = Statement(
    select(func.pg_try_advisory_xact_lock(bindparam("lock"), type_=Boolean), _RESPONSE),
    sqlite=select(true(), _RESPONSE),
)
INSERT: Final = Statement(insert(answers))
DELETE_EXPIRED: Final = delete_expired(answers)
SHORTEN: Final = Statement(
    update(answers).where(*_OF_KEY, answers.c.ends_at > bindparam("end")).values(ends_at=bindparam("end"))
)
DELETE_EXPIRED_OF_KEY: Final = Statement(delete(answers).where(*_OF_KEY, _EXPIRED))

_POST: Final = TypeAdapter(PostView)


class SqlIdempotencyStore:
    """Responses inside one transaction."""

    def __init__(self, querier: Querier) -> None:
        self._querier = querier

    def find(self, user_id: int, key: str, now: datetime, ends_at: datetime) -> PostView | None:
        """Return the response under a key; without one, reserve the key.

        A response may be committed between its lookup and the lock; then the primary key refuses the added one.
        """
        name = blake2b(f"{user_id} {key}".encode(), digest_size=8).digest()
        values = {"of_user": user_id, "of_key": key, "now": now, "lock": int.from_bytes(name, signed=True)}
        ((is_reserved, response),) = self._querier.fetch_all(FIND, values)
        if response is not None:
            self._querier.enqueue(SHORTEN, {"of_user": user_id, "of_key": key, "end": ends_at})
            return _POST.validate_json(response)
        if not is_reserved:
            raise KeyInUse
        return None

    def add(self, user_id: int, key: str, response: PostView, now: datetime, ends_at: datetime) -> None:
        """Store the response under a key until it expires."""
        self._querier.enqueue(DELETE_EXPIRED_OF_KEY, {"of_user": user_id, "of_key": key, "now": now})
        self._querier.enqueue(DELETE_EXPIRED, {"now": now})
        values = {"user_id": user_id, "key": key, "answer": _POST.dump_json(response).decode(), "ends_at": ends_at}
        self._querier.enqueue(INSERT, values)

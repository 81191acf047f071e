"""Accounts in SQL: statements, and the repository and reader that execute them."""

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import bindparam, case, delete, func, insert, literal_column, select, text, union, update

from application.paging import Page, PageCursor, Window
from application.views import Bearer, SessionView, UserView
from domain.text import fold
from domain.users import Actor, Role, User, UserNotFound
from infrastructure.database.callers import find_actor
from infrastructure.database.counters import uncount
from infrastructure.database.pipeline import Querier, Statement
from infrastructure.database.quotas import DELETE as DELETE_QUOTA
from infrastructure.database.sql import (
    ConnectionProvider,
    Keyset,
    WindowShape,
    columns_of,
    contains,
    is_id,
    page_of,
    pattern,
    window_values,
)
from infrastructure.database.tables import OF_ACCOUNT, ON_POST, posts, sessions, users

_VIEW: Final = select(*columns_of(users, UserView))
GET: Final = Statement(_VIEW.where(users.c.id == bindparam("user_id")))
SESSIONS: Final = Statement(
    select(*columns_of(sessions, SessionView))
    .where(sessions.c.user_id == bindparam("user_id"), sessions.c.ends_at > bindparam("now"))
    .order_by(sessions.c.last_used_at.desc(), sessions.c.id.desc())
)
INSERT: Final = Statement(
    insert(users)
    .values({column.name: bindparam(column.name) for column in users.c if column is not users.c.id})
    .returning(users.c.id)
)
SEPARATOR: Final = "\n"
"""Stands between e-mail and username in their search key, and in neither."""

_OF_USER: Final = [(rows, account == bindparam("user_id")) for rows, account in OF_ACCOUNT if rows in ON_POST]
AFFECTED: Final = Statement(union(*(select(ON_POST[rows]).where(is_own) for rows, is_own in _OF_USER)))
LOCK_POST: Final = Statement(  # one at a time: Citus locks rows of one shard in a statement
    select(posts.c.id).where(posts.c.id == bindparam("post_id")).with_for_update(key_share=True)
)
_ENTITY: Final = select(*columns_of(users, User))
_FIND: Final = _ENTITY.where(users.c.id == bindparam("user_id"))
FIND: Final = Statement(_FIND)
FIND_BY_EMAIL: Final = Statement(_ENTITY.where(users.c.email_key == bindparam("email_key")))
# FOR NO KEY UPDATE: votes and posts of the account, which lock its key only, go on.
LOCK: Final = Statement(_FIND.with_for_update(key_share=True))
# A change of a unique key locks as FOR UPDATE does, and with Citus every node's copy of the row: votes check theirs.
LOCK_FOR_REMOVAL: Final = Statement(
    update(users)
    .where(users.c.id == bindparam("user_id"))
    .values(username_key=bindparam("removed_key"))
    .returning(*_ENTITY.selected_columns)
)
LOCK_ADMINS: Final = Statement(
    _ENTITY.where(users.c.role == bindparam("role"), users.c.is_active)
    .order_by(users.c.id)
    .with_for_update(key_share=True)
)
SAVE: Final = Statement(
    update(users)
    .where(users.c.id == bindparam("user_id"))
    .values({column.name: bindparam(column.name) for column in users.c if column.name not in {"id", "created_at"}})
)
SAVEPOINT: Final = Statement(text("SAVEPOINT before_locks"))
ROLLBACK_TO_SAVEPOINT: Final = Statement(text("ROLLBACK TO SAVEPOINT before_locks"))
DELETE: Final = Statement(delete(users).where(users.c.id == bindparam("user_id")))


def _kinds(position: Any) -> Any:
    """Select algorithm and parameters: what precedes the salt."""
    hashed = users.c.password_hash
    is_bcrypt = func.substr(hashed, literal_column("1"), literal_column("2")) == literal_column("'$2'")
    parameters = position(func.substr(hashed, literal_column("16")), literal_column("'$'"))
    end = case((is_bcrypt, literal_column("7")), else_=literal_column("15") + parameters)
    return select(func.substr(hashed, literal_column("1"), end)).distinct()


HASH_KINDS: Final = Statement(_kinds(func.strpos), sqlite=_kinds(func.instr))


@lru_cache(maxsize=1_000)
def list_statement(search: bool, window: WindowShape) -> Statement:
    """Build the statement of a list of accounts."""
    by_id = Keyset(users.c.id, descending=False)
    statement = _VIEW.order_by(*by_id.order)
    if window.after:
        statement = statement.where(by_id.is_after_cursor)
    if search:
        statement = statement.where(contains(users.c.search_folded, bindparam("needle")))
    return Statement(window.cut(statement), trigrams=search)


class SqlUserRepository:
    """Accounts inside one transaction."""

    def __init__(self, querier: Querier) -> None:
        self._querier = querier

    def add(self, user: User) -> User:
        """Store a new account; unique constraints refuse a taken e-mail or username."""
        ((user_id,),) = self._querier.fetch_all(INSERT, user_row(user) | {"created_at": user.created_at})
        return user.with_id(user_id)

    def lock(self, user_id: int) -> User:
        """Return an account and lock it against changes until the transaction ends."""
        row = self._querier.fetch_one(LOCK, {"user_id": user_id}) if is_id(user_id) else None
        if row is None:
            raise UserNotFound(user_id)
        return _entity(row)

    def lock_admins(self) -> Sequence[User]:
        """Return the active administrators and lock them until the transaction ends."""
        return [_entity(row) for row in self._querier.fetch_all(LOCK_ADMINS, {"role": Role.ADMIN.value})]

    def save(self, user: User) -> None:
        """Store a locked account; unique constraints refuse a taken e-mail or username."""
        self._querier.enqueue(SAVE, user_row(user) | {"user_id": user.id})

    def remove(self, user_id: int) -> User | None:
        """Remove an account with its rows, and correct the counters that count them.

        By the lock order posts come before the account, so the account can vote on another post between the two locks.
        Once it is locked no vote can follow; if one came between, both locks are released and taken again.
        """
        values = {"user_id": user_id}
        self._querier.enqueue(SAVEPOINT, {})
        while True:
            locked = sorted(self._querier.fetch_all(AFFECTED, values))
            for (post_id,) in locked:
                self._querier.enqueue(LOCK_POST, {"post_id": post_id})
            row = self._querier.fetch_one(LOCK_FOR_REMOVAL, {**values, "removed_key": f"{SEPARATOR}{user_id}"})
            if set(locked).issuperset(self._querier.fetch_all(AFFECTED, values)):
                break
            self._querier.enqueue(ROLLBACK_TO_SAVEPOINT, {})
        uncount(self._querier, user_id)
        self._querier.enqueue(DELETE_QUOTA, {"of_user": user_id})
        self._querier.enqueue(DELETE, values)
        return None if row is None else _entity(row)


class SqlUserReader:
    """Queries about accounts."""

    def __init__(self, connect: ConnectionProvider) -> None:
        self._connect = connect

    def get(self, user_id: int) -> UserView:
        """Return one account."""
        if is_id(user_id):
            with self._connect() as querier:
                row = querier.fetch_one(GET, {"user_id": user_id})
            if row is not None:
                return _view(row)
        raise UserNotFound(user_id)

    def list(self, search: str, window: Window) -> Page[UserView]:
        """List accounts by id."""
        if SEPARATOR in search:
            return Page([])
        statement = list_statement(bool(search), WindowShape.of(window))
        with self._connect() as querier:
            rows = querier.fetch_all(statement, {"needle": pattern(search), **window_values(window)})
        return page_of(rows, window, _view, lambda row: PageCursor(row[0], row[0]))

    def find_actor(self, bearer: Bearer) -> Actor:
        """Check a bearer."""
        with self._connect() as querier:
            return find_actor(querier, bearer)

    def find_by_email(self, email_key: str) -> User | None:
        """Return the account with an e-mail."""
        with self._connect() as querier:
            row = querier.fetch_one(FIND_BY_EMAIL, {"email_key": email_key})
        return None if row is None else _entity(row)

    def find(self, user_id: int) -> User | None:
        """Return an account."""
        if not is_id(user_id):
            return None
        with self._connect() as querier:
            row = querier.fetch_one(FIND, {"user_id": user_id})
        return None if row is None else _entity(row)

    def hash_kinds(self) -> Sequence[str]:
        """List the kinds of stored password hashes; this reads every account."""
        with self._connect() as querier:
            return [kind for (kind,) in querier.fetch_all(HASH_KINDS, {})]

    def sessions(self, user_id: int, now: datetime) -> Sequence[SessionView]:
        """List the sessions of an account."""
        with self._connect() as querier:
            return [SessionView(*row) for row in querier.fetch_all(SESSIONS, {"user_id": user_id, "now": now})]


def _view(row: Sequence[Any]) -> UserView:
    user_id, username, created_at, email, role, is_active = row
    return UserView(user_id, username, created_at, email, Role(role), is_active)


def _entity(row: Sequence[Any]) -> User:
    user_id, email, key, username, password_hash, role, is_active, created_at = row
    return User(user_id, email, key, username, password_hash, Role(role), is_active, created_at)


def user_row(user: User) -> dict[str, object]:
    """Return the columns of an account that can change."""
    searched = f"{user.email}{SEPARATOR}{user.username or ''}"
    return {
        "email": user.email,
        "email_key": user.email_key,
        "username": user.username,
        "username_key": user.username_key,
        "search_key": searched.lower(),  # read by workers of the release before 0005
        "search_folded": fold(searched),
        "password_hash": user.password_hash,
        "role": user.role.value,
        "is_active": user.is_active,
    }

"""Accounts in SQL: statements, then the repository and the reader that send them."""

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Row, bindparam, delete, insert, literal_column, select, union, update

from application.paging import Page, PageCursor, Window
from application.views import Claims, SessionView, UserView
from domain.text import search_key
from domain.users import Actor, Role, User, UserNotFound
from domain.votes import Direction, Tally, hotness
from infrastructure.database.links import Link, Statement
from infrastructure.database.sql import Reading, holds, inserted_id, is_id, pattern
from infrastructure.database.tables import posts, sessions, users, votes

_VIEW: Final = select(users.c.id, users.c.username, users.c.created_at, users.c.email, users.c.role, users.c.is_active)
GET: Final = _VIEW.where(users.c.id == bindparam("user_id"))
FIND_ACTOR: Final = Statement(
    select(users.c.role)
    .join_from(sessions, users, users.c.id == sessions.c.user_id)
    .where(
        sessions.c.id == bindparam("session_id"),
        users.c.id == bindparam("user_id"),
        users.c.is_active,
        sessions.c.ends_at > bindparam("now"),
    )
)
SESSIONS: Final = (
    select(sessions.c.id, sessions.c.created_at, sessions.c.last_used_at, sessions.c.user_agent)
    .where(sessions.c.user_id == bindparam("user_id"), sessions.c.ends_at > bindparam("now"))
    .order_by(sessions.c.last_used_at.desc(), sessions.c.id.desc())
)
INSERT: Final = insert(users)

_OWN_POSTS: Final = select(posts.c.id).where(posts.c.owner_id == bindparam("user_id"))
_POSTS_VOTED_ON: Final = select(votes.c.post_id).where(votes.c.user_id == bindparam("user_id"))
TOUCHED: Final = select(posts.c.id).where(posts.c.id.in_(union(_OWN_POSTS, _POSTS_VOTED_ON))).order_by(posts.c.id)
LOCK_TOUCHED: Final = TOUCHED.with_for_update(key_share=True)
_ENTITY: Final = select(
    users.c.id,
    users.c.email,
    users.c.username,
    users.c.password_hash,
    users.c.role,
    users.c.is_active,
    users.c.created_at,
)
FIND: Final = _ENTITY.where(users.c.id == bindparam("user_id"))
FIND_BY_EMAIL: Final = _ENTITY.where(users.c.email_key == bindparam("email_key"))
# FOR NO KEY UPDATE: people may go on voting and writing, which locks their account for its key alone.
LOCK: Final = FIND.with_for_update(key_share=True)
LOCK_FOR_REMOVAL: Final = FIND.with_for_update()
LOCK_ADMINS: Final = (
    _ENTITY.where(users.c.role == Role.ADMIN.value, users.c.is_active)
    .order_by(users.c.id)
    .with_for_update(key_share=True)
)
SAVE: Final = (
    update(users)
    .where(users.c.id == bindparam("user_id"))
    .values(
        {
            name: bindparam(name)
            for name in (
                "email",
                "email_key",
                "username",
                "username_key",
                "search_key",
                "password_hash",
                "role",
                "is_active",
            )
        }
    )
)
VOTED_ON: Final = (
    select(votes.c.post_id, votes.c.dir, posts.c.upvotes, posts.c.downvotes, posts.c.created_at)
    .join_from(votes, posts, posts.c.id == votes.c.post_id)
    .where(votes.c.user_id == bindparam("user_id"))
)
TAKE_OUT: Final = (
    update(posts)
    .where(posts.c.id == bindparam("post_id"))
    .values({name: bindparam(name) for name in ("upvotes", "downvotes", "score", "hot")})
)
DELETE: Final = delete(users).where(users.c.id == bindparam("user_id"))


@lru_cache(maxsize=1_000)
def list_statement(search: bool, skip: bool, rows: int) -> Statement:
    """Build the statement of a list of accounts for one combination of what is asked."""
    statement = _VIEW.where(users.c.id > bindparam("after_id")).order_by(users.c.id).limit(literal_column(str(rows)))
    if search:
        statement = statement.where(holds(users.c.search_key, bindparam("needle")))
    return Statement(statement.offset(bindparam("skip")) if skip else statement, prepared=not search)


class SqlUserRepository:
    """Writes accounts inside one transaction."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def add(self, user: User) -> User:
        """Store a new account; the database judges whether its e-mail and username are free."""
        return user.with_id(inserted_id(self._link.execute(INSERT, user_row(user) | {"created_at": user.created_at})))

    def lock(self, user_id: int) -> User:
        """Get an account and keep everybody else from changing it until the transaction ends."""
        row = self._link.execute(LOCK, {"user_id": user_id}).first() if is_id(user_id) else None
        if row is None:
            raise UserNotFound(user_id)
        return _entity(row)

    def lock_admins(self) -> Sequence[User]:
        """Get the active administrators, and keep everybody else from changing them."""
        return [_entity(row) for row in self._link.execute(LOCK_ADMINS)]

    def save(self, user: User) -> None:
        """Store the change of a locked account; the database judges whether its e-mail and username are free."""
        self._link.execute(SAVE, user_row(user) | {"user_id": user.id})

    def remove(self, user_id: int) -> None:
        """Remove an account, its posts and its votes, and take its votes out of the tallies.

        The lock order puts posts before the account, so a vote of the account on yet another post may land
        between the two. Once the account is locked none can follow; if one had, start over with its post.
        """
        who = {"user_id": user_id}
        while True:
            attempt = self._link.begin_nested()
            locked = set(self._link.execute(LOCK_TOUCHED, who).scalars())
            self._link.execute(LOCK_FOR_REMOVAL, who)
            if locked.issuperset(self._link.execute(TOUCHED, who).scalars()):
                break
            attempt.rollback()
        if counted := [_without(row) for row in self._link.execute(VOTED_ON, who)]:
            self._link.execute(TAKE_OUT, counted)
        self._link.execute(DELETE, who)
        attempt.commit()


class SqlUserReader:
    """Answers questions about accounts."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def get(self, user_id: int) -> UserView:
        """Get one account."""
        if is_id(user_id):
            with self._reading() as link:
                row = link.execute(GET, {"user_id": user_id}).first()
            if row is not None:
                return _view(row)
        raise UserNotFound(user_id)

    def list(self, search: str, window: Window) -> Page[UserView]:
        """List accounts by id."""
        values: dict[str, object] = {"after_id": window.after.id if window.after else 0}
        if search:
            values["needle"] = pattern(search)
        if window.skip:
            values["skip"] = window.skip
        with self._reading() as link:
            statement = list_statement(bool(search), bool(window.skip), window.limit + 1)
            found = [_view(row) for row in link.rows(statement, values)]
        if len(found) <= window.limit:
            return Page(found)
        last = found[window.limit - 1].id
        return Page(found[: window.limit], PageCursor(last, last))

    def find_actor(self, claims: Claims, now: datetime) -> Actor | None:
        """Find who an access token speaks for."""
        if not (is_id(claims.user_id) and is_id(claims.session_id)):
            return None
        values = {"user_id": claims.user_id, "session_id": claims.session_id, "now": now}
        with self._reading() as link:
            row = link.row(FIND_ACTOR, values)
        return None if row is None else Actor(claims.user_id, Role(row[0]), claims.session_id)

    def find_by_email(self, email_key: str) -> User | None:
        """Find the account of an e-mail."""
        with self._reading() as link:
            row = link.execute(FIND_BY_EMAIL, {"email_key": email_key}).first()
        return None if row is None else _entity(row)

    def find(self, user_id: int) -> User | None:
        """Find an account."""
        if not is_id(user_id):
            return None
        with self._reading() as link:
            row = link.execute(FIND, {"user_id": user_id}).first()
        return None if row is None else _entity(row)

    def sessions(self, user_id: int, now: datetime) -> Sequence[SessionView]:
        """List the sessions of an account."""
        with self._reading() as link:
            found = link.execute(SESSIONS, {"user_id": user_id, "now": now})
            return [SessionView(row.id, row.created_at, row.last_used_at, row.user_agent) for row in found]


def _view(row: Sequence[Any]) -> UserView:
    user_id, username, created_at, email, role, is_active = row
    return UserView(user_id, username, created_at, email, Role(role), is_active)


def _entity(row: Row[*tuple[Any, ...]]) -> User:
    return User(
        id=row.id,
        email=row.email,
        username=row.username,
        password_hash=row.password_hash,
        role=Role(row.role),
        is_active=row.is_active,
        created_at=row.created_at,
    )


def user_row(user: User) -> dict[str, object]:
    """Write an account as what of its row can change."""
    return {
        "email": user.email,
        "email_key": user.email_key,
        "username": user.username,
        "username_key": user.username_key,
        "search_key": search_key(f"{user.email}\n{user.username or ''}"),
        "password_hash": user.password_hash,
        "role": user.role.value,
        "is_active": user.is_active,
    }


def _without(row: Row[*tuple[Any, ...]]) -> dict[str, object]:
    """Take a vote out of the tally of its post."""
    tally = Tally(row.upvotes, row.downvotes).after(Direction(row.dir), Direction.NONE)
    return {
        "post_id": row.post_id,
        "upvotes": tally.upvotes,
        "downvotes": tally.downvotes,
        "score": tally.votes,
        "hot": hotness(tally.votes, row.created_at),
    }

"""Callers in SQL: the statement that serves a bearer checks account and session."""

from typing import Any, Final

from sqlalchemy import BigInteger, and_, bindparam, exists, literal_column, or_, select

from application.views import Bearer, Caller
from domain.users import Actor, InvalidToken, Role
from infrastructure.database.pipeline import Querier, Statement
from infrastructure.database.sql import is_id
from infrastructure.database.tables import posts, sessions, users

_ID: Final = bindparam("caller_id", type_=BigInteger)
_SESSION_ID: Final = bindparam("session_id", type_=BigInteger)
_HAS_SESSION: Final = exists().where(
    sessions.c.id == _SESSION_ID, sessions.c.user_id == users.c.id, sessions.c.ends_at > bindparam("now")
)
_ADMIN: Final[Any] = literal_column(f"'{Role.ADMIN.value}'")
CALLER: Final = (
    select(users.c.id, users.c.role, users.c.username, users.c.created_at)
    # An actor, which was checked before, is asked for no session.
    .where(users.c.id == _ID, or_(_SESSION_ID.is_(None), and_(users.c.is_active, _HAS_SESSION)))
    .subquery("caller")
)
"""The account of a caller; no row if the caller is refused."""

IS_VISIBLE: Final = or_(posts.c.published, posts.c.owner_id == bindparam("caller_id"))
"""Whether the caller may see a post without an administrator's rights."""

IS_ADMIN: Final = CALLER.c.role == _ADMIN
HAS_ADMIN_ROLE: Final = exists().where(users.c.id == _ID, users.c.role == _ADMIN)
"""Whether the caller's account is an administrator's, where the statement does not read `CALLER`."""


def caller_values(caller: Caller) -> dict[str, Any]:
    """Return the values of a caller's parameters."""
    if isinstance(caller, Bearer):
        account, session = (number if is_id(number) else 0 for number in (caller.id, caller.session_id))
        return {"caller_id": account, "session_id": session, "now": caller.at}
    return {"caller_id": caller.id, "session_id": None, "now": None}


FIND: Final = Statement(select(CALLER.c.role))


def checked(querier: Querier, caller: Caller) -> Caller:
    """Check a bearer by a query of its own, where Citus distributes the posts.

    There no outer join leads from an account to the posts of all shards, and one to a single post costs more than two
    queries.

    Raises:
        InvalidToken: the account is not active, or the session has ended.
    """
    return find_actor(querier, caller) if isinstance(caller, Bearer) and querier.is_distributed else caller


def find_actor(querier: Querier, bearer: Bearer) -> Actor:
    """Check a bearer by a query of its own.

    Raises:
        InvalidToken: the account is not active, or the session has ended.
    """
    row = querier.fetch_one(FIND, caller_values(bearer))
    if row is None:
        raise InvalidToken
    return Actor(bearer.id, Role(row[0]), bearer.session_id)

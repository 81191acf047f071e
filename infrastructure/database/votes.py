"""Votes in SQL: statements, then the repository and the reader that send them. The lock on the post guards them all."""

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from application.paging import Window
from application.views import OwnVote
from domain.users import Actor, InvalidToken
from domain.votes import Direction, Vote
from infrastructure.database.engine import violated
from infrastructure.database.queries import Reading, page_values
from infrastructure.database.tables import posts, votes

_ONE: Final = (votes.c.post_id == bindparam("of_post")) & (votes.c.user_id == bindparam("of_user"))

FIND: Final = select(votes.c.dir, votes.c.created_at).where(_ONE)
INSERT: Final = insert(votes)
SAVE: Final = update(votes).where(_ONE).values(dir=bindparam("dir"), created_at=bindparam("created_at"))
DELETE: Final = delete(votes).where(_ONE)
_OWN: Final = (
    select(votes.c.post_id, posts.c.title, votes.c.dir, votes.c.created_at)
    .join_from(votes, posts, posts.c.id == votes.c.post_id)
    .where(votes.c.user_id == bindparam("voter_id"))
    .order_by(votes.c.created_at.desc(), votes.c.post_id.desc())
)
_VISIBLE: Final = or_(posts.c.published, posts.c.owner_id == bindparam("voter_id"))


@cache
def list_statement(admin: bool, by_direction: bool, paged: bool) -> Select[Any]:
    """Build the statement of a person's votes for one combination of what is asked."""
    statement = _OWN if admin else _OWN.where(_VISIBLE)
    if by_direction:
        statement = statement.where(votes.c.dir == bindparam("dir"))
    return statement.limit(bindparam("limit")).offset(bindparam("skip")) if paged else statement


class SqlVoteRepository:
    """Writes votes inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def find(self, user_id: int, post_id: int) -> Vote | None:
        """Find the person's vote on the post."""
        row = self._connection.execute(FIND, {"of_user": user_id, "of_post": post_id}).first()
        return None if row is None else Vote(user_id, post_id, Direction(row.dir), row.created_at)

    def add(self, vote: Vote) -> None:
        """Store a vote where the person had none."""
        row = {
            "post_id": vote.post_id,
            "user_id": vote.user_id,
            "dir": vote.direction.value,
            "created_at": vote.created_at,
        }
        try:
            self._connection.execute(INSERT, row)
        except IntegrityError as error:  # the post is there: it is locked
            if violated(error) in {"fk_votes_user_id_users", "FOREIGN KEY constraint failed"}:
                raise InvalidToken from error
            raise

    def save(self, vote: Vote) -> None:
        """Store a vote in place of the person's earlier one."""
        self._connection.execute(
            SAVE,
            {
                "of_user": vote.user_id,
                "of_post": vote.post_id,
                "dir": vote.direction.value,
                "created_at": vote.created_at,
            },
        )

    def remove(self, user_id: int, post_id: int) -> None:
        """Remove the person's vote on the post."""
        self._connection.execute(DELETE, {"of_user": user_id, "of_post": post_id})


class SqlVoteReader:
    """Answers questions about votes."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def list(self, voter: Actor, direction: Direction | None, window: Window | None) -> Sequence[OwnVote]:
        """List a person's votes on posts that they can still see."""
        values = page_values(window) | {"voter_id": voter.id}
        if direction is not None:
            values["dir"] = direction.value
        statement = list_statement(voter.is_admin, direction is not None, window is not None)
        with self._reading() as connection:
            found = connection.execute(statement, values)
            return [OwnVote(row.post_id, row.title, row.dir, row.created_at) for row in found]

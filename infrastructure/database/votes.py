"""Votes in SQL: statements, then the repository that sends them. The lock on the post guards them all."""

from typing import Final

from sqlalchemy import Connection, bindparam, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from domain.users import InvalidToken
from domain.votes import Direction, Vote
from infrastructure.database.engine import violated
from infrastructure.database.tables import votes

_ONE: Final = (votes.c.post_id == bindparam("of_post")) & (votes.c.user_id == bindparam("of_user"))

FIND: Final = select(votes.c.dir, votes.c.created_at).where(_ONE)
INSERT: Final = insert(votes)
SAVE: Final = update(votes).where(_ONE).values(dir=bindparam("dir"), created_at=bindparam("created_at"))
DELETE: Final = delete(votes).where(_ONE)


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

"""Counters of posts, compared with the rows that they count, and corrected."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final

from application.views import Counter, Recount
from domain.posts import PostNotFound
from infrastructure.database.counters import recount, store_counted
from infrastructure.database.engine import Database
from infrastructure.database.posts import SqlPostRepository

BATCH: Final = 200
"""Posts counted per statement and repaired per transaction, to keep both short."""


class Counters:
    """Verifies and repairs counters while users write: the rows are the truth."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def verify(self, of: Counter) -> Iterator[Sequence[Recount]]:
        """Yield all posts by ascending id, in batches. This writes nothing.

        A post and its rows are read at one moment, so concurrent writes cause no difference.
        """
        after = 0
        while batch := self._next(of, after):
            yield batch
            after = batch[-1].post_id

    def repair(self, of: Counter) -> Iterator[Sequence[Recount]]:
        """Yield all posts by ascending id as they were found, each batch after its repair.

        Posts that disagree are locked by ascending id, a batch per transaction, and counted again under the lock, since
        the first count may be outdated.
        """
        for batch in self.verify(of):
            if wrong := [found.post_id for found in batch if not found.agrees]:
                with self._database.write() as querier:
                    for post_id in wrong:
                        with suppress(PostNotFound):  # deleted since
                            SqlPostRepository(querier).lock(post_id)
                            store_counted(querier, of, post_id)
            yield batch

    def _next(self, of: Counter, after: int) -> Sequence[Recount]:
        with self._database.read() as querier:
            return recount(querier, of, after, BATCH)

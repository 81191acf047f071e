"""Reads from a hot standby that has replayed every commit of the primary."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

import structlog
from sqlalchemy import text

from application.errors import TransactionAborted, Unavailable
from infrastructure.database.engine import Database
from infrastructure.database.errors import cause_of
from infrastructure.database.pipeline import Querier, Statement
from infrastructure.execution.deadline import within
from infrastructure.metrics import StandbyOutcome
from infrastructure.timeouts import Timeouts

POSITION: Final = Statement(
    text(
        "SELECT ('x' || left(pg_walfile_name(flushed), 8))::bit(32)::int, pg_wal_lsn_diff(flushed, '0/0')::bigint"
        " FROM pg_current_wal_flush_lsn() AS flushed"
    )
)
"""The primary's timeline and flushed WAL position in bytes: all acknowledged commits."""

CLUSTER: Final = Statement(text("SELECT system_identifier, current_database() FROM pg_control_system()"))

REPLAYED: Final = Statement(
    text(
        "SELECT system_identifier, current_database(), timeline_id,"
        " pg_wal_lsn_diff(coalesce(pg_last_wal_replay_lsn(), '0/0'), '0/0')::bigint, pg_is_in_recovery()"
        " FROM pg_sleep(:seconds), pg_control_system(), pg_control_checkpoint()"
    )
)
"""The same of a standby, and its replayed WAL position: later statements see at least that."""

log: Final = structlog.get_logger()


class WalPosition(NamedTuple):
    """A WAL position: cluster, database, timeline and bytes."""

    cluster: int
    database: str
    timeline: int
    bytes: int


def position_of(querier: Querier) -> WalPosition:
    """Query the flushed WAL position of a primary."""
    ((timeline, flushed),) = querier.fetch_all(POSITION, {})
    if "cluster" not in querier.cache:
        (querier.cache["cluster"],) = querier.fetch_all(CLUSTER, {})
    cluster, database = querier.cache["cluster"]
    return WalPosition(cluster, database, timeline, flushed)


def replayed_by(querier: Querier, pause: float) -> tuple[WalPosition, bool]:
    """Query the replayed WAL position after a pause, and whether it is a standby."""
    ((*replayed, is_standby),) = querier.fetch_all(REPLAYED, {"seconds": pause})
    return WalPosition(*replayed), is_standby


def unfit(replayed: WalPosition, position: WalPosition, *, is_standby: bool) -> str | None:
    """Return why a server is no standby of the primary, or None."""
    if replayed[:2] != position[:2]:
        return "it follows another database"
    if not is_standby:
        return "it is no standby, or none any more"
    if replayed.timeline != position.timeline:
        return "it follows another timeline, as after a failover"
    return None


class Standby:
    """Sends reads to a standby that has replayed every commit, else to the primary.

    A read sees every commit before it, the client's own included: the primary reports its flushed WAL position, and a
    statement before the query compares it with the standby's replayed position on the same timeline. Both statements
    together cost the primary about as much as finding one row.
    """

    def __init__(
        self, primary: Database, standby: Database, timeouts: Timeouts, count: Callable[[StandbyOutcome], None]
    ) -> None:
        self._primary = primary
        self._standby = standby
        self._timeouts = timeouts
        self._count = count
        self._rests_until = 0.0
        self._reason: str | None = None

    @contextmanager
    def read(self) -> Iterator[Querier]:
        """Yield a connection for queries, to the standby if it is current.

        Raises:
            TransactionAborted: the standby disconnected; a retry uses the primary.
            Unavailable: the primary is unavailable.
        """
        if self._is_due():
            position = self._position()
            is_yielded = False
            try:
                with within(self._timeouts.standby), self._standby.read() as querier:
                    if self._has_replayed(querier, position):
                        is_yielded = True
                        yield querier
                        self._count("answered")
                        return
            except Unavailable as error:
                self._leave_out("it cannot answer now", cause_of(error))
                if is_yielded:
                    raise TransactionAborted("the standby was lost") from error
        else:
            self._count("left_out")
        with self._primary.read() as querier:
            yield querier

    def close(self) -> None:
        """Close the connections to the standby."""
        self._standby.close()

    def _is_due(self) -> bool:
        now = time.monotonic()
        if now < self._rests_until:
            return False
        if self._rests_until:  # one request probes it; all others use the primary
            self._rests_until = now + self._timeouts.standby_lost
        return True

    def _position(self) -> WalPosition:
        with self._primary.read() as querier:
            return position_of(querier)

    def _has_replayed(self, querier: Querier, position: WalPosition) -> bool:
        for pause in self._timeouts.standby_pauses:
            replayed, is_standby = replayed_by(querier, pause)
            if reason := unfit(replayed, position, is_standby=is_standby):
                self._leave_out(reason)
                return False
            if replayed.bytes >= position.bytes:
                self._rests_until = 0.0
                if self._reason is not None:
                    log.info("standby is asked again")
                    self._reason = None
                return True
        self._count("behind")
        self._rests_until = time.monotonic() + self._timeouts.standby_behind
        return False

    def _leave_out(self, reason: str, cause: str | None = None) -> None:
        self._count("left_out")
        self._rests_until = time.monotonic() + self._timeouts.standby_lost
        if reason != self._reason:
            log.warning("standby is left out", reason=reason, cause=cause)
            self._reason = reason

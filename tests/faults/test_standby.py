"""A primary that is killed for good, and its standby, which is promoted."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest
from sqlalchemy import text

from infrastructure.database.engine import open_database
from tests.support.backends import empty
from tests.support.connections import connection_of
from tests.support.load import Load, VotingForum, serve
from tests.support.postgres import Postgres


@pytest.fixture
def standby(breakable: Postgres) -> Iterator[Postgres]:
    """A hot standby of the PostgreSQL that may be broken."""
    empty(breakable.url)
    with breakable.standby() as standby:
        yield standby


def test_service_returns_when_the_standby_is_promoted(breakable: Postgres, standby: Postgres) -> None:
    forum = VotingForum(breakable.url)
    hosts = tuple(f"127.0.0.1:{server.url.port}" for server in (breakable, standby))
    both = {"host": hosts, "target_session_attrs": "read-write"}
    with (
        killed_for_good(breakable) as kill,
        serve(forum.url.set(host=None, port=None, query=both)) as server,
        closing(open_database(standby.url, 1)) as at_standby,
    ):
        with Load(server.address, forum) as load:
            load.wait_for("acknowledged", 20)
            kill()
            load.wait_for("refused", 5)
            with at_standby.read() as querier:
                assert connection_of(querier).execute(text("SELECT pg_promote(false)")).scalar()
            load.wait_for("acknowledged", 40)
        assert server.end() == 0
    assert "Traceback" not in server.said
    forum.url = standby.url
    forum.require_true_counters()


@contextmanager
def killed_for_good(primary: Postgres) -> Iterator[Callable[[], None]]:
    """Let a primary be killed, and start it only when no process takes it for the primary any more."""
    is_dead = False

    def kill() -> None:
        nonlocal is_dead
        primary.kill()
        is_dead = True

    try:
        yield kill
    finally:
        if is_dead:
            primary.start()

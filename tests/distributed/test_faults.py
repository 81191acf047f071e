"""A cluster whose machines die under votes: clients get success or 503, and no vote is lost or counted twice."""

from collections.abc import Iterator

import pytest

from tests.support.backends import migrate
from tests.support.load import TIMES, Load, VotingForum, serve
from tests.support.postgres import Postgres, private_server


@pytest.fixture(scope="module")
def coordinator() -> Iterator[Postgres]:
    """The coordinator of a cluster with a distributed database."""
    with private_server() as server:
        migrate(server.url)
        yield server


def test_votes_survive_workers_and_coordinators_that_are_killed(coordinator: Postgres) -> None:
    forum = VotingForum(coordinator.url)
    with serve(forum.url) as server:
        with Load(server.address, forum) as load:
            for _ in range(TIMES):
                for victim in (*coordinator.workers, coordinator):
                    load.wait_for("acknowledged", 20)
                    victim.kill()
                    load.wait_for("refused", 5)
                    victim.start()
            load.wait_for("acknowledged", 40)
        load.require_kept()
        assert server.end() == 0
    assert "Traceback" not in server.said

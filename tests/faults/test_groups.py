"""Several workers vote on the same few posts: every vote is counted, and none waits for a deadlock."""

from tests.support.backends import empty
from tests.support.load import TIMES, Load, VotingForum, serve
from tests.support.postgres import Postgres

CLIENTS, WORKERS = 64, 4
UNLIMITED_RATE = 10_000


def test_crowd_on_two_posts_is_counted_exactly_by_several_workers(breakable: Postgres) -> None:
    empty(breakable.url)
    forum = VotingForum(breakable.url, voters=CLIENTS, posts=2)
    with serve(forum.url, workers=WORKERS, DATABASE_CONNECTIONS="4") as server:
        with Load(server.address, forum, rate=UNLIMITED_RATE) as load:
            load.wait_for("acknowledged", 1_000 * TIMES)
        load.require_kept()
        assert load.counts["refused"] == 0
        assert server.end() == 0
    assert "Traceback" not in server.said
    assert "unavailable" not in server.said

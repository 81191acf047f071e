"""A primary under Patroni that loses power while people vote, with deploy/patroni.yml. `make patroni` runs this."""

from infrastructure.database.schema import Migrations
from infrastructure.settings import database_url
from tests.support.load import TIMES, Load, VotingForum, serve
from tests.support.patroni import patroni_nodes, url_of, wait_until_whole


def test_votes_go_on_when_a_primary_loses_power_and_none_is_lost() -> None:
    with patroni_nodes() as nodes:
        url = url_of(nodes)
        Migrations(database_url(url)).upgrade()
        forum = VotingForum(database_url(url))
        with serve(forum.url, DATABASE_URL=url) as server:
            with Load(server.address, forum) as load:
                for _ in range(TIMES):
                    load.wait_for("acknowledged", 20)
                    victim = next(node for node in nodes if node.has("primary"))
                    victim.kill()
                    load.wait_for("refused", 5)
                    load.wait_for("acknowledged", 20, within_seconds=90)
                    victim.start()
                    wait_until_whole(nodes)
            load.require_kept()
            assert server.end() == 0
        assert "Traceback" not in server.said

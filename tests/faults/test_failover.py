"""A primary that is killed under votes, and its standby, which is promoted: `make failover` does it twenty times."""

from urllib.parse import quote

from infrastructure.database.schema import Migrations
from tests.support.load import TIMES, Load, VotingForum, serve
from tests.support.postgres import find_binaries, one_server

SYNCHRONOUS = {"synchronous_commit": "remote_apply", "synchronous_standby_names": "*"}


def test_no_acknowledged_vote_is_lost_when_a_standby_is_promoted() -> None:
    with (
        one_server(find_binaries(), SYNCHRONOUS, eased=False) as first,  # a commit waits for a standby
        first.standby() as second,
    ):
        primary, standby = first, second
        Migrations(primary.url).upgrade()
        forum = VotingForum(primary.url)
        hosts = ",".join(f"127.0.0.1:{server.url.port}" for server in (primary, standby))
        account = f"{primary.url.username}:{quote(str(primary.url.password), safe='')}"
        both = f"postgresql://{account}@{hosts}/{primary.url.database}?target_session_attrs=read-write"
        with serve(forum.url, DATABASE_URL=both) as server:
            with Load(server.address, forum) as load:
                for _ in range(TIMES):
                    load.wait_for("acknowledged", 20)
                    primary.kill()
                    load.wait_for("refused", 5)
                    standby.promote()
                    primary.follow(standby)
                    primary, standby = standby, primary
                load.wait_for("acknowledged", 20)
            forum.url = primary.url
            load.require_kept()
            assert server.end() == 0
        assert "Traceback" not in server.said

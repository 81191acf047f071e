"""Whatever is killed: no acknowledged vote is lost, none is counted twice, and service comes back by itself."""

import os
import signal
from contextlib import ExitStack

import pytest

from tests.support.load import TIMES, Load, VotingForum, serve
from tests.support.postgres import Postgres, free_port


def test_a_database_that_is_killed_loses_no_vote(breakable: Postgres, forum: VotingForum) -> None:
    with serve(forum.url) as server:
        with Load(server.address, forum, answer_seconds=3) as load:
            for _ in range(2 * TIMES):
                load.wait_for("acknowledged", 20)
                breakable.kill()
                load.wait_for("refused", 5)
                breakable.start()
                load.wait_for("acknowledged", 5, within_seconds=2)
        load.require_kept()
        assert server.end() == 0
    assert "Traceback" not in server.said


@pytest.mark.parametrize("kind", ["file_forum"] if TIMES == 1 else ["file_forum", "forum"])
def test_a_server_that_is_killed_loses_no_vote(request: pytest.FixtureRequest, kind: str) -> None:
    forum: VotingForum = request.getfixturevalue(kind)
    with ExitStack() as stack:
        server = stack.enter_context(serve(forum.url, port=free_port()))
        with Load(server.address, forum, may_break=True) as load:
            for _ in range(1 if TIMES == 1 else 2 * TIMES):
                load.wait_for("acknowledged", 20)
                os.killpg(server.process.pid, signal.SIGKILL)
                load.wait_for("broken", 5)
                stack.close()
                server = stack.enter_context(serve(forum.url, port=server.port))
                load.wait_for("acknowledged", 5)
        load.require_kept()
        assert server.end() == 0

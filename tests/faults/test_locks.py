"""Another session holds locks for long: only requests for the same rows are refused."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Event

import httpx2
from sqlalchemy import text

from infrastructure.database.engine import open_engine
from tests.support.load import HANG_SECONDS, TIMES, VotingForum, is_refusal, serve

VOTERS = 40
"""More voters than connections: one of them would always acquire the next free connection."""


def test_locked_post_refuses_its_own_votes_and_no_others(forum: VotingForum) -> None:
    locked, other = forum.posts[:2]
    is_expired = Event()
    others: Counter[str] = Counter()
    engine = open_engine(forum.url, connections=1)
    with (
        serve(forum.url) as server,
        httpx2.Client(base_url=server.address, timeout=HANG_SECONDS) as client,
        closing(engine.connect()) as stranger,
        ThreadPoolExecutor(VOTERS + 2) as pool,
    ):

        def vote(number: int) -> httpx2.Response:
            voter = forum.voters[number % len(forum.voters)]
            return client.put(f"/posts/{locked}/vote", json={"dir": 1}, headers=voter.headers)

        def go_on(number: int) -> None:
            voter = forum.voters[number % len(forum.voters)]
            while not is_expired.wait(0.05):
                for answer in (
                    client.get("/posts", headers=voter.headers),
                    client.put(f"/posts/{other}/vote", json={"dir": 1}, headers=voter.headers),
                    client.get("/health/ready"),
                ):
                    others[f"{answer.request.method} {answer.request.url.path} {answer.status_code}"] += 1

        bystanders = [pool.submit(go_on, number) for number in range(2)]
        try:
            stranger.execute(text("SET idle_in_transaction_session_timeout = 0"))
            stranger.execute(text("SELECT 1 FROM posts WHERE id = :id FOR UPDATE"), {"id": locked})
            refused = list(pool.map(vote, range(VOTERS * TIMES)))
            stranger.rollback()
            assert all(is_refusal(answer) for answer in refused)
            assert vote(0).status_code == 200
        finally:
            is_expired.set()
        for bystander in bystanders:
            bystander.result()
        assert server.end() == 0
    engine.dispose()
    assert set(others) == {"GET /posts 200", f"PUT /posts/{other}/vote 200", "GET /health/ready 200"}
    forum.require_true_counters()

"""Agora behind PgBouncer in transaction mode, with default settings: right responses, no drafts of others, no 500."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import product
from random import Random

import httpx2
import pytest
from sqlalchemy import URL, Text, bindparam, cast, func, select

from domain.posts import Post
from infrastructure.database.engine import open_database
from infrastructure.database.pipeline import Statement
from tests.support.backends import sql_backend
from tests.support.command import plain, run
from tests.support.load import KEY, Load, Voter, VotingForum
from tests.support.pgbouncer import pgbouncer
from tests.support.postgres import Postgres
from tests.support.roles import SPOILED, role_with
from tests.support.samples import NOW, add
from tests.support.servers import Server, serving

REQUESTS = 60
DRAFTS = 6

PATHS = [
    f"/posts?sort_by={sort_by}&order={order}{rest}"
    for sort_by, order, rest in product(
        ("date", "votes", "hot"),
        ("asc", "desc"),
        ("", "&limit=3", "&published=false", "&published=true&limit=7", "&search=draft", "&skip=2", "&owner_id=1"),
    )
]


@pytest.fixture(scope="module")
def forum(server: Postgres) -> VotingForum:
    """Voters with posts and drafts."""
    forum = VotingForum(server.url)
    with sql_backend(server.url) as backend:
        for voter, number in product(forum.voters, range(DRAFTS)):
            title, published = f"draft {number} of {voter.id}", number % 2 == 0
            post = Post.write(owner_id=voter.id, title=title, content="Text", published=published, now=NOW)
            with backend.uow() as tx:
                add(tx, post)
    return forum


@pytest.fixture(scope="module")
def behind(pooled: URL, forum: VotingForum) -> Iterator[Server]:
    assert forum.voters
    with serving(pooled, workers=2, SECRET_KEY=KEY) as server:
        yield server


SETTING = Statement(select(func.current_setting(cast(bindparam("name"), Text))))
NAMES = (
    "transaction_isolation",
    *(name for name in SPOILED if not name.startswith("default_") and name != "enable_indexscan"),
)


def ask(address: str, voter: Voter, paths: list[str]) -> list[tuple[str, int, object]]:
    with httpx2.Client(base_url=address, headers=voter.headers, timeout=20) as client:
        responses = [(path, client.get(path)) for path in paths]
    return [(path, response.status_code, response.json()) for path, response in responses]


def test_lists_are_those_of_a_direct_connection(server: Postgres, behind: Server, forum: VotingForum) -> None:
    with serving(server.url, SECRET_KEY=KEY) as direct:
        chosen = {voter.id: Random(voter.id).choices(PATHS, k=REQUESTS) for voter in forum.voters}
        with ThreadPoolExecutor(len(forum.voters)) as threads:
            pooled = threads.map(lambda voter: ask(behind.address, voter, chosen[voter.id]), forum.voters)
        expected = [ask(direct.address, voter, chosen[voter.id]) for voter in forum.voters]
    assert {status for found in expected for _, status, _ in found} == {200}
    assert list(pooled) == expected


def test_drafts_of_others_are_in_no_list(behind: Server, forum: VotingForum) -> None:
    for voter in forum.voters:
        for _, _, posts in ask(behind.address, voter, ["/posts?limit=100", "/posts?published=false&limit=100"]):
            assert isinstance(posts, list)
            assert {post["owner_id"] for post in posts if not post["published"]} == {voter.id}


def test_votes_are_all_counted(behind: Server, forum: VotingForum) -> None:
    with Load(behind.address, forum, rate=200) as load:
        load.wait_for("acknowledged", 400, within_seconds=60)
    load.require_kept()
    assert load.counts["refused"] == 0


def test_each_process_logs_once_that_it_stops_preparing(behind: Server) -> None:
    assert behind.said.count("statements are not prepared any more") == len(behind.workers)


def test_session_settings_hold_behind_the_pooler(server: Postgres) -> None:
    def settings(url: URL, *, transaction: bool) -> dict[str, object]:
        with (
            closing(open_database(url, 1)) as database,
            database.write() if transaction else database.read() as querier,
        ):
            return {name: querier.fetch_all(SETTING, {"name": name})[0][0] for name in NAMES}

    expected = settings(server.url, transaction=False)
    with role_with(server.url, SPOILED), pgbouncer(server.url) as pooled:
        for transaction in (False, True):
            assert settings(pooled, transaction=transaction) == expected


def test_remedy_for_refused_startup_parameters_helps(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    with pgbouncer(server.url, "extra_float_digits") as url:
        monkeypatch.setenv("DATABASE_URL", plain(url))
        done = run("doctor")
    assert "unsupported startup parameter" in done.output
    remedy = re.search("set ignore_startup_parameters = (.*) in pgbouncer.ini and reload PgBouncer", done.output)
    assert remedy
    with pgbouncer(server.url, remedy[1]) as url:
        monkeypatch.setenv("DATABASE_URL", plain(url))
        assert "the database responds" in run("doctor").output


def test_doctor_finds_the_pooler(server: Postgres, pooled: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    for url, is_found in ((pooled, True), (server.url, False)):
        monkeypatch.setenv("DATABASE_URL", plain(url))
        done = run("doctor")
        assert ("a connection pooler stands before PostgreSQL: statements are not prepared" in done.output) is is_found
        assert "problem" not in done.output

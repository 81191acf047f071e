"""Costs on SQL: of a vote in round trips and rows read, of refused passwords in statements."""

import re
from collections.abc import Callable
from contextlib import closing

import pytest
from sqlalchemy import URL, text

from application.errors import only
from application.paging import Order, Window
from application.passwords import CheckPassword, Guard, Guess, Limits
from application.posts import GetPost, ListPosts, WritePost, WritePosts
from application.quotas import Quota
from application.views import Bearer, PostCommand, PostFilter, VoteCommand
from application.votes import CastVote, CastVotes
from domain.errors import DomainError
from domain.sessions import RefreshHashes, Session
from domain.votes import Direction, Vote
from infrastructure.database.engine import open_database
from infrastructure.database.pipeline import Querier, Statement
from infrastructure.database.votes import SqlVoteRepository
from tests.fakes.services import FrozenClock, MemoryTimer, PlainHasher
from tests.support.backends import sql_backend
from tests.support.round_trips import round_trips
from tests.support.samples import NOW, a_user, add_post, add_user

VOTES = 20
ROUND_TRIPS = {"postgresql": 2, "sqlite": 6}
"""On SQLite each statement, BEGIN and COMMIT included."""

ROWS_READ = Statement(
    text(
        "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) FROM pg_stat_xact_user_tables"
        " WHERE relname IN ('posts', 'votes')"
    )
)


def rows_read(querier: Querier) -> int:
    ((rows,),) = querier.fetch_all(ROWS_READ, {})
    return int(rows)


def test_vote_takes_the_same_round_trips_on_a_post_with_many(url: URL) -> None:
    with round_trips() as sent, sql_backend(url) as backend:
        ann = add_user(backend.uow, "ann")
        cast = CastVote(CastVotes(backend.uow, FrozenClock(), quota=Quota(1_000, 1_000)))
        quiet, busy = add_post(backend.uow, ann), add_post(backend.uow, ann)
        for number in range(VOTES):
            cast(add_user(backend.uow, f"user{number}"), busy.id, Direction.UP)
        counts = []
        for post in (quiet, busy):
            sent.clear()
            cast(ann, post.id, Direction.UP)
            counts.append(sum(not statement.startswith("PRAGMA") for statement in sent))

    assert counts == [ROUND_TRIPS[url.get_backend_name()]] * 2, sent


@pytest.mark.parametrize("url", ["postgres"], indirect=True)
def test_bearer_costs_no_round_trip(url: URL) -> None:
    with round_trips() as sent, sql_backend(url) as backend:
        ann = add_user(backend.uow, "ann")
        post, other = add_post(backend.uow, ann), add_post(backend.uow, ann)
        with backend.uow() as tx:
            refresh = RefreshHashes("family", "secret")
            session = tx.sessions.add(Session.open(user_id=ann.id, user_agent="", refresh=refresh, now=NOW))
        bearer, quota = Bearer(ann.id, session.id, NOW), Quota(1_000, 1_000)
        cast_votes = CastVotes(backend.uow, FrozenClock(), quota=quota)
        write_posts = WritePosts(backend.uow, FrozenClock(), quota=quota)
        votes = [VoteCommand(bearer, each.id, Direction.DOWN) for each in (post, other) for _ in range(10)]
        posts = [PostCommand(bearer, "A title", "Some content", published=True)] * 20
        costs: dict[str, int] = {}
        calls: dict[str, Callable[[], object]] = {
            "get": lambda: GetPost(backend.posts)(bearer, post.id),
            "list": lambda: ListPosts(backend.posts)(bearer, PostFilter(), Order(), Window(10)),
            "vote": lambda: CastVote(cast_votes)(bearer, post.id, Direction.UP),
            "write": lambda: WritePost(write_posts)(bearer, "A title", "Some content", published=True),
            "twenty votes": lambda: cast_votes(votes),
            "twenty votes, without waiting": lambda: cast_votes(votes, wait=False),
            "twenty posts": lambda: write_posts(posts),
        }
        for name, call in calls.items():
            sent.clear()
            call()
            costs[name] = len(sent)

    assert costs == {
        "get": 1,
        "list": 1,
        "vote": 2,
        "write": 2,
        "twenty votes": 2,
        "twenty votes, without waiting": 3,
        "twenty posts": 2,
    }


@pytest.mark.parametrize("url", ["postgres"], indirect=True)
def test_vote_reads_the_same_rows_on_a_post_with_many(url: URL) -> None:
    with sql_backend(url) as backend, closing(open_database(url, 1)) as database:
        ann = add_user(backend.uow, "ann")
        quiet, busy = add_post(backend.uow, ann), add_post(backend.uow, ann)
        for number in range(VOTES):
            CastVote(CastVotes(backend.uow, FrozenClock()))(
                add_user(backend.uow, f"user{number}"), busy.id, Direction.UP
            )
        rows = []
        for post in (quiet, busy):
            with database.write() as querier:
                before = rows_read(querier)
                votes = SqlVoteRepository(querier)
                context = only(votes.lock_contexts([(ann, post.id)]))
                vote = Vote(ann.id, post.id, Direction.UP, NOW)
                votes.record_all([vote], [context.counting(vote)])
                rows.append(rows_read(querier) - before)

    assert rows[0] == rows[1] > 0


ADDRESS = "2001:db8:1:2::/64"


@pytest.mark.parametrize("session_id", [0, 7])
@pytest.mark.parametrize("beyond", ["account", "address", "strangers"])
def test_right_and_wrong_passwords_beyond_a_limit_cost_the_same(url: URL, beyond: str, session_id: int) -> None:
    limits = {
        "account": Limits(failures_per_account=1),
        "address": Limits(failures_per_address=1),
        "strangers": Limits(failures_from_new_addresses=1),
    }
    with round_trips() as sent, sql_backend(url) as backend:
        check = CheckPassword(PlainHasher(), Guard(backend.throttle, limits[beyond]), FrozenClock(), MemoryTimer())
        ann = a_user("ann").with_password("plain:right")
        guess = Guess(ann.email_key, ADDRESS, session_id)
        costs = []
        for user, password in ((ann, "wrong"), (ann, "wrong"), (ann, "right"), (None, "right"), (ann, "wrong")):
            sent.clear()
            with pytest.raises(DomainError) as refusal:
                check(user, guess, password)
            costs.append((refusal.value.code, [shape(statement) for statement in sent]))

    assert costs[0][0] == "invalid-credentials"
    assert costs[1:] == [costs[1]] * 4
    assert costs[1][0] == "rate-limited"
    assert sum("COMMIT" in statement for statement in costs[1][1]) == 1


def shape(statement: str) -> str:
    """Leave the values of a statement out."""
    return re.sub(r"'[^']*'|\b\d+\b", "?", statement)

"""Kept counters: whatever a table names as one is verified, repaired, and true after an account's removal."""

from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from itertools import chain, combinations

import pytest
from pydantic import SecretStr
from sqlalchemy import URL, Table
from sqlalchemy.exc import IntegrityError

from application.views import Counter, Recount
from domain.users import Actor
from domain.votes import Direction, Tally, Vote, hotness
from infrastructure.container import Container
from infrastructure.database.engine import open_engine
from infrastructure.database.tables import OF_ACCOUNT, ON_POST, metadata, posts
from infrastructure.operations.counters import BATCH, Counters
from infrastructure.settings import Settings
from tests.fakes.memory import MemoryDatabase
from tests.fakes.services import MemorySecurityLog, PlainHasher
from tests.support.app import container_with
from tests.support.backends import Backend, contents, sql_backend, wrong_counters
from tests.support.filled import fill
from tests.support.samples import NOW, add_post, add_user, lock_context, record


@pytest.fixture
def container(url: URL) -> Iterator[Container]:
    settings = Settings(database_url=SecretStr(url.render_as_string(hide_password=False)))
    container = container_with(settings=settings, hasher=PlainHasher(), log=MemorySecurityLog())
    with closing(container.database()):
        yield container


def falsified(url: URL, table: Table) -> Iterator[tuple[str, ...]]:
    """Raise each combination of a table's counters that its constraints do not refuse."""
    counters = table.info["counters"]
    engine = open_engine(url, connections=1)
    for size in range(1, len(counters) + 1):
        for names in combinations(counters, size):
            with suppress(IntegrityError):
                with engine.begin() as connection:
                    connection.execute(table.update().values({name: table.c[name] + 1 for name in names}))
                yield names
    engine.dispose()


def test_every_counter_of_every_table_is_verified_and_repaired(url: URL, container: Container) -> None:
    fill(url)
    counters = container.counters()
    before = contents(url)
    for table in metadata.sorted_tables:
        met: set[str] = set()
        for names in falsified(url, table):
            assert wrong_counters(counters), (table.name, names)
            for of in Counter:
                list(counters.repair(of))
            assert contents(url) == before, (table.name, names)
            met.update(names)
        assert met == {*table.info["counters"]}
    assert not wrong_counters(counters)


def test_removed_account_leaves_every_counter_true(url: URL, container: Container) -> None:
    bob = fill(url)
    before = contents(url)
    for table in metadata.sorted_tables:
        assert before[table.name], table.name
        for key in table.foreign_keys:
            if key.column.table.name == "users":
                assert bob.id in {getattr(row, key.parent.name) for row in before[table.name]}, table.name
    own = {post.id for post in before["posts"] if post.owner_id == bob.id}
    for table, account in OF_ACCOUNT:
        if table is not posts and table in ON_POST:
            on = {
                getattr(row, ON_POST[table].name) for row in before[table.name] if bob.id == getattr(row, account.name)
            }
            assert on - own, f"{table.name}: no row of Bob on another's post, which outlives his account"

    with container.uow()() as tx:
        tx.users.remove(bob.id)

    assert not wrong_counters(container.counters())


@pytest.fixture
def backend(url: URL) -> Iterator[Backend]:
    with sql_backend(url) as backend:
        yield backend


def vote(backend: Backend, voter: Actor, post_id: int, direction: Direction, tally: Tally | None = None) -> None:
    """Record a vote, with a wrong tally if one is given."""
    with backend.uow() as tx:
        cast = Vote(voter.id, post_id, direction, NOW)
        counted = lock_context(tx, voter, post_id).counting(cast)
        record(tx, cast, replace(counted, tally=tally or counted.tally))


def row(tally: Tally) -> dict[str, float]:
    score = tally.upvotes - tally.downvotes
    return {"upvotes": tally.upvotes, "downvotes": tally.downvotes, "score": score, "hot": hotness(score, NOW)}


def test_verification_yields_stored_and_counted_values(backend: Backend, container: Container) -> None:
    people = [add_user(backend.uow, f"user{number}") for number in range(3)]
    posts = [add_post(backend.uow, people[0], published=number != 1) for number in range(4)]
    for post, directions in ((posts[0], (1, 1, -1)), (posts[1], (-1,)), (posts[3], (1,))):
        for voter, direction in zip(people, directions, strict=False):
            vote(backend, voter, post.id, Direction(direction))
    false = Tally(5, 6)
    vote(backend, people[0], posts[1].id, Direction.DOWN, false)

    ((*found,),) = container.counters().verify(Counter.VOTES)

    assert found == [
        Recount(posts[0].id, row(Tally(2, 1)), row(Tally(2, 1))),
        Recount(posts[1].id, row(false), row(Tally(0, 1))),
        Recount(posts[2].id, row(Tally()), row(Tally())),
        Recount(posts[3].id, row(Tally(1, 0)), row(Tally(1, 0))),
    ]
    assert [post.agrees for post in found] == [True, False, True, True]


def test_every_post_is_verified_in_batches_and_wrong_ones_are_repaired(backend: Backend, container: Container) -> None:
    ann = add_user(backend.uow)
    ids = [add_post(backend.uow, ann, published=number != 3).id for number in range(2 * BATCH + 1)]
    wrong = [ids[0], ids[3], ids[-1]]
    for post_id in ids[::50]:
        vote(backend, ann, post_id, Direction.UP, Tally(3, 4) if post_id in wrong else None)
    vote(backend, ann, ids[3], Direction.UP, Tally(3, 4))
    counters = container.counters()

    assert [len(batch) for batch in counters.verify(Counter.VOTES)] == [BATCH, BATCH, 1]
    assert [recount.post_id for recount in wrong_counters(counters)] == wrong
    found = list(chain.from_iterable(counters.repair(Counter.VOTES)))

    assert [recount.post_id for recount in found] == ids
    assert [recount.post_id for recount in found if not recount.agrees] == wrong
    assert not wrong_counters(counters)
    assert [backend.posts.get(ann, post_id).upvotes for post_id in wrong] == [1, 1, 1]


def test_post_deleted_before_its_repair_is_skipped(backend: Backend, container: Container) -> None:
    ann = add_user(backend.uow)
    deleted, other = (add_post(backend.uow, ann).id for _ in range(2))
    for post_id in (deleted, other):
        vote(backend, ann, post_id, Direction.UP, Tally(3, 4))

    class Removing(Counters):
        """A post is deleted right after it was counted."""

        def verify(self, of: Counter) -> Iterator[Sequence[Recount]]:
            for batch in super().verify(of):
                with backend.uow() as tx:
                    tx.posts.remove(deleted)
                yield batch

    assert len(list(Removing(container.database()).repair(Counter.VOTES))) == 1
    assert backend.posts.get(ann, other).upvotes == 1
    assert not backend.wrong_counters()


def test_memory_compares_every_counter() -> None:
    assert MemoryDatabase().counters.keys() == {*Counter}


def test_nothing_to_verify_is_no_batch(container: Container) -> None:
    counters = container.counters()
    assert list(counters.verify(Counter.VOTES)) == list(counters.repair(Counter.VOTES)) == []

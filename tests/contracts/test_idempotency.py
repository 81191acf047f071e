"""Contract of idempotency stores."""

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from functools import partial

import pytest
from sqlalchemy import URL, insert, text

from application.posts import WritePostOnce
from application.views import PostView
from domain.posts import KeyInUse
from domain.users import Actor
from infrastructure.database.engine import open_database
from infrastructure.database.sql import DELETED_AT_ONCE
from infrastructure.database.tables import answers
from tests.fakes.services import FrozenClock
from tests.support.backends import Backend, sql_backend
from tests.support.concurrency import all_at_once
from tests.support.connections import connection_of
from tests.support.samples import NOW, a_post, add, add_user

LATER = NOW + timedelta(days=1)
KEY = "a key"
STORED_BY_THE_FIRST_RELEASE = (
    '{"id":7,"title":"A title","content":"Some content","published":true,"created_at":"2026-01-01T12:00:00Z",'
    '"updated_at":"2026-01-01T12:00:00Z","version":1,"owner":{"id":1,"username":"ann",'
    '"created_at":"2026-01-01T12:00:00Z"},"upvotes":0,"downvotes":0,"my_vote":0}'
)
"""Written once, never changed: a member that a view gains needs a default, or replays fail after an upgrade."""


@pytest.fixture
def postgres_backend(emptied: Callable[[str], URL]) -> Iterator[Backend]:
    url = emptied("postgres")
    with sql_backend(url) as backend:
        yield backend


def store(backend: Backend, owner: Actor, key: str = KEY, now: datetime = NOW, ends_at: datetime = LATER) -> PostView:
    with backend.uow() as tx:
        response = add(tx, a_post(owner))
        tx.idempotency.add(owner.id, key, response, now, ends_at)
    return response


def find(backend: Backend, owner: Actor, key: str = KEY, now: datetime = NOW) -> PostView | None:
    with backend.uow() as tx:
        return tx.idempotency.find(owner.id, key, now, now + (LATER - NOW))


def test_key_from_the_future_expires_a_day_after_its_next_use(backend: Backend) -> None:
    ann = add_user(backend.uow)
    a_year = timedelta(days=365)
    response = store(backend, ann, now=NOW + a_year, ends_at=LATER + a_year)

    assert find(backend, ann) == response
    assert find(backend, ann, now=LATER - timedelta(seconds=1)) == response
    assert find(backend, ann, now=LATER) is None


def test_stored_response_is_returned_unchanged(backend: Backend) -> None:
    ann = add_user(backend.uow)
    response = store(backend, ann)

    with backend.uow() as tx:
        tx.posts.remove(response.id)

    assert find(backend, ann) == response


def test_response_stored_by_the_previous_release_is_returned(url: URL) -> None:
    with sql_backend(url) as backend:
        ann = add_user(backend.uow)
        with closing(open_database(url, 1)) as database, database.write() as querier:
            row = {"user_id": ann.id, "key": KEY, "answer": STORED_BY_THE_FIRST_RELEASE, "ends_at": LATER}
            connection_of(querier).execute(insert(answers), row)

        found = find(backend, ann)

    assert found is not None
    assert (found.id, found.title, found.owner.username, found.my_vote) == (7, "A title", "ann", 0)


def test_key_belongs_to_one_user_and_is_compared_exactly(backend: Backend) -> None:
    ann, bob = add_user(backend.uow, "ann"), add_user(backend.uow, "bob")
    response = store(backend, ann)

    assert find(backend, bob) is None
    assert find(backend, ann, "A key") is None
    other = store(backend, bob)
    assert (find(backend, ann), find(backend, bob)) == (response, other)


def test_response_expires_and_frees_its_key(backend: Backend) -> None:
    ann = add_user(backend.uow)
    response = store(backend, ann)

    assert find(backend, ann, now=LATER - timedelta(microseconds=1)) == response
    assert find(backend, ann, now=LATER) is None
    other = store(backend, ann, now=LATER, ends_at=LATER + timedelta(days=1))
    assert find(backend, ann, now=LATER) == other


def test_expired_response_is_replaced_however_many_expired_before(backend: Backend) -> None:
    ann = add_user(backend.uow)
    for number in range(DELETED_AT_ONCE):
        store(backend, ann, f"key {number}", ends_at=LATER - timedelta(minutes=1))
    store(backend, ann)

    other = store(backend, ann, now=LATER, ends_at=LATER + timedelta(days=1))

    assert find(backend, ann, now=LATER) == other


def test_rolled_back_response_is_not_stored(backend: Backend) -> None:
    ann = add_user(backend.uow)
    with pytest.raises(ValueError, match="rolled back"), backend.uow() as tx:
        tx.idempotency.add(ann.id, KEY, add(tx, a_post(ann)), NOW, LATER)
        raise ValueError("rolled back")

    assert find(backend, ann) is None


def test_removed_account_takes_its_responses_along(backend: Backend) -> None:
    ann = add_user(backend.uow)
    store(backend, ann)

    with backend.uow() as tx:
        tx.users.remove(ann.id)

    assert find(backend, ann) is None


def test_expired_responses_do_not_accumulate(url: URL) -> None:
    with sql_backend(url) as backend:
        ann = add_user(backend.uow)
        for number in range(DELETED_AT_ONCE + 5):
            store(backend, ann, f"key {number}")

        for number in range(2):
            store(backend, ann, f"later {number}", LATER, LATER + timedelta(days=1))

        assert stored_keys(url) == ["later 0", "later 1"]


def stored_keys(url: URL) -> list[str]:
    with closing(open_database(url, 1)) as database, database.read() as querier:
        return list(connection_of(querier).execute(text("SELECT key FROM answers ORDER BY key")).scalars())


def test_concurrent_requests_with_one_key_write_one_post(backend: Backend) -> None:
    ann = add_user(backend.uow)
    write = WritePostOnce(backend.uow, FrozenClock())

    outcomes = all_at_once([partial(write, ann, "A title", "Some content", True, KEY)] * 50)

    responses = [outcome for outcome in outcomes if not isinstance(outcome, KeyInUse)]
    assert len({post.id for post, _ in responses}) == 1
    assert [is_replayed for _, is_replayed in responses].count(False) == 1
    assert backend.dashboard.get(NOW).total.posts == 1


def test_key_in_use_is_refused_where_transactions_overlap(postgres_backend: Backend) -> None:
    backend = postgres_backend
    ann = add_user(backend.uow)
    with backend.uow() as tx:
        assert tx.idempotency.find(ann.id, KEY, NOW, LATER) is None
        with pytest.raises(KeyInUse):
            find(backend, ann)
        assert find(backend, ann, "another") is None
        tx.idempotency.add(ann.id, KEY, response := add(tx, a_post(ann)), NOW, LATER)

    assert find(backend, ann) == response


def test_equal_keys_of_two_users_do_not_wait_for_each_other(postgres_backend: Backend) -> None:
    ann, bob = add_user(postgres_backend.uow, "ann"), add_user(postgres_backend.uow, "bob")

    with postgres_backend.uow() as tx:
        assert tx.idempotency.find(ann.id, KEY, NOW, LATER) is None
        assert find(postgres_backend, bob) is None
        response = store(postgres_backend, bob)

    assert find(postgres_backend, bob) == response


def test_expired_response_that_is_locked_delays_no_other(emptied: Callable[[str], URL]) -> None:
    url = emptied("postgres")
    with sql_backend(url) as backend, closing(open_database(url, 1)) as other:
        ann = add_user(backend.uow)
        store(backend, ann)

        with other.write() as querier:
            connection_of(querier).execute(text("SELECT FROM answers FOR UPDATE"))
            store(backend, ann, "another", LATER, LATER + timedelta(days=1))

        assert stored_keys(url) == [KEY, "another"]


def test_key_used_after_the_lookup_is_refused(postgres_backend: Backend) -> None:
    backend = postgres_backend
    ann = add_user(backend.uow)
    response = store(backend, ann)

    with pytest.raises(KeyInUse), backend.uow() as tx:
        tx.idempotency.add(ann.id, KEY, add(tx, a_post(ann)), NOW, LATER)

    assert find(backend, ann) == response
    assert backend.dashboard.get(NOW).total.posts == 1

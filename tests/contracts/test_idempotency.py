"""What every store of answers under keys promises."""

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from functools import partial

import pytest
from sqlalchemy import URL, text

from application.posts import WritePostOnce
from application.views import PostView
from domain.posts import KeyInUse
from domain.users import Actor
from infrastructure.database.engine import open_database
from infrastructure.database.idempotency import FORGOTTEN_AT_ONCE
from tests.backends import Backend, empty, sql_backend
from tests.contracts.test_races import all_at_once
from tests.fakes.services import FrozenClock
from tests.samples import NOW, a_post, add_user

LATER = NOW + timedelta(days=1)
KEY = "a key"


@pytest.fixture
def postgres_backend(database_of: Callable[[str], URL]) -> Iterator[Backend]:
    url = database_of("postgres")
    empty(url)
    with sql_backend(url) as backend:
        yield backend


def keep(backend: Backend, owner: Actor, key: str = KEY, now: datetime = NOW, ends_at: datetime = LATER) -> PostView:
    with backend.uow() as tx:
        answer = tx.posts.add(a_post(owner))
        tx.idempotency.add(owner.id, key, answer, now, ends_at)
    return answer


def find(backend: Backend, owner: Actor, key: str = KEY, now: datetime = NOW) -> PostView | None:
    with backend.uow() as tx:
        return tx.idempotency.find(owner.id, key, now)


def test_an_answer_is_kept_as_it_was_given(backend: Backend) -> None:
    ann = add_user(backend.uow)
    answer = keep(backend, ann)

    with backend.uow() as tx:
        tx.posts.remove(answer.id)

    assert find(backend, ann) == answer


def test_a_key_is_its_owners_alone_and_exact(backend: Backend) -> None:
    ann, bob = add_user(backend.uow, "ann"), add_user(backend.uow, "bob")
    answer = keep(backend, ann)

    assert find(backend, bob) is None
    assert find(backend, ann, "A key") is None
    other = keep(backend, bob)
    assert (find(backend, ann), find(backend, bob)) == (answer, other)


def test_an_answer_is_kept_until_its_time_is_over_and_its_key_is_free_then(backend: Backend) -> None:
    ann = add_user(backend.uow)
    answer = keep(backend, ann)

    assert find(backend, ann, now=LATER - timedelta(microseconds=1)) == answer
    assert find(backend, ann, now=LATER) is None
    other = keep(backend, ann, now=LATER, ends_at=LATER + timedelta(days=1))
    assert find(backend, ann, now=LATER) == other


def test_what_is_undone_is_not_kept(backend: Backend) -> None:
    ann = add_user(backend.uow)
    with pytest.raises(ValueError, match="changed my mind"), backend.uow() as tx:
        tx.idempotency.add(ann.id, KEY, tx.posts.add(a_post(ann)), NOW, LATER)
        raise ValueError("changed my mind")

    assert find(backend, ann) is None


def test_answers_go_with_the_account(backend: Backend) -> None:
    ann = add_user(backend.uow)
    keep(backend, ann)

    with backend.uow() as tx:
        tx.users.remove(ann.id)

    assert find(backend, ann) is None


def test_answers_whose_time_is_over_do_not_pile_up(url: URL) -> None:
    with sql_backend(url) as backend:
        ann = add_user(backend.uow)
        for number in range(FORGOTTEN_AT_ONCE + 5):
            keep(backend, ann, f"key {number}")

        for number in range(2):
            keep(backend, ann, f"later {number}", LATER, LATER + timedelta(days=1))

        assert keys_kept(url) == ["later 0", "later 1"]


def keys_kept(url: URL) -> list[str]:
    with closing(open_database(url, 0, 1)) as database, database.read() as link:
        return list(link.execute(text("SELECT key FROM answers ORDER BY key")).scalars())


def test_equal_requests_at_once_write_one_post(backend: Backend) -> None:
    ann = add_user(backend.uow)
    write = WritePostOnce(backend.uow, FrozenClock())

    outcomes = all_at_once([partial(write, ann, "A title", "Some content", True, KEY)] * 50)

    answers = [outcome for outcome in outcomes if not isinstance(outcome, KeyInUse)]
    assert len({post.id for post, _ in answers}) == 1
    assert [is_replayed for _, is_replayed in answers].count(False) == 1
    assert backend.dashboard.get(NOW).total.posts == 1


def test_where_many_write_at_once_a_key_that_is_in_use_is_refused(postgres_backend: Backend) -> None:
    backend = postgres_backend
    ann = add_user(backend.uow)
    with backend.uow() as tx:
        assert tx.idempotency.find(ann.id, KEY, NOW) is None
        with pytest.raises(KeyInUse):
            find(backend, ann)
        assert find(backend, ann, "another") is None
        tx.idempotency.add(ann.id, KEY, answer := tx.posts.add(a_post(ann)), NOW, LATER)

    assert find(backend, ann) == answer


def test_a_key_that_was_used_since_one_looked_is_refused_too(postgres_backend: Backend) -> None:
    backend = postgres_backend
    ann = add_user(backend.uow)
    answer = keep(backend, ann)

    with pytest.raises(KeyInUse), backend.uow() as tx:
        tx.idempotency.add(ann.id, KEY, tx.posts.add(a_post(ann)), NOW, LATER)

    assert find(backend, ann) == answer
    assert backend.dashboard.get(NOW).total.posts == 1

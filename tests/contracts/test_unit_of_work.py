"""Contract of the unit of work: it commits whole or not at all."""

import pytest
from sqlalchemy import URL

from application.paging import Window
from tests.support.backends import Backend, sql_backend
from tests.support.samples import NOW, a_post, a_user, add, add_post, add_user


class Interruption(BaseException):
    """No domain error: a defect, or Ctrl-C."""


@pytest.mark.parametrize("kind", [ValueError, Interruption])
def test_exception_rolls_everything_back(backend: Backend, kind: type[BaseException]) -> None:
    with pytest.raises(kind), backend.uow() as tx:
        tx.users.add(a_user())
        raise kind

    assert backend.users.list("", Window()).items == []


def test_leaving_the_block_commits(backend: Backend) -> None:
    with backend.uow() as tx:
        user = tx.users.add(a_user())

    assert backend.users.get(user.id).username == "ann"


def test_changes_are_invisible_outside_before_the_commit(url: URL) -> None:
    with sql_backend(url) as backend:  # in memory, transactions run one after another
        ann = add_user(backend.uow)

        with backend.uow() as tx:
            add(tx, a_post(ann))
            assert backend.dashboard.get(NOW).total.posts == 0

        assert backend.dashboard.get(NOW).total.posts == 1


def test_rolled_back_edit_leaves_the_post_unchanged(backend: Backend) -> None:
    ann = add_user(backend.uow)
    post = add_post(backend.uow, ann)

    with pytest.raises(ValueError, match="rolled back"), backend.uow() as tx:
        tx.posts.remove(tx.posts.lock(post.id).id)
        raise ValueError("rolled back")

    with backend.uow() as tx:
        assert tx.posts.lock(post.id) == post

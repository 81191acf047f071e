"""What a file of a whole instance holds while people go on working."""

import io
import json
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import URL

from application.errors import Unavailable
from application.paging import NEWEST_FIRST, Window
from application.ports.storage import UnitOfWorkFactory
from application.views import PostFilter
from domain.posts import Post
from domain.users import Actor
from infrastructure.database.engine import open_database
from infrastructure.database.unit_of_work import SqlUnitOfWorkFactory
from infrastructure.operations.archive import Archive
from infrastructure.operations.bulk import require_empty, transaction
from infrastructure.timeouts import Timeouts
from tests.support.backends import sql_backend
from tests.support.samples import NOW, add, add_post, add_user


class Meddling(io.BytesIO):
    """A file so slow that accounts are deleted and created while it is written."""

    def __init__(self, uow: UnitOfWorkFactory, leaver: Actor) -> None:
        super().__init__()
        self._uow = uow
        self._leaver: Actor | None = leaver

    def write(self, data: Any) -> int:
        if self._leaver is not None:
            with self._uow() as tx:
                tx.users.remove(self._leaver.id)
            add_user(self._uow, "newcomer")
            self._leaver = None
        return super().write(data)


def test_an_export_is_the_instance_at_one_moment(url: URL) -> None:
    with sql_backend(url) as backend:
        ann, bob = add_user(backend.uow, "ann"), add_user(backend.uow, "bob")
        add_post(backend.uow, bob)
        file = Meddling(backend.uow, bob)
        told: list[tuple[int, int]] = []

        counts = Archive(url).export(file, lambda done, total: told.append((done, total)))

        assert backend.users.get(ann.id).username == "ann"
        lines = [json.loads(line) for line in file.getvalue().splitlines()]
        assert [line["user"]["username"] for line in lines if "user" in line] == ["ann", "bob"]
        assert counts == {"user": 2, "post": 1, "vote": 0}
        assert told == [(2, 3), (3, 3)]


def test_no_account_is_registered_during_an_import(url: URL) -> None:
    impatient = Timeouts(lock=0.02, sqlite_busy=0.02)
    with closing(open_database(url, 1, impatient)) as database, transaction(url) as connection:
        require_empty(connection)

        with pytest.raises(Unavailable):
            add_user(SqlUnitOfWorkFactory(database))


def test_import_keeps_text_and_names_of_earlier_rules(url: URL) -> None:
    with sql_backend(url) as backend:
        owner = add_user(backend.uow, "admin")
        post = Post.restore(owner_id=owner.id, title="a\tb", content="\u2800", published=True, now=NOW)
        with backend.uow() as tx:
            add(tx, post)
        file = io.BytesIO()
        Archive(url).export(file, lambda _done, _total: None)
        with backend.uow() as tx:
            tx.users.remove(owner.id)
        file.seek(0)

        Archive(url).restore(file, 0, lambda _done, _total: None)

        (restored,) = backend.posts.list(owner, PostFilter(), NEWEST_FIRST, Window()).items
        assert (restored.title, restored.content, restored.owner.username) == ("a\tb", "\u2800", "admin")


def test_reading_back_tells_how_far_it_is(url: URL) -> None:
    with sql_backend(url) as backend:
        bob = add_user(backend.uow, "bob")
        add_post(backend.uow, bob)
        file = io.BytesIO()
        Archive(url).export(file, lambda _done, _total: None)
        with backend.uow() as tx:
            tx.users.remove(bob.id)
    size = file.tell()
    told: list[tuple[int, int]] = []
    file.seek(0)

    Archive(url).restore(file, size, lambda done, total: told.append((done, total)))

    (users, _), (posts, _) = told
    assert 0 < users <= posts < size
    assert {total for _, total in told} == {size}

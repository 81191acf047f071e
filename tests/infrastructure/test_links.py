"""How questions and changes reach PostgreSQL: in how many messages, and what comes of one that fails."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import cursor as driver_cursor
from sqlalchemy import (
    URL,
    Integer,
    Text,
    bindparam,
    cast,
    delete,
    event,
    func,
    insert,
    literal_column,
    select,
    table,
    update,
)

from application.errors import Unavailable
from application.paging import NEWEST_FIRST, Window
from application.posts import DeletePost, EditPost, GetPost, ListPosts, WritePost
from application.views import PostFilter
from application.votes import CastVote
from domain.posts import PostChanges
from domain.users import InvalidToken
from domain.votes import AlreadyVoted, Direction, Vote
from infrastructure.database.engine import Database, open_database
from infrastructure.database.links import PREPARED_MAX, Link, Statement
from infrastructure.database.posts import SqlPostReader
from infrastructure.database.tables import attempts
from infrastructure.database.unit_of_work import SqlUnitOfWorkFactory
from tests.fakes.services import FrozenClock
from tests.infrastructure.test_engine import end_backend
from tests.samples import NOW, add_post, add_user

BACKEND = Statement(select(func.pg_backend_pid()))
PREPARED = Statement(select(func.count()).select_from(table("pg_prepared_statements")), prepared=False)
TOTAL = Statement(select(func.coalesce(func.sum(attempts.c.count), literal_column("0"))))
ADD = Statement(insert(attempts).values(bucket=bindparam("name"), count=literal_column("1"), ends_at=func.now()))
RAISE = Statement(update(attempts).values(count=attempts.c.count + bindparam("by")))
REMOVE = Statement(delete(attempts).where(attempts.c.bucket == bindparam("name")))


def dividing() -> Statement:
    """Make a statement that fails for 0 and that no connection has prepared yet."""
    return Statement(select(literal_column("6") / cast(bindparam("by"), Integer)))


class Wire:
    """A database with one connection to it, and the messages that went over it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.messages: list[str] = []
        event.listen(database.engine, "connect", self._listen)
        with database.read() as link:
            self.backend = value(link, BACKEND)
        self.messages.clear()

    def _listen(self, raw: Any, _entry: object) -> None:
        messages = self.messages

        class NotingCursor(driver_cursor):
            def execute(self, query: Any, values: Any = None) -> None:
                messages.append(query.decode() if isinstance(query, bytes) else str(query))
                super().execute(query, values)

        raw.cursor_factory = NotingCursor


@pytest.fixture(params=[True, False], ids=["prepared", "unprepared"])
def wire(request: pytest.FixtureRequest, postgres_url: URL) -> Iterator[Wire]:
    """A connection over which statements are prepared, and one over which they are not."""
    with closing(open_database(postgres_url, 0, 1, prepare=request.param)) as database:
        yield Wire(database)


@pytest.fixture
def preparing_wire(postgres_url: URL) -> Iterator[Wire]:
    with closing(open_database(postgres_url, 0, 1)) as database:
        yield Wire(database)


@pytest.fixture
def observer(postgres_url: URL) -> Iterator[Database]:
    """Somebody else at the same database."""
    with closing(open_database(postgres_url, 0, 1)) as database:
        yield database


def value(link: Link, statement: Statement, **values: object) -> Any:
    row = link.row(statement, values)
    assert row is not None
    return row[0]


def total(database: Database) -> object:
    with database.read() as link:
        return value(link, TOTAL)


# Messages.


def test_use_cases_send_no_more_messages_than_their_answers_ask_for(wire: Wire) -> None:
    uow, posts, clock = SqlUnitOfWorkFactory(wire.database), SqlPostReader(wire.database.read), FrozenClock()
    ann = add_user(uow)

    def messages(work: Any, *args: object) -> int:
        wire.messages.clear()
        work(*args)
        return len(wire.messages)

    for _ in range(2):  # once unprepared, once prepared
        post = add_post(uow, ann)
        assert messages(WritePost(uow, clock), ann, "A title", "Some content", True) == 2
        assert messages(GetPost(posts), ann, post.id) == 1
        assert messages(ListPosts(posts), ann, PostFilter(), NEWEST_FIRST, Window()) == 1
        assert messages(ListPosts(posts), ann, PostFilter(search="title"), NEWEST_FIRST, Window()) == 1
        assert messages(CastVote(uow, clock), ann, post.id, Direction.UP) == 2
        assert messages(EditPost(uow, clock), ann, post.id, PostChanges(title="Another")) == 3
        assert messages(DeletePost(uow), ann, post.id) == 2


def test_a_refusal_is_one_message_and_another_that_lets_go(wire: Wire) -> None:
    uow = SqlUnitOfWorkFactory(wire.database)
    ann = add_user(uow)
    post, cast_vote = add_post(uow, ann), CastVote(uow, FrozenClock())
    cast_vote(ann, post.id, Direction.UP)
    wire.messages.clear()

    with pytest.raises(AlreadyVoted):
        cast_vote(ann, post.id, Direction.UP, repeatable=False)

    assert len(wire.messages) == 2
    assert wire.messages[1] == "ROLLBACK"


def test_a_transaction_that_asks_nothing_sends_nothing(wire: Wire) -> None:
    with wire.database.write():
        pass
    with pytest.raises(ValueError, match="changed my mind"), wire.database.write():
        raise ValueError("changed my mind")

    assert wire.messages == []


def test_what_waits_goes_out_with_the_next_question_in_its_order(wire: Wire) -> None:
    with wire.database.write() as link:
        link.later(ADD, {"name": "one"})
        link.later(RAISE, {"by": 5})
        link.later(ADD, {"name": "two"})
        assert wire.messages == []
        assert value(link, TOTAL) == 7
        assert len(wire.messages) == 1
        link.later(REMOVE, {"name": "one"})

    assert len(wire.messages) == 2
    assert wire.messages[1].endswith("COMMIT")
    assert total(wire.database) == 1


def test_what_waits_goes_out_before_what_goes_through_sqlalchemy(wire: Wire) -> None:
    with wire.database.write() as link:
        link.later(ADD, {"name": "one"})
        assert link.execute(select(attempts.c.bucket)).scalars().all() == ["one"]
        link.execute(attempts.update(), {"count": 3})
        assert value(link, TOTAL) == 3

    assert total(wire.database) == 3


def test_what_waits_alone_is_one_message_with_the_commit(wire: Wire, observer: Database) -> None:
    with wire.database.write() as link:
        link.later(ADD, {"name": "one"})
        assert total(observer) == 0

    assert len(wire.messages) == 1
    assert total(observer) == 1


def test_an_exception_forgets_what_waits(wire: Wire) -> None:
    with pytest.raises(ValueError, match="changed my mind"), wire.database.write() as link:
        link.later(ADD, {"name": "one"})
        raise ValueError("changed my mind")

    assert wire.messages == []
    assert total(wire.database) == 0


def test_one_statement_may_wait_several_times(wire: Wire) -> None:
    twice = Statement(insert(attempts).values(bucket=bindparam("name"), count=bindparam("by"), ends_at=func.now()))

    with wire.database.write() as link:
        for name, by in (("one", 1), ("two", 20), ("three", 300)):
            link.later(twice, {"name": name, "by": by})

    assert total(wire.database) == 321


@pytest.mark.parametrize(
    "said", ["", "%", "%s %(said)s %%", "it's", 'a "b"', "\\", "E'\\n", "$1", "; --", "ü 🦊\n\x7f"]
)
def test_values_arrive_as_they_are(wire: Wire, said: str) -> None:
    echo = Statement(select(cast(bindparam("said"), Text)))
    aside = Statement(select(cast(bindparam("said"), Text)), prepared=False)

    with wire.database.read() as link:
        assert [value(link, statement, said=said) for statement in (echo, echo, aside)] == [said] * 3


# Refusals.


def test_what_the_database_refuses_surfaces_at_the_end_of_the_block_and_undoes_everything(wire: Wire) -> None:
    uow = SqlUnitOfWorkFactory(wire.database)
    post = add_post(uow, add_user(uow))
    reached = False

    with pytest.raises(InvalidToken), uow() as tx:
        vote = Vote(4_711, post.id, Direction.UP, NOW)
        tx.votes.record(vote, tx.votes.lock_context(vote.user_id, post.id).counting(vote))
        reached = True

    assert reached
    with uow() as tx:
        assert tx.posts.lock(post.id) == post


def test_what_the_database_refuses_surfaces_with_the_next_question(wire: Wire) -> None:
    with wire.database.write() as link:
        link.later(ADD, {"name": "one"})

    with pytest.raises(psycopg2.errors.UniqueViolation), wire.database.write() as link:
        link.later(ADD, {"name": "two"})
        link.later(ADD, {"name": "one"})
        value(link, TOTAL)
        pytest.fail("there is a one already")

    assert total(wire.database) == 1


def test_a_message_that_fails_is_sent_once_and_leaves_the_connection_as_it_was(wire: Wire) -> None:
    six_by, other = dividing(), dividing()
    for lend in (wire.database.read, wire.database.write):
        wire.messages.clear()
        with pytest.raises(psycopg2.errors.DivisionByZero), lend() as link:
            value(link, six_by, by=0)
        assert sum("6 / " in message for message in wire.messages) == 1

    with wire.database.write() as link:
        assert value(link, BACKEND) == wire.backend
        assert [value(link, statement, by=2) for statement in (six_by, other, six_by)] == [3, 3, 3]
    with wire.database.read() as link:
        assert [value(link, statement, by=3) for statement in (other, six_by, other)] == [2, 2, 2]


def test_a_message_that_fails_half_way_leaves_no_doubt_about_what_is_prepared(wire: Wire) -> None:
    before, failing, after = dividing(), dividing(), dividing()

    with pytest.raises(psycopg2.errors.DivisionByZero), wire.database.write() as link:
        link.later(before, {"by": 1})
        link.later(failing, {"by": 0})
        value(link, after, by=1)

    with wire.database.read() as link:
        assert [value(link, statement, by=1) for statement in (after, before, failing)] == [6, 6, 6]
        assert value(link, BACKEND) == wire.backend


def test_a_value_that_cannot_be_written_sends_nothing_and_leaves_no_doubt_either(wire: Wire) -> None:
    echo, six_by = Statement(select(cast(bindparam("said"), Text))), dividing()

    with wire.database.read() as link:
        value(link, BACKEND)
        wire.messages.clear()
        with pytest.raises(ValueError, match="NUL"):
            value(link, echo, said="\0")
        assert wire.messages == []
        link.later(six_by, {"by": 1})
        with pytest.raises(ValueError, match="NUL"):
            value(link, echo, said="\0")
        assert (value(link, echo, said="hello"), value(link, six_by, by=2)) == ("hello", 3)


# Preparing.


def test_a_statement_is_prepared_once_a_connection(preparing_wire: Wire) -> None:
    six_by = dividing()

    with preparing_wire.database.read() as link:
        assert [value(link, six_by, by=by) for by in (1, 2, 3)] == [6, 3, 2]

    assert ["PREPARE" in message for message in preparing_wire.messages] == [True, False, False]


def test_a_pooler_is_asked_to_prepare_nothing(postgres_url: URL) -> None:
    with closing(open_database(postgres_url, 0, 1, prepare=False)) as database:
        wire = Wire(database)
        with database.write() as link:
            assert [value(link, dividing(), by=by) for by in (1, 2, 3)] == [6, 3, 2]
            assert value(link, PREPARED) == 0
    assert not any(word in message for message in wire.messages for word in ("PREPARE", "EXECUTE", "DEALLOCATE"))


def test_more_statements_than_stay_prepared_all_answer(preparing_wire: Wire) -> None:
    many = [Statement(select(literal_column(str(number)))) for number in range(PREPARED_MAX + 20)]

    with preparing_wire.database.read() as link:
        for _ in range(2):
            for number, statement in enumerate(many):
                assert (value(link, statement), value(link, many[0])) == (number, 0)
                assert value(link, PREPARED) <= PREPARED_MAX
        assert value(link, PREPARED) == PREPARED_MAX


def test_what_a_message_uses_is_not_given_up_for_what_it_prepares(preparing_wire: Wire) -> None:
    many = [Statement(select(literal_column(str(number)))) for number in range(PREPARED_MAX)]
    six_by = dividing()

    with preparing_wire.database.read() as link:
        for statement in many:
            value(link, statement)
        oldest = many[:3]
        for statement in oldest:
            link.later(statement, {})
        assert value(link, six_by, by=2) == 3
        assert value(link, PREPARED) == PREPARED_MAX


def test_a_statement_that_fails_when_there_are_many_loses_nothing(preparing_wire: Wire) -> None:
    many = [Statement(select(literal_column(str(number)))) for number in range(PREPARED_MAX)]
    six_by = dividing()

    with preparing_wire.database.read() as link:
        assert [value(link, statement) for statement in many] == list(range(PREPARED_MAX))
    for _ in range(2):
        with pytest.raises(psycopg2.errors.DivisionByZero), preparing_wire.database.read() as link:
            value(link, six_by, by=0)

    with preparing_wire.database.read() as link:
        assert [value(link, statement) for statement in many] == list(range(PREPARED_MAX))
        assert value(link, six_by, by=6) == 1
        assert value(link, PREPARED) <= PREPARED_MAX


# Loss.


def test_a_connection_lost_while_idle_is_replaced_and_nobody_notices(wire: Wire, observer: Database) -> None:
    end_backend(observer, wire.backend)
    with wire.database.read() as link:
        replacement = value(link, BACKEND)

    end_backend(observer, replacement)
    with wire.database.write() as link:
        link.later(ADD, {"name": "one"})
        assert value(link, TOTAL) == 1

    with wire.database.read() as link:
        assert value(link, BACKEND) not in {wire.backend, replacement}
        end_backend(observer, value(link, BACKEND))
    with wire.database.write() as link:
        assert link.execute(select(attempts.c.count)).scalar_one() == 1


def test_what_a_lost_connection_had_prepared_is_prepared_anew(wire: Wire, observer: Database) -> None:
    six_by = dividing()
    for by in (1, 2):
        with wire.database.read() as link:
            assert value(link, six_by, by=by) == 6 / by
            backend = value(link, BACKEND)
        end_backend(observer, backend)

    with wire.database.read() as link:
        assert value(link, six_by, by=3) == 2


def test_a_connection_lost_in_a_transaction_is_unavailable_and_nothing_is_sent_again(
    wire: Wire, observer: Database
) -> None:
    with pytest.raises(Unavailable), wire.database.write() as link:
        link.later(ADD, {"name": "one"})
        assert value(link, TOTAL) == 1
        end_backend(observer, wire.backend)
        link.later(ADD, {"name": "two"})
        value(link, TOTAL)
        pytest.fail("the connection is lost")

    assert sum("'two'" in message for message in wire.messages) == 1
    assert total(wire.database) == 0


def test_a_connection_lost_before_the_commit_is_unavailable_and_nothing_is_sent_again(
    wire: Wire, observer: Database
) -> None:
    with pytest.raises(Unavailable), wire.database.write() as link:
        link.later(ADD, {"name": "one"})
        assert value(link, TOTAL) == 1
        end_backend(observer, wire.backend)

    assert sum("COMMIT" in message for message in wire.messages) == 1
    assert total(wire.database) == 0


def test_a_commit_that_may_have_arrived_is_not_sent_again(wire: Wire, observer: Database) -> None:
    with pytest.raises(Unavailable), wire.database.write() as link:
        link.later(ADD, {"name": "one"})
        end_backend(observer, wire.backend)

    assert sum("COMMIT" in message for message in wire.messages) == 1
    assert total(wire.database) == 0


def test_an_error_that_undoes_a_transaction_stays_what_it_is_where_the_connection_is_lost(
    wire: Wire, observer: Database
) -> None:
    with pytest.raises(ValueError, match="changed my mind"), wire.database.write() as link:
        link.later(ADD, {"name": "one"})
        assert value(link, TOTAL) == 1
        end_backend(observer, wire.backend)
        raise ValueError("changed my mind")

    assert total(wire.database) == 0

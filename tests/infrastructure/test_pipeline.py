"""How statements reach PostgreSQL: in how many round trips, prepared or whole, and what a failing one leaves."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest
import structlog
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

from application.errors import TransactionAborted, Unavailable
from application.paging import NEWEST_FIRST, Window
from application.posts import DeletePost, EditPost, GetPost, ListPosts, WritePost, WritePosts
from application.quotas import Quota
from application.views import PostFilter
from application.votes import CastVote, CastVotes
from domain.posts import PostChanges
from domain.users import InvalidToken
from domain.votes import AlreadyVoted, Direction, Vote
from infrastructure.database.engine import Database, open_database
from infrastructure.database.pipeline import Statement
from infrastructure.database.posts import SqlPostReader
from infrastructure.database.prepared import PREPARED as FIXED_SET
from infrastructure.database.tables import attempts
from infrastructure.database.unit_of_work import SqlUnitOfWorkFactory
from tests.fakes.services import FrozenClock
from tests.support.backends import end_backend, value
from tests.support.connections import connection_of
from tests.support.samples import NOW, add_post, add_user, lock_context, record

BACKEND = Statement(select(func.pg_backend_pid()))
PREPARED = Statement(select(func.count()).select_from(table("pg_prepared_statements")))
TOTAL = Statement(select(func.coalesce(func.sum(attempts.c.count), literal_column("0"))))
ADD = Statement(insert(attempts).values(bucket=bindparam("name"), count=literal_column("1"), ends_at=func.now()))
RAISE = Statement(update(attempts).values(count=attempts.c.count + bindparam("by")))
REMOVE = Statement(delete(attempts).where(attempts.c.bucket == bindparam("name")))


def dividing(number: int) -> Statement:
    """Make a statement that fails for 0."""
    return Statement(select(literal_column(str(number)) / cast(bindparam("by"), Integer)))


SIX_BY = dividing(6)
ECHO = Statement(select(cast(bindparam("said"), Text)))
ALL = (BACKEND, TOTAL, ADD, RAISE, REMOVE, SIX_BY, ECHO, *FIXED_SET)


class RecordedDatabase:
    """A database with one connection to it, and the messages that went over it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.messages: list[str] = []
        event.listen(database.engine, "connect", self._listen)
        with database.read() as querier:
            self.backend = value(querier, BACKEND)
        self.messages.clear()

    def _listen(self, raw: Any, _entry: object) -> None:
        messages = self.messages

        class RecordingCursor(driver_cursor):
            def execute(self, query: Any, values: Any = None) -> None:
                messages.append(query.decode() if isinstance(query, bytes) else str(query))
                super().execute(query, values)

        raw.cursor_factory = RecordingCursor


@pytest.fixture(params=[True, False], ids=["prepared", "unprepared"])
def wire(request: pytest.FixtureRequest, postgres_url: URL) -> Iterator[RecordedDatabase]:
    """A connection over which statements are prepared, and one over which they are not."""
    with closing(open_database(postgres_url, 1, prepared=ALL if request.param else ())) as database:
        yield RecordedDatabase(database)


@pytest.fixture
def preparing_wire(postgres_url: URL) -> Iterator[RecordedDatabase]:
    with closing(open_database(postgres_url, 1, prepared=ALL)) as database:
        yield RecordedDatabase(database)


@pytest.fixture
def observer(postgres_url: URL) -> Iterator[Database]:
    """A second session on the same database."""
    with closing(open_database(postgres_url, 1)) as database:
        yield database


def total(database: Database) -> object:
    with database.read() as querier:
        return value(querier, TOTAL)


# Messages.


def test_use_cases_take_the_fewest_round_trips(wire: RecordedDatabase) -> None:
    uow, posts, clock = SqlUnitOfWorkFactory(wire.database), SqlPostReader(wire.database.read), FrozenClock()
    ann = add_user(uow)

    def messages(work: Any, *args: object) -> int:
        wire.messages.clear()
        work(*args)
        return len(wire.messages)

    post = add_post(uow, ann)
    quota = Quota(1_000, 1_000_000)
    assert messages(WritePost(WritePosts(uow, clock, quota)), ann, "A title", "Some content", True) == 2
    assert messages(GetPost(posts), ann, post.id) == 1
    assert messages(ListPosts(posts), ann, PostFilter(), NEWEST_FIRST, Window()) == 1
    assert messages(ListPosts(posts), ann, PostFilter(search="title"), NEWEST_FIRST, Window()) == 1
    assert messages(CastVote(CastVotes(uow, clock, quota=quota)), ann, post.id, Direction.UP) == 2
    assert messages(EditPost(uow, clock, quota), ann, post.id, PostChanges(title="Another")) == 3
    assert messages(DeletePost(uow), ann, post.id) == 2


def test_refusal_takes_one_round_trip_and_the_commit(wire: RecordedDatabase) -> None:
    uow = SqlUnitOfWorkFactory(wire.database)
    ann = add_user(uow)
    post, cast_vote = add_post(uow, ann), CastVote(CastVotes(uow, FrozenClock()))
    cast_vote(ann, post.id, Direction.UP)
    wire.messages.clear()

    with pytest.raises(AlreadyVoted):
        cast_vote(ann, post.id, Direction.UP, repeatable=False)

    assert len(wire.messages) == 2
    assert wire.messages[1] == "COMMIT"


def test_transaction_without_statements_sends_nothing(wire: RecordedDatabase) -> None:
    with wire.database.write():
        pass
    with pytest.raises(ValueError, match="changed my mind"), wire.database.write():
        raise ValueError("changed my mind")

    assert wire.messages == []


def test_queued_statements_travel_in_order_with_the_next_query(wire: RecordedDatabase) -> None:
    with wire.database.write() as querier:
        querier.enqueue(ADD, {"name": "one"})
        querier.enqueue(RAISE, {"by": 5})
        querier.enqueue(ADD, {"name": "two"})
        assert wire.messages == []
        assert value(querier, TOTAL) == 7
        assert len(wire.messages) == 1
        querier.enqueue(REMOVE, {"name": "one"})

    assert len(wire.messages) == 2
    assert wire.messages[1].endswith("COMMIT")
    assert total(wire.database) == 1


def test_queued_statements_precede_those_of_sqlalchemy(wire: RecordedDatabase) -> None:
    with wire.database.write() as querier:
        querier.enqueue(ADD, {"name": "one"})
        assert connection_of(querier).execute(select(attempts.c.bucket)).scalars().all() == ["one"]
        connection_of(querier).execute(attempts.update(), {"count": 3})
        assert value(querier, TOTAL) == 3

    assert total(wire.database) == 3


def test_queued_statements_alone_travel_with_the_commit(wire: RecordedDatabase, observer: Database) -> None:
    with wire.database.write() as querier:
        querier.enqueue(ADD, {"name": "one"})
        assert total(observer) == 0

    assert len(wire.messages) == 1
    assert total(observer) == 1


def test_exception_drops_queued_statements(wire: RecordedDatabase) -> None:
    with pytest.raises(ValueError, match="changed my mind"), wire.database.write() as querier:
        querier.enqueue(ADD, {"name": "one"})
        raise ValueError("changed my mind")

    assert wire.messages == []
    assert total(wire.database) == 0


def test_one_statement_may_be_queued_several_times(wire: RecordedDatabase) -> None:
    twice = Statement(insert(attempts).values(bucket=bindparam("name"), count=bindparam("by"), ends_at=func.now()))

    with wire.database.write() as querier:
        for name, by in (("one", 1), ("two", 20), ("three", 300)):
            querier.enqueue(twice, {"name": name, "by": by})

    assert total(wire.database) == 321


@pytest.mark.parametrize(
    "said", ["", "%", "%s %(said)s %%", "it's", 'a "b"', "\\", "E'\\n", "$1", "; --", "ü 🦊\n\x7f"]
)
def test_values_arrive_unchanged(wire: RecordedDatabase, said: str) -> None:
    with wire.database.read() as querier:
        assert [value(querier, ECHO, said=said) for _ in range(3)] == [said] * 3


# Refusals.


def test_error_of_a_queued_statement_surfaces_at_commit(wire: RecordedDatabase) -> None:
    uow = SqlUnitOfWorkFactory(wire.database)
    ann = add_user(uow)
    post = add_post(uow, ann)
    reached = False

    with pytest.raises(InvalidToken), uow() as tx:
        vote = Vote(4_711, post.id, Direction.UP, NOW)
        record(tx, vote, lock_context(tx, ann, post.id).counting(vote))
        reached = True

    assert reached
    with uow() as tx:
        assert tx.posts.lock(post.id) == post


def test_error_of_a_queued_statement_surfaces_at_the_next_query(wire: RecordedDatabase) -> None:
    with wire.database.write() as querier:
        querier.enqueue(ADD, {"name": "one"})

    with pytest.raises(psycopg2.errors.UniqueViolation), wire.database.write() as querier:
        querier.enqueue(ADD, {"name": "two"})
        querier.enqueue(ADD, {"name": "one"})
        value(querier, TOTAL)
        pytest.fail("there is a one already")

    assert total(wire.database) == 1


def test_failing_statement_is_sent_once_and_leaves_the_connection(wire: RecordedDatabase) -> None:
    six_by, other = SIX_BY, dividing(12)
    for check_out in (wire.database.read, wire.database.write):
        wire.messages.clear()
        with pytest.raises(psycopg2.errors.DivisionByZero), check_out() as querier:
            value(querier, six_by, by=0)
        assert sum("6 / " in message or six_by.call[:24] in message for message in wire.messages) == 1

    with wire.database.write() as querier:
        assert value(querier, BACKEND) == wire.backend
        assert [value(querier, statement, by=2) for statement in (six_by, other, six_by)] == [3, 6, 3]
    with wire.database.read() as querier:
        assert [value(querier, statement, by=3) for statement in (other, six_by, other)] == [4, 2, 4]


def test_value_that_cannot_be_encoded_sends_nothing(wire: RecordedDatabase) -> None:
    with wire.database.read() as querier:
        value(querier, BACKEND)
        wire.messages.clear()
        with pytest.raises(ValueError, match="NUL"):
            value(querier, ECHO, said="\0")
        assert wire.messages == []
        querier.enqueue(SIX_BY, {"by": 1})
        with pytest.raises(ValueError, match="NUL"):
            value(querier, ECHO, said="\0")
        assert (value(querier, ECHO, said="hello"), value(querier, SIX_BY, by=2)) == ("hello", 3)


# Preparing.


def test_fixed_set_is_prepared_when_a_connection_opens(postgres_url: URL) -> None:
    with closing(open_database(postgres_url, 1, prepared=[SIX_BY, TOTAL])) as database, database.read() as querier:
        assert value(querier, PREPARED) == 2
        assert [value(querier, SIX_BY, by=by) for by in (1, 2, 3)] == [6, 3, 2]
        assert value(querier, PREPARED) == 2


def test_statement_outside_the_set_is_sent_whole(preparing_wire: RecordedDatabase) -> None:
    with preparing_wire.database.read() as querier:
        assert [value(querier, dividing(12), by=by) for by in (1, 2, 3)] == [12, 6, 4]
        assert value(querier, SIX_BY, by=1) == 6
    assert ["EXECUTE" in message for message in preparing_wire.messages] == [False, False, False, True]


def test_name_of_a_statement_is_a_function_of_its_text() -> None:
    assert dividing(6).name == dividing(6).name == SIX_BY.name != dividing(7).name
    assert len({statement.name for statement in FIXED_SET}) == len(FIXED_SET)


def test_fixed_set_stays_a_fixed_small_set() -> None:
    assert 12 <= len(FIXED_SET) <= 50


def test_statement_that_cannot_be_prepared_is_sent_whole(postgres_url: URL) -> None:
    missing = Statement(select(literal_column("1")).select_from(table("of_a_later_release")))
    with closing(open_database(postgres_url, 1, prepared=[SIX_BY, missing])) as database:
        with structlog.testing.capture_logs() as logs, database.read() as querier:
            assert value(querier, SIX_BY, by=2) == 3
        assert [line["sqlstate"] for line in logs] == ["42P01"]
        with pytest.raises(psycopg2.errors.UndefinedTable), database.read() as querier:
            value(querier, missing)


# Behind a pooler in transaction mode.


class Pooler:
    """Two server sessions behind one connection, which transactions change, as behind PgBouncer."""

    def __init__(self, url: URL, *, hides: bool) -> None:
        self._sessions = [
            psycopg2.connect(**url.translate_connect_args(username="user", database="dbname")) for _ in "12"
        ]
        self._hides = hides
        self.turn = 0
        for session in self._sessions:
            session.autocommit = True

    def listen(self, database: Database) -> None:
        event.listen(database.engine, "connect", self._swap, insert=True)

    def _swap(self, raw: Any, _entry: object) -> None:
        pooler = self

        class SwappingCursor(driver_cursor):
            def execute(self, query: Any, values: Any = None) -> None:
                if "pg_backend_pid" in str(query) and pooler._hides:
                    super().execute(f"SELECT {self.connection.get_backend_pid()}, false")
                    return
                if not (isinstance(query, bytes) or query.startswith(("SELECT pg_backend_pid", "SET plan_cache_mode"))):
                    super().execute(query, values)  # SQLAlchemy's own
                    return
                self._other = pooler._sessions[pooler.turn % 2].cursor()
                pooler.turn += 1
                self._other.execute(query, values)

            def fetchall(self) -> Any:
                return self._other.fetchall() if hasattr(self, "_other") else super().fetchall()

        raw.cursor_factory = SwappingCursor


@pytest.mark.parametrize("hides", [False, True], ids=["seen at once", "seen at the first error"])
def test_pooler_is_noticed_and_statements_are_sent_whole(postgres_url: URL, hides: bool) -> None:
    with closing(open_database(postgres_url, 1, prepared=[SIX_BY])) as database:
        Pooler(postgres_url, hides=hides).listen(database)

        def divide(by: int) -> int:
            with database.read() as querier:
                found: int = value(querier, SIX_BY, by=by)
                return found

        with structlog.testing.capture_logs() as logs:
            answers = []
            for by in (1, 2, 3, 6):
                try:
                    answers.append(divide(by))
                except TransactionAborted:  # run again by the executor
                    answers.append(divide(by))
        assert answers == [6, 3, 2, 1]
        assert [line["event"] for line in logs] == ["statements are not prepared any more"]


# Loss.


def test_connection_lost_while_idle_is_replaced_unnoticed(wire: RecordedDatabase, observer: Database) -> None:
    end_backend(observer, wire.backend)
    with wire.database.read() as querier:
        replacement = value(querier, BACKEND)

    end_backend(observer, replacement)
    with wire.database.write() as querier:
        querier.enqueue(ADD, {"name": "one"})
        assert value(querier, TOTAL) == 1

    with wire.database.read() as querier:
        assert value(querier, BACKEND) not in {wire.backend, replacement}
        end_backend(observer, value(querier, BACKEND))
    with wire.database.write() as querier:
        assert connection_of(querier).execute(select(attempts.c.count)).scalar_one() == 1


def test_replacement_of_a_lost_connection_prepares_the_set(wire: RecordedDatabase, observer: Database) -> None:
    for by in (1, 2):
        with wire.database.read() as querier:
            assert value(querier, SIX_BY, by=by) == 6 / by
            backend = value(querier, BACKEND)
        end_backend(observer, backend)

    with wire.database.read() as querier:
        assert value(querier, SIX_BY, by=3) == 2


def test_connection_lost_in_a_transaction_is_not_sent_again(wire: RecordedDatabase, observer: Database) -> None:
    with pytest.raises(Unavailable), wire.database.write() as querier:
        querier.enqueue(ADD, {"name": "one"})
        assert value(querier, TOTAL) == 1
        end_backend(observer, wire.backend)
        querier.enqueue(ADD, {"name": "two"})
        value(querier, TOTAL)
        pytest.fail("the connection is lost")

    assert sum("'two'" in message for message in wire.messages) == 1
    assert total(wire.database) == 0


def test_connection_lost_before_the_commit_is_not_sent_again(wire: RecordedDatabase, observer: Database) -> None:
    with pytest.raises(Unavailable), wire.database.write() as querier:
        querier.enqueue(ADD, {"name": "one"})
        assert value(querier, TOTAL) == 1
        end_backend(observer, wire.backend)

    assert sum("COMMIT" in message for message in wire.messages) == 1
    assert total(wire.database) == 0


def test_commit_that_may_have_arrived_is_not_sent_again(wire: RecordedDatabase, observer: Database) -> None:
    with pytest.raises(Unavailable), wire.database.write() as querier:
        querier.enqueue(ADD, {"name": "one"})
        end_backend(observer, wire.backend)

    assert sum("COMMIT" in message for message in wire.messages) == 1
    assert total(wire.database) == 0


def test_error_of_a_block_stays_itself_where_the_connection_is_lost(wire: RecordedDatabase, observer: Database) -> None:
    with pytest.raises(ValueError, match="changed my mind"), wire.database.write() as querier:
        querier.enqueue(ADD, {"name": "one"})
        assert value(querier, TOTAL) == 1
        end_backend(observer, wire.backend)
        raise ValueError("changed my mind")

    assert total(wire.database) == 0

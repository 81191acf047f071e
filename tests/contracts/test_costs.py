"""What reading may cost: statements and rows, whatever the number of votes. Never time."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import URL, Engine, event, text

from application.paging import Window
from application.views import PostFilter
from application.votes import CastVote
from domain.users import Actor
from domain.votes import Direction
from infrastructure.database.engine import open_engine
from infrastructure.database.posts import GET_VISIBLE, list_statement
from infrastructure.database.users import FIND_ACTOR
from tests.backends import Backend, sql_backend
from tests.fakes import FrozenClock
from tests.samples import NOW, add_post, add_user

POSTS, VOTERS = 3_000, 20


@pytest.fixture
def filled(url: URL) -> Iterator[tuple[Engine, Backend]]:
    """A database with many posts, and twenty votes on each of the newest hundred."""
    engine = open_engine(url, connections=2)
    with sql_backend(url) as backend, engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO users (email, email_key, search_key, password_hash, role, is_active, created_at)"
                " VALUES (:name, :name, :name, '', 'user', true, '2026-01-01 00:00:00.000000')"
            ),
            [{"name": f"user{number}@example.com"} for number in range(VOTERS)],
        )
        connection.execute(
            text(
                "INSERT INTO posts (owner_id, title, title_key, content, published, created_at, updated_at, version,"
                " upvotes, downvotes) VALUES (:owner, 'A title', 'a title', '-', true, :at, :at, 1, 0, 0)"
            ),
            [
                {"owner": number % VOTERS + 1, "at": f"2026-01-01 {number // 3600:02}:{number // 60 % 60:02}:00.000000"}
                for number in range(POSTS)
            ],
        )
        connection.execute(
            text(
                "INSERT INTO votes (post_id, user_id, dir, created_at)"
                " SELECT posts.id, users.id, 1, users.created_at FROM posts, users WHERE posts.id > :old"
            ),
            {"old": POSTS - 100},
        )
        connection.commit()
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as analyst:
            analyst.execute(text("ANALYZE"))
        yield engine, backend
    engine.dispose()


@contextmanager
def statements(engine: Engine) -> Iterator[list[str]]:
    """Collect what is sent to the database meanwhile."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield sent
    event.remove(engine, "before_cursor_execute", note)


def scanned(plan: dict[str, Any]) -> dict[str, int]:
    """Add up the rows that each table's scans gave, those that a filter threw away included."""
    rows: dict[str, int] = {}
    for part in plan.get("Plans", []):
        for table, count in scanned(part).items():
            rows[table] = rows.get(table, 0) + count
    if "Relation Name" in plan:
        table = plan["Relation Name"]
        each = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
        rows[table] = rows.get(table, 0) + round(each * plan["Actual Loops"])
    return rows


LIST = list_statement(None, admin=False, by_owner=False, search=False)
OF_OWNER = list_statement(None, admin=False, by_owner=True, search=False)
PAGE = {"reader_id": 1, "limit": 10, "skip": 0}


@pytest.mark.parametrize(
    ("statement", "values", "most"),
    [
        (LIST, PAGE, {"posts": 10, "votes": 10, "users": VOTERS}),
        (OF_OWNER, PAGE | {"owner_id": 3}, {"posts": 10, "votes": 10, "users": VOTERS}),
        (GET_VISIBLE, {"reader_id": 1, "post_id": POSTS}, {"posts": 1, "votes": 1, "users": VOTERS}),
        (FIND_ACTOR, {"user_id": 7, "session_id": 7, "now": NOW}, {"users": VOTERS, "sessions": 1}),
    ],
)
def test_reading_touches_what_it_shows(
    filled: tuple[Engine, Backend], statement: Any, values: dict[str, int], most: dict[str, int]
) -> None:
    engine, _ = filled
    compiled = str(statement.compile(engine, compile_kwargs={"literal_binds": False}))
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            explain = f"EXPLAIN (ANALYZE, TIMING OFF, COSTS OFF, FORMAT JSON) {compiled}"
            plan = connection.exec_driver_sql(explain, values).scalar_one()
            for table, count in scanned(plan[0]["Plan"]).items():
                assert count <= most[table], plan
        else:
            parameters = statement.compile(engine).construct_params(values)
            ordered = tuple(parameters[name] for name in statement.compile(engine).positiontup)
            plan = [row.detail for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", ordered)]
            assert not [step for step in plan if "TEMP B-TREE" in step], plan
            assert not [step for step in plan if step.startswith("SCAN") and "USING" not in step], plan


def test_a_list_is_one_statement(filled: tuple[Engine, Backend]) -> None:
    _, backend = filled
    reader = backend.posts
    engine = reader._reading.__self__.engine  # type: ignore[attr-defined]
    with statements(engine) as sent:
        found = reader.list(Actor(1), PostFilter(), Window())

    assert len(found) == 10
    assert len([statement for statement in sent if not statement.startswith("BEGIN")]) == 1
    assert "count(" not in sent[0].lower()
    assert "sum(" not in sent[0].lower()


def test_a_vote_is_no_dearer_on_a_post_with_many(url: URL) -> None:
    with sql_backend(url) as backend:
        ann = add_user(backend.uow, "ann")
        cast = CastVote(backend.uow, FrozenClock())
        engine = backend.posts._reading.__self__.engine  # type: ignore[attr-defined]
        counts: list[int] = []
        for _ in range(2):
            post = add_post(backend.uow, ann)
            for number in range(10 * len(counts)):
                cast(add_user(backend.uow, f"user{number}"), post.id, Direction.UP)
            with statements(engine) as sent:
                cast(ann, post.id, Direction.UP)
            counts.append(len(sent))

    assert counts[0] == counts[1]

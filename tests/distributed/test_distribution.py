"""A database that Citus distributes: how it becomes one, and what holds on it."""

import re
from contextlib import closing
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import URL, inspect

from application.errors import TransactionAborted
from application.votes import CastVote, CastVotes
from domain.users import InvalidToken
from domain.votes import Direction
from infrastructure.database.engine import open_engine
from infrastructure.database.schema import Migrations, config
from infrastructure.database.tables import metadata
from tests.fakes.services import FrozenClock
from tests.support.backends import PostgresServer, contents, require_true_counters, sql_backend
from tests.support.citus import execute
from tests.support.command import plain, run
from tests.support.course import POSTGRESQL
from tests.support.filled import fill
from tests.support.load import VotingForum
from tests.support.samples import add_post, add_user
from tests.support.schema import REVISIONS, shape

EARLIER = "0004"
"""A revision before the last ones that had to suit a distributed database."""


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Name no database by accident."""
    monkeypatch.chdir(tmp_path)


def agora(url: URL, monkeypatch: pytest.MonkeyPatch, *words: str, typed: str = "") -> str:
    """Run a command that succeeds, and return its output."""
    monkeypatch.setenv("DATABASE_URL", plain(url))
    ended = run(*words, typed=typed)
    assert ended.code == 0, ended.errors
    return ended.output


def described(url: URL) -> dict[str, object]:
    """Describe the schema of a database."""
    with closing(open_engine(url, connections=1).connect()) as connection:
        return shape(inspect(connection))


def test_every_table_is_placed_once(migrated: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    said = agora(migrated, monkeypatch, "distribute", "--shards", "4", "--yes")
    assert all(re.search(f"^{name}: ", said, re.MULTILINE) for name in metadata.tables)
    assert "votes: distributed by post_id, in 4 shards" in said
    assert agora(migrated, monkeypatch, "distribute") == "the database is distributed already\n"
    assert "users reference; votes by post_id, in 4 shards" in agora(migrated, monkeypatch, "doctor")


def test_rows_stay_when_a_database_is_distributed(migrated: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    forum = VotingForum(migrated)
    with sql_backend(migrated) as backend:
        author = add_user(backend.uow, "author")
        CastVote(CastVotes(backend.uow, FrozenClock()))(author, forum.posts[0], Direction.UP)
    before = contents(migrated)
    agora(migrated, monkeypatch, "distribute", "--shards", "4", "--yes")
    assert contents(migrated) == before
    require_true_counters(migrated)
    with sql_backend(migrated) as backend:
        assert add_post(backend.uow, author).id == forum.posts[-1] + 1


def test_without_consent_nothing_is_distributed(migrated: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", plain(migrated))
    assert "nothing was distributed" in run("distribute", typed="n\n").errors
    assert re.search("its tables are not distributed\n +run: agora distribute", run("doctor").output)


def test_doctor_names_each_missing_setting(distributed: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    execute(distributed, f"ALTER DATABASE {distributed.database} RESET citus.multi_shard_modify_mode")
    execute(distributed, f"ALTER ROLE agora IN DATABASE {distributed.database} RESET lock_timeout")
    monkeypatch.setenv("DATABASE_URL", plain(distributed))
    said = run("doctor").output
    assert f"ALTER DATABASE {distributed.database} SET citus.multi_shard_modify_mode = sequential" in said
    assert f"ALTER ROLE agora IN DATABASE {distributed.database} SET lock_timeout = '1s'" in said
    agora(distributed, monkeypatch, "distribute", "--yes")
    assert "SET lock_timeout" not in run("doctor").output


def test_account_that_is_being_removed_cannot_vote(distributed: URL) -> None:
    with sql_backend(distributed) as backend, sql_backend(distributed) as other:
        author, leaver = add_user(backend.uow, "author"), add_user(backend.uow, "leaver")
        posts = [add_post(backend.uow, author) for _ in range(4)]
        cast = CastVote(CastVotes(other.uow, FrozenClock()))
        cast(leaver, posts[0].id, Direction.UP)
        with backend.uow() as tx:
            tx.users.remove(leaver.id)
            for post in posts[1:]:
                with pytest.raises(TransactionAborted):
                    cast(leaver, post.id, Direction.UP)
        for post in posts:
            with pytest.raises(InvalidToken):
                cast(leaver, post.id, Direction.UP)
    require_true_counters(distributed)
    assert contents(distributed)["votes"] == []


def test_generated_rows_are_exported_and_imported(
    distributed: URL, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    agora(distributed, monkeypatch, "demo", "--users", "20", "--posts", "100", "--votes", "500")
    require_true_counters(distributed)
    assert "none of 100 posts disagree" in agora(distributed, monkeypatch, "votes", "verify")
    agora(distributed, monkeypatch, "export", "all.ndjson")
    with postgres.database() as copy:
        agora(copy, monkeypatch, "import", "all.ndjson")
        assert contents(copy) == contents(distributed)
        execute(copy, "UPDATE posts SET upvotes = upvotes + 1, score = score + 1 WHERE id < 10")
        assert "9 of 100 posts disagreed" in agora(copy, monkeypatch, "votes", "repair")
        require_true_counters(copy)


def test_adopted_database_can_be_distributed(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with postgres.database(migrated=False) as url:
        execute(url, "; ".join(POSTGRESQL))
        agora(url, monkeypatch, "adopt", "--apply")
        agora(url, monkeypatch, "distribute", "--yes")
        assert "Citus: " in agora(url, monkeypatch, "doctor")


def test_steps_since_the_layout_migrate_a_distributed_database(
    distributed: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(distributed)
    before, schema = contents(distributed), described(distributed)
    Migrations(distributed).downgrade(EARLIER)
    said = agora(distributed, monkeypatch, "migrate")
    assert re.findall("^applied (....)", said, re.MULTILINE) == [name for name in REVISIONS if name > EARLIER]
    assert "tables that Citus does not know: quotas" in run("doctor").output
    agora(distributed, monkeypatch, "distribute", "--yes")
    assert "problem" not in run("doctor").output
    assert described(distributed) == schema
    assert contents(distributed) == before | {"quotas": []}


def test_steps_since_the_layout_say_what_they_mean_for_it() -> None:
    steps = ScriptDirectory.from_config(config()).walk_revisions(EARLIER, "heads")
    assert [step.revision for step in steps if "distribute" not in step.longdoc and step.revision != EARLIER] == []

"""Whether the counters are true, and making them so, through the command, on each database."""

from collections.abc import Iterator

import pytest
from sqlalchemy import URL

from application.ports.storage import UnitOfWorkFactory
from application.votes import CastVote, CastVotes
from domain.votes import Direction, Tally
from infrastructure.database.engine import open_engine
from tests.fakes.services import FrozenClock
from tests.support.backends import sql_backend
from tests.support.command import run
from tests.support.samples import add_post, add_user


@pytest.fixture
def uow(at: URL) -> Iterator[UnitOfWorkFactory]:
    """The database that the command works on, with thirty posts and a vote on each, behind the ports."""
    with sql_backend(at) as backend:
        ann = add_user(backend.uow)
        for _ in range(30):
            CastVote(CastVotes(backend.uow, FrozenClock()))(ann, add_post(backend.uow, ann).id, Direction.DOWN)
        yield backend.uow


def damage(url: URL, *post_ids: int, change: str = "upvotes = 3, downvotes = 2, score = 1") -> None:
    """Change what posts keep of their votes, as nothing in Agora does."""
    engine = open_engine(url, connections=1)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE posts SET {change} WHERE id IN ({', '.join(map(str, post_ids))})")
    engine.dispose()


@pytest.mark.usefixtures("uow")
def test_true_counters_are_verified() -> None:
    done = run("votes", "verify")
    assert (done.code, done.errors) == (0, "")
    assert done.output == "none of 30 posts disagree with their votes\n"


@pytest.mark.usefixtures("at")
def test_without_posts_nothing_is_wrong() -> None:
    assert run("votes", "verify").output == "none of 0 posts disagree with their votes\n"
    assert run("votes", "repair").output == "none of 0 posts disagreed with their votes and are repaired\n"


@pytest.mark.usefixtures("uow")
def test_what_is_wrong_is_named_and_left_alone(at: URL) -> None:
    damage(at, 7)
    damage(at, 9, change="hot = 0")
    for _ in range(2):
        done = run("votes", "verify")
        assert done.code == 1
        assert done.output == (
            "post 7: upvotes 3, downvotes 2, score 1, hot 39272.64;"
            " its votes: upvotes 0, downvotes 1, score -1, hot 39272.64\n"
            "post 9: upvotes 0, downvotes 1, score -1, hot 0.0;"
            " its votes: upvotes 0, downvotes 1, score -1, hot 39272.64\n"
        )
        assert done.errors == "agora: 2 of 30 posts disagree with their votes; run: agora votes verify --repair\n"


@pytest.mark.usefixtures("uow")
def test_of_many_posts_that_are_wrong_the_first_are_named(at: URL) -> None:
    damage(at, *range(1, 26))
    output = run("votes", "verify").output.splitlines()
    assert [line.split(":")[0] for line in output] == [*(f"post {number}" for number in range(1, 21)), "and 5 more"]


@pytest.mark.parametrize("words", [("verify", "--repair"), ("repair",)])
def test_what_is_wrong_is_repaired(at: URL, uow: UnitOfWorkFactory, words: tuple[str, ...]) -> None:
    damage(at, 1)
    damage(at, 30, change="hot = 0, upvotes = 2, score = 1")
    done = run("votes", *words)
    assert (done.code, done.errors) == (0, "")
    assert done.output.splitlines()[-1] == "2 of 30 posts disagreed with their votes and are repaired"
    assert [line.partition(":")[0] for line in done.output.splitlines()[:-1]] == ["post 1", "post 30"]
    assert run("votes", "verify").output == "none of 30 posts disagree with their votes\n"
    with uow() as tx:
        assert tx.posts.lock(30).tally == Tally(0, 1)


@pytest.mark.usefixtures("blank")
@pytest.mark.parametrize("word", ["verify", "repair"])
def test_before_the_schema_is_made_there_is_nothing_to_count(word: str) -> None:
    assert "run: agora migrate" in run("votes", word).refused()


@pytest.mark.parametrize("word", ["verify", "repair"])
def test_the_commands_show_examples(word: str) -> None:
    assert f"agora votes {word}" in run("votes", word, "--help").output.partition("Examples:")[2]

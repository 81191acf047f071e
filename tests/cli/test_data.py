"""Whole databases from the command line: filling one."""

import re
from collections import Counter
from contextlib import closing

import pytest
from sqlalchemy import URL, inspect

from domain.text import search_key
from domain.votes import Tally, hotness
from infrastructure.container import Container
from infrastructure.database.engine import open_engine
from tests.backends import contents
from tests.cli.command import run, run_command
from tests.migrations.test_migrations import shape

# demo

FEW = ("--users", "30", "--posts", "50", "--votes", "400")


def require_true_counters(url: URL) -> None:
    """Count the votes of every post anew."""
    found = contents(url)
    ways = Counter((vote.post_id, vote.dir) for vote in found["votes"])
    for post in found["posts"]:
        tally = Tally(ways[post.id, 1], ways[post.id, -1])
        assert (post.upvotes, post.downvotes, post.score) == (tally.upvotes, tally.downvotes, tally.votes)
        assert post.hot == hotness(tally.votes, post.created_at)
    assert {(title.post_id, title.title_key) for title in found["titles"]} == {
        (post.id, search_key(post.title)) for post in found["posts"]
    }


def test_a_demo_is_as_large_as_asked_for_and_its_counters_are_true(at: URL) -> None:
    done = run("demo", *FEW)
    assert (done.code, done.errors) == (0, "")
    assert done.output.startswith("30 people, 50 posts and 400 votes invented\n")
    found = contents(at)
    assert [len(found[table]) for table in ("users", "posts", "votes")] == [30, 50, 400]
    require_true_counters(at)


def test_a_demo_leaves_the_schema_as_it_was(at: URL) -> None:
    engine = open_engine(at, connections=1)
    with engine.connect() as connection:
        before = shape(inspect(connection))
    assert run("demo", *FEW).code == 0
    with engine.connect() as connection:
        assert shape(inspect(connection)) == before
    engine.dispose()


def test_everybody_in_a_demo_signs_in_with_the_password_that_is_printed(at: URL) -> None:
    said = run("demo", *FEW).output
    email, password = re.findall(r"^sign in as (\S+), .* password: (\S{24})$", said, re.MULTILINE)[0]
    assert len({user.password_hash for user in contents(at)["users"]}) == 1
    container = Container()
    with closing(container.database()):
        app = container.app()
        tokens = app.sign_in(email, password, user_agent="a browser", address="192.0.2.1")
        assert app.see_own_account(app.authenticate(tokens.access_token)).email == email


def test_life_goes_on_after_a_demo(at: URL) -> None:
    run("demo", *FEW)
    done = run("users", "create-admin", "--email", "ann@example.com", "--generate")
    assert done.output.startswith("administrator ann@example.com created with id 31\n")
    assert len(contents(at)["users"]) == 31


def test_a_demo_is_for_empty_databases(at: URL) -> None:
    assert run("users", "create-admin", "--email", "ann@example.com", "--generate").code == 0
    before = contents(at)
    assert "this database has users already" in run("demo", *FEW).refused()
    assert contents(at) == before


@pytest.mark.usefixtures("at")
def test_a_demo_with_more_votes_than_people_can_cast_is_one_line() -> None:
    assert (
        "3 people can cast 27 on 9 published posts"
        in run("demo", "--users", "3", "--posts", "9", "--votes", "28").refused()
    )


@pytest.mark.usefixtures("blank")
def test_a_demo_needs_a_migrated_database() -> None:
    assert "run: agora migrate" in run("demo").refused()


@pytest.mark.parametrize("words", [("--users", "0"), ("--posts", "-1"), ("--votes", "-1"), ("--seed", "x")])
def test_a_demo_of_an_impossible_size_is_a_wrong_call(words: tuple[str, str]) -> None:
    assert run("demo", *words).code == 2


def test_the_real_command_fills_a_demo() -> None:
    assert run("migrate").code == 0
    done = run_command("demo", *FEW)
    assert (done.code, done.errors) == (0, "")
    assert done.output.startswith("30 people, 50 posts and 400 votes invented\n")
    assert "this database has users already" in run_command("demo", *FEW).refused()

"""The rows that databases are filled with: they must be as true as those that Agora writes itself."""

from collections import Counter
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest
from sqlalchemy import URL, create_engine, func, select

from benchmarks.data import ABSENT, COMMON, DRAFTS_A_VOTER, NEWER_THAN_DRAFTS, RARE, VOTERS, Data
from benchmarks.databases import fill_sqlite
from infrastructure.database.schema import Migrations
from infrastructure.database.tables import metadata

POSTS = 1_500
NOW = datetime(2026, 11, 25, tzinfo=UTC)
TABLES = ["users", "sessions", "posts", "titles", "votes"]


@cache
def rows(table: str) -> list[dict[str, str]]:
    made = Data(POSTS, NOW).tables[table]
    return [dict(zip(made.columns, row, strict=True)) for row in made.values]


@pytest.mark.parametrize("table", TABLES)
def test_every_column_of_agora_is_made_up(table: str) -> None:
    assert set(metadata.tables[table].columns.keys()) <= set(rows(table)[0])


def test_posts_have_ten_votes_on_average_and_a_few_have_many() -> None:
    counts = sorted(Counter(vote["post_id"] for vote in rows("votes")).values(), reverse=True)

    assert 8 * POSTS <= sum(counts) <= 10 * POSTS
    assert counts[0] > 30 * counts[POSTS // 2]


def test_counters_are_those_of_the_votes() -> None:
    cast = Counter((vote["post_id"], vote["dir"]) for vote in rows("votes"))

    for post in rows("posts"):
        assert int(post["upvotes"]) == cast[post["id"], "1"]
        assert int(post["downvotes"]) == cast[post["id"], "-1"]
        assert int(post["score"]) == int(post["upvotes"]) - int(post["downvotes"])


def test_each_voter_has_drafts_older_than_the_newest_posts() -> None:
    drafts = [post for post in rows("posts") if post["published"] == "f"]
    times = sorted(post["created_at"] for post in rows("posts") if post["published"] == "t")

    assert Counter(draft["owner_id"] for draft in drafts) == {str(n): DRAFTS_A_VOTER for n in range(1, VOTERS + 1)}
    assert max(draft["created_at"] for draft in drafts) < times[-NEWER_THAN_DRAFTS + 1]
    assert {draft["id"] for draft in drafts} <= {title["post_id"] for title in rows("titles")}


def test_sqlite_stores_the_same_rows_with_types(tmp_path: Path) -> None:
    file = tmp_path / "agora.db"
    Migrations(URL.create("sqlite", database=str(file))).upgrade()

    data = Data(1_000, NOW, drafts_a_voter=1)
    fill_sqlite(file, data)

    engine = create_engine(URL.create("sqlite", database=str(file)))
    with engine.connect() as connection:
        counts = {name: connection.scalar(select(func.count()).select_from(metadata.tables[name])) for name in TABLES}
        post = connection.execute(select(metadata.tables["posts"]).order_by("id")).first()
    engine.dispose()
    assert (counts["users"], counts["posts"], counts["titles"]) == (VOTERS, 1_000 + VOTERS, 1_000 + VOTERS)
    made = data.tables["posts"]
    expected = dict(zip(made.columns, next(made.values), strict=True))
    assert post is not None
    assert (post.published, post.title, post.upvotes) == (True, expected["title"], int(expected["upvotes"]))
    assert post.created_at == datetime.fromisoformat(expected["created_at"])


def test_each_user_votes_once_per_post_and_every_user_exists() -> None:
    people = {user["id"] for user in rows("users")}
    pairs = [(vote["post_id"], vote["user_id"]) for vote in rows("votes")]

    assert len(set(pairs)) == len(pairs)
    assert {user for _, user in pairs} <= people
    assert {post["owner_id"] for post in rows("posts")} <= people
    assert {session["user_id"] for session in rows("sessions")} == {str(user) for user in range(1, VOTERS + 1)}


def test_words_are_as_rare_as_they_are_said_to_be() -> None:
    titles = [title["title_key"] for title in rows("titles")]

    assert sum(COMMON in title for title in titles) == POSTS // 10
    assert sum(RARE in title for title in titles) == 10
    assert not any(ABSENT in title for title in titles)
    assert len(set(titles)) > POSTS // 2

"""Rows for every measured database, generated from the number of posts alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from itertools import accumulate, chain, pairwise
from pathlib import Path
from typing import Final

from domain.text import fold
from domain.users import Role
from domain.votes import hotness
from infrastructure.passwords import Argon2PasswordHasher
from infrastructure.settings import Settings

VOTES_A_POST: Final = 10
POSTS_A_USER: Final = 15
VOTERS: Final = 1_000
"""Accounts with a session; the minimum number of accounts."""

DRAFTS_A_VOTER: Final = 10
NEWER_THAN_DRAFTS: Final = 100
"""Posts that are newer than all drafts, so that first pages show the same posts to every account."""

PASSWORD: Final = "correct horse battery"

COMMON: Final = "garden"
"""In one title of ten."""

RARE: Final = "quixotic"
"""In ten titles, however many there are."""

ABSENT: Final = "gardenquartz"
"""In no title, although titles hold parts of it."""

WORDS: Final = Path(__file__).with_name("words.txt").read_text(encoding="ascii").split()
CONTENT_WORDS: Final = 60

SKEW: Final = 0.8
"""Exponent of the zipf-like spread: the post of rank r gets votes in proportion to r ** -SKEW."""

SPREAD: Final = 7_368_787
"""A prime, which scatters ranks, words and voters over the ids."""

MINUTE: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a table, in the form of COPY: columns by name, values as text."""

    columns: tuple[str, ...]
    values: Iterator[tuple[str, ...]]


@dataclass(frozen=True)
class Data:
    """Posts one minute apart until now, ten votes each on average, and their users.

    Each voter has drafts, whose ids follow those of the posts, and whose times lie among theirs.
    """

    posts: int
    now: datetime
    drafts_a_voter: int = DRAFTS_A_VOTER

    @property
    def users(self) -> int:
        """How many accounts there are."""
        return max(VOTERS, self.posts // POSTS_A_USER)

    @property
    def tables(self) -> dict[str, Rows]:
        """The rows of each table, in an order that foreign keys allow."""
        return {
            "users": self._users(),
            "sessions": self._sessions(),
            "posts": self._posts(),
            "titles": self._titles(),
            "votes": self._votes(),
        }

    @cached_property
    def votes_on(self) -> tuple[int, ...]:
        """Number of votes on each post by id from 1; ranks are scattered over ids."""
        weight = [rank**-SKEW for rank in range(1, self.posts + 1)]
        scale = VOTES_A_POST * self.posts / sum(weight)
        by_rank = list(accumulate((scale * each for each in weight), initial=0.0))
        most = self.users // 2
        counts = [min(most, int(after) - int(before)) for before, after in pairwise(by_rank)]
        return tuple(counts[post * SPREAD % self.posts] for post in range(1, self.posts + 1))

    def title(self, post: int) -> str:
        """Write a post's title."""
        words = [WORDS[(post * SPREAD + place * place * (post % 89 + 1)) % len(WORDS)] for place in range(1, 6)]
        if post % 10 == 0:
            words.insert(post // 10 % 5, COMMON)
        if post % max(1, self.posts // 10) == 1:
            words.insert(post % 5, RARE)
        return " ".join(words).capitalize()

    def _users(self) -> Rows:
        settings = Settings()
        hashed = Argon2PasswordHasher(
            settings.argon2_memory_kib, settings.argon2_time_cost, settings.argon2_parallelism
        ).hash(PASSWORD)
        role = Role.USER.value
        opened = (self.now - self.posts * MINUTE - timedelta(days=1)).isoformat()
        columns = (
            "id",
            "email",
            "email_key",
            "username",
            "username_key",
            "search_key",
            "search_folded",
            "password_hash",
            "role",
            "is_active",
            "created_at",
        )
        return Rows(
            columns,
            (
                (str(n), *[email(n)] * 2, *[f"user{n}"] * 2, *[rf"{email(n)}\nuser{n}"] * 2, hashed, role, "t", opened)
                for n in range(1, self.users + 1)
            ),
        )

    def _sessions(self) -> Rows:
        now, end = self.now.isoformat(), (self.now + timedelta(days=7)).isoformat()
        columns = (
            "id",
            "user_id",
            "created_at",
            "last_used_at",
            "ends_at",
            "user_agent",
            "refresh_family",
            "refresh_secret",
        )
        return Rows(
            columns,
            ((str(n), str(n), now, now, end, "benchmark", f"family{n}", "none") for n in range(1, VOTERS + 1)),
        )

    def _posts(self) -> Rows:
        columns = (
            "id",
            "owner_id",
            "title",
            "content",
            "published",
            "created_at",
            "updated_at",
            "version",
            "upvotes",
            "downvotes",
            "score",
            "hot",
        )

        def rows() -> Iterator[tuple[str, ...]]:
            text = " ".join(WORDS * 2)
            for post, votes in enumerate(self.votes_on, 1):
                start = post * 7 % 400
                content = text[start : start + CONTENT_WORDS * 6]
                yield post_row(
                    post, post * SPREAD % self.users + 1, self.title(post), content, self._written(post), votes
                )
            for draft in range(1, VOTERS * self.drafts_a_voter + 1):
                written = self._written(draft * SPREAD % (self.posts - NEWER_THAN_DRAFTS) + 1) + MINUTE / 2
                yield post_row(self.posts + draft, draft % VOTERS + 1, f"Draft {draft}", text[:360], written)

        return Rows(columns, rows())

    def _titles(self) -> Rows:
        titles = ((post, self.title(post)) for post in range(1, self.posts + 1))
        drafts = ((self.posts + draft, f"Draft {draft}") for draft in range(1, VOTERS * self.drafts_a_voter + 1))
        return Rows(
            ("post_id", "title_key", "title_folded"),
            ((str(post), fold(title), fold(title)) for post, title in chain(titles, drafts)),
        )

    def _votes(self) -> Rows:
        def rows() -> Iterator[tuple[str, ...]]:
            for post, votes in enumerate(self.votes_on, 1):
                name, cast, down = str(post), (self._written(post) + MINUTE).isoformat(), downvotes(votes)
                first = post * SPREAD
                for nth in range(votes):
                    yield (name, str((first + nth) % self.users + 1), "-1" if nth < down else "1", cast)

        return Rows(("post_id", "user_id", "dir", "created_at"), rows())

    def _written(self, post: int) -> datetime:
        return self.now - (self.posts - post + 1) * MINUTE


def post_row(
    post: int, owner: int, title: str, content: str, written: datetime, votes: int | None = None
) -> tuple[str, ...]:
    """Return the values of a post; without votes, of a draft."""
    down = downvotes(votes or 0)
    score = (votes or 0) - 2 * down
    return (
        str(post),
        str(owner),
        title,
        content,
        "f" if votes is None else "t",
        written.isoformat(),
        written.isoformat(),
        "1",
        str(score + down),
        str(down),
        str(score),
        repr(hotness(score, written)),
    )


def email(user: int) -> str:
    """Tell the e-mail of an account."""
    return f"user{user}@example.com"


def downvotes(votes: int) -> int:
    """Tell how many of a post's votes are against it: one of five."""
    return votes // 5

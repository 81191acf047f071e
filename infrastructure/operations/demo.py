"""Generated users, posts and votes, for demonstrations and measurements."""

import tomllib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import product
from pathlib import Path
from random import Random
from typing import Final

from sqlalchemy import URL

from application.errors import Refused
from application.ports.services import Clock, PasswordHasher
from domain.posts import Post
from domain.users import Role, User
from domain.votes import Direction, Tally, Vote
from infrastructure.domain_names import to_ascii
from infrastructure.operations.bulk import (
    add_posts,
    add_users,
    add_votes,
    analyze,
    last_ids,
    load,
    require_empty,
    transaction,
)

SPAN: Final = timedelta(days=365).total_seconds()
DRAFTS: Final = 20
"""Every 20th post is a draft, without votes."""

WORDS: Final = Path(__file__).parents[1] / "data" / "demo.toml"


class Demo:
    """Stores generated users, posts and votes, equal for equal seed and day."""

    def __init__(self, url: URL, hasher: PasswordHasher, clock: Clock) -> None:
        self._url = url
        self._hasher = hasher
        self._clock = clock

    def fill(
        self, users: int, posts: int, votes: int, seed: int, password: str, progress: Callable[[int, int], None]
    ) -> str:
        """Fill a database without users, and return the e-mail of one user.

        All users have the same password.

        Raises:
            Refused: the database has users, or there are too many votes for the posts.
            Unavailable: the database is unavailable.
        """
        until = self._clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
        password_hash = self._hasher.hash(password)
        total = users + posts + votes
        with transaction(self._url) as connection:
            require_empty(connection)
            last = last_ids(connection)
            invented = Invented(users, posts, votes, seed, until, last["users"], last["posts"])
            parts = (
                (add_users, invented.users(password_hash)),
                (add_posts, invented.posts()),
                (add_votes, invented.votes()),
            )
            load(connection, parts, last, lambda done: progress(done, total))
        analyze(self._url)
        return next(invented.users(password_hash)).email


class Invented:
    """Generated users, posts and votes of the year before `until`.

    Each call yields the same. Tallies are chosen first, so that a post is stored with its tally before its votes.
    """

    def __init__(
        self, users: int, posts: int, votes: int, seed: int, until: datetime, last_user: int = 0, last_post: int = 0
    ) -> None:
        """Choose the times and the tallies; ids follow the last ones.

        Raises:
            Refused: there is more than one vote for each user and published post.
        """
        published = posts - posts // DRAFTS
        room = users * published
        if votes > room:
            raise Refused(f"{votes} votes are too many: {users} users can cast {room} on {published} published posts")
        self._words = tomllib.loads(WORDS.read_text(encoding="utf-8"))
        self._seed = seed
        self._since = until - timedelta(seconds=SPAN)
        self._registered = [0.0, *self._moments("registrations", users - 1)]
        self._written = self._moments("posts", posts)
        self._tallies = self._distribute(users, posts, votes)
        self._first_user = last_user + 1
        self._first_post = last_post + 1

    def users(self, password_hash: str) -> Iterator[User]:
        """Generate users in the order of registration."""
        names = list(product(self._words["first_names"], self._words["last_names"]))
        self._random("names").shuffle(names)
        for number, registered in enumerate(self._registered):
            first, last = names[number % len(names)]
            again = number // len(names)  # a repeated name gets a number
            user = User.register(
                email=f"{first}.{last}{again or ''}@example.com".lower(),
                username=f"{first}_{last}{again or ''}",
                role=Role.USER,
                now=self._at(registered),
                to_ascii=to_ascii,
            )
            yield replace(user, id=self._first_user + number, password_hash=password_hash)

    def posts(self) -> Iterator[Post]:
        """Generate posts in the order of creation."""
        random = self._random("posts")
        for number, (written, tally) in enumerate(zip(self._written, self._tallies, strict=True)):
            people = bisect_right(self._registered, written)
            topic = random.choice(self._words["topics"])
            title = random.choice(self._words["titles"]).format(topic)
            sentences = random.sample(self._words["sentences"], random.randint(1, 6))
            post = Post.write(
                owner_id=self._first_user + int(people * random.random() ** 2),  # early users write more
                title=title[0].upper() + title[1:],
                content=" ".join(sentences).format(*[topic] * len(sentences)),
                published=not _is_draft(number),
                now=self._at(written),
            )
            yield replace(post, id=self._first_post + number, tally=tally)

    def votes(self) -> Iterator[Vote]:
        """Generate votes, grouped by post."""
        random = self._random("votes")
        for number, (written, tally) in enumerate(zip(self._written, self._tallies, strict=True)):
            voters = random.sample(range(len(self._registered)), tally.upvotes + tally.downvotes)
            for place, voter in enumerate(voters):
                since = max(written, self._registered[voter])
                yield Vote(
                    user_id=self._first_user + voter,
                    post_id=self._first_post + number,
                    direction=Direction.UP if place < tally.upvotes else Direction.DOWN,
                    created_at=self._at(since + (SPAN - since) * random.random() ** 3),  # most votes come early
                )

    def _random(self, what: str) -> Random:
        return Random(f"{self._seed} {what}")  # noqa: S311 - nothing here is a secret

    def _moments(self, what: str, count: int) -> Sequence[float]:
        """Choose times, in seconds after the start of the year."""
        random = self._random(what)
        return sorted(SPAN * random.random() for _ in range(count))

    def _at(self, seconds: float) -> datetime:
        return self._since + timedelta(seconds=seconds)

    def _distribute(self, users: int, posts: int, votes: int) -> Sequence[Tally]:
        """Distribute exactly this number of votes.

        A few posts get many votes, and none gets more than there are users.
        """
        random = self._random("tallies")
        weights = [0.0 if _is_draft(number) else random.paretovariate(1.2) for number in range(posts)]
        total = sum(weights)
        counts = [min(users, int(votes * weight / total)) for weight in weights]
        left = votes - sum(counts)
        while left:
            below_limit = [number for number, weight in enumerate(weights) if weight and counts[number] < users]
            share = max(1, left // len(below_limit))
            for number in below_limit:
                more = min(share, left, users - counts[number])
                counts[number] += more
                left -= more
        downvotes = [round(count * random.betavariate(2, 12)) for count in counts]
        return [Tally(count - down, down) for count, down in zip(counts, downvotes, strict=True)]


def _is_draft(number: int) -> bool:
    return number % DRAFTS == DRAFTS - 1

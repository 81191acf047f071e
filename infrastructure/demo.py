"""A database full of people who never were: something to look at, to try things on and to measure with."""

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
from infrastructure.database.bulk import (
    add_posts,
    add_users,
    add_votes,
    batches,
    checked_at_the_end,
    last_ids,
    move_on,
    require_empty,
    tidy,
    transaction,
)

SPAN: Final = timedelta(days=365).total_seconds()
DRAFTS: Final = 20
"""One post in so many is a draft, on which nobody has voted."""

WORDS: Final = Path(__file__).parent / "data" / "demo.toml"


class Demo:
    """Invents people, posts and votes, the same for the same seed and day, and stores them in one transaction."""

    def __init__(self, url: URL, hasher: PasswordHasher, clock: Clock) -> None:
        self._url = url
        self._hasher = hasher
        self._clock = clock

    def fill(
        self, users: int, posts: int, votes: int, seed: int, password: str, progress: Callable[[int, int], None]
    ) -> str:
        """Fill a database that has no users yet, and tell the e-mail of one who can sign in now, as all of them can.

        Raises:
            Refused: the database has users already, or so many votes find no room.
            Unavailable: the database cannot answer now.
        """
        until = self._clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
        invented = Invented(users, posts, votes, seed, until)
        password_hash = self._hasher.hash(password)
        done, total = 0, users + posts + votes
        with transaction(self._url) as connection:
            require_empty(connection)
            last = last_ids(connection)
            invented.start_after(last["users"], last["posts"])
            with checked_at_the_end(connection):
                for people in batches(invented.users(password_hash)):
                    add_users(connection, people)
                    progress(done := done + len(people), total)
                for written in batches(invented.posts()):
                    add_posts(connection, written)
                    progress(done := done + len(written), total)
                for cast in batches(invented.votes()):
                    add_votes(connection, cast)
                    progress(done := done + len(cast), total)
            move_on(connection, {})
        tidy(self._url)
        return next(invented.users(password_hash)).email


class Invented:
    """People, posts and votes, in the year before `until`. Each kind comes anew and alike whenever it is asked for.

    How many vote how on a post is settled first, so that a post can be stored with its tally, before its votes.
    """

    def __init__(self, users: int, posts: int, votes: int, seed: int, until: datetime) -> None:
        """Plan it.

        Raises:
            Refused: there are more votes than one for each person and published post.
        """
        published = posts - posts // DRAFTS
        room = users * published
        if votes > room:
            raise Refused(f"{votes} votes are too many: {users} people can cast {room} on {published} published posts")
        self._words = tomllib.loads(WORDS.read_text(encoding="utf-8"))
        self._seed = seed
        self._since = until - timedelta(seconds=SPAN)
        self._registered = [0.0, *self._moments("registrations", users - 1)]
        self._written = self._moments("posts", posts)
        self._tallies = self._settled(users, posts, votes)
        self.start_after(0, 0)

    def start_after(self, last_user: int, last_post: int) -> None:
        """Number people and posts from the next id on."""
        self._first_user = last_user + 1
        self._first_post = last_post + 1

    def users(self, password_hash: str) -> Iterator[User]:
        """Invent people, in the order in which they registered."""
        names = list(product(self._words["first_names"], self._words["last_names"]))
        self._random("names").shuffle(names)
        for number, registered in enumerate(self._registered):
            first, last = names[number % len(names)]
            again = number // len(names)  # whoever is not the first of their name gets a number
            user = User.register(
                email=f"{first}.{last}{again or ''}@example.com".lower(),
                username=f"{first}_{last}{again or ''}",
                role=Role.USER,
                now=self._at(registered),
            )
            yield replace(user, id=self._first_user + number, password_hash=password_hash)

    def posts(self) -> Iterator[Post]:
        """Invent posts, in the order in which they were written."""
        random = self._random("posts")
        for number, (written, tally) in enumerate(zip(self._written, self._tallies, strict=True)):
            people = bisect_right(self._registered, written)
            topic = random.choice(self._words["topics"])
            title = random.choice(self._words["titles"]).format(topic)
            sentences = random.sample(self._words["sentences"], random.randint(1, 6))
            post = Post.write(
                owner_id=self._first_user + int(people * random.random() ** 2),  # who came early writes more
                title=title[0].upper() + title[1:],
                content=" ".join(sentences).format(*[topic] * len(sentences)),
                published=not _is_draft(number),
                now=self._at(written),
            )
            yield replace(post, id=self._first_post + number, tally=tally)

    def votes(self) -> Iterator[Vote]:
        """Invent votes, post by post."""
        random = self._random("votes")
        for number, (written, tally) in enumerate(zip(self._written, self._tallies, strict=True)):
            voters = random.sample(range(len(self._registered)), tally.upvotes + tally.downvotes)
            for place, voter in enumerate(voters):
                since = max(written, self._registered[voter])
                yield Vote(
                    user_id=self._first_user + voter,
                    post_id=self._first_post + number,
                    direction=Direction.UP if place < tally.upvotes else Direction.DOWN,
                    created_at=self._at(since + (SPAN - since) * random.random() ** 3),  # most come early
                )

    def _random(self, what: str) -> Random:
        return Random(f"{self._seed} {what}")  # noqa: S311 - nothing here is a secret

    def _moments(self, what: str, count: int) -> Sequence[float]:
        """Choose moments, in seconds after the year began."""
        random = self._random(what)
        return sorted(SPAN * random.random() for _ in range(count))

    def _at(self, seconds: float) -> datetime:
        return self._since + timedelta(seconds=seconds)

    def _settled(self, users: int, posts: int, votes: int) -> Sequence[Tally]:
        """Give out exactly the votes asked for: many to a few posts, few to the rest, nowhere more than voters."""
        random = self._random("tallies")
        weights = [0.0 if _is_draft(number) else random.paretovariate(1.2) for number in range(posts)]
        total = sum(weights)
        counts = [min(users, int(votes * weight / total)) for weight in weights]
        left = votes - sum(counts)
        while left:
            open_ones = [number for number, weight in enumerate(weights) if weight and counts[number] < users]
            share = max(1, left // len(open_ones))
            for number in open_ones:
                more = min(share, left, users - counts[number])
                counts[number] += more
                left -= more
        downvotes = [round(count * random.betavariate(2, 12)) for count in counts]
        return [Tally(count - down, down) for count, down in zip(counts, downvotes, strict=True)]


def _is_draft(number: int) -> bool:
    return number % DRAFTS == DRAFTS - 1

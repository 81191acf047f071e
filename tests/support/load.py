"""People who vote all the time, and remember what they were told."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random
from threading import Condition, Event, Thread
from types import TracebackType
from typing import Any, Self

import httpx2
from sqlalchemy import URL

from application.views import Bearer, Claims
from domain.sessions import RefreshHashes, Session
from infrastructure.tokens import JwtTokenCodec
from tests.support.backends import contents, require_true_counters, sql_backend
from tests.support.samples import a_user, add_post
from tests.support.servers import Server, serving

KEY = "0123456789abcdef" * 4
VOTERS, POSTS = 8, 5
HANG_SECONDS = 8
"""No answer may take longer, whatever happens."""


@dataclass(frozen=True)
class Voter:
    """A user who is signed in."""

    id: int
    headers: dict[str, str]


class VotingForum:
    """People and posts in a database, put there past the API."""

    def __init__(self, url: URL, voters: int = VOTERS, posts: int = POSTS) -> None:
        self.url = url
        codec, now = JwtTokenCodec([KEY], "HS256", timedelta(minutes=30)), datetime.now(UTC)
        with sql_backend(url) as backend:
            with backend.uow() as tx:
                users = [tx.users.add(a_user(f"voter{number}")) for number in range(voters)]
                sessions = [
                    tx.sessions.add(
                        Session.open(
                            user_id=user.id, user_agent="", refresh=RefreshHashes(f"family {user.id}", ""), now=now
                        )
                    )
                    for user in users
                ]
            tokens = [codec.issue(Claims(session.user_id, session.id), now).access_token for session in sessions]
            self.voters = [
                Voter(session.user_id, {"Authorization": f"Bearer {token}"})
                for session, token in zip(sessions, tokens, strict=True)
            ]
            actor = backend.users.find_actor(Bearer(sessions[0].user_id, sessions[0].id, now))
            self.posts = [add_post(backend.uow, actor).id for _ in range(posts)]

    def require_true_counters(self) -> dict[tuple[int, int], int]:
        """Compare every counter with the votes that are there, and give these by voter and post."""
        require_true_counters(self.url)
        return {(vote.user_id, vote.post_id): int(vote.dir) for vote in contents(self.url)["votes"]}


class VoterThreads:
    """A thread for each voter, until the block ends. Leaving it raises what they noted in `_faults`."""

    def __init__(self, act: Callable[[Voter], None], voters: Sequence[Voter]) -> None:
        self._faults: list[str] = []
        self._more = Condition()
        self._is_over = Event()
        self._threads = [Thread(target=act, args=(voter,)) for voter in voters]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()
        assert not self._faults, self._faults[:3]


class Load(VoterThreads):
    """Votes of all voters at this rate in all, until the block ends; forbidden responses are raised there.

    An answer is a success, or a 503 that says when to come back. `may_break` allows connections to break as well: it is
    the server that dies. Nothing may take longer than `answer_seconds`. Who does not stay connects for every vote.
    """

    def __init__(
        self,
        address: str,
        forum: VotingForum,
        *,
        rate: int = 50,
        may_break: bool = False,
        answer_seconds: float = HANG_SECONDS,
        stays: bool = True,
    ) -> None:
        super().__init__(self._vote, forum.voters)
        self.counts: Counter[str] = Counter()
        self._address = address
        self._forum = forum
        self._pause_seconds = len(forum.voters) / rate
        self._may_break = may_break
        self._answer_seconds = answer_seconds
        self._limits = httpx2.Limits(max_keepalive_connections=None if stays else 0)
        self._possible = {of: {direction} for of, direction in forum.require_true_counters().items()}

    def wait_for(self, what: str, times: int = 1, within_seconds: float | None = None) -> None:
        """Wait until something has happened this many times more: "acknowledged", "refused" or "broken"."""
        with self._more:
            until = self.counts[what] + times
            is_expired = self._more.wait_for(lambda: self._faults or self.counts[what] >= until, within_seconds)
            assert not self._faults, self._faults[:3]
            assert is_expired, f"not {what} within {within_seconds} s"

    def require_kept(self) -> None:
        """Require every acknowledged vote to be there, and every counter to be exact; what was refused may be both."""
        votes = self._forum.require_true_counters()
        found = {of: votes.get(of, 0) for of in self._possible}
        assert {of: found[of] for of in found if found[of] not in self._possible[of]} == {}

    def _vote(self, voter: Voter) -> None:
        chance = Random(voter.id)
        with httpx2.Client(
            base_url=self._address, headers=voter.headers, timeout=self._answer_seconds, limits=self._limits
        ) as client:
            while not self._is_over.wait(self._pause_seconds):
                post_id, direction = chance.choice(self._forum.posts), chance.choice((1, 0, -1))
                possible = self._possible.setdefault((voter.id, post_id), {0})
                possible.add(direction)
                path = f"/posts/{post_id}/vote"
                ask = partial(client.put, path, json={"dir": direction}) if direction else partial(client.delete, path)
                outcome = self._outcome(ask)
                if outcome == "acknowledged":
                    self._possible[voter.id, post_id] = {direction}
                with self._more:
                    self.counts[outcome] += 1
                    self._more.notify_all()

    def _outcome(self, ask: Callable[[], httpx2.Response]) -> str:
        try:
            answer = ask()
        except httpx2.TransportError as error:
            if isinstance(error, httpx2.TimeoutException) or not self._may_break:
                self._faults.append(repr(error))
            return "broken"
        if answer.is_success:
            return "acknowledged"
        if not is_refusal(answer):
            self._faults.append(f"{answer.status_code} {answer.text}")
        return "refused"


def is_refusal(answer: httpx2.Response) -> bool:
    """Tell whether an answer says that it cannot be done now, and when to try again."""
    return (
        answer.status_code == 503
        and answer.headers["Content-Type"] == "application/problem+json"
        and answer.headers["Retry-After"].isdecimal()
    )


TIMES = int(os.environ.get("AGORA_FAULTS", "1"))
"""How many times as often as `make test` does it; `make faults` says ten."""


def serve(url: URL, port: int = 0, **options: Any) -> AbstractContextManager[Server]:
    """Run the real server."""
    return serving(url, port=port, SECRET_KEY=KEY, **options)

"""Contract under concurrency, on every storage."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from functools import partial
from time import monotonic, sleep
from typing import Any

import pytest
from sqlalchemy import URL

from application.paging import NEWEST_FIRST, Window
from application.passwords import CheckPassword, Guard, Guess, Limits
from application.ports.services import RefreshTokens
from application.posts import EditPost
from application.sessions import RefreshSession, RevokeToken
from application.users import EditUser, RegisterUser
from application.views import Counter, FreshRefreshToken, PostFilter, Tokens
from application.votes import CastVote, CastVotes
from domain.errors import DomainError
from domain.posts import PostChanges
from domain.sessions import Session
from domain.users import ANONYMOUS, Actor, InvalidToken, Role
from domain.votes import Direction, Tally, Vote
from infrastructure.database.engine import open_database
from infrastructure.operations.counters import Counters
from infrastructure.tokens import DerivedRefreshTokens, RandomRefreshTokens
from tests.fakes.services import FrozenClock, MemorySecurityLog, MemoryTimer, PlainHasher, PlainTokens
from tests.support.backends import Backend, sql_backend
from tests.support.concurrency import all_at_once
from tests.support.samples import NOW, a_user, add_post, add_user, lock_context, record

CROWD = 64
PATIENCE_SECONDS = 10
OVERLAP = timedelta(seconds=10)


def a_crowd(backend: Backend, size: int = CROWD) -> list[Actor]:
    with backend.uow() as tx:
        return [Actor(tx.users.add(a_user(f"user{number}")).id) for number in range(size)]


def require_true_counters(backend: Backend, voters: Sequence[Actor]) -> None:
    """Require every tally to equal the votes on its post."""
    for post in backend.posts.list(ANONYMOUS, PostFilter(), NEWEST_FIRST, Window(100)).items:
        votes = [backend.posts.get(voter, post.id).my_vote for voter in voters]
        assert (post.upvotes, post.downvotes) == (votes.count(Direction.UP), votes.count(Direction.DOWN))


def test_concurrent_equal_votes_make_one_vote_and_one_success(backend: Backend) -> None:
    ann = add_user(backend.uow, "ann")
    post = add_post(backend.uow, ann)
    cast = CastVote(CastVotes(backend.uow, FrozenClock()))

    outcomes = all_at_once([partial(cast, ann, post.id, Direction.UP, repeatable=False)] * CROWD)

    refusals = [outcome.code for outcome in outcomes if isinstance(outcome, DomainError)]
    assert refusals == ["already-voted"] * (CROWD - 1)
    assert backend.posts.get(ann, post.id).upvotes == 1
    assert backend.dashboard.get(NOW).total.votes == 1


def test_concurrent_votes_on_one_post_are_all_counted(backend: Backend) -> None:
    voters = a_crowd(backend)
    post = add_post(backend.uow, voters[0])
    cast = CastVote(CastVotes(backend.uow, FrozenClock()))

    all_at_once([partial(cast, voter, post.id, Direction.UP) for voter in voters])

    assert backend.posts.get(voters[0], post.id).upvotes == CROWD
    require_true_counters(backend, voters)


def test_concurrent_votes_of_one_user_leave_correct_counters(backend: Backend) -> None:
    ann = add_user(backend.uow, "ann")
    posts = [add_post(backend.uow, ann) for _ in range(3)]
    cast = CastVote(CastVotes(backend.uow, FrozenClock()))
    directions = (Direction.UP, Direction.DOWN, Direction.NONE)

    all_at_once([partial(cast, ann, posts[number % 3].id, directions[number % 7 % 3]) for number in range(CROWD)])

    require_true_counters(backend, [ann])


def test_an_account_removed_while_it_votes_leaves_every_counter_true(backend: Backend) -> None:
    others = a_crowd(backend, 8)
    posts = [add_post(backend.uow, others[number % 8], f"post {number}") for number in range(20)]
    cast = CastVote(CastVotes(backend.uow, FrozenClock()))
    for number in range(4):
        leaver = add_user(backend.uow, f"leaver{number}")
        own = add_post(backend.uow, leaver, "of one who leaves")

        def leave(leaver: Actor = leaver) -> None:
            with backend.uow() as tx:
                tx.users.remove(leaver.id)

        calls: list[Callable[[], Any]] = [
            partial(cast, voter, post.id, Direction.UP)
            for post in (*posts, own)
            for voter in (leaver, others[post.id % 8])
        ]
        outcomes = all_at_once([*calls[:20], leave, *calls[20:]])

        for outcome in outcomes:
            if isinstance(outcome, DomainError):
                assert outcome.code in {"invalid-token", "post-not-found"}
        require_true_counters(backend, [*others, leaver])
        assert backend.votes.list(leaver, None, Window(100)).items == []


def await_lock_waits(backend: Backend, number: int, other: Future[None] | None = None) -> None:
    """Wait until this many transactions wait for locks, or the other call has ended.

    Storages with one writer at a time return at once.
    """
    until = monotonic() + PATIENCE_SECONDS
    while backend.lock_waits and backend.lock_waits() < number and not (other and other.done()):
        assert monotonic() < until
        sleep(0.01)


def test_vote_between_the_locks_of_a_removal_is_counted(backend: Backend) -> None:
    """A removal locks posts, then the account, which votes on another post between both."""
    voter, leaver = add_user(backend.uow, "voter"), add_user(backend.uow, "leaver")
    first, second = add_post(backend.uow, voter), add_post(backend.uow, voter)
    CastVote(CastVotes(backend.uow, FrozenClock()))(leaver, first.id, Direction.UP)

    def vote_on_second(actor: Actor, then: Callable[[], object]) -> None:
        with backend.uow() as tx:
            vote = Vote(actor.id, second.id, Direction.UP, NOW)
            record(tx, vote, lock_context(tx, actor, second.id).counting(vote))
            tx.post_reader.get(actor, second.id)  # sends the vote, which locks the key of its account
            then()

    def remove() -> None:
        with backend.uow() as tx:
            tx.users.remove(leaver.id)

    with ThreadPoolExecutor(2) as pool:
        running: list[Future[None]] = []

        def start_others() -> None:
            removal = pool.submit(remove)
            running.extend((removal, pool.submit(vote_on_second, voter, lambda: await_lock_waits(backend, 1, removal))))
            await_lock_waits(backend, 2)  # both wait for the vote of the leaver

        vote_on_second(leaver, start_others)
        for future in running:
            future.result()

    assert backend.posts.get(voter, second.id).upvotes == 1
    require_true_counters(backend, [voter, leaver])


def test_accounts_removing_each_others_votes_do_not_deadlock(backend: Backend) -> None:
    people = a_crowd(backend, 16)
    posts = [add_post(backend.uow, person) for person in people]
    cast = CastVote(CastVotes(backend.uow, FrozenClock()))
    for number, person in enumerate(people):
        for post in posts[number % 3 :: 3]:
            cast(person, post.id, Direction.DOWN)

    def leave(person: Actor) -> None:
        with backend.uow() as tx:
            tx.users.remove(person.id)

    all_at_once([partial(leave, person) for person in people[:8]])

    require_true_counters(backend, people)
    assert backend.dashboard.get(NOW).total.users == 8


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_repair_during_votes_and_removals_corrects_every_counter(kind: str, emptied: Callable[[str], URL]) -> None:
    with sql_backend(emptied(kind)) as backend, closing(open_database(emptied(kind), 2)) as database:
        repair_during_votes_and_removals(backend, Counters(database))


def repair_during_votes_and_removals(backend: Backend, counters: Counters) -> None:
    voters = a_crowd(backend, 16)
    posts = [add_post(backend.uow, voters[0], f"post {number}") for number in range(12)]
    cast = CastVote(CastVotes(backend.uow, FrozenClock()))
    for post in posts:
        with backend.uow() as tx:
            context = lock_context(tx, voters[1], post.id)
            vote = Vote(voters[1].id, post.id, Direction.DOWN, NOW)
            record(tx, vote, replace(context, tally=Tally(70, 40)))
    leaver = add_user(backend.uow, "leaver")
    for post in posts[::2]:
        cast(leaver, post.id, Direction.UP)

    def repair() -> int:
        return sum(not recount.agrees for batch in counters.repair(Counter.VOTES) for recount in batch)

    def leave() -> None:
        with backend.uow() as tx:
            tx.users.remove(leaver.id)

    def vote_on_all(voter: Actor) -> None:
        for number, post in enumerate(posts):
            cast(voter, post.id, Direction.DOWN if number % 3 else Direction.UP)

    repaired = all_at_once([*(partial(vote_on_all, voter) for voter in voters[:8]), repair, leave, repair])

    assert repaired[8] + repaired[10] >= len(posts)
    require_true_counters(backend, voters)
    assert not backend.wrong_counters()


def test_concurrent_equal_registrations_make_one_account(backend: Backend) -> None:
    guard, clock, log = Guard(backend.throttle, Limits()), FrozenClock(), MemorySecurityLog()
    register = RegisterUser(backend.uow, PlainHasher(), frozenset(), guard, clock, frozenset(), log, str.lower)
    spellings = ("ann@example.com", "ANN@example.com", "Ann@Example.Com")

    outcomes = all_at_once(
        [partial(register, spellings[number % 3], "a password", None, address="192.0.2.1") for number in range(50)]
    )

    refusals = [outcome.code for outcome in outcomes if isinstance(outcome, DomainError)]
    assert refusals == ["email-taken"] * 49
    assert len(backend.users.list("", Window()).items) == 1


def test_concurrent_edits_each_make_a_version(backend: Backend) -> None:
    ann = add_user(backend.uow, "ann")
    post = add_post(backend.uow, ann)
    edit = EditPost(backend.uow, FrozenClock())

    outcomes = all_at_once([partial(edit, ann, post.id, PostChanges(title=f"title {number}")) for number in range(16)])

    assert sorted(view.version for view in outcomes) == list(range(2, 18))
    last = backend.posts.get(ann, post.id)
    assert next(view for view in outcomes if view.version == 17) == last


def test_post_removed_during_votes_takes_every_vote_along(backend: Backend) -> None:
    voters = a_crowd(backend, 32)
    post = add_post(backend.uow, voters[0])
    cast = CastVote(CastVotes(backend.uow, FrozenClock()))

    def remove() -> None:
        with backend.uow() as tx:
            tx.posts.remove(tx.posts.lock(post.id).id)

    calls: list[Callable[[], Any]] = [partial(cast, voter, post.id, Direction.UP) for voter in voters]
    outcomes = all_at_once([*calls[:16], remove, *calls[16:]])

    assert {outcome.code for outcome in outcomes if isinstance(outcome, DomainError)} <= {"post-not-found"}
    assert backend.dashboard.get(NOW).total.votes == 0


def open_session(backend: Backend, ann: Actor, token: FreshRefreshToken) -> None:
    with backend.uow() as tx:
        tx.sessions.add(Session.open(user_id=ann.id, user_agent="", refresh=token.hashes, now=NOW))


def refreshing(backend: Backend, refresh_tokens: RefreshTokens, overlap: timedelta = timedelta()) -> RefreshSession:
    return RefreshSession(backend.uow, PlainTokens(), refresh_tokens, FrozenClock(NOW), MemorySecurityLog(), overlap)


def test_one_of_concurrent_refreshes_succeeds_and_the_session_ends(backend: Backend) -> None:
    ann = add_user(backend.uow, "ann")
    refresh_tokens = RandomRefreshTokens()
    token = refresh_tokens.first()
    open_session(backend, ann, token)
    refresh = refreshing(backend, refresh_tokens)

    outcomes = all_at_once([partial(refresh, token.token)] * 50)

    refusals = [outcome.code for outcome in outcomes if isinstance(outcome, DomainError)]
    assert refusals == ["invalid-token"] * 49
    newest = next(outcome for outcome in outcomes if isinstance(outcome, Tokens))
    assert isinstance(all_at_once([partial(refresh, newest.refresh_token)])[0], InvalidToken)
    assert list(backend.users.sessions(ann.id, NOW)) == []


def test_concurrent_refreshes_within_the_overlap_get_one_successor(backend: Backend) -> None:
    ann = add_user(backend.uow, "ann")
    refresh_tokens = DerivedRefreshTokens(["a secret key"])
    token = refresh_tokens.first()
    open_session(backend, ann, token)
    refresh = refreshing(backend, refresh_tokens, OVERLAP)

    outcomes = all_at_once([partial(refresh, token.token)] * 50)

    (newest,) = {outcome.refresh_token for outcome in outcomes}
    assert newest == refresh_tokens.successors(token.token)[0].token
    assert refresh(newest).refresh_token != newest
    assert len(list(backend.users.sessions(ann.id, NOW))) == 1


def test_repeats_beside_a_use_of_the_successor_get_it_or_end_the_session(backend: Backend) -> None:
    refresh_tokens = DerivedRefreshTokens(["a secret key"])
    refresh = refreshing(backend, refresh_tokens, OVERLAP)
    for number in range(5):
        ann = add_user(backend.uow, f"ann{number}")
        token = refresh_tokens.first()
        open_session(backend, ann, token)
        successor = refresh(token.token).refresh_token
        repeats = [partial(refresh, token.token)] * 8

        outcomes = all_at_once([*repeats, partial(refresh, successor), *repeats])

        used = outcomes.pop(8)
        refused = [outcome for outcome in outcomes if isinstance(outcome, InvalidToken)]
        assert {outcome.refresh_token for outcome in outcomes if isinstance(outcome, Tokens)} <= {successor}
        assert len(list(backend.users.sessions(ann.id, NOW))) == (0 if refused else 1)
        assert isinstance(used, Tokens), "only a repeat after its use ends the session"


def test_session_revoked_during_refreshes_is_gone(backend: Backend) -> None:
    refresh_tokens, log = DerivedRefreshTokens(["a secret key"]), MemorySecurityLog()
    refresh = refreshing(backend, refresh_tokens, OVERLAP)
    revoke = RevokeToken(backend.uow, PlainTokens(), refresh_tokens, FrozenClock(NOW), log)
    for number in range(5):
        ann = add_user(backend.uow, f"ann{number}")
        token = refresh_tokens.first()
        open_session(backend, ann, token)
        calls = [partial(refresh, token.token)] * 4

        outcomes = all_at_once([*calls, partial(revoke, token.token), *calls])

        assert {type(outcome) for outcome in outcomes} <= {Tokens, InvalidToken, type(None)}
        assert list(backend.users.sessions(ann.id, NOW)) == []
        assert len(log.events) == number + 1


def test_administrators_who_demote_each_other_at_once_leave_one(backend: Backend) -> None:
    edit = EditUser(backend.uow, MemorySecurityLog())
    for number in range(5):
        one, other = (add_user(backend.uow, f"{name}{number}", Role.ADMIN) for name in ("one", "other"))

        outcomes = all_at_once(
            [partial(edit, one, other.id, Role.USER, None), partial(edit, other, one.id, Role.USER, None)]
        )

        assert [outcome.code for outcome in outcomes if isinstance(outcome, DomainError)] == ["last-admin"]
        with backend.uow() as tx:
            (left,) = tx.users.lock_admins()
            tx.users.remove(left.id)


def test_concurrent_guesses_never_exceed_the_limit(backend: Backend) -> None:
    with backend.uow() as tx:
        ann = tx.users.add(a_user("ann").with_password("plain:a password"))
    check = CheckPassword(PlainHasher(), Guard(backend.throttle, Limits()), FrozenClock(), MemoryTimer())
    guess = partial(check, ann, Guess(ann.email_key, "192.0.2.1"), "wrong")

    codes = [outcome.code for outcome in all_at_once([guess] * 32)]

    assert sorted(codes) == ["invalid-credentials"] * 5 + ["rate-limited"] * 27


def test_concurrent_first_sign_ins_from_one_address_succeed(backend: Backend) -> None:
    with backend.uow() as tx:
        ann = tx.users.add(a_user("ann").with_password("plain:a password"))
    check = CheckPassword(PlainHasher(), Guard(backend.throttle, Limits()), FrozenClock(), MemoryTimer())

    outcomes = all_at_once([partial(check, ann, Guess(ann.email_key, "192.0.2.1"), "a password")] * 32)

    assert outcomes == [ann] * 32

"""Locks of each command, as the driver sends them to PostgreSQL; SQLite has one writer at a time."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields, replace
from typing import Any, Final, NamedTuple

import pytest
from pydantic import SecretStr
from sqlalchemy import URL

from application.app import Commands
from application.ports.storage import UnitOfWorkFactory
from application.views import Counter, PostCommand, VoteCommand
from domain.posts import PostChanges
from domain.users import Actor, Role
from domain.votes import Direction, Tally, Vote
from infrastructure.database.prepared import PREPARED
from infrastructure.database.tables import ON_POST
from infrastructure.settings import Settings
from tests.fakes.services import (
    FrozenClock,
    MemorySecurityLog,
    MemoryTimer,
    NumberedRefreshTokens,
    PlainHasher,
    PlainTokens,
)
from tests.support.app import COMMON, HOME, PASSWORD, People, container_with
from tests.support.round_trips import round_trips
from tests.support.samples import lock_context, record

ORDER: Final = {"administrators": 0, "posts": 1, "users": 2, "sessions": 3, "votes": 3, "answers": 3}
"""The lock order of application/ports/storage.py; stored responses end with their key or their account."""

GUARDED_BY: Final = {"titles": "posts"}
"""Tables whose rows are written under the lock of another row."""

UNORDERED: Final = {"quotas"}
"""Rows that writers lock last, by ascending account, and whose deletion skips locked ones: no cycle contains them."""

CHARGED: Final = {table.name for table in ON_POST}
"""Tables whose rows clients write, so that their writers are charged."""

UNCHARGED: Final = {"delete_own_account", "delete_post", "repair"}
"""Commands that remove rows, or that no client calls."""

OWN_TRANSACTION: Final = {"attempts"}
"""Tables of transactions that lock nothing else."""

TEXTS: Final = {statement.name: statement.text for statement in PREPARED}
OF_ONE: Final = re.compile(r"\.(?:id|refresh_family) = ('?[\w.]+'?)")
BATCH: Final = re.compile(r"unnest\(ARRAY\[([\d,]+)\].*AS asked\(of_post, .*LATERAL \(SELECT (\w+)\.id", re.DOTALL)
"""The locks of a group: one of each row of arrays, in the order of the first."""
WRITE: Final = re.compile(r"(?:INSERT INTO|UPDATE|DELETE FROM) (\w+)")


class Step(NamedTuple):
    """A statement that locks or writes rows of a table; the row, if it names one."""

    verb: str
    table: str
    row: str = ""


def step(statement: str) -> Step | None:
    """Read a statement as the driver sends it."""
    if call := re.match(r"EXECUTE (\w+) \((.*)\)$", statement, re.DOTALL):
        values = call[2].split(", ")
        statement = re.sub(r"\$(\d+)(?:::\w+)?", lambda number: values[int(number[1]) - 1], TEXTS[call[1]])
    if write := WRITE.match(statement):
        return Step("write", GUARDED_BY.get(write[1], write[1]))
    if not statement.startswith("SELECT") or "UPDATE" not in statement.partition(" FOR ")[2]:
        return None
    if batch := BATCH.search(statement):
        rows = [int(row) for row in batch[1].split(",")]
        assert rows == sorted(rows), statement
        return Step("lock", batch[2], batch[1])
    table = statement.partition("FROM ")[2].split(maxsplit=1)[0]
    if one := OF_ONE.search(statement):
        return Step("lock", table, one[1])
    assert f"ORDER BY {table}.id FOR" in " ".join(statement.split()), statement
    return Step("lock", "administrators" if table == "users" else table)


def transactions(sent: Sequence[str]) -> Iterator[list[Step]]:
    """Yield the steps of each transaction that has some."""
    steps: list[Step] = []
    for statement in re.split(r";\s*", ";".join(sent)):
        if statement in {"BEGIN", "COMMIT", "ROLLBACK"}:
            if steps:
                yield steps
            steps = []
        elif found := step(statement):
            steps.append(found)
    assert not steps


@dataclass(frozen=True)
class Scene:
    """Ann and an administrator, each with a post that the other voted on; both tallies are wrong."""

    ann: Actor
    root: Actor
    post: int
    refresh_token: str


def a_scene(people: People, uow: UnitOfWorkFactory) -> Scene:
    root, ann = people.admin(), people.person()
    people.admin("ruth")
    tokens = people.sign_in()
    ann = people.app.queries.authenticate(tokens.access_token)
    commands = people.app.commands
    posts = [commands.write_post(owner, "A title", "Some content", True).id for owner in (ann, root)]
    for post_id, voter in zip(posts, (root, ann), strict=True):
        with uow() as tx:
            vote = Vote(voter.id, post_id, Direction.UP, FrozenClock().now())
            record(tx, vote, replace(lock_context(tx, voter, post_id), tally=Tally(7, 4)))
    return Scene(ann, root, posts[0], tokens.refresh_token)


LOCKED_POST: Final = ["lock posts", "write posts"]
LOCKED_POSTS: Final = ["lock posts", "lock posts"]
LOCKED_USER: Final = ["lock users", "write users"]
LOCKS: Final[Mapping[str, tuple[Callable[[Any, Scene], Any], list[str]]]] = {
    "register_user": (lambda run, _: run("bob@example.com", PASSWORD, "bob", address=HOME), ["write users"]),
    "create_admin": (lambda run, _: run("bob@example.com", PASSWORD, "bob"), ["write users"]),
    "edit_user": (
        lambda run, of: run(of.root, of.ann.id, Role.ADMIN, False),
        ["lock administrators", *LOCKED_USER, "write sessions"],
    ),
    "edit_own_account": (lambda run, of: run(of.ann, "anna", None, None, address=HOME), LOCKED_USER),
    "change_password": (
        lambda run, of: run(of.ann, PASSWORD, "another horse", address=HOME),
        [*LOCKED_USER, "write sessions"],
    ),
    "set_password": (lambda run, of: run(of.root, of.ann.id, "another horse"), [*LOCKED_USER, "write sessions"]),
    "delete_own_account": (
        lambda run, of: run(of.root, PASSWORD, address=HOME),
        ["lock administrators", *LOCKED_POSTS, "write users", "write posts", "write quotas", "write users"],
    ),
    "sign_in": (
        lambda run, _: run("ann@example.com", PASSWORD, user_agent="", address=HOME),
        ["lock users", "write sessions", "write sessions", "write sessions"],
    ),
    "refresh_session": (lambda run, of: run(of.refresh_token), ["lock sessions", "write sessions"]),
    "sign_out": (lambda run, of: run(of.ann, everywhere=False), ["write sessions"]),
    "revoke_token": (lambda run, of: run(of.refresh_token), ["lock sessions", "write sessions"]),
    "end_session": (lambda run, of: run(of.ann, of.ann.session_id), ["write sessions"]),
    "end_sessions": (lambda run, of: run(of.root, of.ann.id), ["lock users", "write sessions"]),
    "write_post": (
        lambda run, of: run(of.ann, "A title", "Some content", True),
        ["write posts", "write posts", "write quotas"],
    ),
    "write_posts": (
        lambda run, of: run(
            [PostCommand(of.root, "A title", "Text", True), PostCommand(of.ann, "A title", "Text", True)]
        ),
        ["write posts", "write posts", "write posts", "write posts", "write quotas", "write quotas"],
    ),
    "write_post_once": (
        lambda run, of: run(of.ann, "A title", "Some content", True, "a key"),
        ["write quotas", "write posts", "write posts", "write answers", "write answers", "write answers"],
    ),
    "edit_post": (
        lambda run, of: run(of.ann, of.post, PostChanges(title="Another")),
        ["lock posts", "write quotas", "write posts", "write posts"],
    ),
    "delete_post": (lambda run, of: run(of.ann, of.post), LOCKED_POST),
    "cast_vote": (
        lambda run, of: run(of.ann, of.post, Direction.UP),
        ["lock posts", "write votes", "write posts", "write quotas"],
    ),
    "cast_votes": (
        lambda run, of: run(
            [VoteCommand(of.root, of.post, Direction.DOWN), VoteCommand(of.ann, of.post, Direction.UP)]
        ),
        ["lock posts", "write votes", "write votes", "write posts", "write quotas", "write quotas"],
    ),
    "repair": (lambda run, _: list(run(Counter.VOTES)), [*LOCKED_POST, *LOCKED_POST]),
}
"""Each command and the repair of counters: a call, and what it locks and writes."""


@pytest.mark.parametrize("url", ["postgres"], indirect=True)
@pytest.mark.parametrize("name", [*(field.name for field in fields(Commands)), "repair"])
def test_each_command_locks_in_the_documented_order(url: URL, name: str) -> None:
    settings = Settings(database_url=SecretStr(url.render_as_string(hide_password=False)))
    container = container_with(
        settings=settings,
        clock=FrozenClock(),
        hasher=PlainHasher(),
        common=COMMON,
        timer=MemoryTimer(),
        log=MemorySecurityLog(),
        tokens=PlainTokens(),
        refresh_tokens=NumberedRefreshTokens(),
    )
    with round_trips() as sent, closing(container.database()):
        people = People(container.app())
        scene = a_scene(people, container.uow())
        sent.clear()
        call, expected = LOCKS[name]
        call(container.counters().repair if name == "repair" else getattr(people.app.commands, name), scene)

    shared = [steps for steps in transactions(sent) if {step.table for step in steps} != OWN_TRANSACTION]
    assert [[f"{step.verb} {step.table}" for step in steps] for steps in shared] == [expected]
    written = {step.table for step in shared[0] if step.verb == "write"}
    assert name in UNCHARGED or not written & CHARGED or "quotas" in written
    acquired = list(dict.fromkeys(step.table for step in shared[0] if step.table not in UNORDERED))
    assert acquired == sorted(acquired, key=ORDER.__getitem__)
    locks = [step.row for step in shared[0] if step.verb == "lock" and step.table == "posts" and step.row]
    rows = [int(row) for locked in locks for row in locked.split(",")]
    assert rows == sorted(rows)

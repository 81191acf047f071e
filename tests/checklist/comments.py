"""An entity, comments, as the checklist "Add an entity" in docs/architecture.md adds one: a skeleton."""

import hashlib
import json
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]


class Edit(NamedTuple):
    """What stands in a file, once, and what replaces it; a file that starts empty is new."""

    file: str
    old: str
    new: str


class Line(NamedTuple):
    """A line of the checklist: its edits, and the tests that fail without it, as arguments of pytest."""

    name: str
    check: tuple[str, ...]
    edits: tuple[Edit, ...]


def new(file: str, text: str) -> Edit:
    """Create a file."""
    return Edit(file, "", text)


def before(file: str, anchor: str, text: str) -> Edit:
    """Insert a text before another."""
    return Edit(file, anchor, text + anchor)


def later_export() -> str:
    """Add a comment to the stored export of version 1."""
    header, *lines, trailer, _ = (ROOT / "tests/cli/exports/1.ndjson").read_text().split("\n")
    fields = {
        "post_id": 1,
        "number": 1,
        "author_id": 2,
        "text": "text",
        "likes": 0,
        "created_at": "2026-01-01T12:00:00Z",
    }
    lines = [header.replace('"version":1', '"version":2'), *lines, json.dumps({"comment": fields})]
    sha256 = hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()
    last = json.loads(trailer) | {"comments": 1, "sha256": sha256}
    ordered = {name: last[name] for name in ("users", "posts", "comments", "votes", "sha256")}
    return "\n".join((*lines, json.dumps(ordered), ""))


MIGRATIONS: Final = "tests/migrations/test_migrations.py"

TABLES: Final = ("tests/infrastructure/test_tables.py",)
SCHEMA: Final = (f"{MIGRATIONS}::test_the_tables_and_the_migrations_make_the_same_schema[sqlite]",)
FILLED: Final = ("tests/contracts/test_counters.py::test_removed_account_leaves_every_counter_true[sqlite]",)
CONTRACT: Final = tuple(
    f"tests/contracts/test_comments.py::test_comment_of_a_removed_account_is_refused[{kind}]"
    for kind in ("memory", "sqlite")
)
USE_CASE: Final = ("tests/application/test_comments.py",)
LOCKS: Final = (
    "tests/contracts/test_locks.py::test_each_command_locks_in_the_documented_order[write_comment-postgres]",
)
PROBLEMS: Final = ("tests/http/test_system.py::test_each_domain_error_has_a_problem_of_its_status",)
IMPORT: Final = tuple(
    f"tests/cli/test_data.py::{name}"
    for name in (
        "test_standard_streams_stand_in_for_files[sqlite]",
        "test_each_version_of_the_format_has_a_stored_export",
        "test_the_latest_stored_export_holds_each_kind_with_each_field",
        "test_exports_of_earlier_releases_are_read[sqlite-1.ndjson]",
        "test_exports_of_earlier_releases_are_read[sqlite-2.ndjson]",
    )
)
EXPORT: Final = ("tests/http/test_accounts.py::test_people_take_everything_away[sqlite]",)
LAYERS: Final = ("tests/test_architecture.py::test_http_features_have_the_names_of_use_case_modules",)

IN_TABLES: Final = "infrastructure/database/tables.py"
IN_ARCHIVE: Final = "infrastructure/operations/archive.py"

TESTS: Final = (
    new(
        "tests/application/test_comments.py",
        """from tests.support.app import World


def test_comment_is_written(world: World) -> None:
    world.app.commands.write_comment(world.person(), 1, "text")
""",
    ),
    new(
        "tests/contracts/test_comments.py",
        """import pytest

from domain.users import InvalidToken
from tests.support.samples import add_post, add_user


def test_comment_of_a_removed_account_is_refused(backend):
    post = add_post(backend.uow, add_user(backend.uow))
    with pytest.raises(InvalidToken), backend.uow() as tx:
        tx.comments.add(4_711, post.id, "text")
""",
    ),
)
"""Tests of the entity itself, which are never left out."""

LINES: Final = (
    Line(
        "table",
        SCHEMA,
        (
            before(
                IN_TABLES,
                "ARCHIVED: Final",
                """comments = Table(
    "comments",
    metadata,
    Column("post_id", Id, ForeignKey("posts.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Id, primary_key=True),
    Column("author_id", Id, ForeignKey("users.id", ondelete=None), nullable=False),
    Column("text", Text, nullable=False),
    Column("likes", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    info={},
)

""",
            ),
        ),
    ),
    Line("cascade", TABLES, (Edit(IN_TABLES, "ondelete=None", 'ondelete="CASCADE"'),)),
    Line(
        "uses",
        TABLES,
        (Edit(IN_TABLES, "info={},", 'info=uses(archive="lines", export="comments", counted=True, numbers=("?",)),'),),
    ),
    Line("numbers", TABLES, (Edit(IN_TABLES, 'numbers=("?",)', 'numbers=("likes",)'),)),
    Line(
        "migration",
        SCHEMA,
        (
            new(
                "migrations/versions/20991231_{revision}_comments.py",
                '''"""Comments on posts."""

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{down_revision}"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "comments",
        sa.Column("post_id", ID, nullable=False),
        sa.Column("number", ID, nullable=False),
        sa.Column("author_id", ID, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("likes", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["post_id"], ["posts.id"], op.f("fk_comments_post_id_posts"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["author_id"], ["users.id"], op.f("fk_comments_author_id_users"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("post_id", "number", name=op.f("pk_comments")),
    )


def downgrade() -> None:
    op.drop_table("comments")
''',
            ),
        ),
    ),
    Line(
        "row in the filled database",
        FILLED,
        (
            before(
                "tests/support/filled.py",
                '        backend.throttle.count([Attempt("bucket"',
                '        with backend.uow() as tx:\n            tx.comments.add(bob.id, liked.id, "text")\n',
            ),
        ),
    ),
    Line(
        "archive",
        TABLES,
        (
            Edit(IN_ARCHIVE, "tables import posts,", "tables import comments, posts,"),
            Edit(
                IN_ARCHIVE,
                '    "vote": (votes, VoteFields, ',
                '    "comment": (comments, CommentFields, partial(insert_rows, comments)),\n{0}',
            ),
            before(
                IN_ARCHIVE,
                "KINDS: Final",
                """class CommentFields(_Fields):
    post_id: Id
    number: Id
    author_id: Id
    text: Stored
    likes: Number
    created_at: Moment


""",
            ),
        ),
    ),
    Line(
        "version of the archive",
        IMPORT,
        (Edit(IN_ARCHIVE, "VERSIONS: Final = range(1, 2)", "VERSIONS: Final = range(1, 3)"),),
    ),
    Line("stored export", IMPORT, (new("tests/cli/exports/2.ndjson", later_export()),)),
    Line(
        "dashboard",
        TABLES,
        (
            before(
                "interfaces/http/admin.py",
                "\n\nclass TopPostOut",
                '    comments: Annotated[int, about("The number of comments.", 60)]\n',
            ),
            Edit("application/views.py", "    users: int = 0\n    posts: int = 0\n", "{0}    comments: int = 0\n"),
        ),
    ),
    Line(
        "constraint",
        TABLES,
        (
            before(
                "infrastructure/database/errors.py",
                '    "pk_answers": KeyInUse,\n',
                '    "fk_comments_author_id_users": InvalidToken,\n',
            ),
        ),
    ),
    Line(
        "error",
        USE_CASE,
        (
            new(
                "domain/comments.py",
                '''from domain.errors import NotFound


class CommentNotFound(NotFound):
    """No such comment."""

    code = "comment-not-found"
''',
            ),
        ),
    ),
    Line(
        "problem",
        PROBLEMS,
        (
            before(
                "interfaces/http/problems.py",
                '    "post-not-found": Problem(',
                '    "comment-not-found": Problem(404, "Comment not found", "It does not exist.", "Check its id."),\n',
            ),
        ),
    ),
    Line(
        "promised status",
        PROBLEMS,
        (before("tests/support/api.py", '    "post-not-found": 404,\n', '    "comment-not-found": 404,\n'),),
    ),
    Line(
        "use case",
        USE_CASE,
        (
            new(
                "application/comments.py",
                """from dataclasses import dataclass

from application.ports.services import Clock
from application.ports.storage import UnitOfWorkFactory
from application.quotas import Quota
from domain.comments import CommentNotFound
from domain.users import Actor


@dataclass(frozen=True, slots=True)
class WriteComment:
    uow: UnitOfWorkFactory
    clock: Clock
    quota: Quota

    def __call__(self, actor: Actor, post_id: int, text: str) -> None:
        if not post_id:
            raise CommentNotFound("it")
        with self.uow() as tx:
            tx.comments.add(actor.id, post_id, text)
""",
            ),
        ),
    ),
    Line(
        "quota",
        LOCKS,
        (
            Edit(
                "application/comments.py",
                "            tx.comments.add(actor.id, post_id, text)\n",
                "{0}            self.quota.charge(tx, actor.id, self.clock.now(), text)\n",
            ),
        ),
    ),
    Line(
        "front door",
        USE_CASE,
        (
            before(
                "application/app.py",
                "from application.posts import",
                "from application.comments import WriteComment\n",
            ),
            before("application/app.py", "    cast_vote: CastVote\n", "    write_comment: WriteComment\n"),
        ),
    ),
    Line(
        "repository",
        CONTRACT,
        (
            new(
                "infrastructure/database/comments.py",
                """from datetime import UTC, datetime

from sqlalchemy import bindparam, insert

from infrastructure.database.pipeline import Statement
from infrastructure.database.tables import comments

FIELDS = ("post_id", "number", "author_id", "text", "likes", "created_at")
INSERT = Statement(insert(comments).values({name: bindparam(name) for name in FIELDS}))


class SqlCommentRepository:
    def __init__(self, querier):
        self._querier = querier

    def add(self, author_id, post_id, text):
        row = {"post_id": post_id, "number": 1, "author_id": author_id, "text": text, "likes": 0}
        self._querier.enqueue(INSERT, row | {"created_at": datetime(2026, 1, 1, tzinfo=UTC)})
""",
            ),
        ),
    ),
    Line(
        "unit of work",
        CONTRACT,
        (
            before(
                "application/ports/storage.py",
                "    votes: VoteRepository\n",
                "    comments: object\n",
            ),
            before(
                "infrastructure/database/unit_of_work.py",
                "from infrastructure.database.engine import",
                "from infrastructure.database.comments import SqlCommentRepository\n",
            ),
            before(
                "infrastructure/database/unit_of_work.py",
                "                    votes=SqlVoteRepository(querier),\n",
                "                    comments=SqlCommentRepository(querier),\n",
            ),
        ),
    ),
    Line(
        "fake",
        CONTRACT,
        (
            before(
                "tests/fakes/memory.py",
                "                    votes=MemoryVoteRepository(self),\n",
                "                    comments=MemoryCommentRepository(self),\n",
            ),
            before(
                "tests/fakes/memory.py",
                "class MemoryUserRepository:",
                """class MemoryCommentRepository:
    def __init__(self, database):
        self._database = database

    def add(self, author_id, post_id, text):
        if author_id not in self._database.rows.users:
            raise InvalidToken


""",
            ),
        ),
    ),
    Line(
        "locks of the command",
        LOCKS,
        (
            before(
                "tests/contracts/test_locks.py",
                '    "repair": (',
                """    "write_comment": (
        lambda run, of: run(of.ann, of.post, "text"),
        ["write comments", "write quotas"],
    ),
""",
            ),
        ),
    ),
    Line(
        "place in the lock order",
        LOCKS,
        (Edit("tests/contracts/test_locks.py", '"votes": 3,', '"votes": 3, "comments": 3,'),),
    ),
    Line(
        "export",
        EXPORT,
        (
            before("interfaces/http/users.py", '        yield b"]}"', "        yield b'],\"comments\":[7'\n"),
            before(
                "interfaces/http/users.py",
                "\n\n\ndef _own_vote(",
                '\n    comments: Annotated[list[int], Field(description="Its comments.", examples=[[7]])]',
            ),
        ),
    ),
    Line("module over HTTP", LAYERS, (new("interfaces/http/comments.py", '"""Comments over HTTP."""\n'),)),
)

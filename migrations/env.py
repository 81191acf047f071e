"""Alembic environment: connects by Agora's settings, or uses a given connection."""

import logging
from collections.abc import Callable
from contextlib import nullcontext
from typing import Literal

from alembic import context
from alembic.operations.ops import CreateTableOp, MigrationScript
from alembic.runtime.migration import MigrationContext, MigrationInfo
from alembic.script import Script
from sqlalchemy import Connection, event, text
from sqlalchemy.schema import SchemaItem

from infrastructure.database.engine import connected
from infrastructure.database.schema import STEPS, finish, reach_trigrams
from infrastructure.database.tables import UtcDateTime, metadata
from infrastructure.environment import load_settings
from infrastructure.timeouts import DEFAULT_TIMEOUTS
from migrations.rebuild import checked, safe_rebuilds

PLAIN_TYPES: dict[type, str] = {UtcDateTime: "sa.DateTime(timezone=True)"}
"""How a new migration writes our own types: it must not depend on code that may change later."""

ADVISORY_LOCK = 0x41_47_4F_52_41  # "AGORA": keeps two processes from migrating one PostgreSQL at once

log = logging.getLogger("agora.migrations")

moved: list[MigrationInfo] = []
"""The steps of this run."""


def render_item(kind: str, item: object, _context: object) -> str | Literal[False]:
    """Write a column type into a new migration; False leaves it to Alembic."""
    return PLAIN_TYPES.get(type(item), False) if kind == "type" else False


def is_compared(thing: SchemaItem, _name: str | None, _kind: str, _reflected: bool, _with: SchemaItem | None) -> bool:
    """Exclude items declared for another dialect from new migrations."""
    return thing.info.get("dialect") in {None, context.get_context().dialect.name}


def run_offline() -> None:
    """Print the SQL instead of running it."""
    url = load_settings().url
    context.configure(
        url=url,
        target_metadata=metadata,
        literal_binds=True,
        render_as_batch=url.get_backend_name() == "sqlite",
    )
    with context.begin_transaction():
        context.run_migrations()


def run_on(connection: Connection) -> None:
    """Run all steps in one transaction: a migration happens whole, or not at all."""
    sqlite = connection.dialect.name == "sqlite"
    context.configure(
        connection=connection,
        target_metadata=metadata,
        compare_type=True,
        render_item=render_item,
        include_object=is_compared,
        render_as_batch=sqlite,
        transactional_ddl=True,
        on_version_apply=note_step,  # type: ignore[arg-type]  # it is called with keywords
        process_revision_directives=prepare_revision,
    )
    if sqlite:
        with safe_rebuilds(connection), context.begin_transaction(), checked(connection):
            context.run_migrations()
    else:
        with context.begin_transaction():
            # A step may run long, but must not wait long for a lock: other sessions queue behind it.
            connection.execute(text("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0"))
            connection.execute(text(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})"))
            timeouts = context.config.attributes.get("timeouts", DEFAULT_TIMEOUTS)
            connection.execute(text(f"SET LOCAL lock_timeout = {timeouts.operation_lock * 1_000:.0f}"))
            if remedy := reach_trigrams(connection):
                event.listen(connection, "before_cursor_execute", without_trigrams(remedy), retval=True)
            context.run_migrations()
    finish_steps(connection)


def finish_steps(connection: Connection) -> None:
    """Do what the steps leave to short transactions.

    Not in a transaction of the caller's, whose tables are new and empty, and not after steps were reverted.
    """
    if moved and moved[-1].is_upgrade and not connection.in_transaction():
        for done in finish(connection, context.script):
            report(done)


def prepare_revision(_context: MigrationContext, _revision: object, directives: list[MigrationScript]) -> None:
    """Number a new revision after the latest, and leave out the uses of its tables.

    Code compares the numbers.
    """
    for script in directives:
        script.rev_id = f"{int(STEPS[-1]) + 1:04}"
        for operations in script.upgrade_ops_list:
            for operation in operations.ops:
                if isinstance(operation, CreateTableOp):
                    operation.info.clear()


def report(done: str) -> None:
    """Report what was done to the caller."""
    context.config.attributes.get("report", log.info)(done)


def note_step(*, step: MigrationInfo, **_: object) -> None:
    """Note and report an applied or reverted step."""
    moved.append(step)
    if isinstance(step.up_revision, Script):
        done = "applied" if step.is_upgrade else "reverted"
        report(f"{done} {step.up_revision.revision} ({step.up_revision.doc.rstrip('.')})")


def without_trigrams(remedy: str) -> Callable[..., tuple[str, object]]:
    """Skip trigram indexes, with a warning.

    Step 0003 creates them wherever the extension exists.
    """

    def skip(_connection: object, _cursor: object, statement: str, values: object, *_: object) -> tuple[str, object]:
        if "gin_trgm_ops" not in statement:
            return statement, values
        log.warning(
            "Search works, but has no index and reads every row: this role may not use the schema of pg_trgm."
            " Ask the administrator of the database to run:\n    %s\n    %s;",
            remedy,
            statement.replace("CREATE INDEX", "CREATE INDEX CONCURRENTLY"),
        )
        return "SELECT", values

    return skip


def run_online() -> None:
    """Run on the connection that was handed over, or on one of our own."""
    handed = context.config.attributes.get("connection")
    with connected(load_settings().url) if handed is None else nullcontext(handed) as connection:
        run_on(connection)


if context.is_offline_mode():
    run_offline()
else:
    run_online()

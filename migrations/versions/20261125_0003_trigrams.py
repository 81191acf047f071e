"""Trigrams, for searches on PostgreSQL."""

import logging

from alembic import context, op
from sqlalchemy.exc import DBAPIError

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

INDEXES = {"ix_titles_title_key": ("titles", "title_key"), "ix_users_search_key": ("users", "search_key")}

log = logging.getLogger("agora.migrations")


def upgrade() -> None:
    """Bring the schema forward."""
    if op.get_context().dialect.name == "postgresql" and _has_extension():
        for name, (table, column) in INDEXES.items():
            op.create_index(
                name,
                table,
                [column],
                postgresql_using="gin",
                postgresql_ops={column: "gin_trgm_ops"},
                postgresql_with={"fastupdate": "off"},
            )


def downgrade() -> None:
    """Take the schema back. The extension stays: others may use it."""
    if op.get_context().dialect.name == "postgresql":
        for name, (table, _) in INDEXES.items():
            op.drop_index(name, table, if_exists=True)


def _has_extension() -> bool:
    """Create pg_trgm, or log how an administrator can create it."""
    create = "CREATE EXTENSION IF NOT EXISTS pg_trgm"
    if context.is_offline_mode():
        op.execute(create)
        return True
    try:
        with op.get_bind().begin_nested():
            op.execute(create)
    except DBAPIError as error:
        indexes = "".join(
            f"\n    CREATE INDEX CONCURRENTLY {name} ON {table} USING gin ({column} gin_trgm_ops)"
            " WITH (fastupdate = off);"
            for name, (table, column) in INDEXES.items()
        )
        reason = str(error.orig).strip().splitlines()[0]
        log.warning(
            "Search works, but has no index and reads every title: pg_trgm cannot be had here (%s)."
            " Ask the administrator of the database to run:\n    %s;%s",
            reason,
            create,
            indexes,
        )
        return False
    return True

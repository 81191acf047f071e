"""Schemas, described for a comparison."""

from typing import Any

from alembic.script import ScriptDirectory
from sqlalchemy import Inspector

from infrastructure.database.schema import config

REVISIONS = [script.revision for script in ScriptDirectory.from_config(config()).walk_revisions()][::-1]
"""Every migration, in the order that Alembic follows."""


def shape(inspector: Inspector) -> dict[str, Any]:
    """Describe a schema, as far as a database can be asked: more than Alembic compares."""
    return {
        table: {
            "columns": [
                (column["name"], str(column["type"]), column["nullable"], column["default"], column.get("identity"))
                for column in inspector.get_columns(table)
            ],
            "primary key": inspector.get_pk_constraint(table),
            "foreign keys": sorted(map(str, inspector.get_foreign_keys(table))),
            "unique": sorted(map(str, inspector.get_unique_constraints(table))),
            "checks": sorted(map(str, inspector.get_check_constraints(table))),
            "indexes": sorted(map(str, inspector.get_indexes(table))),
        }
        for table in inspector.get_table_names()
        if table != "alembic_version"
    }

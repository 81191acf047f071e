"""Differences between a database's tables and those that this release expects."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from sqlalchemy import (
    CheckConstraint,
    Column,
    Connection,
    Constraint,
    Dialect,
    ForeignKeyConstraint,
    Index,
    MetaData,
    Table,
    UniqueConstraint,
    inspect,
    text,
)
from sqlalchemy.schema import AddConstraint, ColumnCollectionConstraint, CreateIndex, CreateTable
from sqlalchemy.sql.ddl import ExecutableDDLElement

from infrastructure.database.tables import metadata
from infrastructure.operations.findings import Finding, problem, warning

REBUILD: Final = "restore a backup; or agora export, then agora migrate and agora import with an empty database"

INVALID: Final = text(
    "SELECT indexrelid::regclass FROM pg_index JOIN pg_class ON pg_class.oid = indrelid"
    " WHERE NOT indisvalid AND relnamespace = current_schema()::regnamespace AND relname = ANY(:names) ORDER BY 1"
)
"""Indexes that PostgreSQL does not use: a concurrent build failed."""

HAS_TRIGRAMS: Final = text("SELECT 1 FROM pg_extension WHERE extname = 'pg_trgm'")

Part = Column[Any] | Constraint | Index
"""What a table consists of."""


def check_tables(connection: Connection) -> Iterator[Finding]:
    """Compare tables with what this release expects; no finding where they agree."""
    dialect = connection.dialect
    existing = set(inspect(connection).get_table_names())
    has_trigrams = dialect.name == "postgresql" and connection.execute(HAS_TRIGRAMS).first() is not None
    for table in metadata.sorted_tables:
        indexes = [index for index in table.indexes if has_trigrams or index.info.get("dialect") != "postgresql"]
        if table.name not in existing:
            statements: list[ExecutableDDLElement] = [CreateTable(table), *map(CreateIndex, indexes)]
            remedy = f"restore a backup, or create it empty: {' '.join(_sql(each, dialect) for each in statements)}"
            yield problem(f"table {table.name} is missing", remedy)
            continue
        reflected = Table(table.name, MetaData(), autoload_with=connection, resolve_fks=False)
        for expected, found in (
            (_columns(table, dialect), _columns(reflected, dialect)),
            (_constraints(table), _constraints(reflected)),
            (_indexes(indexes), _indexes(reflected.indexes)),
        ):
            for part in sorted(expected.keys() - found.keys()):
                yield problem(f"table {table.name} has no {part}", _remedy(expected[part], dialect))
            for part in sorted(found.keys() - expected.keys()):
                yield warning(f"table {table.name}: Agora has no {part}", "drop it if it is not needed")
    if dialect.name == "postgresql":
        for index in connection.scalars(INVALID, {"names": [*metadata.tables]}):
            yield problem(f"index {index} is invalid: its build failed", f"run: REINDEX INDEX {index}")


def _remedy(part: Part, dialect: Dialect) -> str:
    if isinstance(part, Index):
        return f"run: {_sql(CreateIndex(part), dialect)}"
    if isinstance(part, Constraint) and dialect.name != "sqlite":  # which adds no constraints
        return f"run: {_sql(AddConstraint(part, isolate_from_table=False), dialect)}"
    return REBUILD


def _sql(statement: ExecutableDDLElement, dialect: Dialect) -> str:
    return " ".join(str(statement.compile(dialect=dialect)).split()) + ";"


# The parts of a table, each under a description that is the same for equal ones.


def _columns(table: Table, dialect: Dialect) -> dict[str, Part]:
    return {
        f"column {each.name} of type {each.type.compile(dialect)}{'' if each.nullable else ' NOT NULL'}": each
        for each in table.c
    }


def _constraints(table: Table) -> dict[str, Part]:
    found: dict[str, Part] = {}
    for each in table.constraints:
        columns = f"({', '.join(each.columns.keys())})" if isinstance(each, ColumnCollectionConstraint) else ""
        if isinstance(each, ForeignKeyConstraint):
            targets = [element.target_fullname.rpartition(".") for element in each.elements]
            referred = f"{targets[0][0]} ({', '.join(column for _, _, column in targets)})"
            name = f"foreign key {columns} to {referred} ON DELETE {each.ondelete or 'NO ACTION'}"
        elif isinstance(each, UniqueConstraint):
            name = f"unique constraint {columns}"
        elif isinstance(each, CheckConstraint):
            name = f"check constraint {each.name}"
        else:
            name = f"primary key {columns}"
        found[name] = each
    return found


def _indexes(indexes: Iterable[Index]) -> dict[str, Part]:
    return {
        f"{'unique ' if each.unique else ''}index {each.name} ({', '.join(each.columns.keys())})": each
        for each in indexes
    }

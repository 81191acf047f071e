"""Differences between a database's tables and those that this release expects."""

from collections.abc import Iterator
from typing import Final

from sqlalchemy import (
    CheckConstraint,
    Connection,
    Dialect,
    ForeignKeyConstraint,
    Index,
    Inspector,
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

Parts = dict[str, ExecutableDDLElement | None]
"""What a table has, described as far as it must agree, and the statement that creates each."""


def check_tables(connection: Connection) -> Iterator[Finding]:
    """Compare tables with what this release expects; no finding where they agree."""
    inspector, dialect = inspect(connection), connection.dialect
    existing = set(inspector.get_table_names())
    omitted = {"sqlite" if dialect.name == "postgresql" else "postgresql"}
    if dialect.name == "postgresql" and connection.execute(HAS_TRIGRAMS).first() is None:
        omitted.add("postgresql")
    for table in metadata.sorted_tables:
        indexes = [index for index in table.indexes if index.info.get("dialect") not in omitted]
        if table.name not in existing:
            statements: list[ExecutableDDLElement] = [CreateTable(table), *map(CreateIndex, indexes)]
            remedy = f"restore a backup, or create it empty: {' '.join(_sql(each, dialect) for each in statements)}"
            yield problem(f"table {table.name} is missing", remedy)
            continue
        for expected, found in (
            (_columns(table, dialect), _found_columns(table.name, inspector, dialect)),
            (_constraints(table), _found_constraints(table.name, inspector)),
            (_indexes(indexes), _found_indexes(table.name, inspector)),
        ):
            for part in sorted(expected.keys() - found):
                statement = expected[part]
                if dialect.name == "sqlite" and not isinstance(statement, CreateIndex):
                    statement = None  # SQLite adds no constraints
                remedy = REBUILD if statement is None else f"run: {_sql(statement, dialect)}"
                yield problem(f"table {table.name} has no {part}", remedy)
            for part in sorted(found - expected.keys()):
                yield warning(f"table {table.name}: Agora has no {part}", "drop it if it is not needed")
    if dialect.name == "postgresql":
        for index in connection.scalars(INVALID, {"names": [*metadata.tables]}):
            yield problem(f"index {index} is invalid: its build failed", f"run: REINDEX INDEX {index}")


def _sql(statement: ExecutableDDLElement, dialect: Dialect) -> str:
    return " ".join(str(statement.compile(dialect=dialect)).split()) + ";"


def _column(name: str, kind: str, *, is_nullable: bool) -> str:
    return f"column {name} of type {kind}" + ("" if is_nullable else " NOT NULL")


def _columns(table: Table, dialect: Dialect) -> Parts:
    return {_column(each.name, each.type.compile(dialect), is_nullable=bool(each.nullable)): None for each in table.c}


def _found_columns(table: str, inspector: Inspector, dialect: Dialect) -> set[str]:
    return {
        _column(each["name"], each["type"].compile(dialect), is_nullable=each["nullable"])
        for each in inspector.get_columns(table)
    }


def _key(columns: tuple[str, ...], where: str, referred: tuple[str, ...], ondelete: str | None) -> str:
    return f"foreign key ({', '.join(columns)}) to {where} ({', '.join(referred)}) ON DELETE {ondelete or 'NO ACTION'}"


def _constraints(table: Table) -> Parts:
    found: Parts = {}
    for each in table.constraints:
        statement = AddConstraint(each, isolate_from_table=False)
        columns = tuple(column.name for column in each.columns) if isinstance(each, ColumnCollectionConstraint) else ()
        if isinstance(each, ForeignKeyConstraint):
            referred = tuple(element.column.name for element in each.elements)
            name = _key(columns, each.referred_table.name, referred, each.ondelete)
        elif isinstance(each, UniqueConstraint):
            name = f"unique constraint ({', '.join(columns)})"
        elif isinstance(each, CheckConstraint):
            name = f"check constraint {each.name}"
        else:
            name = f"primary key ({', '.join(columns)})"
        found[name] = statement
    return found


def _found_constraints(table: str, inspector: Inspector) -> set[str]:
    names = [f"primary key ({', '.join(inspector.get_pk_constraint(table)['constrained_columns'])})"]
    names += [
        _key(
            tuple(each["constrained_columns"]),
            each["referred_table"],
            tuple(each["referred_columns"]),
            each["options"].get("ondelete"),
        )
        for each in inspector.get_foreign_keys(table)
    ]
    names += [
        f"unique constraint ({', '.join(each['column_names'])})" for each in inspector.get_unique_constraints(table)
    ]
    names += [f"check constraint {each['name']}" for each in inspector.get_check_constraints(table)]
    return set(names)


def _index(name: object, columns: list[str | None], *, is_unique: bool) -> str:
    return f"{'unique ' if is_unique else ''}index {name} ({', '.join(map(str, columns))})"


def _indexes(indexes: list[Index]) -> Parts:
    return {
        _index(each.name, [column.name for column in each.columns], is_unique=bool(each.unique)): CreateIndex(each)
        for each in indexes
    }


def _found_indexes(table: str, inspector: Inspector) -> set[str]:
    return {
        _index(each["name"], each["column_names"], is_unique=bool(each["unique"]))
        for each in inspector.get_indexes(table)
        if "duplicates_constraint" not in each
    }

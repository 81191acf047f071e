"""What each table states about its rows: exports, imports and the dashboard follow it."""

from dataclasses import fields

import pytest
from sqlalchemy import Float, Integer, Numeric, PrimaryKeyConstraint, Table, UniqueConstraint

from application.views import EntityCounts
from infrastructure.database.errors import CONSTRAINTS, NEVER_VIOLATED
from infrastructure.database.tables import ARCHIVED, COUNTED, metadata, uses
from infrastructure.database.users import AFFECTED
from infrastructure.operations.archive import KINDS
from infrastructure.operations.distribution import DISTRIBUTED
from interfaces.http.admin import CountsOut

TABLES = pytest.mark.parametrize("table", metadata.sorted_tables, ids=lambda table: table.name)


@TABLES
def test_each_table_states_its_uses(table: Table) -> None:
    assert table.info.keys() == uses(archive="lines", export=None).keys()
    if "omitted" in table.info.values() or table.info["export"] is None:
        assert table.info["why"]


@TABLES
def test_removing_an_account_removes_its_rows_in_each_table(table: Table) -> None:
    assert {key.ondelete for key in table.foreign_keys} <= {"CASCADE"}


@TABLES
def test_each_number_of_a_table_is_a_counter_or_states_that_it_is_none(table: Table) -> None:
    numeric = {column.name for column in table.c if isinstance(column.type, Integer | Float | Numeric)}
    keys = {column.name for column in table.c if column.primary_key or column.foreign_keys}

    assert {*table.info["counters"], *table.info["numbers"]} == numeric - keys
    assert not {*table.info["counters"]} & {*table.info["numbers"]}


def test_removal_of_an_account_locks_the_posts_that_its_rows_are_on() -> None:
    for table in metadata.sorted_tables:
        if {"posts", "users"} <= {key.column.table.name for key in table.foreign_keys}:
            assert f"FROM {table.name}" in AFFECTED.whole


def test_each_foreign_key_to_accounts_has_a_refusal_or_an_excuse() -> None:
    keys = {
        str(key.constraint.name)
        for table in metadata.sorted_tables
        for key in table.foreign_keys
        if key.constraint and key.column.table.name == "users"
    }

    assert keys == {name for name in CONSTRAINTS if name.startswith("fk_")} ^ NEVER_VIOLATED.keys()


def test_an_archive_holds_each_archived_table_in_the_order_of_references() -> None:
    assert [table for table, _, _ in KINDS.values()] == list(ARCHIVED)


def test_the_dashboard_has_a_number_for_each_counted_table() -> None:
    assert {field.name for field in fields(EntityCounts)} == {table.name for table in COUNTED}
    assert CountsOut.model_fields.keys() == {table.name for table in COUNTED}


def test_what_refers_to_a_distributed_table_is_distributed() -> None:
    """Citus refuses a foreign key from the coordinator's tables to a distributed one."""
    for table in metadata.sorted_tables:
        if {key.column.table for key in table.foreign_keys} & DISTRIBUTED.keys():
            assert table in DISTRIBUTED


def test_keys_of_a_distributed_table_begin_with_the_post() -> None:
    """Citus refuses a primary key or a unique constraint without the column that distributes the table."""
    for table, column in DISTRIBUTED.items():
        for key in table.constraints:
            if isinstance(key, PrimaryKeyConstraint | UniqueConstraint):
                assert column in key.columns, f"{key.name}: number the rows of each post, under its lock"

"""Folded keys for searches, and e-mail keys by IDNA 2008.

Lower case depends on context, so "ΟΔΥΣ" did not find "ΟΔΥΣΣΕΥΣ"; IDNA 2003 took strasse.de and straße.de for one
domain, and straße.de and its punycode for two. Search keys get columns of their own, since workers of the previous
release write and read the old ones meanwhile. E-mail keys differ for few addresses and are corrected in place: a second
unique column would keep an abandoned address where such a worker changes one.

`finish` fills the new columns, after the steps and again at every later `agora migrate`.

A distributed database gets columns and indexes on each shard and on each copy of the accounts.
"""

import logging
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain

import idna
import sqlalchemy as sa
from alembic import context, op
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

BATCH = 1_000
KEYS = (("titles", "post_id", "title_key", "title_folded"), ("users", "id", "search_key", "search_folded"))
"""Tables, their ids, the old and the new key: the new one is a function of the old one."""

log = logging.getLogger("agora.migrations")


def upgrade() -> None:
    """Bring the schema forward, unless two accounts would share an e-mail."""
    online = not context.is_offline_mode()
    if online:
        changes, shared, _ = _email_changes(op.get_bind(), _email_key)
        _require_distinct(shared)
        _store_email_keys(op.get_bind(), changes)
    for table, _, _, folded in KEYS:
        op.add_column(table, sa.Column(folded, sa.Text(), nullable=True))
    if op.get_context().dialect.name == "postgresql":
        # On tables with rows an index would block writers until it is built: there `finish` does it.
        if not online:
            for table, _, _, folded in KEYS:
                op.execute(_index(table, folded, "gin_trgm_ops", ""))
        elif not op.get_bind().execute(sa.text("SELECT 1 FROM users LIMIT 1")).first():
            _create_indexes(op.get_bind(), "")


def downgrade() -> None:
    """Take the schema back, unless two accounts would share an e-mail."""
    if not context.is_offline_mode():
        changes, shared, _ = _email_changes(op.get_bind(), _previous_email_key)
        _require_distinct(shared)
        _store_email_keys(op.get_bind(), changes)
    for table, _, _, folded in KEYS:
        if op.get_context().dialect.name == "postgresql":
            op.drop_index(f"ix_{table}_{folded}", table, if_exists=True)
        op.drop_column(table, folded)


def finish(connection: sa.Connection) -> Iterator[str]:
    """Compute keys that are missing or outdated; report what was done.

    In short transactions. Workers of the previous release leave such keys. The connection commits each statement by
    itself.
    """
    changes, shared, invalid = _email_changes(connection, _email_key)
    for users in shared:
        log.warning("%s; change or remove all but one, then run: agora migrate", users)
    for user_id, email in invalid:
        log.warning("user %s cannot sign in: %s is no e-mail address by IDNA 2008; change it", user_id, email)
    if changes:
        _in_transaction(connection, partial(_store_email_keys, connection, changes))
        yield f"computed {len(changes)} keys of e-mails"
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SET statement_timeout = 0"))
        connection.execute(sa.text("SET lock_timeout = 0"))
    for table, *columns in KEYS:
        filled = _fill(connection, table, *columns)
        if filled:
            yield f"computed {filled} search keys of {table}"
    if connection.dialect.name == "postgresql":
        _create_indexes(connection, "CONCURRENTLY")


def _fold(text: str) -> str:
    folded = unicodedata.normalize("NFD", text).casefold().replace("i\u0307", "i")
    return unicodedata.normalize("NFC", folded)


def _email_key(email: str) -> str:
    local, _, domain = unicodedata.normalize("NFC", email.strip()).rpartition("@")
    if domain.isascii() and "xn--" not in domain.lower():
        return f"{_fold(local)}@{domain.lower()}"
    return f"{_fold(local)}@{idna.encode(domain, uts46=True).decode('ascii')}"


def _previous_email_key(email: str) -> str:
    local, _, domain = unicodedata.normalize("NFC", email.strip()).rpartition("@")
    return local.casefold() + "@" + domain.encode("idna").decode("ascii").casefold()


def _email_changes(
    connection: sa.Connection, key_of: Callable[[str], str]
) -> tuple[list[dict[str, object]], list[str], list[tuple[int, str]]]:
    """Return the changes, accounts that would share a key, those without.

    Addresses in ASCII, without punycode, have the same key by either rule.
    """
    size = "octet_length(email)" if connection.dialect.name == "postgresql" else "length(CAST(email AS BLOB))"
    rows = connection.execute(
        sa.text(
            "SELECT id, email, email_key FROM users"
            f" WHERE {size} <> length(email) OR lower(email) LIKE '%xn--%' ORDER BY id"
        )
    ).all()
    holders = defaultdict[str, list[tuple[int, str]]](list)
    changes: list[dict[str, object]] = []
    invalid = []
    for user_id, email, key in rows:
        try:
            wanted = key_of(email)
        except UnicodeError:
            invalid.append((user_id, email))
            continue
        holders[wanted].append((user_id, email))
        if wanted != key:
            changes.append({"user_id": user_id, "old": key, "new": wanted})
    judged = {row.id for row in rows}
    named = sa.text("SELECT id, email, email_key FROM users WHERE email_key IN :names")
    named = named.bindparams(sa.bindparam("names", expanding=True))
    wanted_keys = [change["new"] for change in changes]
    for start in range(0, len(wanted_keys), BATCH):
        for user_id, email, key in connection.execute(named, {"names": wanted_keys[start : start + BATCH]}):
            if user_id not in judged:
                holders[key].append((user_id, email))
    same = [sorted(accounts) for accounts in holders.values() if len(accounts) > 1]
    shared = [
        f"users {', '.join(str(user_id) for user_id, _ in accounts)}:"
        f" they have the same e-mail in several spellings: {', '.join(email for _, email in accounts)}"
        for accounts in same
    ]
    colliding = {user_id for user_id, _ in chain.from_iterable(same)}
    return [change for change in changes if change["user_id"] not in colliding], shared, invalid


def _require_distinct(shared: list[str]) -> None:
    if shared:
        raise CommandError(f"nothing was changed: {'; '.join(shared)}; change or remove all but one, then run it again")


def _store_email_keys(connection: sa.Connection, changes: list[dict[str, object]]) -> None:
    """Store keys by way of unique ones: one may be given up by another account."""
    if changes:
        give_up = "UPDATE users SET email_key = 'user ' || id WHERE id = :user_id AND email_key = :old"
        take = "UPDATE users SET email_key = :new WHERE id = :user_id AND email_key = 'user ' || id"
        connection.execute(sa.text(give_up), changes)
        connection.execute(sa.text(take), changes)


def _in_transaction(connection: sa.Connection, act: Callable[[], object]) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.dialect.name == "sqlite" else "BEGIN")
    try:
        act()
    except BaseException:
        connection.exec_driver_sql("ROLLBACK")
        raise
    connection.exec_driver_sql("COMMIT")


def _fill(connection: sa.Connection, table: str, id_name: str, key: str, folded: str) -> int:
    """Fill a table's new keys in batches, and return their number.

    A row that changes meanwhile has another old key, and keeps the new key that its writer gave it.
    """
    select = sa.text(
        f"SELECT {id_name} AS id, {key} AS old, {folded} AS new FROM {table} WHERE {id_name} > :last"
        f" AND ({folded} IS NULL OR {folded} <> {key}) ORDER BY {id_name} LIMIT {BATCH}"
    )
    if connection.dialect.name == "postgresql":  # one round trip, whatever the number of rows
        update = sa.text(
            f"UPDATE {table} SET {folded} = f.new FROM unnest(CAST(:ids AS bigint[]), CAST(:olds AS text[]),"
            f" CAST(:news AS text[])) AS f (id, old, new) WHERE {table}.{id_name} = f.id AND {table}.{key} = f.old"
        )
    else:
        update = sa.text(f"UPDATE {table} SET {folded} = :new WHERE {id_name} = :id AND {key} = :old")
    last = filled = 0
    while rows := connection.execute(select, {"last": last}).all():
        last = rows[-1].id
        stale = [(row.id, row.old, _fold(row.old)) for row in rows if row.new != _fold(row.old)]
        if not stale:
            continue
        if connection.dialect.name == "postgresql":
            ids, olds, news = map(list, zip(*stale, strict=True))
            connection.execute(update, {"ids": ids, "olds": olds, "news": news})
        else:
            values = [{"id": row_id, "old": old, "new": new} for row_id, old, new in stale]
            _in_transaction(connection, partial(connection.execute, update, values))
        filled += len(stale)
    return filled


def _create_indexes(connection: sa.Connection, how: str) -> None:
    """Create the trigram indexes, or log what an administrator can do."""
    schema = connection.execute(
        sa.text(
            "SELECT quote_ident(nspname) FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace"
            " WHERE extname = 'pg_trgm' AND has_schema_privilege(n.oid, 'USAGE')"
        )
    ).scalar()
    valid = sa.text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)")
    states = {
        (table, folded): connection.execute(valid, {"name": f"ix_{table}_{folded}"}).scalar()
        for table, _, _, folded in KEYS
    }
    missing = [index for index, is_valid in states.items() if not is_valid]
    try:
        if schema is not None:
            for table, folded in missing:
                if states[table, folded] is False:  # its build failed
                    connection.exec_driver_sql(f"DROP INDEX {how} ix_{table}_{folded}")
                connection.exec_driver_sql(_index(table, folded, f"{schema}.gin_trgm_ops", how))
            return
        reason = "pg_trgm is missing, or its schema is closed to this role"
    except DBAPIError as error:
        reason = str(error.orig).strip().splitlines()[0]
    if missing and how:  # `finish` runs in any case
        log.warning(
            "Search works, but has no index and reads every row (%s). Have the extension created by an administrator"
            " of the database, and the use of its schema granted to this role; then run: agora migrate",
            reason,
        )


def _index(table: str, folded: str, operators: str, how: str) -> str:
    return (
        f"CREATE INDEX {how} IF NOT EXISTS ix_{table}_{folded} ON {table}"
        f" USING gin ({folded} {operators}) WITH (fastupdate = off)"
    )

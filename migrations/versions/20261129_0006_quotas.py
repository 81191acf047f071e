"""Count what each account writes in an hour, to bound it.

Workers of the previous release count nothing and go on. No foreign key to users: an account's removal would wait for a
writer's row while the writer waits for the account.

The new table of a distributed database stays on the coordinator; `agora distribute` tells Citus.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Bring the schema forward."""
    op.create_table(
        "quotas",
        sa.Column("user_id", ID, autoincrement=False, nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("max_rows", sa.BigInteger(), nullable=False),
        sa.Column("max_bytes", sa.BigInteger(), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("rows <= max_rows and bytes <= max_bytes", name=op.f("ck_quotas_limit")),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_quotas")),
    )


def downgrade() -> None:
    """Take the schema back: counts of an hour are lost."""
    op.drop_table("quotas")

"""Users, posts and votes."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Bring the schema forward."""
    op.create_table(
        "users",
        sa.Column("id", ID, sa.Identity(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("email_key", sa.Text(), nullable=False),
        sa.Column("username", sa.Text(), nullable=True),
        sa.Column("username_key", sa.Text(), nullable=True),
        sa.Column("search_key", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.CheckConstraint("role in ('user', 'admin')", name=op.f("ck_users_role")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("email_key", name=op.f("uq_users_email_key")),
        sa.UniqueConstraint("username_key", name=op.f("uq_users_username_key")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_users_created_at"), "users", ["created_at"])

    op.create_table(
        "posts",
        sa.Column("id", ID, sa.Identity(), nullable=False),
        sa.Column("owner_id", ID, nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("published", sa.Boolean(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("upvotes", sa.Integer(), nullable=False),
        sa.Column("downvotes", sa.Integer(), nullable=False),
        sa.Column("score", sa.Integer(), nullable=False),
        sa.Column("hot", sa.Double(), nullable=False),
        sa.CheckConstraint("version >= 1", name=op.f("ck_posts_version")),
        sa.CheckConstraint("upvotes >= 0", name=op.f("ck_posts_upvotes")),
        sa.CheckConstraint("downvotes >= 0", name=op.f("ck_posts_downvotes")),
        sa.CheckConstraint("score = upvotes - downvotes", name=op.f("ck_posts_score")),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_posts_owner_id_users"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_posts")),
        sqlite_autoincrement=True,
    )
    for columns in (["created_at", "id"], ["score", "id", "created_at"], ["hot", "id", "created_at"]):
        for narrowed in (["published", *columns], ["owner_id", "published", *columns]):
            op.create_index(op.f(f"ix_posts_{'_'.join(narrowed)}"), "posts", narrowed)

    op.create_table(
        "titles",
        sa.Column("post_id", ID, nullable=False),
        sa.Column("title_key", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["post_id"], ["posts.id"], name=op.f("fk_titles_post_id_posts"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("post_id", name=op.f("pk_titles")),
    )

    op.create_table(
        "votes",
        sa.Column("post_id", ID, nullable=False),
        sa.Column("user_id", ID, nullable=False),
        sa.Column("dir", sa.SmallInteger(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.CheckConstraint("dir in (-1, 1)", name=op.f("ck_votes_dir")),
        sa.ForeignKeyConstraint(["post_id"], ["posts.id"], name=op.f("fk_votes_post_id_posts"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_votes_user_id_users"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("post_id", "user_id", name=op.f("pk_votes")),
    )
    of_voter = ["user_id", "dir", "created_at", "post_id"]
    op.create_index(op.f(f"ix_votes_{'_'.join(of_voter)}"), "votes", of_voter)


def downgrade() -> None:
    """Take the schema back, with all that is in it."""
    op.drop_table("votes")
    op.drop_table("titles")
    op.drop_table("posts")
    op.drop_table("users")

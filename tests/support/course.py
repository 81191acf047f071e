"""The database of the public course's application."""

POSTGRESQL = (
    """CREATE TABLE users (
        id SERIAL NOT NULL, email VARCHAR NOT NULL, password VARCHAR NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL, PRIMARY KEY (id), UNIQUE (email))""",
    """CREATE TABLE posts (
        id SERIAL NOT NULL, title VARCHAR NOT NULL, content VARCHAR NOT NULL,
        published BOOLEAN DEFAULT 'TRUE' NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL, owner_id INTEGER NOT NULL,
        PRIMARY KEY (id), FOREIGN KEY(owner_id) REFERENCES users (id) ON DELETE CASCADE)""",
    """CREATE TABLE votes (
        user_id INTEGER NOT NULL, post_id INTEGER NOT NULL, PRIMARY KEY (user_id, post_id),
        FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE,
        FOREIGN KEY(post_id) REFERENCES posts (id) ON DELETE CASCADE)""",
)


SQLITE = tuple(
    statement.replace("SERIAL", "INTEGER").replace("now()", "CURRENT_TIMESTAMP").replace("'TRUE'", "1")
    for statement in POSTGRESQL
)


LATE_CHAPTER = (
    "ALTER TABLE users ADD COLUMN phone_number VARCHAR",
    "UPDATE users SET phone_number = '555' WHERE id = 7",
    "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)",
    "INSERT INTO alembic_version VALUES ('c2a7d1ee1f6c')",
)

"""Storage on PostgreSQL and SQLite, through SQLAlchemy Core."""

"""Alembic migrations. A released migration is never edited: a new one follows."""

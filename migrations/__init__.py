"""The schema's history, in Alembic's order. A migration that has landed is never edited: a new one follows."""

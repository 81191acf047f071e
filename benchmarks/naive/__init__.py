"""Application written by the documentation of FastAPI and SQLAlchemy."""

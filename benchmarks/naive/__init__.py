"""The application that a competent person writes from the documentation of FastAPI and SQLAlchemy."""

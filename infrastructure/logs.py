"""Logging: one line per event on standard error."""

import logging

FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


def configure_logs(level: str) -> None:
    """Send every logger's lines of this level and above to standard error."""
    logging.basicConfig(level=level, format=FORMAT, force=True)
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it would report every look at the schema

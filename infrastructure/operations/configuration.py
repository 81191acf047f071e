"""Checks of the settings."""

from collections.abc import Iterator

from infrastructure.operations.findings import Finding, ok, problem, warning
from infrastructure.settings import DATABASE_PARTS, Settings


def check_settings(settings: Settings) -> Iterator[Finding]:
    """Check the settings: what production refuses, and what is probably unintended."""
    production = settings.fastapi_env == "production"
    weaknesses = settings.weaknesses()
    for weakness in weaknesses:
        says, _, remedy = weakness.partition(": ")
        if production:
            yield problem(says, remedy)
        else:
            yield warning(f"{says}, which production refuses", remedy)
    parts = [name for name in DATABASE_PARTS if getattr(settings, name.lower()) is not None]
    if settings.database_url is not None and parts:
        yield warning(
            f"{', '.join(parts)} have no effect while DATABASE_URL is set",
            "remove either of them",
        )
    named = {weakness.partition(" ")[0] for weakness in weaknesses}
    warnings = [said for said in settings.warnings() if said.partition(" ")[0] not in named]
    for found in warnings:
        says, _, remedy = found.partition("; ")
        yield warning(says, remedy)
    if not weaknesses and not warnings:
        yield ok(f"the settings are fit for use; FASTAPI_ENV is {settings.fastapi_env}")

"""Environment: where settings are read from, and which source each comes from."""

import os
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from dotenv.parser import parse_stream
from pydantic import ValidationError

from domain.text import is_storable
from infrastructure.settings import FILE_NAMES, NAMES, OBSOLETE, RENAMED, Settings, SettingsError

BYTE_ORDER_MARK: Final = "\ufeff"
"""Editors write it at the beginning of a file, whose content may become a value: `"$(cat file)"`."""

SIMILARITY: Final = 0.85
"""From here on a name is taken for a misspelt one: DATABSE_URL (0.96) is, TEST_DATABASE_URL (0.83) is not."""


def load_settings(folder: Path | None = None) -> Settings:
    """Read the settings from all their sources.

    The process environment comes first, then `.env.{FASTAPI_ENV}`, then `.env`, then the defaults.

    The files are searched in `folder`, by default the working directory.

    Raises:
        SettingsError: a value is invalid.
    """
    sources = _sources(folder or Path())
    values = {
        name.lower(): value.removeprefix(BYTE_ORDER_MARK)
        for _, source in reversed(sources)
        for name, value in source.items()
        if value and name in NAMES
    }
    unreadable = [name.upper() for name, value in values.items() if not is_storable(value)]
    if unreadable:
        raise SettingsError(f"{', '.join(unreadable)}: a NUL, or bytes that are no UTF-8; remove them")
    values["fastapi_env"] = sources[1][0].removeprefix(".env.")  # what chose the file, regardless of its content
    try:
        settings = Settings.model_validate(values, context=_notices(sources))
    except ValidationError as error:
        raise SettingsError("; ".join(_sentence(reason) for reason in error.errors(include_input=False))) from None
    if not all(is_storable(str(part)) for part in settings.url):
        raise SettingsError(
            "DATABASE_URL: an escaped NUL, or escaped bytes that are no UTF-8; remove them, and write %25 for a % that"
            " means itself"
        )
    return settings


def is_production() -> bool:
    """Test whether this is production, even if other settings are invalid."""
    try:
        return _sources(Path())[1][0] == ".env.production"
    except SettingsError:
        return os.environ.get("FASTAPI_ENV") == "production"


def origin(name: str, folder: Path | None = None) -> str:
    """Get the source of a setting: `environment`, a file's name, or `default`."""
    sources = _sources(folder or Path())
    return next((source for source, values in sources if values.get(name.upper())), "default")


def _notices(sources: Sequence[tuple[str, Mapping[str, str | None]]]) -> list[str]:
    """Describe names that are set and obsolete, or probably misspelt."""
    names = sorted({name for _, source in sources for name, value in source.items() if value} - NAMES)
    close = {name: get_close_matches(name.upper(), NAMES, 1, SIMILARITY) for name in names if name not in OBSOLETE}
    return [
        *(f"{name} {OBSOLETE[name]}" for name in names if name in OBSOLETE),
        *(
            f"{ascii(name)[1:-1]} is no setting; rename it if it means {meant[0]}"
            for name, meant in close.items()
            if meant
        ),
    ]


def _sources(folder: Path) -> list[tuple[str, Mapping[str, str | None]]]:
    """Read all sources of settings, in order of precedence.

    Values in files are literal.
    """
    common = _read(folder / ".env")
    environment = os.environ.get("FASTAPI_ENV") or common.get("FASTAPI_ENV") or "development"
    own = _read(folder / f".env.{environment}")
    sources = [("environment", os.environ), (f".env.{environment}", own), (".env", common)]
    return [(origin, _with_secrets(_with_new_names(source), folder)) for origin, source in sources]


def _with_new_names(source: Mapping[str, str | None]) -> Mapping[str, str | None]:
    renamed = {new: source[old] for old, new in RENAMED.items() if source.get(old) and not source.get(new)}
    return {**source, **renamed}


def _with_secrets(source: Mapping[str, str | None], folder: Path) -> Mapping[str, str | None]:
    """Read the secrets that a source names by file.

    Raises:
        SettingsError: a file is unreadable or empty, or the source has the secret too. Messages contain no path: a
            secret may have been written in its place.
    """
    secrets: dict[str, str | None] = {}
    for file_name, name in FILE_NAMES.items():
        if path := source.get(file_name):
            if source.get(name):
                raise SettingsError(f"{name} and {file_name} are both set: remove one")
            try:
                secrets[name] = (folder / path).read_text(encoding="utf-8-sig").rstrip("\r\n")
            except (OSError, ValueError):
                raise SettingsError(
                    f"{file_name}: the file cannot be read: name a readable file, in UTF-8, that contains the secret"
                ) from None
            if not secrets[name]:
                raise SettingsError(f"{file_name}: the file is empty: write the secret into it")
    return {name: value for name, value in source.items() if name not in FILE_NAMES} | secrets


def _read(file: Path) -> Mapping[str, str | None]:
    """Read a .env file, if there is one.

    Raises:
        SettingsError: the file is unreadable, or a line is malformed; it may contain a secret, so the message gives
            only its number.
    """
    values: dict[str, str | None] = {}
    try:
        if not (file.is_file() or file.is_fifo()):
            return values
        with file.open(encoding="utf-8-sig") as stream:
            bindings = list(parse_stream(stream))
    except (OSError, ValueError):
        name = ascii(str(file))[1:-1]
        raise SettingsError(f"{name} cannot be read: make it readable, and save it as UTF-8") from None
    for binding in bindings:
        if binding.error:
            text = binding.original.string
            line = binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")
            raise SettingsError(f"{file}, line {line}: write NAME=value, and close what quotes it opens")
        if binding.key is not None:
            values[binding.key] = binding.value
    return values


def _sentence(reason: Mapping[str, Any]) -> str:
    name = ".".join(str(part) for part in reason["loc"]).upper()
    return f"{name}: {reason['msg'].removeprefix('Value error, ')}; see docs/settings.md"

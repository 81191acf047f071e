"""The settings: every name that Agora reads from its environment, what it means, and what is refused."""

import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import unquote

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from domain.text import is_storable

SECRET_KEY_BYTES: Final = 32
"""The least that HMAC-SHA-256 asks of a key (RFC 7518, section 3.2)."""

KNOWN_SECRETS: Final = frozenset(
    {
        "replace-me-with-the-output-of-openssl-rand-hex-32",
        "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
        "your-secret-key-that-is-at-least-32-characters-long",
        "change-this-secret-key-in-production-please",
    }
)
"""Keys from samples and tutorials, our own `.env.example` among them: everybody knows them."""

_URL: Final = re.compile(r"(?P<scheme>[\w+]+)://(?:(?P<user>[^:@/]*)(?::(?P<password>.*))?@)?(?P<rest>[^@]*|/.*)")


class SettingsError(Exception):
    """The settings cannot be used; the message has a line for each reason, with its remedy."""


class Settings(BaseSettings):
    """What operators can choose. `docs/settings.md` says the same, and a test holds the two together."""

    model_config = SettingsConfigDict(extra="ignore", env_ignore_empty=True, frozen=True)

    fastapi_env: Annotated[
        Literal["development", "testing", "production"],
        Field(
            description="Which environment this is. It names `.env.{FASTAPI_ENV}`; production refuses weak settings."
        ),
    ] = "development"
    database_url: Annotated[
        SecretStr | None,
        Field(description="Where the data is: `postgresql://user:password@host:5432/name` or `sqlite:///file`."),
    ] = None
    db_host: Annotated[
        str | None, Field(description="PostgreSQL's host; `localhost` if another `DB_*` name is set.")
    ] = None
    db_port: Annotated[
        int | None, Field(ge=1, le=65535, description="PostgreSQL's port; 5432 if another `DB_*` name is set.")
    ] = None
    db_user: Annotated[
        str | None, Field(description="PostgreSQL's user; `postgres` if another `DB_*` name is set.")
    ] = None
    db_password: Annotated[
        SecretStr | None, Field(description="PostgreSQL's password, as it is: nothing in it needs escaping.")
    ] = None
    db_name: Annotated[
        str | None, Field(description="PostgreSQL's database; `agora` if another `DB_*` name is set.")
    ] = None
    secret_key: Annotated[
        SecretStr | None,
        Field(
            description="Signs access tokens; at least 32 bytes. Made up at every start outside production if missing."
        ),
    ] = None
    algorithm: Annotated[Literal["HS256", "HS384", "HS512"], Field(description="How access tokens are signed.")] = (
        "HS256"
    )
    access_token_expire_minutes: Annotated[
        int, Field(ge=1, le=1440, description="Minutes that an access token lives.")
    ] = 30
    cors_origins: Annotated[
        tuple[str, ...],
        NoDecode,
        Field(description="Origins whose pages may call the API, with commas between them; `*` for all."),
    ] = ()
    cors_credentials: Annotated[
        bool, Field(description="Whether pages may send cookies along. Agora reads none; leave it off.")
    ] = False
    public_reads: Annotated[bool, Field(description="Whether posts can be read without signing in.")] = False
    threads: Annotated[
        int,
        Field(
            ge=1, le=100, description="Requests that one worker works on at once, and its connections to the database."
        ),
    ] = 8
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"], Field(description="The least severe message that is logged.")
    ] = "INFO"

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(origin.strip().rstrip("/") for origin in value.split(",") if origin.strip())
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @property
    def url(self) -> URL:
        """Where the database is: `DATABASE_URL`, else the `DB_*` names, else a SQLite file in this folder.

        Raises:
            SettingsError: `DATABASE_URL` names no database that Agora can use.
        """
        if self.database_url is not None:
            return database_url(self.database_url.get_secret_value())
        parts = (self.db_host, self.db_port, self.db_user, self.db_password, self.db_name)
        if all(part is None for part in parts):
            return make_url("sqlite:///agora.db")
        return URL.create(
            "postgresql+psycopg2",
            username=self.db_user or "postgres",
            password=None if self.db_password is None else self.db_password.get_secret_value(),
            host=self.db_host or "localhost",
            port=self.db_port or 5432,
            database=self.db_name or "agora",
        )

    def require_servable(self) -> None:
        """Refuse what must not serve in production.

        Raises:
            SettingsError: the secret key or the CORS settings are not fit for it.
        """
        if self.fastapi_env != "production":
            return
        reasons = []
        key = self.secret_key.get_secret_value() if self.secret_key else ""
        if not key:
            reasons.append("SECRET_KEY is missing: set it to the output of `openssl rand -hex 32`")
        elif key in KNOWN_SECRETS:
            reasons.append("SECRET_KEY is a known sample: set it to the output of `openssl rand -hex 32`")
        elif len(key.encode()) < SECRET_KEY_BYTES:
            reasons.append(
                f"SECRET_KEY is shorter than {SECRET_KEY_BYTES} bytes: set it to the output of `openssl rand -hex 32`"
            )
        if "*" in self.cors_origins and self.cors_credentials:
            reasons.append(
                "CORS_ORIGINS is * together with CORS_CREDENTIALS: name the origins, or turn the credentials off"
            )
        if reasons:
            raise SettingsError("; ".join(reasons))

    def signing_key(self) -> str:
        """Give the key that signs tokens: the one that is set, else one made up for this process."""
        return self.secret_key.get_secret_value() if self.secret_key else secrets.token_hex(SECRET_KEY_BYTES)


def database_url(text: str) -> URL:
    """Read a database URL as people write it.

    `postgres://` and `postgresql://` mean psycopg2, although SQLAlchemy 2.1 reads another driver into the second
    and nothing into the first. The password ends at the last `@`, so one like `p@ss` works as it is and escaped.

    Raises:
        SettingsError: it is no URL, or one of a database that Agora does not speak.
    """
    whole = _URL.fullmatch(text.strip())
    if whole is None:
        raise SettingsError("DATABASE_URL is not a URL: write postgresql://user:password@host:5432/name")
    scheme, user, password = whole["scheme"], whole["user"], whole["password"]
    if scheme not in {"postgres", "postgresql", "postgresql+psycopg2", "sqlite", "sqlite+pysqlite"}:
        raise SettingsError(f"DATABASE_URL begins with {scheme}://: Agora speaks postgresql:// and sqlite:///")
    driver = "sqlite" if scheme.startswith("sqlite") else "postgresql+psycopg2"
    try:
        url = make_url(f"{driver}://{whole['rest']}")
    except (ArgumentError, ValueError):
        raise SettingsError(
            "DATABASE_URL cannot be read: write postgresql://user:password@host:5432/name, and a / # or ? in the"
            " name as %2F %23 or %3F"
        ) from None
    in_memory = ":memory:" in (url.database or ":memory:") or url.query.get("mode") == "memory"
    if driver == "sqlite" and in_memory:
        raise SettingsError("DATABASE_URL names no file: write sqlite:///agora.db; a database in memory is not shared")
    if user is not None:
        url = url.set(username=unquote(user))
    if password is not None:
        url = url.set(password=unquote(password))
    return url


def load_settings(folder: Path | None = None) -> Settings:
    """Read the settings: the process environment, then `.env.{FASTAPI_ENV}`, then `.env`, then the defaults.

    The files are looked for in `folder`, the present one by default.

    Raises:
        SettingsError: a value cannot be used.
    """
    try:
        files = _files(folder or Path())
        settings = Settings(_env_file=files[::-1])  # of pydantic's files the later wins
    except ValidationError as error:
        raise SettingsError("; ".join(_sentence(reason) for reason in error.errors(include_input=False))) from None
    except (OSError, UnicodeDecodeError):
        raise SettingsError("a .env file cannot be read: make it readable, and save it as UTF-8") from None
    if not all(is_storable(str(part)) for part in settings.url):
        raise SettingsError("DATABASE_URL or a DB_* name has a NUL, or bytes that are no UTF-8: remove them")
    return settings


def origin(name: str, folder: Path | None = None) -> str:
    """Tell where the setting of this name comes from: `environment`, a file's name, or `default`."""
    sources: list[tuple[str, Mapping[str, str | None]]] = [("environment", os.environ)]
    sources += [(file.name, dotenv_values(file)) for file in _files(folder or Path())]
    for source, values in sources:
        if any(key.lower() == name and value for key, value in values.items()):
            return source
    return "default"


def masked(value: object) -> str:
    """Write a setting's value for people to see, secrets as stars."""
    if value is None:
        return "-"
    if isinstance(value, SecretStr):
        return "********"
    if isinstance(value, tuple):
        return ",".join(value) or "-"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _files(folder: Path) -> list[Path]:
    common = folder / ".env"
    environment = os.environ.get("FASTAPI_ENV") or dotenv_values(common).get("FASTAPI_ENV") or "development"
    return [folder / f".env.{environment}", common]


def _sentence(reason: Mapping[str, Any]) -> str:
    name = ".".join(str(part) for part in reason["loc"]).upper()
    return f"{name}: {reason['msg']}; see docs/settings.md"

"""Settings: every name read from the environment, its meaning and its limits."""

import re
import secrets
from functools import partial
from typing import Annotated, Any, Final, Literal, get_args
from urllib.parse import unquote

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, field_validator
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from infrastructure.lists import entries, header_names, networks, usernames, web_origins

SECRET_KEY_BYTES: Final = 32
"""The minimum in production: HMAC-SHA-256 requires it of a key (RFC 7518, section 3.2)."""

NEW_KEY: Final = "set it to the output of `openssl rand -hex 32`"

NAME_DATABASE: Final = "set DATABASE_URL, or DB_HOST and the other names of its parts"

DATABASE_PARTS: Final = ("DB_HOST", "DB_PORT", "DB_USER", "DB_PASSWORD", "DB_NAME")
"""The names that make up the URL of a PostgreSQL where DATABASE_URL is not set."""

KNOWN_SECRETS: Final = frozenset(
    {
        "replace-me-with-the-output-of-openssl-rand-hex-32",
        "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
        "your-secret-key-that-is-at-least-32-characters-long",
        "change-this-secret-key-in-production-please",
    }
)
"""Keys from samples and tutorials, `.env.example` included: they are public."""

_URL: Final = re.compile(r"(?P<scheme>[\w+]+)://(?:(?P<user>[^:@/]*)(?::(?P<password>.*))?@)?(?P<rest>[^@]*|/.*)")

_PLACE: Final = re.compile(r"([\w.%-]+|\[[0-9a-fA-F:.]+\])(?::([0-9]{1,5}))?")


class SettingsError(Exception):
    """The settings are invalid; the message gives each reason with its remedy."""


class Settings(BaseModel):
    """What operators can configure. A test compares it with `docs/settings.md`."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    fastapi_env: Literal["development", "testing", "production"] = Field(
        "development",
        description="Which environment this is. It names `.env.{FASTAPI_ENV}`; production refuses weak settings.",
    )
    database_url: SecretStr | None = Field(
        None, description="The database: `postgresql://user:password@host:5432/name` or `sqlite:///file`."
    )
    db_host: str | None = Field(None, description="PostgreSQL's host; `localhost` if another `DB_*` name is set.")
    db_port: int | None = Field(
        None, ge=1, le=65535, description="PostgreSQL's port; 5432 if another `DB_*` name is set."
    )
    db_user: str | None = Field(None, description="PostgreSQL's user; `postgres` if another `DB_*` name is set.")
    db_password: SecretStr | None = Field(
        None, description="PostgreSQL's password, literally: nothing in it needs escaping."
    )
    db_name: str | None = Field(None, description="PostgreSQL's database; `agora` if another `DB_*` name is set.")
    secret_key: SecretStr | None = Field(
        None, description="Signs access tokens; at least 32 bytes. Generated at start if missing, outside production."
    )
    secret_key_previous: SecretStr | None = Field(
        None, description="The key before it: tokens signed with it stay valid until they expire."
    )
    algorithm: Literal["HS256", "HS384", "HS512"] = Field("HS256", description="How access tokens are signed.")
    access_token_expire_minutes: int = Field(30, ge=1, le=1440, description="Minutes that an access token lives.")
    refresh_overlap_seconds: int = Field(
        0,
        ge=0,
        le=60,
        description="Seconds in which a used refresh token is exchanged again, for the same successor, while that"
        " is unused; 0 for never.",
    )
    cors_origins: Annotated[tuple[str, ...], AfterValidator(web_origins)] = Field(
        (), description="Origins whose pages may call the API, separated by commas; `*` for all."
    )
    cors_headers: Annotated[tuple[str, ...], AfterValidator(header_names)] = Field(
        (),
        description="Request headers that these pages may send beside those of the API and of tracing,"
        " separated by commas.",
    )
    reserved_usernames: Annotated[tuple[str, ...], AfterValidator(usernames)] = Field(
        (), description="Usernames that are reserved beside the built-in ones, separated by commas."
    )
    public_reads: bool = Field(False, description="Whether posts can be read without signing in.")
    api_docs: bool = Field(True, description="Whether `/docs`, `/redoc` and `/openapi.json` show the API to anyone.")
    argon2_memory_kib: int = Field(
        19_456, ge=8, le=4_194_304, description="KiB of memory that hashing a password takes."
    )
    argon2_time_cost: int = Field(2, ge=1, le=100, description="Passes over that memory.")
    argon2_parallelism: int = Field(1, ge=1, le=16, description="Lanes that the memory is divided into.")
    throttle: bool = Field(True, description="Whether guessing passwords and registering in bulk are limited.")
    throttle_account_failures: int = Field(
        5, ge=0, description="Wrong passwords for an account from one address in 15 minutes; 0 for any number."
    )
    throttle_address_failures: int = Field(
        30, ge=0, description="Wrong passwords from one address in 5 minutes; 0 for any number."
    )
    throttle_new_address_failures: int = Field(
        100,
        ge=0,
        description="Wrong passwords for an account in an hour from addresses that it never signed in from;"
        " 0 for any number.",
    )
    throttle_registrations: int = Field(
        1_000, ge=0, description="Registrations and changes of e-mail from one address in an hour; 0 for any number."
    )
    quota_rows: int = Field(
        50_000, ge=0, description="Posts, edits, votes and stored responses of an account in an hour; 0 for any."
    )
    quota_mib: int = Field(
        512, ge=0, le=1_048_576, description="MiB of text that an account writes in an hour; 0 for any."
    )
    trusted_proxies: Annotated[tuple[str, ...], AfterValidator(networks)] = Field(
        (), description="Proxies whose forwarding headers are trusted, as networks separated by commas: `10.0.0.0/8`."
    )
    forwarded_header: Literal["X-Forwarded-For", "Forwarded"] = Field(
        "X-Forwarded-For",
        description="The header in which they name the client: with `X-Forwarded-Proto`, or as RFC 7239 specifies.",
    )
    database_connections: int = Field(
        8, ge=1, le=100, description="Connections to the database that one worker opens, at most."
    )
    metrics: bool = Field(
        False, description="Whether `GET /metrics` serves metrics to Prometheus; keep it from the public."
    )
    keep_alive_seconds: int = Field(
        5, ge=1, le=4_000, description="Seconds that an idle connection stays open: more than a proxy's."
    )
    drain_seconds: int = Field(
        3, ge=0, le=60, description="Seconds to keep serving after SIGTERM while reporting not ready, for proxies."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="The least severe message that is logged."
    )

    _notices: tuple[str, ...] = PrivateAttr(default=())
    _generated_key: str = PrivateAttr(default_factory=partial(secrets.token_hex, SECRET_KEY_BYTES))

    def model_post_init(self, context: Any) -> None:
        """Keep what was noticed about the names that are set, for `warnings`."""
        self._notices = tuple(context or ())

    @field_validator("cors_headers", "cors_origins", "reserved_usernames", "trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return entries(value)
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @property
    def url(self) -> URL:
        """The URL of the database.

        It is `DATABASE_URL`, else made of the `DB_*` names, else a SQLite file in this folder.

        Raises:
            SettingsError: `DATABASE_URL` is invalid or names an unsupported database.
        """
        if self.database_url is not None:
            return database_url(self.database_url.get_secret_value())
        if self.is_database_unnamed:
            return make_url("sqlite:///agora.db")
        return URL.create(
            "postgresql+psycopg2",
            username=self.db_user or "postgres",
            password=None if self.db_password is None else self.db_password.get_secret_value(),
            host=self.db_host or "localhost",
            port=self.db_port or 5432,
            database=self.db_name or "agora",
        )

    @property
    def is_database_unnamed(self) -> bool:
        """Test whether no setting names the database, so that it is `agora.db`."""
        return self.database_url is None and all(getattr(self, part.lower()) is None for part in DATABASE_PARTS)

    def require_servable(self) -> None:
        """Refuse settings that are too weak for production.

        Raises:
            SettingsError: the secret keys are missing or weak, or no setting names the database.
        """
        if self.fastapi_env == "production" and (reasons := self.weaknesses()):
            raise SettingsError("; ".join(reasons))

    def weaknesses(self) -> list[str]:
        """List what is too weak for production, each with its remedy after a colon."""
        reasons = [] if self.secret_key else [f"SECRET_KEY is missing: {NEW_KEY}"]
        if self.fastapi_env == "production" and self.is_database_unnamed:
            reasons.append(f"no setting names the database: {NAME_DATABASE}")
        for name, key, remedy in (
            ("SECRET_KEY", self.secret_key, NEW_KEY),
            ("SECRET_KEY_PREVIOUS", self.secret_key_previous, "leave it out"),  # its signatures are accepted too
        ):
            if key and key.get_secret_value() in KNOWN_SECRETS:
                reasons.append(f"{name} is a known sample: {remedy}")
            elif key and _size(key) < SECRET_KEY_BYTES:
                reasons.append(f"{name} is shorter than {SECRET_KEY_BYTES} bytes: {remedy}")
        return reasons

    def warnings(self) -> list[str]:
        """List what is allowed but probably unintended."""
        found = list(self._notices)
        if self.secret_key is None:
            found.append(f"SECRET_KEY is not set; one was generated, and tokens end with this process; {NEW_KEY}")
        elif _size(self.secret_key) < (required := int(self.algorithm.removeprefix("HS")) // 8):
            found.append(f"SECRET_KEY is shorter than the {required} bytes that {self.algorithm} asks for; {NEW_KEY}")
        if not self.throttle and self.fastapi_env == "production":
            found.append("THROTTLE is off; passwords can be guessed as fast as they can be checked")
        return found

    def signing_key(self) -> str:
        """Get the key that signs tokens: SECRET_KEY, else one generated here."""
        return self.secret_key.get_secret_value() if self.secret_key else self._generated_key

    def signing_keys(self) -> list[str]:
        """Get the keys whose signatures are accepted, the one that signs first."""
        previous = self.secret_key_previous
        return [self.signing_key(), *([previous.get_secret_value()] if previous else [])]


RENAMED: Final = {"THREADS": "DATABASE_CONNECTIONS"}
"""Old names of settings, which are still read."""

OBSOLETE: Final = {
    "CORS_CREDENTIALS": "is no longer a setting: CORS never allows credentials; remove it",
    "DATABASE_READ_URL": "is no longer a setting: all reads go to DATABASE_URL; remove it",
    "DATABASE_READ_URL_FILE": "is no longer a setting: all reads go to DATABASE_URL; remove it",
    "PREPARE_STATEMENTS": "is no longer a setting: Agora detects a connection pooler; remove it",
    **{old: f"is now called {new}; rename it" for old, new in RENAMED.items()},
}
"""Names that were settings once, and what to do about them."""

NAMES: Final = frozenset(name.upper() for name in Settings.model_fields)
"""Every name of a setting, as it is written in the environment."""

FILE_NAMES: Final = {
    f"{name.upper()}_FILE": name.upper()
    for name, field in Settings.model_fields.items()
    if SecretStr in get_args(field.annotation)
}
"""Names that give a secret by the path of a file that contains it."""


def database_url(text: str) -> URL:
    """Parse a database URL leniently.

    `postgres://` and `postgresql://` mean psycopg2, although SQLAlchemy 2.1 chooses another driver for the second and
    rejects the first. The password ends at the last `@`, so one like `p@ss` works as it is and escaped.

    Raises:
        SettingsError: it is malformed, or names an unsupported database.
    """
    whole = _URL.fullmatch(text.strip())
    if whole is None:
        raise SettingsError("DATABASE_URL is not a URL: write postgresql://user:password@host:5432/name")
    scheme, user, password = whole["scheme"], whole["user"], whole["password"]
    if scheme not in {"postgres", "postgresql", "postgresql+psycopg2", "sqlite", "sqlite+pysqlite"}:
        ours = next((f"; write {kind}:// instead" for kind in ("postgresql", "sqlite") if scheme.startswith(kind)), "")
        raise SettingsError(f"DATABASE_URL begins with {scheme}://: Agora speaks postgresql:// and sqlite:///{ours}")
    driver = "sqlite" if scheme.startswith("sqlite") else "postgresql+psycopg2"
    try:
        url = _several_hosts(driver, whole["rest"]) or make_url(f"{driver}://{whole['rest']}")
    except (ArgumentError, ValueError):
        raise SettingsError(
            "DATABASE_URL cannot be read: write postgresql://user:password@host:5432/name, and a / # or ? in the"
            " name as %2F %23 or %3F"
        ) from None
    in_memory = ":memory:" in (url.database or ":memory:") or url.query.get("mode") == "memory"
    if driver == "sqlite" and in_memory:
        raise SettingsError("DATABASE_URL names no file: write sqlite:///agora.db; a database in memory is not shared")
    if url.host is not None and "%" in url.host:
        url = url.set(host=unquote(url.host))  # the folder of a socket: %2Fvar%2Frun%2Fpostgresql
    if user is not None:
        url = url.set(username=unquote(user))
    if password is not None:
        url = url.set(password=unquote(password))
    return url


def _several_hosts(driver: str, rest: str) -> URL | None:
    """Parse `h1:5432,h2:5432/name`, which libpq tries in turn; None for one server.

    Raises:
        ValueError: a host or port is malformed.
    """
    places, slash, name = rest.partition("/")
    if "," not in places or driver == "sqlite":
        return None
    hosts, ports = [], []
    for place in places.split(","):
        parts = _PLACE.fullmatch(place)
        if parts is None:
            raise ValueError(place)
        hosts.append(unquote(parts[1].strip("[]")))
        ports.append(parts[2] or "5432")
    url = make_url(f"{driver}://{slash}{name}")
    return url.update_query_dict({"host": ",".join(hosts), "port": ",".join(ports)})


def _size(key: SecretStr) -> int:
    return len(key.get_secret_value().encode())


def masked(value: object) -> str:
    """Format the value of a setting, secrets as stars."""
    if value is None:
        return "-"
    if isinstance(value, SecretStr):
        return "********"
    if isinstance(value, tuple):
        return ",".join(value) or "-"
    return str(value).lower() if isinstance(value, bool) else str(value)

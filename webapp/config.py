"""Settings: one frozen, typed object, read from the environment and handed to everything that needs it.

A secret can also come from a file: `SYNCLIGHT_SECRET_KEY_FILE=/run/secrets/key` is read in place of
`SYNCLIGHT_SECRET_KEY`. What only workers may know (the keys of the Sage tokens) is not here but in workers.settings.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import Annotated
from urllib.parse import SplitResult, quote, urlsplit

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

# A Unix socket's path may hold 107 bytes (unix(7)); PostgreSQL adds a name of 16 to its folder.
_LONGEST_SOCKET_FOLDER = 80
# Redis tells each client the path of its socket among other facts as `name=value name=value`, and redis-py, which RQ's
# workers ask for it, cannot read that answer where the path has one of these itself.
_NOT_IN_SOCKET_FOLDER = re.compile(r"[\s=]")


class SettingsError(Exception):
    """A setting is missing or wrong. The text says which one and what it must be."""


class Settings(BaseSettings):
    """What an operator can set; `synclight settings` prints each with its environment name and default."""

    model_config = SettingsConfigDict(env_prefix="SYNCLIGHT_", frozen=True, extra="ignore")

    port: Annotated[int, Field(ge=1, le=65535)] = Field(
        8000, validation_alias=AliasChoices("PORT"), description="Port of the web app on 127.0.0.1."
    )
    database_url_setting: str | None = Field(
        None,
        validation_alias=AliasChoices("DATABASE_URL"),
        description="PostgreSQL to use; without it one is started under SYNCLIGHT_VAR.",
    )
    redis_url_setting: str | None = Field(
        None,
        validation_alias=AliasChoices("REDIS_URL"),
        description="Redis to use; without it one is started under SYNCLIGHT_VAR.",
    )
    var: Path = Field(Path("var"), description="Folder of the data of everything that is started here.")
    sandbox_port: Annotated[int, Field(ge=1, le=65535)] = Field(8010, description="Port of the sandbox on 127.0.0.1.")
    sage_base_url: str | None = Field(
        None, description="Base URL of the Sage API, with /v3.1; without it the sandbox is started and used."
    )
    sage_client_id: str = Field(
        "synclight-sandbox",
        description="Client id of the application as registered with Sage; the default is the sandbox's.",
    )
    public_origin: str | None = Field(
        None,
        description="Origin of the app in browsers, such as https://sync.example.com; with https, cookies are Secure.",
    )
    demo_password: SecretStr | None = Field(
        None, description="Password of the demo users; without it one is made at the first start and printed."
    )
    workers: Annotated[int, Field(ge=2, le=100)] = Field(
        4,
        description="Worker processes: so many connections are sent to side by side; one always stays free of reading.",
    )
    cycle_seconds: Annotated[int, Field(ge=1, le=86_400)] = Field(
        60, description="How often changes are fetched from Sage, in seconds."
    )
    secret_key: SecretStr | None = Field(
        None,
        description="Key that signs sessions; without it one is made at the first start and kept under SYNCLIGHT_VAR.",
    )
    metrics_token: SecretStr | None = Field(
        None, description="Bearer token for /metrics from other machines; without it only this machine may read it."
    )

    @field_validator("database_url_setting")
    @classmethod
    def _use_psycopg(cls, value: str | None) -> str | None:
        """SQLAlchemy names the driver in the URL; operators and hosting platforms write postgres:// or postgresql://."""
        if value is None:
            return None
        scheme, separator, rest = value.partition("://")
        if scheme not in {"postgres", "postgresql", "postgresql+psycopg"} or not separator:
            raise ValueError("must start with postgresql://")
        return f"postgresql+psycopg://{rest}"

    @field_validator("sage_base_url")
    @classmethod
    def _kept_from_listeners(cls, value: str | None) -> str | None:
        """Tokens and the application's secret go there."""
        parts = urlsplit(value or "")
        if value and not (parts.hostname and (parts.scheme == "https" or _is_here(parts))):
            raise ValueError("must start with https://, or with http://127.0.0.1 for a Sage on this machine")
        return value or None

    @field_validator("var")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        """Processes started with another working directory must mean the same folder."""
        return value.absolute()

    @property
    def run_dir(self) -> Path:
        """Folder of the Unix sockets: below `var`, or a private temporary one where that path is no path for a socket."""
        inside = self.var / "run"
        if len(os.fsencode(inside)) <= _LONGEST_SOCKET_FOLDER and not _NOT_IN_SOCKET_FOLDER.search(str(inside)):
            return inside
        digest = hashlib.sha256(os.fsencode(self.var)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"synclight-{os.getuid()}-{digest}"

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the database: the one that was set, else the embedded server's."""
        return self.database_url_setting or f"postgresql+psycopg://postgres@/synclight?host={quote(str(self.run_dir))}"

    @property
    def redis_url(self) -> str:
        """URL of Redis: the one that was set, else the embedded server's."""
        return self.redis_url_setting or f"unix://{quote(str(self.run_dir / 'redis.sock'))}"

    @property
    def sage_api_url(self) -> str:
        """Base URL of Sage's API, the sandbox's where none was set. No slash at the end."""
        return (self.sage_base_url or f"http://127.0.0.1:{self.sandbox_port}/v3.1").rstrip("/")

    @property
    def origin(self) -> str:
        """Origin that a browser's socket must come from."""
        return self.public_origin or f"http://127.0.0.1:{self.port}"

    @classmethod
    def load(cls) -> Settings:
        """Read the environment.

        Raises SettingsError with one line for each wrong setting.
        """
        read_secret_files(
            "SYNCLIGHT_SECRET_KEY", "SYNCLIGHT_DEMO_PASSWORD", "SYNCLIGHT_METRICS_TOKEN", "DATABASE_URL", "REDIS_URL"
        )
        try:
            return cls()
        except ValidationError as error:
            raise SettingsError("\n".join(in_words(fault) for fault in error.errors())) from None


def _is_here(parts: SplitResult) -> bool:
    return parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost")


def variable_of(field: str) -> str:
    """The environment variable of a field of Settings, given by its own name or by its alias."""
    return field if field.isupper() else f"SYNCLIGHT_{field.upper()}"


def in_words(fault: ErrorDetails) -> str:
    """What is wrong with a setting, in one line, with its value where that can hold no secret."""
    variable = variable_of(str(fault["loc"][0]))
    problem = fault["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if variable.endswith(("_URL", "_KEY", "_KEYS", "_PASSWORD", "_SECRET", "_TOKEN")):
        return f"{variable} {problem}"
    return f"{variable} {problem} (it is {fault['input']!r})"


def read_secret_files(*names: str) -> None:
    """Let `SYNCLIGHT_X_FILE` stand for `SYNCLIGHT_X`, the way container platforms hand out secrets.

    Raises SettingsError for a file that cannot be read.
    """
    for name in names:
        path = os.environ.get(f"{name}_FILE")
        if path and name not in os.environ:
            try:
                os.environ[name] = Path(path).read_text(encoding="utf-8").strip()
            except OSError as error:
                raise SettingsError(f"{name}_FILE: cannot read {path}: {error.strerror}") from error

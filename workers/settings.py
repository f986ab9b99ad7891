"""Settings that only workers have: what opens Sage's tokens. The web process has none of them."""

from __future__ import annotations

from cryptography.fernet import Fernet
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from webapp.config import Settings, SettingsError, in_words, read_secret_files
from workers.keys import Keys
from workers.sage.products import PACKAGES

_SANDBOX_SECRET = "sandbox-secret"  # noqa: S105 - the sandbox answers on this machine alone, whoever asks.
_MAKE_A_KEY = 'python -c "from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())"'


class WorkerSettings(BaseSettings):
    """What an operator sets for workers in addition to webapp.config.Settings."""

    model_config = SettingsConfigDict(env_prefix="SYNCLIGHT_", frozen=True, extra="ignore")

    token_keys: SecretStr = Field(
        default=SecretStr(""),
        description="Fernet keys of the Sage tokens, separated by commas: the first encrypts, all decrypt.",
    )
    sage_client_secret: SecretStr = Field(
        default=SecretStr(_SANDBOX_SECRET),
        description="Secret of the application as registered with Sage; the default is the sandbox's.",
    )

    sage_calls_a_minute: int | None = Field(
        default=None,
        ge=1,
        description="Calls to one company in Sage a minute; without it 100 to Sage itself, and any number to the sandbox.",
    )

    @property
    def cipher(self) -> Keys:
        """What encrypts and decrypts tokens. Raises SettingsError where a key is none."""
        keys = [key.strip() for key in self.token_keys.get_secret_value().split(",") if key.strip()]
        if not keys:
            raise SettingsError(f"SYNCLIGHT_TOKEN_KEYS: is not set; workers need it. Make a key with: {_MAKE_A_KEY}")
        for place, key in enumerate(keys, 1):
            try:
                Fernet(key)
            except ValueError:
                raise SettingsError(
                    f"SYNCLIGHT_TOKEN_KEYS: key {place} of {len(keys)} is no Fernet key. Make one with: {_MAKE_A_KEY}"
                ) from None
        return Keys(keys)

    @classmethod
    def load(cls, settings: Settings) -> WorkerSettings:
        """Read the environment.

        Raises SettingsError with one line that says what to do. No line holds a secret.
        """
        read_secret_files("SYNCLIGHT_TOKEN_KEYS", "SYNCLIGHT_SAGE_CLIENT_SECRET")
        try:
            loaded = cls()
        except ValidationError as error:
            raise SettingsError("\n".join(in_words(fault) for fault in error.errors())) from None
        _ = loaded.cipher
        is_sage = settings.sage_api_url in {package.api_url for package in PACKAGES.values()}
        if is_sage and loaded.sage_client_secret.get_secret_value() == _SANDBOX_SECRET:
            raise SettingsError(
                "SYNCLIGHT_SAGE_CLIENT_ID, SYNCLIGHT_SAGE_CLIENT_SECRET: set both to those of your application at Sage."
            )
        return loaded

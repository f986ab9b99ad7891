"""The keys that encrypt Sage's tokens: each has an id, and what it encrypts says which one it was.

`python -m workers.keys list` and `python -m workers.keys rotate` are what `synclight keys` runs: the web side has no keys.
"""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from collections.abc import Sequence
from typing import cast

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from sqlalchemy import Table, select

from webapp.connection.models import Connection
from webapp.db import Database

# What stands between the id and what Fernet made, whose alphabet (base64) has no such sign.
_JOINT = b":"
_ID_DIGITS = 12

_ROW = cast(Table, Connection.__table__)


class Keys(MultiFernet):
    """Fernet keys, of which the first encrypts. Raises ValueError where one is none.

    What was encrypted before keys had ids is opened by whichever key fits.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self._by_id = {key_id(key): Fernet(key) for key in keys}
        super().__init__(self._by_id.values())

    @property
    def ids(self) -> list[str]:
        """The ids of the keys, that of the one that encrypts first."""
        return list(self._by_id)

    def encrypt(self, msg: bytes) -> bytes:
        """What is stored: the id of the first key, and what it made of `msg`."""
        return self.ids[0].encode() + _JOINT + super().encrypt(msg)

    def decrypt(self, msg: bytes | str, ttl: int | None = None) -> bytes:
        """What was encrypted. Raises InvalidToken where no key of these opens it."""
        stored = msg.encode() if isinstance(msg, str) else msg
        named, joint, rest = stored.partition(_JOINT)
        if not joint:
            return super().decrypt(stored, ttl)
        key = self._by_id.get(named.decode("ascii", "replace"))
        if key is None:
            raise InvalidToken
        return key.decrypt(rest, ttl)


def key_id(key: str) -> str:
    """The name of a key, which tells nothing of it."""
    return hashlib.sha256(b"synclight-token-key:" + key.encode()).hexdigest()[:_ID_DIGITS]


def id_of(stored: bytes) -> str:
    """The id of the key that encrypted something, empty for what was encrypted before keys had ids."""
    named, joint, _ = stored.partition(_JOINT)
    return named.decode("ascii", "replace") if joint else ""


def uses(database: Database) -> Counter[str]:
    """How many connections have tokens that each key encrypted, by the key's id."""
    with database.engine.connect() as connection:
        stored = connection.execute(select(_ROW.c.tokens).where(_ROW.c.tokens.is_not(None))).scalars()
        return Counter(id_of(bytes(one)) for one in stored)


def main(arguments: Sequence[str]) -> int:
    """Run one of the two commands. Returns the exit status."""
    # Settings make keys, and tokens are made with both.
    from webapp.config import Settings, SettingsError
    from workers.sage.tokens import rotate
    from workers.settings import WorkerSettings

    try:
        settings = Settings.load()
        keys = WorkerSettings.load(settings).cipher
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 1
    database = Database(settings.database_url, pool_size=1, application_name="synclight-keys")
    status = 0
    if list(arguments) == ["rotate"]:
        done, failed = rotate(database, keys)
        print(f"{done} re-encrypted with the key {keys.ids[0]}.")
        if failed:
            print(
                f"Not opened by any key, and left as they are: the tokens of {', '.join(map(str, failed))}. "
                "Put the key back that encrypted them, or authorise these connections again.",
                file=sys.stderr,
            )
            status = 1
    used = uses(database)
    for place, one in enumerate(keys.ids):
        note = "encrypts" if place == 0 else "can be taken out" if not used[one] and not used[""] else "still needed"
        print(f"Key {one}: {used[one]} connections, {note}.")
    for one in sorted(set(used) - set(keys.ids) - {""}):
        print(f"Key {one}: {used[one]} connections, missing in SYNCLIGHT_TOKEN_KEYS.")
    if used[""]:
        print(f"Encrypted before keys had ids: {used['']} connections. Rotate to give them one.")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

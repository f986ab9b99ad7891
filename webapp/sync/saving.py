"""What saving a record does beside storing its values: a conflict ends, and what Sage should have is sent."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from webapp.connection.models import Connection
from webapp.db import UnitOfWork
from webapp.status import Reason
from webapp.sync.conflicts import choose
from webapp.sync.models import Synced
from webapp.sync.sending import have_sent

# What a person decides by a word of its own, and not by saving.
STAYS = (Reason.UNLINKED, Reason.POSSIBLE_DUPLICATE)


def put_values(
    work: UnitOfWork, record: Synced, values: Mapping[str, object], names: Collection[str], *, user_id: int | None
) -> list[str]:
    """Give a record those of these values that its columns `names` may take. Returns the names of what changed."""
    changed = [name for name in names if name in values and getattr(record, name) != values[name]]
    if record.sync_reason == Reason.CONFLICT:
        # Whoever saves keeps what is here: the page says so.
        fields = record.sync_detail.get("fields", [])
        choose(work, record, dict.fromkeys(fields, "ours"), user_id)
    for name in changed:
        setattr(record, name, values[name])
    return changed


def send_saved(
    work: UnitOfWork,
    record: Synced,
    changed: Collection[str],
    connection: Connection | None,
    *,
    user_id: int | None,
    cause: str,
    here_only: Collection[str] = (),
    stays: bool = False,
) -> None:
    """Have a saved record sent, where `changed` has more than what is `here_only`.

    A record that a person must review is sent again even where nothing changed: saving is the remedy that the sentences
    name. What `stays` as it is, an admin resyncs.
    """
    is_sent = record.sync_status == "review" or any(name not in here_only for name in changed)
    if is_sent and not stays:
        have_sent(work, record, connection, cause=cause, user_id=user_id)
    elif changed:
        work.touch(record)

"""What saving a record does beside storing its values: a form makes one record, a conflict ends, and what Sage should have
is sent."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from webapp.companies.models import Company
from webapp.connection.models import Connection
from webapp.contacts.models import Contact
from webapp.db import UnitOfWork
from webapp.orders.models import Order
from webapp.products.models import Product
from webapp.status import Reason
from webapp.sync.conflicts import choose
from webapp.sync.models import Synced
from webapp.sync.sending import have_sent

# What a person decides by a word of its own, and not by saving.
STAYS = (Reason.UNLINKED, Reason.POSSIBLE_DUPLICATE)


def make_once(
    work: UnitOfWork,
    model: type[Company] | type[Contact] | type[Product] | type[Order],
    once: str,
    make: Callable[[], Company | Contact | Product | Order],
) -> tuple[int | None, bool]:
    """Commit the record that `make` adds, once for each form: its mark `once` is kept with the record that it made.

    Returns the record's id and whether it was made now. The id is None where the database refused it for a value that
    another record has. The session holds nothing of what was refused.
    """

    def made_before() -> int | None:
        return work.session.scalar(select(model.id).where(model.made_by_form == once)) if once else None

    made = made_before()
    if made is not None:
        return made, False
    try:
        record = make()
        record.made_by_form = once or None
        work.commit()
    except IntegrityError:
        work.session.rollback()
        # Perhaps the first of two equal forms was quicker.
        return made_before(), False
    return record.id, True


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

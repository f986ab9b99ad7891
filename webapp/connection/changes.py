"""What an admin decides about a connection: that there is one, which company in Sage it is for, and its end."""

from __future__ import annotations

from sqlalchemy import delete, exists, func, or_, select
from sqlalchemy.orm import Session

from webapp.config import Settings
from webapp.connection.circuit import change_state
from webapp.connection.models import CONNECTED, CONNECTING, QUOTES, Connection
from webapp.connection.products import ACCOUNTING
from webapp.connection.queries import main_connection
from webapp.db import UnitOfWork
from webapp.orders.models import Order
from webapp.sync.models import READ_WHOLE, SyncCursor, SyncRun, WriteIntent
from webapp.sync.records import SYNCED
from webapp.sync.sending import have_confirmed_again
from webapp.users.accounts import audit


def businesses_of_others(session: Session, connection: Connection) -> set[str]:
    """The companies in Sage that other connections belong to: this one cannot have them too."""
    others = select(Connection.business_id).where(
        Connection.id != connection.id, Connection.product == connection.product, Connection.business_id.is_not(None)
    )
    return {str(business_id) for business_id in session.scalars(others)}


def add_connection(
    work: UnitOfWork, settings: Settings, product: str = ACCOUNTING, *, by: int | None = None
) -> Connection:
    """Add a connection to the Sage of the settings, which is to be authorised next.

    One that was begun before, and has no company in Sage yet, is taken instead: pressing twice makes one.
    """
    work.session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended("sage-connections", 0))))
    begun = select(Connection).where(Connection.product == product, Connection.business_id.is_(None))
    connection = work.session.scalar(begun.order_by(Connection.id).limit(1))
    if connection is not None:
        return connection
    connection = Connection(product=product, api_url=settings.sage_api_url, cycle_seconds=settings.cycle_seconds)
    work.session.add(connection)
    work.touch(connection)
    audit(work, "connection_added", connection, by)
    return connection


def choose_business(
    work: UnitOfWork, connection: Connection, business_id: str, orders_as: str = QUOTES, *, by: int | None = None
) -> bool:
    """Have a connection belong to one of the offered companies in Sage, and begin; commits.

    What orders become there is chosen with it, once: a connection that has its company already keeps what it has. Where
    that books them, somebody has to confirm anew what was confirmed before.

    False where it was not offered, where something else was chosen meanwhile, or where another connection has it. The
    caller has Sage read then. Raises IntegrityError where another connection takes it at this moment.
    """
    chosen = next((one for one in connection.offered or () if one["id"] == business_id), None)
    if chosen is None or business_id in businesses_of_others(work.session, connection):
        return False
    is_new = connection.business_id is None
    if is_new:
        connection.orders_as = orders_as
    connection.business_id = chosen["id"]
    connection.business_name = chosen["name"]
    connection.offered = None
    audit(work, "business_chosen", connection, by, {"business": chosen["name"], "orders_as": connection.orders_as})
    if is_new and connection.books_orders:
        of_it = Order.connection_id == connection.id
        main = main_connection(work.session)
        if main is not None and main.id == connection.id:
            # They become its own, and may do so by an edit or a resync before all are taken over.
            of_it |= Order.connection_id.is_(None)
        while have_confirmed_again(work, of_it, connection, cause="connection"):
            work.commit()
    change_state(work, connection, CONNECTED)
    return True


def end_connection(work: UnitOfWork, connection: Connection) -> None:
    """Stop a connection; commits. The caller has its tokens given back.

    Its records keep what they know of Sage. It can be authorised again, for the same company in Sage only.
    """
    connection.offered = None
    connection.problem = None
    change_state(work, connection, CONNECTING)


def have_all_compared(work: UnitOfWork, connection: Connection) -> None:
    """Have the next pull read all of Sage, and not only what changed there, and compare it with what is here."""
    whole = SyncCursor.entity.endswith(READ_WHOLE)
    work.session.execute(delete(SyncCursor).where(SyncCursor.connection_id == connection.id, whole))


def can_be_removed(session: Session, connection: Connection) -> bool:
    """Whether a connection can go as if it had never been: it is not connected, and nothing was ever of it."""
    of_it = [exists().where(model.connection_id == connection.id) for model in SYNCED]
    of_it.append(exists().where(WriteIntent.connection_id == connection.id))
    has_tokens = exists().where(Connection.id == connection.id, Connection.tokens.is_not(None))
    return connection.state == CONNECTING and not session.scalar(select(or_(has_tokens, *of_it)))


def remove_connection(work: UnitOfWork, connection: Connection) -> None:
    """Take away a connection that can be removed. Raises IntegrityError on commit where a record belongs to it by now."""
    work.touch(connection)
    for of_it in (SyncRun, SyncCursor):
        work.session.execute(delete(of_it).where(of_it.connection_id == connection.id))
    work.session.delete(connection)

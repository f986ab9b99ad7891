"""How an order comes to be, is edited and is sent: its lines and totals, its phase, and the status that follows.

An order that Sage has, or may be getting this moment, is closed: what Sage holds of it is changed there. Only what
stays here can still be edited.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from webapp.companies.models import Company
from webapp.connection.models import Connection
from webapp.db import UnitOfWork
from webapp.orders.amounts import Line, LineValues, lines_text, price_problem
from webapp.orders.models import CONFIRMED, VALIDATED, VALIDATING, Order, OrderLine
from webapp.status import Reason
from webapp.sync.saving import STAYS, send_saved
from webapp.sync.sending import have_sent

# What stays here, and can be edited as long as the order exists.
STAYING = ("contact_id", "owner_id", "internal_notes")

# Of these columns an order consists beside its lines, as far as people can edit it.
EDITABLE = ("number", "ordered_on", "valid_until", "shipping", "notes", *STAYING)

# A create is under way or may have been applied: an edit could no longer stop it.
MAY_BE_THERE = (Reason.RUNNING, Reason.OUTCOME_UNKNOWN)


def is_closed(order: Order) -> bool:
    """Whether only what stays here can be edited."""
    return order.sage_id is not None or order.sync_reason in MAY_BE_THERE


def create_order(
    work: UnitOfWork,
    values: Mapping[str, object],
    lines: Sequence[LineValues],
    connection: Connection | None,
    *,
    user_id: int | None,
    cause: str,
    confirmed: bool = False,
) -> Order:
    """Add an order of the company `values["company_id"]` with these cleaned values and lines.

    An empty number becomes the next one. With `confirmed`, as for orders of the past, it is sent at once where its
    prices are valid. Raises IntegrityError where another order of its connection has the same number.
    """
    columns = ("company_id", "made_by_form", *EDITABLE)
    given = {name: value for name, value in values.items() if name in columns and (name != "number" or value)}
    # The totals are made before the row is, which would give the shipping its default.
    order = Order(**{"shipping": Decimal(0), **given, "lines": []})
    order.connection_id = work.session.get_one(Company, order.company_id).connection_id
    order.put_lines(lines)
    order.phase = _phase(CONFIRMED if confirmed else VALIDATING, lines)
    work.session.add(order)
    work.session.flush()
    have_sent(work, order, connection, cause=cause, user_id=user_id)
    return order


def edit_order(
    work: UnitOfWork,
    order: Order,
    values: Mapping[str, object],
    lines: Sequence[LineValues],
    connection: Connection | None,
    *,
    user_id: int | None,
) -> list[str]:
    """Give an order these cleaned values, and `lines` in place of its own. Returns what changed, `lines` among them.

    Any change of what Sage gets has the prices validated anew; an order that was to be sent already falls back only
    where they are no longer valid. A closed order takes what stays here and nothing else, and is not sent. An order
    that a person must review is sent again even where nothing changed: saving is the remedy that the sentences name.
    Its lines must be loaded. Raises IntegrityError on flush where another order has the same number.
    """
    if is_closed(order):
        changed = _set(order, values, STAYING)
        if changed:
            work.touch(order)
        return changed
    changed = _set(order, values, EDITABLE)
    if _differ(order.lines, lines):
        order.put_lines(lines)
        changed.append("lines")
    order.add_up()
    order.phase = _phase(order.phase, order.lines)
    stays = order.sync_reason in STAYS and order.phase == CONFIRMED
    send_saved(work, order, changed, connection, user_id=user_id, cause="edit", here_only=STAYING, stays=stays)
    return changed


def confirm_order(work: UnitOfWork, order: Order, connection: Connection | None, *, user_id: int | None) -> bool:
    """Have an order sent whose prices are validated. Returns whether this did it.

    Does nothing to an order that was confirmed before, or whose prices are not valid. Its lines must be loaded.
    """
    if order.phase != VALIDATED:
        return False
    order.phase = CONFIRMED
    have_sent(work, order, connection, cause="confirm", user_id=user_id)
    return True


def _set(order: Order, values: Mapping[str, object], names: Sequence[str]) -> list[str]:
    changed = [name for name in names if name in values and getattr(order, name) != values[name]]
    for name in changed:
        setattr(order, name, values[name])
    return changed


def _differ(old: Sequence[OrderLine], new: Sequence[LineValues]) -> bool:
    return lines_text(old) != lines_text(new) or [one.product_id for one in old] != [one.product_id for one in new]


def _phase(before: str, lines: Sequence[Line]) -> str:
    """The phase of an order that was saved with these lines."""
    if price_problem(lines) is not None:
        return VALIDATING
    return CONFIRMED if before == CONFIRMED else VALIDATED

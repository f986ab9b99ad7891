"""How a product comes to be and is edited: the fields, and the status that follows."""

from __future__ import annotations

from collections.abc import Mapping

from webapp.connection.models import Connection
from webapp.db import UnitOfWork
from webapp.products.models import Product
from webapp.sync.saving import STAYS, put_values, send_saved
from webapp.sync.sending import have_sent

# What Sage never gets.
HERE_ONLY = ("unit",)

# Of these columns a product consists, as far as people can edit it.
EDITABLE = ("code", "name", "unit_price", "discontinued", "connection_id", *HERE_ONLY)


def create_product(
    work: UnitOfWork, values: Mapping[str, object], connection: Connection | None, *, user_id: int | None, cause: str
) -> Product:
    """Add a product with these cleaned values, and have it sent.

    `connection` is the one that it belongs to where the values name none. Raises IntegrityError on flush where another
    product of that connection has the same code.
    """
    product = Product(**{name: value for name, value in values.items() if name in EDITABLE})
    if product.connection_id is None and connection is not None:
        product.connection_id = connection.id
    work.session.add(product)
    work.session.flush()
    have_sent(work, product, connection, cause=cause, user_id=user_id)
    return product


def edit_product(
    work: UnitOfWork,
    product: Product,
    values: Mapping[str, object],
    connection: Connection | None,
    *,
    user_id: int | None,
) -> list[str]:
    """Give a product these cleaned values; have it sent where Sage should know. Returns the changed fields.

    The connection of a product that Sage has, or may have, must not change: the caller sees to that
    (webapp.sync.sending.may_be_in_sage). Raises IntegrityError on flush as `create_product`.
    """
    changed = put_values(work, product, values, EDITABLE, user_id=user_id)
    send_saved(
        work,
        product,
        changed,
        connection,
        user_id=user_id,
        cause="edit",
        here_only=HERE_ONLY,
        stays=product.sync_reason in STAYS,
    )
    return changed

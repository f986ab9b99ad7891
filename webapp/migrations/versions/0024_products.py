"""Products are records that are kept in step with Sage, each of one connection."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

STATUS_AND_REASON = """
(sync_status = 'synchronised' AND sync_reason IN ('in_step')) OR
(sync_status = 'pending'
 AND sync_reason IN ('queued', 'running', 'retrying', 'waiting_for_parent', 'waiting_for_sage')) OR
(sync_status = 'review'
 AND sync_reason IN ('rejected', 'gave_up', 'conflict', 'possible_duplicate', 'deleted_in_sage', 'outcome_unknown')) OR
(sync_status = 'not_synchronised' AND sync_reason IN ('never_sent', 'excluded', 'unlinked'))
"""

# What the products begin with that are here already, or that the release before adds: as never sent, so that the first
# connection takes them over.
SYNCED = (
    ("sync_status", sa.Text(), "'not_synchronised'"),
    ("sync_reason", sa.Text(), "'never_sent'"),
    ("sync_detail", postgresql.JSONB(), """'{"code": "never_sent"}'::jsonb"""),
    ("sync_version", sa.BigInteger(), "1"),
    ("attempts", sa.Integer(), "0"),
)
UNKNOWN = (
    ("last_synchronised_at", sa.DateTime(timezone=True)),
    ("last_attempt_at", sa.DateTime(timezone=True)),
    ("next_attempt_at", sa.DateTime(timezone=True)),
    ("claim", sa.BigInteger()),
    ("claimed_until", sa.DateTime(timezone=True)),
    ("sage_id", sa.Text()),
    ("sage_number", sa.Text()),
    ("sage_page", sa.Text()),
    ("sage_updated_at", sa.DateTime(timezone=True)),
    ("agreed", postgresql.JSONB()),
    ("connection_id", sa.BigInteger()),
    ("made_by_form", sa.Text()),
)

# Orders of other connections than the first get products of their own.
COPIES = """
INSERT INTO product (code, name, unit, unit_price, discontinued, connection_id,
                     sync_status, sync_reason, sync_detail, sync_version, attempts, next_attempt_at)
SELECT product.code, product.name, product.unit, product.unit_price, product.discontinued, used.connection_id,
       'pending', 'queued', '{"code": "queued"}', 1, 0, now()
FROM (SELECT DISTINCT sales_order_line.product_id, sales_order.connection_id
      FROM sales_order_line JOIN sales_order ON sales_order.id = sales_order_line.order_id
      WHERE sales_order_line.product_id IS NOT NULL
        AND sales_order.connection_id > (SELECT min(id) FROM sage_connection)) AS used
JOIN product ON product.id = used.product_id
"""
MEANT = """
UPDATE sales_order_line SET product_id = own.id
FROM sales_order, product AS before, product AS own
WHERE sales_order.id = sales_order_line.order_id AND before.id = sales_order_line.product_id
  AND own.code = before.code AND own.connection_id = sales_order.connection_id AND before.connection_id IS NULL
"""

LAST = "coalesce(last_synchronised_at, '-infinity'::timestamptz)"
# None is ever NULL, because a keyset page leaves NULLs out. By name and by the last synchronisation, each status has an
# index of its own.
ORDERS = {"name": "name_key", "code": "code_key", "unit_price": "unit_price", "last": LAST}


def upgrade() -> None:
    for name, kind, begins in SYNCED:
        op.add_column("product", sa.Column(name, kind, server_default=sa.text(begins), nullable=False))
    op.add_column("product", sa.Column("urgent", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    for name, type_ in UNKNOWN:
        op.add_column("product", sa.Column(name, type_, nullable=True))
    for name in ("created_at", "updated_at"):
        now = sa.text("now()")
        op.add_column("product", sa.Column(name, sa.DateTime(timezone=True), server_default=now, nullable=False))
    op.create_foreign_key(op.f("fk_product_connection_id"), "product", "sage_connection", ["connection_id"], ["id"])
    op.create_check_constraint(op.f("ck_product_status_and_reason"), "product", STATUS_AND_REASON)
    op.create_check_constraint(
        op.f("ck_product_pending_has_time"), "product", "sync_status <> 'pending' OR next_attempt_at IS NOT NULL"
    )
    # As in Sage, a code names one product of a connection, and many have none.
    op.drop_constraint(op.f("ck_product_code"), "product")
    op.drop_constraint(op.f("uq_product_code"), "product")
    op.execute(
        "CREATE UNIQUE INDEX uq_product_code ON product (code, connection_id) NULLS NOT DISTINCT WHERE code <> ''"
    )
    op.drop_index("ix_product_code_key", "product")
    op.execute(COPIES)
    op.execute(MEANT)
    # As the other lists have it, see migration 0023.
    op.execute("ALTER TABLE product ALTER search_text SET STATISTICS 400")
    _index()
    _count()


def _index() -> None:
    op.create_index("uq_product_connection_id_sage_id", "product", ["connection_id", "sage_id"], unique=True)
    op.create_index(
        "uq_product_made_by_form",
        "product",
        ["made_by_form"],
        unique=True,
        postgresql_where=sa.text("made_by_form IS NOT NULL"),
    )
    op.create_index(
        "ix_product_due",
        "product",
        ["connection_id", sa.text("urgent DESC"), "next_attempt_at", "id"],
        postgresql_where=sa.text("sync_status = 'pending' AND sync_reason <> 'waiting_for_parent'"),
    )
    # Few are no longer sold, among many that are.
    op.create_index(
        "ix_product_discontinued", "product", ["name_key", "id"], postgresql_where=sa.text("discontinued IS TRUE")
    )
    for name, key in ORDERS.items():
        op.execute(f"CREATE INDEX ix_product_by_{name} ON product (({key}), id)")
    for name in ("name", "last"):
        op.execute(f"CREATE INDEX ix_product_status_by_{name} ON product (sync_status, ({ORDERS[name]}), id)")
    # What a stranger in Sage may be: see migration 0011.
    for sign in ("name", "code"):
        op.create_index(
            f"ix_product_free_{sign}",
            "product",
            ["connection_id", f"{sign}_key"],
            postgresql_where=sa.text("sage_id IS NULL OR sync_reason = 'deleted_in_sage'"),
        )


def _count() -> None:
    op.execute(
        "INSERT INTO status_count (module, status, connection_id, slot, n, version) "
        "SELECT 'products', sync_status, coalesce(connection_id, 0), 0, count(*), 1 FROM product GROUP BY 2, 3"
    )
    for event, tables in (
        ("INSERT", "NEW TABLE AS new_rows"),
        ("UPDATE", "OLD TABLE AS old_rows NEW TABLE AS new_rows"),
        ("DELETE", "OLD TABLE AS old_rows"),
    ):
        op.execute(
            f"CREATE TRIGGER count_status_{event.lower()} AFTER {event} ON product REFERENCING {tables} "
            "FOR EACH STATEMENT EXECUTE FUNCTION count_status('products')"
        )

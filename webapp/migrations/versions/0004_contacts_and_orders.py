"""Contacts, products and orders with their lines, and what their lists are read from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# As migration 0001 has it for companies; a migration must not change when the vocabulary does.
STATUS_AND_REASON = """
(sync_status = 'synchronised' AND sync_reason IN ('in_step')) OR
(sync_status = 'pending'
 AND sync_reason IN ('queued', 'running', 'retrying', 'waiting_for_parent', 'waiting_for_sage')) OR
(sync_status = 'review'
 AND sync_reason IN ('rejected', 'gave_up', 'conflict', 'possible_duplicate', 'deleted_in_sage', 'outcome_unknown')) OR
(sync_status = 'not_synchronised' AND sync_reason IN ('never_sent', 'excluded', 'unlinked'))
"""

# The list of contacts or orders is sorted and searched by the company's name, so each row holds it. Both ways of
# changing it are followed: another company for the row, another name for the company.
TAKE_COMPANY_NAME = """
CREATE FUNCTION take_company_name() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    SELECT name INTO STRICT NEW.company_name FROM company WHERE id = NEW.company_id;
    RETURN NEW;
END
$$
"""
GIVE_COMPANY_NAME = """
CREATE FUNCTION give_company_name() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE contact SET company_name = NEW.name WHERE company_id = NEW.id;
    UPDATE sales_order SET company_name = NEW.name WHERE company_id = NEW.id;
    RETURN NULL;
END
$$
"""

# The orders of each list. None is ever NULL, because a keyset page leaves NULLs out.
LAST = "coalesce(last_synchronised_at, '-infinity'::timestamptz)"
ORDERS = {
    "contact": {"name": "name_key", "company": "company_key", "last": LAST},
    "sales_order": {
        "number": "number_key",
        "company": "company_key",
        "ordered_on": "ordered_on",
        "total": "total",
        "last": LAST,
    },
}
# The orders in which each status has an index of its own.
BY_STATUS = {"contact": ("name", "last"), "sales_order": ("ordered_on", "last")}


def synced_columns() -> list[sa.Column[object]]:
    return [
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("sync_status", sa.Text(), nullable=False),
        sa.Column("sync_reason", sa.Text(), nullable=False),
        sa.Column("sync_detail", postgresql.JSONB(), nullable=False),
        sa.Column("sync_version", sa.BigInteger(), nullable=False),
        sa.Column("last_synchronised_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_attempt_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("claim", sa.BigInteger(), nullable=True),
        sa.Column("claimed_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sage_id", sa.Text(), nullable=True),
        sa.Column("sage_number", sa.Text(), nullable=True),
        sa.Column("sage_updated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("agreed", postgresql.JSONB(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("connection_id", sa.BigInteger(), nullable=True),
    ]


def synced_constraints(table: str) -> list[sa.Constraint]:
    return [
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{table}")),
        sa.CheckConstraint(STATUS_AND_REASON, name=op.f(f"ck_{table}_status_and_reason")),
        sa.CheckConstraint(
            "sync_status <> 'pending' OR next_attempt_at IS NOT NULL", name=op.f(f"ck_{table}_pending_has_time")
        ),
        sa.ForeignKeyConstraint(["connection_id"], ["sage_connection.id"], name=op.f(f"fk_{table}_connection_id")),
        sa.ForeignKeyConstraint(["company_id"], ["company.id"], name=op.f(f"fk_{table}_company_id")),
    ]


def upgrade() -> None:
    op.execute(TAKE_COMPANY_NAME)
    op.execute(GIVE_COMPANY_NAME)
    op.execute(
        "CREATE TRIGGER give_company_name AFTER UPDATE OF name ON company FOR EACH ROW "
        "WHEN (NEW.name IS DISTINCT FROM OLD.name) EXECUTE FUNCTION give_company_name()"
    )
    op.create_table(
        "contact",
        *synced_columns(),
        sa.Column("company_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("phone", sa.Text(), nullable=False),
        sa.Column("mobile", sa.Text(), nullable=False),
        sa.Column("notes", sa.Text(), nullable=False),
        sa.Column("made_by_form", sa.Text(), nullable=True),
        sa.Column("company_name", sa.Text(), nullable=False),
        sa.Column("name_key", sa.Text(collation="C"), sa.Computed("fold(name)", persisted=True), nullable=False),
        sa.Column(
            "company_key", sa.Text(collation="C"), sa.Computed("fold(company_name)", persisted=True), nullable=False
        ),
        sa.Column(
            "search_text",
            sa.Text(),
            sa.Computed(
                "fold(' ' || name || ' ' || role || ' ' || email || ' ' || phone || ' ' || company_name)",
                persisted=True,
            ),
            nullable=False,
        ),
        sa.CheckConstraint("name <> ''", name=op.f("ck_contact_name")),
        *synced_constraints("contact"),
    )
    op.create_index("ix_contact_company_id", "contact", ["company_id", "name_key", "id"])
    op.create_table(
        "product",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("unit_price", sa.Numeric(14, 2), nullable=False),
        sa.Column("discontinued", sa.Boolean(), nullable=False),
        sa.CheckConstraint("code <> ''", name=op.f("ck_product_code")),
        sa.CheckConstraint("name <> ''", name=op.f("ck_product_name")),
        sa.CheckConstraint("unit_price >= 0", name=op.f("ck_product_unit_price")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_product")),
        sa.UniqueConstraint("code", name=op.f("uq_product_code")),
    )
    # Numbers of orders that are made here; those of an import come with it.
    op.execute("CREATE SEQUENCE order_number")
    op.create_table(
        "sales_order",
        *synced_columns(),
        sa.Column(
            "number",
            sa.Text(),
            server_default=sa.text("'S-' || lpad(nextval('order_number')::text, 6, '0')"),
            nullable=False,
        ),
        sa.Column("company_id", sa.BigInteger(), nullable=False),
        sa.Column("contact_id", sa.BigInteger(), nullable=True),
        sa.Column("owner_id", sa.BigInteger(), nullable=True),
        sa.Column("ordered_on", sa.Date(), nullable=False),
        sa.Column("valid_until", sa.Date(), nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("shipping", sa.Numeric(14, 2), nullable=False),
        sa.Column("net_total", sa.Numeric(14, 2), nullable=False),
        sa.Column("tax_total", sa.Numeric(14, 2), nullable=False),
        sa.Column("total", sa.Numeric(14, 2), nullable=False),
        sa.Column("notes", sa.Text(), nullable=False),
        sa.Column("internal_notes", sa.Text(), nullable=False),
        sa.Column("made_by_form", sa.Text(), nullable=True),
        sa.Column("company_name", sa.Text(), nullable=False),
        sa.Column("number_key", sa.Text(collation="C"), sa.Computed("fold(number)", persisted=True), nullable=False),
        sa.Column(
            "company_key", sa.Text(collation="C"), sa.Computed("fold(company_name)", persisted=True), nullable=False
        ),
        sa.Column(
            "search_text",
            sa.Text(),
            sa.Computed("fold(' ' || number || ' ' || company_name || ' ' || notes)", persisted=True),
            nullable=False,
        ),
        sa.UniqueConstraint("number", name=op.f("uq_sales_order_number")),
        sa.CheckConstraint("number <> ''", name=op.f("ck_sales_order_number")),
        sa.CheckConstraint("phase IN ('validating', 'validated', 'confirmed')", name=op.f("ck_sales_order_phase")),
        sa.CheckConstraint("valid_until >= ordered_on", name=op.f("ck_sales_order_valid_until")),
        sa.CheckConstraint("shipping >= 0", name=op.f("ck_sales_order_shipping")),
        sa.ForeignKeyConstraint(["contact_id"], ["contact.id"], name=op.f("fk_sales_order_contact_id")),
        sa.ForeignKeyConstraint(["owner_id"], ["app_user.id"], name=op.f("fk_sales_order_owner_id")),
        *synced_constraints("sales_order"),
    )
    op.create_index("ix_sales_order_company_id", "sales_order", ["company_id", "ordered_on", "id"])
    op.create_table(
        "sales_order_line",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("order_id", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("product_id", sa.BigInteger(), nullable=True),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("quantity", sa.Numeric(14, 3), nullable=False),
        sa.Column("unit_price", sa.Numeric(14, 2), nullable=False),
        sa.Column("discount", sa.Numeric(14, 2), nullable=False),
        sa.Column("tax_rate", sa.Numeric(6, 3), nullable=False),
        sa.CheckConstraint("quantity > 0", name=op.f("ck_sales_order_line_quantity")),
        sa.CheckConstraint("unit_price >= 0", name=op.f("ck_sales_order_line_unit_price")),
        sa.CheckConstraint("discount >= 0", name=op.f("ck_sales_order_line_discount")),
        sa.CheckConstraint("tax_rate >= 0", name=op.f("ck_sales_order_line_tax_rate")),
        sa.ForeignKeyConstraint(
            ["order_id"], ["sales_order.id"], name=op.f("fk_sales_order_line_order_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["product_id"], ["product.id"], name=op.f("fk_sales_order_line_product_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sales_order_line")),
        sa.UniqueConstraint("order_id", "position", name=op.f("uq_sales_order_line_order_id_position")),
    )
    for table, module in (("contact", "contacts"), ("sales_order", "orders")):
        op.create_index(
            f"ix_{table}_due",
            table,
            ["connection_id", "next_attempt_at", "id"],
            postgresql_where=sa.text("sync_status = 'pending'"),
        )
        op.create_index(f"uq_{table}_connection_id_sage_id", table, ["connection_id", "sage_id"], unique=True)
        op.create_index(
            f"uq_{table}_made_by_form",
            table,
            ["made_by_form"],
            unique=True,
            postgresql_where=sa.text("made_by_form IS NOT NULL"),
        )
        op.execute(
            f"CREATE TRIGGER take_company_name BEFORE INSERT OR UPDATE OF company_id ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION take_company_name()"
        )
        for name, key in ORDERS[table].items():
            op.execute(f"CREATE INDEX ix_{table}_by_{name} ON {table} (({key}), id)")
        for name in BY_STATUS[table]:
            op.execute(
                f"CREATE INDEX ix_{table}_status_by_{name} ON {table} (sync_status, ({ORDERS[table][name]}), id)"
            )
        op.execute(f"CREATE INDEX ix_{table}_search ON {table} USING gin (search_text gin_trgm_ops)")
        for event, tables in (
            ("INSERT", "NEW TABLE AS new_rows"),
            ("UPDATE", "OLD TABLE AS old_rows NEW TABLE AS new_rows"),
            ("DELETE", "OLD TABLE AS old_rows"),
        ):
            op.execute(
                f"CREATE TRIGGER count_status_{event.lower()} AFTER {event} ON {table} REFERENCING {tables} "
                f"FOR EACH STATEMENT EXECUTE FUNCTION count_status('{module}')"
            )
    op.create_index("ix_sales_order_owner", "sales_order", ["owner_id"])

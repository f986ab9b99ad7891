"""Several connections: each record belongs to one, codes and numbers are unique in one, and what waits is counted by it."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# As before, and by connection; 0 stands for the records that belong to none.
COUNT_STATUS = """
CREATE OR REPLACE FUNCTION count_status() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO status_count AS counted (module, status, connection_id, slot, n, version)
        SELECT TG_ARGV[0], sync_status, coalesce(connection_id, 0), pg_backend_pid() % 16, count(*), 1
        FROM new_rows GROUP BY 2, 3 ORDER BY 2, 3
        ON CONFLICT (module, status, connection_id, slot)
        DO UPDATE SET n = counted.n + excluded.n, version = counted.version + 1;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO status_count AS counted (module, status, connection_id, slot, n, version)
        SELECT TG_ARGV[0], sync_status, coalesce(connection_id, 0), pg_backend_pid() % 16, -count(*), 1
        FROM old_rows GROUP BY 2, 3 ORDER BY 2, 3
        ON CONFLICT (module, status, connection_id, slot)
        DO UPDATE SET n = counted.n + excluded.n, version = counted.version + 1;
    ELSE
        INSERT INTO status_count AS counted (module, status, connection_id, slot, n, version)
        SELECT TG_ARGV[0], sync_status, coalesce(connection_id, 0), pg_backend_pid() % 16, sum(delta), 1
        FROM (
            SELECT sync_status, connection_id, 1 AS delta FROM new_rows
            UNION ALL SELECT sync_status, connection_id, -1 FROM old_rows
        ) AS moved
        GROUP BY 2, 3 HAVING sum(delta) <> 0 ORDER BY 2, 3
        ON CONFLICT (module, status, connection_id, slot)
        DO UPDATE SET n = counted.n + excluded.n, version = counted.version + 1;
    END IF;
    RETURN NULL;
END
$$
"""

MODULES = {"companies": "company", "contacts": "contact", "orders": "sales_order"}


def upgrade() -> None:
    # Nobody writes while the counters are made anew.
    op.execute("LOCK TABLE company, contact, sales_order, status_count IN SHARE ROW EXCLUSIVE MODE")
    op.execute(
        "UPDATE company SET connection_id = first.id FROM (SELECT min(id) AS id FROM sage_connection) AS first "
        "WHERE connection_id IS NULL AND first.id IS NOT NULL"
    )
    for table in ("contact", "sales_order"):
        op.execute(
            f"UPDATE {table} SET connection_id = company.connection_id FROM company "  # noqa: S608 - names of ours.
            f"WHERE company.id = {table}.company_id AND {table}.connection_id IS DISTINCT FROM company.connection_id"
        )
    op.drop_index("uq_company_code", "company")
    op.execute(
        "CREATE UNIQUE INDEX uq_company_code ON company (code, connection_id) NULLS NOT DISTINCT WHERE code <> ''"
    )
    op.drop_constraint("uq_sales_order_number", "sales_order")
    op.execute(
        "ALTER TABLE sales_order ADD CONSTRAINT uq_sales_order_number UNIQUE NULLS NOT DISTINCT (number, connection_id)"
    )
    op.create_index(
        "uq_sage_connection_business_id",
        "sage_connection",
        ["product", "business_id"],
        unique=True,
    )
    _count_by_connection()


def _count_by_connection() -> None:
    op.execute("ALTER TABLE status_count ADD COLUMN connection_id bigint NOT NULL DEFAULT 0")
    op.execute(
        "ALTER TABLE status_count DROP CONSTRAINT pk_status_count, "
        "ADD CONSTRAINT pk_status_count PRIMARY KEY (module, status, connection_id, slot)"
    )
    # Versions only grow: what browsers show now must not look newer than what comes next.
    op.execute(
        "CREATE TEMPORARY TABLE counted_so_far ON COMMIT DROP AS SELECT sum(version) AS version FROM status_count"
    )
    op.execute("DELETE FROM status_count")
    for module, table in MODULES.items():
        op.execute(
            "INSERT INTO status_count (module, status, connection_id, slot, n, version) "  # noqa: S608 - names of ours.
            f"SELECT '{module}', sync_status, coalesce(connection_id, 0), 0, count(*), coalesce(max(version), 0) + 1 "
            f"FROM {table}, counted_so_far GROUP BY 2, 3"
        )
    op.execute(COUNT_STATUS)

"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# unaccent() itself depends on a dictionary that could be changed, so PostgreSQL keeps it out of generated columns;
# with the dictionary named, the result depends on the text alone.
FOLD = """
CREATE FUNCTION fold(value text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN lower(public.unaccent('public.unaccent'::regdictionary, value))
"""

# Statement triggers see all rows of a statement at once, so that a bulk import costs one update of the counters.
# The slot keeps writers apart; within one statement the counters are taken in one order, so that two cannot deadlock.
COUNT_STATUS = """
CREATE FUNCTION count_status() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO status_count AS counted (module, status, slot, n, version)
        SELECT TG_ARGV[0], sync_status, pg_backend_pid() % 16, count(*), 1
        FROM new_rows GROUP BY sync_status ORDER BY sync_status
        ON CONFLICT (module, status, slot) DO UPDATE SET n = counted.n + excluded.n, version = counted.version + 1;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO status_count AS counted (module, status, slot, n, version)
        SELECT TG_ARGV[0], sync_status, pg_backend_pid() % 16, -count(*), 1
        FROM old_rows GROUP BY sync_status ORDER BY sync_status
        ON CONFLICT (module, status, slot) DO UPDATE SET n = counted.n + excluded.n, version = counted.version + 1;
    ELSE
        INSERT INTO status_count AS counted (module, status, slot, n, version)
        SELECT TG_ARGV[0], sync_status, pg_backend_pid() % 16, sum(delta), 1
        FROM (SELECT sync_status, 1 AS delta FROM new_rows UNION ALL SELECT sync_status, -1 FROM old_rows) AS moved
        GROUP BY sync_status HAVING sum(delta) <> 0 ORDER BY sync_status
        ON CONFLICT (module, status, slot) DO UPDATE SET n = counted.n + excluded.n, version = counted.version + 1;
    END IF;
    RETURN NULL;
END
$$
"""

# Which reasons stand under which status: nothing else can be stored.
STATUS_AND_REASON = """
(sync_status = 'synchronised' AND sync_reason IN ('in_step')) OR
(sync_status = 'pending'
 AND sync_reason IN ('queued', 'running', 'retrying', 'waiting_for_parent', 'waiting_for_sage')) OR
(sync_status = 'review'
 AND sync_reason IN ('rejected', 'gave_up', 'conflict', 'possible_duplicate', 'deleted_in_sage', 'outcome_unknown')) OR
(sync_status = 'not_synchronised' AND sync_reason IN ('never_sent', 'excluded', 'unlinked'))
"""


def count_statuses(table: str, module: str) -> None:
    """Have the counters of `module` follow `table`."""
    for event, tables in (
        ("INSERT", "NEW TABLE AS new_rows"),
        ("UPDATE", "OLD TABLE AS old_rows NEW TABLE AS new_rows"),
        ("DELETE", "OLD TABLE AS old_rows"),
    ):
        op.execute(
            f"CREATE TRIGGER count_status_{event.lower()} AFTER {event} ON {table} REFERENCING {tables} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION count_status('{module}')"
        )


def upgrade() -> None:
    op.execute("CREATE EXTENSION IF NOT EXISTS unaccent")
    op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    op.execute(FOLD)
    op.execute(COUNT_STATUS)
    # Numbers of claims and of writers' leases: each is given once, so that a number never comes back.
    op.execute("CREATE SEQUENCE claim_number")
    op.create_table(
        "app_user",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("session_epoch", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("last_login_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("role IN ('sales', 'admin')", name=op.f("ck_app_user_role")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_app_user")),
    )
    op.create_index("uq_app_user_email", "app_user", [sa.literal_column("lower(email)")], unique=True)
    op.create_table(
        "sage_connection",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("product", sa.Text(), nullable=False),
        sa.Column("api_url", sa.Text(), nullable=False),
        sa.Column("business_id", sa.Text(), nullable=True),
        sa.Column("business_name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("state_since", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("direction", sa.Text(), nullable=False),
        sa.Column("cycle_seconds", sa.Integer(), nullable=False),
        sa.Column("last_run_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_synchronised_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_run_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("tokens", sa.LargeBinary(), nullable=True),
        sa.Column("writer", sa.BigInteger(), nullable=True),
        sa.Column("writer_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("own_version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("direction IN ('two_way')", name=op.f("ck_sage_connection_direction")),
        sa.CheckConstraint(
            "state IN ('connecting', 'connected', 'unreachable', 'authorise_again', 'paused')",
            name=op.f("ck_sage_connection_state"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sage_connection")),
    )
    op.create_table(
        "status_count",
        sa.Column("module", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("slot", sa.Integer(), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("module", "status", "slot", name=op.f("pk_status_count")),
    )
    op.create_table(
        "audit_event",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=True),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("data", postgresql.JSONB(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["app_user.id"], name=op.f("fk_audit_event_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_event")),
    )
    op.create_table(
        "company",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("phone", sa.Text(), nullable=False),
        sa.Column("tax_number", sa.Text(), nullable=False),
        sa.Column("address_line_1", sa.Text(), nullable=False),
        sa.Column("address_line_2", sa.Text(), nullable=False),
        sa.Column("city", sa.Text(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("postal_code", sa.Text(), nullable=False),
        sa.Column("country", sa.Text(), nullable=False),
        sa.Column("notes", sa.Text(), nullable=False),
        sa.Column("owner_id", sa.BigInteger(), nullable=True),
        sa.Column("name_key", sa.Text(collation="C"), sa.Computed("fold(name)", persisted=True), nullable=False),
        sa.Column(
            "search_text",
            sa.Text(),
            sa.Computed(
                "fold(' ' || name || ' ' || code || ' ' || city || ' ' || email || ' ' || tax_number)", persisted=True
            ),
            nullable=False,
        ),
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
        sa.CheckConstraint(
            STATUS_AND_REASON,
            name=op.f("ck_company_status_and_reason"),
        ),
        sa.CheckConstraint("country ~ '^([A-Z]{2})?$'", name=op.f("ck_company_country")),
        sa.CheckConstraint("name <> ''", name=op.f("ck_company_name")),
        sa.CheckConstraint(
            "sync_status <> 'pending' OR next_attempt_at IS NOT NULL", name=op.f("ck_company_pending_has_time")
        ),
        sa.CheckConstraint("type IN ('customer', 'prospect')", name=op.f("ck_company_type")),
        sa.ForeignKeyConstraint(["connection_id"], ["sage_connection.id"], name=op.f("fk_company_connection_id")),
        sa.ForeignKeyConstraint(["owner_id"], ["app_user.id"], name=op.f("fk_company_owner_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_company")),
    )
    op.create_index(
        "ix_company_due",
        "company",
        ["connection_id", "next_attempt_at", "id"],
        unique=False,
        postgresql_where=sa.text("sync_status = 'pending'"),
    )
    op.create_index("uq_company_code", "company", ["code"], unique=True, postgresql_where=sa.text("code <> ''"))
    op.create_index("uq_company_connection_id_sage_id", "company", ["connection_id", "sage_id"], unique=True)
    op.create_table(
        "conflict",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("record_id", sa.BigInteger(), nullable=False),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("base", postgresql.JSONB(), nullable=False),
        sa.Column("ours", postgresql.JSONB(), nullable=False),
        sa.Column("theirs", postgresql.JSONB(), nullable=False),
        sa.Column("found_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("resolved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("taken", sa.Text(), nullable=True),
        sa.Column("user_id", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["app_user.id"], name=op.f("fk_conflict_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_conflict")),
    )
    op.create_index(
        "uq_conflict_open_field",
        "conflict",
        ["kind", "record_id", "field"],
        unique=True,
        postgresql_where=sa.text("resolved_at IS NULL"),
    )
    op.create_table(
        "sync_cursor",
        sa.Column("connection_id", sa.BigInteger(), nullable=False),
        sa.Column("entity", sa.Text(), nullable=False),
        sa.Column("watermark", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["connection_id"], ["sage_connection.id"], name=op.f("fk_sync_cursor_connection_id")),
        sa.PrimaryKeyConstraint("connection_id", "entity", name=op.f("pk_sync_cursor")),
    )
    op.create_table(
        "sync_event",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("record_id", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("from_reason", sa.Text(), nullable=True),
        sa.Column("to_reason", sa.Text(), nullable=False),
        sa.Column("detail", postgresql.JSONB(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["app_user.id"], name=op.f("fk_sync_event_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sync_event")),
    )
    op.create_index("ix_sync_event_record", "sync_event", ["kind", "record_id", "id"], unique=False)
    op.create_table(
        "sync_run",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("connection_id", sa.BigInteger(), nullable=False),
        sa.Column("operation", sa.Text(), nullable=False),
        sa.Column(
            "started_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("seen", sa.Integer(), nullable=False),
        sa.Column("created", sa.Integer(), nullable=False),
        sa.Column("changed", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("user_id", sa.BigInteger(), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["connection_id"], ["sage_connection.id"], name=op.f("fk_sync_run_connection_id")),
        sa.ForeignKeyConstraint(["user_id"], ["app_user.id"], name=op.f("fk_sync_run_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sync_run")),
    )
    op.create_index("ix_sync_run_connection", "sync_run", ["connection_id", "id"], unique=False)
    op.create_table(
        "write_intent",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("connection_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("record_id", sa.BigInteger(), nullable=False),
        sa.Column("operation", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("fields", postgresql.JSONB(), nullable=False),
        sa.Column("body", postgresql.JSONB(), nullable=False),
        sa.Column("body_hash", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("sage_id", sa.Text(), nullable=True),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("operation IN ('create', 'update')", name=op.f("ck_write_intent_operation")),
        sa.CheckConstraint("state IN ('open', 'done', 'refused', 'unknown')", name=op.f("ck_write_intent_state")),
        sa.ForeignKeyConstraint(["connection_id"], ["sage_connection.id"], name=op.f("fk_write_intent_connection_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_write_intent")),
        sa.UniqueConstraint("idempotency_key", name=op.f("uq_write_intent_idempotency_key")),
    )
    op.create_index("ix_write_intent_record", "write_intent", ["kind", "record_id", "id"], unique=False)
    op.create_index(
        "uq_write_intent_open_create",
        "write_intent",
        ["kind", "record_id"],
        unique=True,
        postgresql_where=sa.text("operation = 'create' AND state IN ('open', 'unknown')"),
    )
    count_statuses("company", "companies")

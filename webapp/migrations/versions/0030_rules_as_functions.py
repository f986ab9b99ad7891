"""The rules of statuses are given by functions, and no longer stand in the constraints in full.

Each INSERT and UPDATE reads the constraints of its table anew, before it looks at a row. Those that name all reasons took
longer than the rest of a row of the history.
"""

from __future__ import annotations

from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None

STATUS_OF = {
    "in_step": "synchronised",
    "queued": "pending",
    "running": "pending",
    "retrying": "pending",
    "waiting_for_parent": "pending",
    "waiting_for_sage": "pending",
    "rejected": "review",
    "gave_up": "review",
    "conflict": "review",
    "possible_duplicate": "review",
    "deleted_in_sage": "review",
    "outcome_unknown": "review",
    "never_sent": "not_synchronised",
    "excluded": "not_synchronised",
    "unlinked": "not_synchronised",
}
# To what is not named here, a record can come from anything.
COMES_FROM = {
    "in_step": ("running", "in_step", "never_sent"),
    "running": ("queued", "retrying", "waiting_for_sage", "running"),
    "retrying": ("running",),
    "gave_up": ("running",),
    "conflict": ("running",),
    "outcome_unknown": ("running",),
    "unlinked": ("deleted_in_sage",),
}


def upgrade() -> None:
    statuses = "\n".join(f"WHEN '{reason}' THEN '{status}'" for reason, status in STATUS_OF.items())
    moves = "\n".join(
        f"WHEN '{after}' THEN before = ANY ('{{{','.join(before)}}}')" for after, before in COMES_FROM.items()
    )
    # A function in SQL would be written out in each constraint again.
    op.execute(
        "CREATE FUNCTION status_of(reason text) RETURNS text LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS"
        f" $$ BEGIN RETURN CASE reason {statuses} ELSE '' END; END $$"
    )
    op.execute(
        "CREATE FUNCTION may_follow(before text, after text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS"
        f" $$ BEGIN RETURN CASE after {moves} ELSE true END; END $$"
    )
    # What is there already was let in by the same rules, and is not read through once more.
    for table, name, rule in (
        ("company", "status_and_reason", "sync_status = status_of(sync_reason)"),
        ("contact", "status_and_reason", "sync_status = status_of(sync_reason)"),
        ("sales_order", "status_and_reason", "sync_status = status_of(sync_reason)"),
        ("product", "status_and_reason", "sync_status = status_of(sync_reason)"),
        ("sync_event", "follows", "may_follow(from_reason, to_reason)"),
    ):
        op.execute(
            f"ALTER TABLE {table} DROP CONSTRAINT ck_{table}_{name},"
            f" ADD CONSTRAINT ck_{table}_{name} CHECK ({rule}) NOT VALID"
        )

"""Which status can follow which is for the schema to say: nothing becomes green that was not compared."""

from __future__ import annotations

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

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
    choosy = ", ".join(f"'{reason}'" for reason in COMES_FROM)
    moves = ", ".join(f"('{before}', '{reason}')" for reason, possible in COMES_FROM.items() for before in possible)
    # What is in the history stays as it is, and a long one is not read through for this.
    op.execute(
        "ALTER TABLE sync_event ADD CONSTRAINT ck_sync_event_follows"
        f" CHECK (to_reason NOT IN ({choosy}) OR (from_reason, to_reason) IN ({moves})) NOT VALID"
    )

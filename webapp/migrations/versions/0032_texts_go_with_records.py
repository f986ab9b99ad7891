"""A text goes with its record by a trigger, as it comes with it: no foreign key of 0027 looks for the record of each text.

That text and record belong together is known where the trigger adds the one for the other. The key asked for the record
once more and locked it, which took a twelfth of the time in which many are added.
"""

from __future__ import annotations

from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("company", "contact", "product", "sales_order"):
        op.drop_constraint(op.f(f"fk_{table}_text_id"), f"{table}_text", type_="foreignkey")
        op.execute(
            f"""
            CREATE FUNCTION drop_{table}_text() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                DELETE FROM {table}_text WHERE id IN (SELECT id FROM old_rows);
                RETURN NULL;
            END
            $$
            """  # noqa: S608 - names of ours.
        )
        op.execute(
            f"CREATE TRIGGER keep_text_delete AFTER DELETE ON {table} REFERENCING OLD TABLE AS old_rows "
            f"FOR EACH STATEMENT EXECUTE FUNCTION drop_{table}_text()"
        )

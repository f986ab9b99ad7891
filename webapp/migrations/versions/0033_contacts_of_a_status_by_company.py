"""Contacts of a status in the order of their companies: to find those with a word, the list went past all other contacts."""

from __future__ import annotations

from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL maintenance_work_mem TO '256MB'")
    op.create_index("ix_contact_status_by_company", "contact", ["sync_status", "company_key", "id"])

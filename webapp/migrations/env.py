"""Alembic's entry: it runs the versions on the connection that webapp.migrations.migrate hands over."""

from __future__ import annotations

from alembic import context

from webapp.db import Base

# Of the metadata, the versions use how constraints are named.
context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
with context.begin_transaction():
    context.run_migrations()

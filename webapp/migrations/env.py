"""Alembic's entry: it runs the versions on the connection that webapp.migrations.migrate hands over."""

from __future__ import annotations

from alembic import context

# Alembic compares these models with the database when a new version is drafted.
import webapp.companies.models
import webapp.connection.models
import webapp.sync.models
import webapp.users.models  # noqa: F401
from webapp.db import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
with context.begin_transaction():
    context.run_migrations()

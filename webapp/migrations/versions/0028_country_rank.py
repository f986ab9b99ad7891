"""The rank of a country is given by a function, and no longer stands in the definition of the column.

Each UPDATE reads the definitions of all generated columns of its table, though it changes nothing that they are made of,
and that of the rank names all countries: a quarter of what a change of a company's status cost the server.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

MADE_OF = """
SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum
WHERE adrelid = 'company'::regclass AND attname = 'country_rank'
"""


def upgrade() -> None:
    connection = op.get_bind()
    if connection.scalar(sa.text("SELECT current_setting('server_version_num')::integer")) < 170_000:
        return  # It cannot give a column another definition, and goes on reading the long one.
    made_of = connection.scalar(sa.text(MADE_OF))
    connection.exec_driver_sql(
        "CREATE FUNCTION country_rank(country text) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE "
        f"RETURN {made_of}"
    )
    op.execute("SET LOCAL maintenance_work_mem TO '256MB'")
    op.execute("ALTER TABLE company ALTER COLUMN country_rank SET EXPRESSION AS (country_rank(country))")
    op.execute("ANALYZE company")

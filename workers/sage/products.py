"""The Sage products that workers can talk to: the one place that says which package a connection is opened by.

A further product is a package beside accounting/ with a Package of its own, an entry here, and one in
webapp.connection.products for what people read; the engine knows of neither.
"""

from __future__ import annotations

from collections.abc import Mapping

from webapp.connection.products import ACCOUNTING
from workers.sage.accounting.package import PACKAGE as ACCOUNTING_PACKAGE
from workers.sage.package import Package

# By the product that a connection names.
PACKAGES: Mapping[str, Package] = {ACCOUNTING: ACCOUNTING_PACKAGE}

"""The Sage products that a company can be connected in: what people read about each, and where they give their consent.

How workers talk to a product stands in workers/sage, in a package for each; this is all that a page needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from webapp.config import Settings
from webapp.languages import N_


@dataclass(frozen=True)
class Product:
    """A Sage product.

    `kept_in_step` says of each kind of records what it is there and which way it goes. `consent_page` is where a person
    agrees, with what it needs beside OAuth's own parameters in `asked`.
    """

    name: str
    kept_in_step: tuple[tuple[str, str], ...]
    consent_page: str
    asked: Mapping[str, str] = field(default_factory=dict)

    def consent_address(self, settings: Settings) -> str:
        """The page on which a person agrees: Sage's own, or the sandbox's where that is used."""
        if settings.sage_base_url is None:
            return f"http://127.0.0.1:{settings.sandbox_port}/oauth2/auth/central"
        return self.consent_page


ACCOUNTING = "accounting"

PRODUCTS: Mapping[str, Product] = {
    ACCOUNTING: Product(
        name="Sage Accounting",
        kept_in_step=(
            (N_("Companies"), N_("Two-way, as customers. Prospects stay out.")),
            (N_("Contacts"), N_("Two-way, as the contact persons of their customers.")),
            (N_("Orders"), N_("Two-way, as sales quotes, once somebody presses Synchronise with Sage.")),
        ),
        # Sage Business Cloud Accounting, "Authentication": https://developer.sage.com/accounting/guides/authenticating/
        consent_page="https://www.sageone.com/oauth2/auth/central",
        asked={"filter": "apiv3.1", "scope": "full_access"},
    ),
}

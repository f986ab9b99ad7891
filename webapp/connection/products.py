"""The Sage products that a company can be connected in: what people read about each, and where they give their consent.

How workers talk to a product stands in workers/sage, in a package for each; this is all that a page needs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from webapp.config import Settings
from webapp.connection.models import INVOICES, QUOTES
from webapp.languages import N_

# Without a user, a port and a sign that browsers read as another one; then there is one way to read the host.
_PAGE = re.compile(r"https://([a-z0-9-]+(?:\.[a-z0-9-]+)+)(/.*)")
_PATH = re.compile(r"/[A-Za-z0-9/._~!$&'()*+,;=:@%?#-]*")


def _sandbox(settings: Settings) -> str:
    return f"http://127.0.0.1:{settings.sandbox_port}"


@dataclass(frozen=True)
class OrderDocument:
    """What orders can become in a Sage product.

    `means` tells an admin who chooses what follows from it, `kept_in_step` which way they go, and `sent` whoever is about
    to send an order what will happen. `last_day` is what the last day of an order is called, `last_day_means` what it is.
    """

    name: str
    means: str
    kept_in_step: str
    sent: str
    last_day: str
    last_day_means: str


@dataclass(frozen=True)
class Product:
    """A Sage product.

    `kept_in_step` says of each kind of records but orders what it is there and which way it goes. `documents` are what
    orders can become there, the usual one first, by the name that a connection keeps. `consent_page` is where a person
    agrees, with what it needs beside OAuth's own parameters in `asked`. `domains` are those of its pages for people.
    """

    name: str
    kept_in_step: tuple[tuple[str, str], ...]
    documents: Mapping[str, OrderDocument]
    consent_page: str
    asked: Mapping[str, str] = field(default_factory=dict)
    domains: tuple[str, ...] = ()

    def page_of(self, address: str, settings: Settings) -> str:
        """The page of a record for people, if it is one of this product: an https address of its `domains`, or the
        sandbox's where that is used. Empty for any other, because what comes from outside may lead anywhere.
        """
        if settings.sage_base_url is None and address.startswith(f"{_sandbox(settings)}/"):
            return address if _PATH.fullmatch(address.removeprefix(_sandbox(settings))) else ""
        host, path = found.groups() if (found := _PAGE.fullmatch(address)) else ("", "")
        is_ours = any(host == one or host.endswith(f".{one}") for one in self.domains)
        return address if is_ours and _PATH.fullmatch(path) else ""

    def consent_address(self, settings: Settings) -> str:
        """The page on which a person agrees: Sage's own, or the sandbox's where that is used."""
        if settings.sage_base_url is None:
            return f"{_sandbox(settings)}/oauth2/auth/central"
        return self.consent_page


ACCOUNTING = "accounting"

PRODUCTS: Mapping[str, Product] = {
    ACCOUNTING: Product(
        name="Sage Accounting",
        kept_in_step=(
            (N_("Companies"), N_("Two-way, as customers. Prospects stay out.")),
            (N_("Contacts"), N_("Two-way, as the contact persons of their customers.")),
            (N_("Products"), N_("Two-way, as products, matched by their codes. The unit stays here.")),
        ),
        documents={
            QUOTES: OrderDocument(
                name=N_("Sales quotes"),
                means=N_(
                    "An offer to the customer: nothing is booked until somebody in Sage makes an invoice of it. "
                    "“Valid until” is its expiry date."
                ),
                kept_in_step=N_("Two-way, as sales quotes, once somebody presses Synchronise with Sage."),
                sent=N_(
                    "The prices are valid. When you press the button, the order goes to Sage as a sales quote, and from "
                    "then on it is changed there."
                ),
                last_day=N_("Valid until"),
                last_day_means=N_("The last day on which it holds."),
            ),
            INVOICES: OrderDocument(
                name=N_("Sales invoices"),
                means=N_(
                    "Booked as soon as the order is synchronised: on orders that are here already, Synchronise with Sage "
                    "has to be pressed anew. “Due on” takes the place of “Valid until”. Sage never deletes an invoice: "
                    "one that is made void there counts as deleted here."
                ),
                kept_in_step=N_("Two-way, as sales invoices, once somebody presses Synchronise with Sage."),
                sent=N_(
                    "The prices are valid. When you press the button, the order is booked in Sage as a sales invoice, and "
                    "from then on it is changed there."
                ),
                last_day=N_("Due on"),
                last_day_means=N_("The day by which it is to be paid."),
            ),
        },
        # Sage Business Cloud Accounting, "Authentication": https://developer.sage.com/accounting/guides/authenticating/
        consent_page="https://www.sageone.com/oauth2/auth/central",
        asked={"filter": "apiv3.1", "scope": "full_access"},
        # Each country has a host of its own there, such as accounting.na.sageone.com.
        domains=("sageone.com", "accounting.sage.com"),
    ),
}

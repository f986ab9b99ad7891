"""The modules of records: how the screens call them and their records. Their addresses begin with their names."""

from __future__ import annotations

from dataclasses import dataclass

from webapp.languages import N_, NN_


@dataclass(frozen=True)
class Words:
    """What the screens of a module say: messages of webapp.languages, whole ones, because a noun changes what is around it."""

    title: str
    new: str
    edit: str
    add: str
    this: str
    filters: str
    by_status: str
    list: str
    search: str
    sorted: str
    none_yet: str
    none_matches: str
    none_has: str
    all: str
    some: str
    on_page: str
    count: tuple[str, str]


@dataclass(frozen=True)
class Module:
    """A module: `name` stands in its addresses, its keys and its endpoints, `noun` is one of its records.

    `named_by` is the value that names a record to people.
    """

    name: str
    noun: str
    icon: str
    words: Words
    named_by: str = "name"


COMPANIES = Module(
    "companies",
    "company",
    "building-2",
    Words(
        title=N_("Companies"),
        new=N_("New company"),
        edit=N_("Edit company"),
        add=N_("Add company"),
        this=N_("This company"),
        filters=N_("Company filters"),
        by_status=N_("Companies by synchronisation status"),
        list=N_("List of companies"),
        search=N_("Search companies"),
        sorted=N_("Companies, sorted by %(by)s"),
        none_yet=N_("No companies yet"),
        none_matches=N_("No company matches"),
        none_has=N_("No company has these filters now."),
        all=N_("All %(number)s companies"),
        some=N_("%(shown)s of %(all)s companies"),
        on_page=N_("%(number)s companies on this page"),
        count=NN_("%(num)s company", "%(num)s companies"),
    ),
)
CONTACTS = Module(
    "contacts",
    "contact",
    "user-round",
    Words(
        title=N_("Contacts"),
        new=N_("New contact"),
        edit=N_("Edit contact"),
        add=N_("Add contact"),
        this=N_("This contact"),
        filters=N_("Contact filters"),
        by_status=N_("Contacts by synchronisation status"),
        list=N_("List of contacts"),
        search=N_("Search contacts"),
        sorted=N_("Contacts, sorted by %(by)s"),
        none_yet=N_("No contacts yet"),
        none_matches=N_("No contact matches"),
        none_has=N_("No contact has these filters now."),
        all=N_("All %(number)s contacts"),
        some=N_("%(shown)s of %(all)s contacts"),
        on_page=N_("%(number)s contacts on this page"),
        count=NN_("%(num)s contact", "%(num)s contacts"),
    ),
)
PRODUCTS = Module(
    "products",
    "product",
    "package",
    Words(
        title=N_("Products"),
        new=N_("New product"),
        edit=N_("Edit product"),
        add=N_("Add product"),
        this=N_("This product"),
        filters=N_("Product filters"),
        by_status=N_("Products by synchronisation status"),
        list=N_("List of products"),
        search=N_("Search products"),
        sorted=N_("Products, sorted by %(by)s"),
        none_yet=N_("No products yet"),
        none_matches=N_("No product matches"),
        none_has=N_("No product has these filters now."),
        all=N_("All %(number)s products"),
        some=N_("%(shown)s of %(all)s products"),
        on_page=N_("%(number)s products on this page"),
        count=NN_("%(num)s product", "%(num)s products"),
    ),
)
ORDERS = Module(
    "orders",
    "order",
    "receipt-text",
    Words(
        title=N_("Orders"),
        new=N_("New order"),
        edit=N_("Edit order"),
        add=N_("Add order"),
        this=N_("This order"),
        filters=N_("Order filters"),
        by_status=N_("Orders by synchronisation status"),
        list=N_("List of orders"),
        search=N_("Search orders"),
        sorted=N_("Orders, sorted by %(by)s"),
        none_yet=N_("No orders yet"),
        none_matches=N_("No order matches"),
        none_has=N_("No order has these filters now."),
        all=N_("All %(number)s orders"),
        some=N_("%(shown)s of %(all)s orders"),
        on_page=N_("%(number)s orders on this page"),
        count=NN_("%(num)s order", "%(num)s orders"),
    ),
    named_by="number",
)

# In the order of the navigation.
MODULES = (COMPANIES, CONTACTS, PRODUCTS, ORDERS)

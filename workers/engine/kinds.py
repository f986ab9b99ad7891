"""The four kinds of records that are kept in step, and in what they differ. Push and pull have one flow for all.

Companies are customers in Sage, contacts their persons, products its products, orders the quotes or invoices of
customers. A contact and an order belong to a company and can be in Sage only while that company is. An order waits for
no product: its lines name those that Sage has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, SQLColumnExpression, func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, selectinload
from sqlalchemy.orm.interfaces import ORMOption

from webapp.companies.models import CUSTOMER, Company
from webapp.connection.models import Connection
from webapp.contacts.models import Contact
from webapp.orders.models import CONFIRMED, Order
from webapp.products.models import Product
from webapp.sync.models import Json, Synced
from workers.engine.match import Keys, customer_keys, order_keys, person_keys, plain, product_keys
from workers.sage.connector import (
    CUSTOMER_FIELDS,
    ORDER_FIELDS,
    PERSON_FIELDS,
    PRODUCT_FIELDS,
    Collection,
    Connector,
    RemoteRecord,
    tidied,
)

# The classes of PostgreSQL's error codes that say that a value cannot be stored: its form, a constraint, its size.
_VALUE_CLASSES = frozenset({"22", "23", "54"})


@dataclass(frozen=True)
class Unique:
    """A field whose value no two records here share: the constraint that says so, and the code of the sentence."""

    field: str
    constraint: str
    code: str


@dataclass(frozen=True)
class Alike:
    """A sign that a record may be a stranger: `column`, which is indexed, holds what `of` makes of the stranger's field.

    Where that field is empty it is no sign.
    """

    field: str
    column: SQLColumnExpression[str]
    of: Callable[[ColumnElement[str]], ColumnElement[str]]


@dataclass(frozen=True, eq=False)
class Kind:
    """One kind of records.

    `cursor` names how far its changes were read from Sage; until they were read once, none of it is sent.
    `names` are its fields in the neutral shape, `title` the one that people call it by, and `exact` those of which
    another spelling is another value. `collection` picks the kind from a connector.
    `keys` are what a stranger in Sage is recognised by, and `alike` the signs of which a record has to show one to come
    into question.
    `sought` are the fields that an unanswered create is looked up by. Sage says itself which create made a customer or a
    product; of the others (`says_origin` is False) all these fields have to agree.
    `in_sage` is what a record is here because Sage has it.
    `company_id` is the column of its company, None for companies themselves and for products.
    `is_mended_here` says that a person can edit here what Sage does not take of one that it has.
    `asks_to_create` says that the body of a create is made by what Sage has to be asked for.
    `in_columns` says that each field is a column of the same name, so that many records can be stored in one statement.
    """

    model: type[Synced]
    cursor: str
    names: tuple[str, ...]
    title: str
    collection: Callable[[Connector], Collection]
    keys: Keys
    alike: tuple[Alike, ...]
    sought: tuple[str, ...]
    says_origin: bool = False
    exact: frozenset[str] = frozenset()
    in_sage: Mapping[str, str] = field(default_factory=dict)
    unique: Unique | None = None
    loads: tuple[ORMOption, ...] = ()
    company_id: SQLColumnExpression[int] | None = None
    is_mended_here: bool = True
    asks_to_create: bool = True
    in_columns: bool = True

    @property
    def name(self) -> str:
        """Its name in keys and in the history: company, contact, product or order."""
        return self.model.kind

    def is_spelling_of(self, name: str, ours: str, theirs: str) -> bool:
        """Whether Sage's value of a field is the one that was sent, perhaps in Sage's own spelling."""
        return ours == theirs or (name not in self.exact and plain(ours) == plain(theirs))


COMPANIES = Kind(
    model=Company,
    cursor="customers",
    names=CUSTOMER_FIELDS,
    title="name",
    collection=lambda sage: sage.customers,
    keys=customer_keys,
    alike=(
        Alike("name", Company.name_key, func.fold),
        Alike("code", func.lower(Company.code), func.lower),
        Alike("tax_number", Company.tax_number, lambda number: number),
        Alike("email", func.lower(Company.email), func.lower),
    ),
    sought=("code", "name"),
    says_origin=True,
    in_sage={"type": CUSTOMER},
    unique=Unique("code", "uq_company_code", "code_in_use"),
    asks_to_create=False,
)
CONTACTS = Kind(
    model=Contact,
    cursor="persons",
    names=PERSON_FIELDS,
    title="name",
    collection=lambda sage: sage.persons,
    keys=person_keys,
    alike=(
        Alike("name", Contact.name_key, func.fold),
        Alike("email", func.lower(Contact.email), func.lower),
    ),
    sought=("email", "name"),
    company_id=Contact.company_id,
)
PRODUCTS = Kind(
    model=Product,
    cursor="products",
    names=PRODUCT_FIELDS,
    title="name",
    collection=lambda sage: sage.products,
    keys=product_keys,
    alike=(
        Alike("name", Product.name_key, func.fold),
        Alike("code", Product.code_key, func.fold),
    ),
    sought=("code", "name"),
    says_origin=True,
    exact=frozenset({"unit_price", "discontinued"}),
    unique=Unique("code", "uq_product_code", "code_in_use"),
)
ORDERS = Kind(
    model=Order,
    cursor="orders",
    names=ORDER_FIELDS,
    title="number",
    collection=lambda sage: sage.orders,
    keys=order_keys,
    alike=(Alike("number", Order.number_key, func.fold),),
    sought=("number",),
    exact=frozenset({"ordered_on", "valid_until", "shipping", "lines"}),
    in_sage={"phase": CONFIRMED},
    unique=Unique("number", "uq_sales_order_number", "number_in_use"),
    loads=(selectinload(Order.lines),),
    company_id=Order.company_id,
    is_mended_here=False,
    in_columns=False,
)
# Parents first, and products before the orders whose lines name them.
KINDS = (COMPANIES, CONTACTS, PRODUCTS, ORDERS)
CHILDREN = (CONTACTS, ORDERS)
_OF_NAME = {kind.name: kind for kind in KINDS}


def kind_named(name: str) -> Kind:
    """The kind of a name. Raises KeyError."""
    return _OF_NAME[name]


def fields_of(record: Synced) -> dict[str, str]:
    """The part of a record that is kept in step, in the neutral shape. An order must have its lines loaded."""
    names = _OF_NAME[record.kind].names
    return tidied({name: record.shared(name) for name in names}, names)


def take_fields(session: Session, record: Synced, remote: RemoteRecord, names: Iterable[str]) -> None:
    """Give a record these fields as Sage holds them; with the lines of an order, the products here that they name there.

    An order must have its lines loaded.
    """
    taken = list(names)
    for name in taken:
        record.take(name, remote.fields[name])
    if not isinstance(record, Order) or "lines" not in taken or not any(remote.products):
        return
    found = session.execute(
        select(Product.sage_id, Product.id).where(
            Product.connection_id == record.connection_id, Product.sage_id.in_({*remote.products} - {""})
        )
    )
    ours = {str(sage_id): product_id for sage_id, product_id in found}
    for line, sage_id in zip(record.lines, remote.products, strict=True):
        line.product_id = ours.get(sage_id, line.product_id)


def new_record(
    session: Session,
    kind: Kind,
    remote: RemoteRecord,
    connection: Connection,
    company_id: int | None,
    without: str = "",
) -> Synced:
    """The record that a stranger in Sage becomes here, linked to it. `without` is a field to leave out.

    An order without a number of ours has the one that Sage calls it by.
    """
    record = kind.model()
    if company_id is not None:
        setattr(record, "company_id", company_id)  # noqa: B010 - companies have no such column.
    take_link(kind, record, remote, connection)
    left_out = {without} | ({"number"} if kind is ORDERS else set())
    take_fields(
        session,
        record,
        remote,
        [name for name in kind.names if name not in left_out and (remote.fields[name] or kind.in_columns)],
    )
    number = remote.fields["number"] or remote.number if kind is ORDERS else ""
    if number and without != "number":
        record.take("number", number)
    return record


def take_link(kind: Kind, record: Synced, remote: RemoteRecord, connection: Connection) -> None:
    """Link a record to the one in Sage that it is."""
    record.connection_id = connection.id
    record.sage_id = remote.id
    record.sage_number = remote.number
    record.sage_page = remote.page or None
    record.sage_updated_at = remote.updated_at
    for name, value in kind.in_sage.items():
        setattr(record, name, value)


def not_stored(kind: Kind, error: DBAPIError, remote: RemoteRecord) -> Json:
    """The detail of a record that cannot hold what Sage has. Raises `error` where that is not the matter."""
    code = str(getattr(error.orig, "sqlstate", None) or "")
    if code[:2] not in _VALUE_CLASSES:
        raise error
    diagnosis = getattr(error.orig, "diag", None)
    unique = kind.unique
    if unique and getattr(diagnosis, "constraint_name", None) == unique.constraint:
        return {"code": unique.code, "field": unique.field, "value": remote.fields[unique.field] or remote.number}
    return {"code": "not_stored"}

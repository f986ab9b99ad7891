"""What a write does to the records of a business, and how a record is shown.

Every function that writes expects to run inside `Store.transaction`, and the caller adds the line to the ledger.
Writes raise rules.Refused where Sage refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from workers.sandbox import documents, reference
from workers.sandbox.documents import DOCUMENTS, Document
from workers.sandbox.resources import (
    ADDRESS_PART,
    ADDRESSES,
    CONTACT_PERSONS,
    CONTACTS,
    PERSON_PART,
    PRODUCTS,
    SALES_INVOICES,
    Fields,
    Resource,
)
from workers.sandbox.rules import Problem, Refused, chosen, clean, invalid, iso, money
from workers.sandbox.store import Record, Store, new_id
from workers.sandbox.switches import Switches

Clock = Callable[[], int]

_PART_COLLECTIONS = {
    "main_address": "addresses",
    "delivery_address": "addresses",
    "main_contact_person": "contact_persons",
}
_LONGEST_REASON = 200
_ADDRESS_DEFAULTS = {"main_address": ("Main Address", "SALES"), "delivery_address": ("Delivery Address", "DELIVERY")}


class Books:
    """The records of one business."""

    def __init__(self, store: Store, business: str, clock: Clock, switches: Switches) -> None:
        self._store = store
        self._business = business
        self._now = clock()
        self._switches = switches

    # --- writing ------------------------------------------------------------------------------------------------------

    def create(self, resource: Resource, body: Mapping[str, Any]) -> Record:
        """Check a body and make the record and its parts. Raises Refused (422)."""
        values = self._checked(resource.fields, body, creating=True)
        if resource is CONTACTS:
            return self._create_contact(values)
        if resource is ADDRESSES:
            return self._create_address(values)
        if resource.name in DOCUMENTS:
            return self._create_document(resource, values)
        if resource is PRODUCTS:
            self._refuse_taken(PRODUCTS, values.get("item_code"), None)
            return self._insert(PRODUCTS.name, values, None)
        return self._create_person(values)

    def update(self, record: Record, resource: Resource, body: Mapping[str, Any]) -> Record:
        """Check a body and change the record and its parts; what the body leaves out is kept. Raises Refused (422).

        `updated_at` moves only where something changed.
        """
        if resource is CONTACTS:
            return self._update_contact(record, body)
        values = self._checked(resource.fields, body, creating=False)
        if resource is PRODUCTS:
            self._refuse_taken(PRODUCTS, values.get("item_code"), record.id)
        if resource.name in DOCUMENTS:
            return self._update_document(record, values)
        if resource is ADDRESSES and values.get("contact_id", record.contact_id) != record.contact_id:
            raise invalid("An address stays with its contact.", "contact_id")
        if resource is CONTACT_PERSONS and "address_id" in values:
            self._refuse_foreign_address(values["address_id"], record.contact_id)
        changed = self._change(record, values)
        if resource is ADDRESSES and values.get("is_main_address") is not None:
            self._settle_main(changed, "is_main_address", "main_address_id", "addresses")
        if resource is CONTACT_PERSONS and values.get("is_main_contact") is not None:
            self._settle_main(changed, "is_main_contact", "main_contact_person_id", "contact_persons")
        if changed is not record:
            self._touch_contact(changed)
        return changed

    def delete(self, record: Record) -> None:
        """Leave a tombstone; a contact's addresses, persons and quotes go with it, and an address's persons.

        An invoice is not deleted but made void: see `void`. Whether Sage lets a contact go that has quotes is not
        documented; one that has invoices stays.

        Raises Refused (422) for a main address, and for a contact with invoices.
        """
        gone = [record]
        if record.resource == CONTACTS.name:
            if self._store.of_contact(record.id, SALES_INVOICES.name):
                raise invalid("A contact that has invoices cannot be deleted.")
            for collection in ("addresses", "contact_persons", "sales_quotes"):
                gone += self._store.of_contact(record.id, collection)
        elif record.contact_id and record.resource not in DOCUMENTS:
            contact = self._store.many([record.contact_id])[record.contact_id]
            if contact.state.get("main_address_id") == record.id:
                raise invalid("The main address of a contact cannot be deleted.")
            persons = self._store.of_contact(contact.id, "contact_persons")
            gone += [person for person in persons if person.state.get("address_id") == record.id]
            keys = {one.id for one in gone}
            loose = {
                name: None
                for name in ("delivery_address_id", "main_contact_person_id")
                if contact.state.get(name) in keys
            }
            if loose:
                self._store.put(replace(contact, state={**contact.state, **loose}))
        for one in gone:
            self._store.put(replace(one, deleted_at=self._now, updated_at=self._now))

    def _checked(
        self, fields: Fields, body: Mapping[str, Any], *, creating: bool, existing: frozenset[str] = frozenset()
    ) -> dict[str, Any]:
        values, problems = clean(fields, body, self._is_known, creating=creating, existing=existing)
        if problems:
            raise Refused(422, *problems)
        return values

    def _is_known(self, collection: str, key: str) -> bool:
        entries = reference.lists().get(collection)
        return key in entries if entries is not None else self._store.get(self._business, collection, key) is not None

    def _create_contact(self, values: dict[str, Any]) -> Record:
        self._refuse_taken(CONTACTS, values.get("reference"), None)
        parts = {name: values.pop(name, None) for name in _PART_COLLECTIONS}
        contact_id = new_id()
        pointers = {
            f"{name}_id": self._add_part(contact_id, name, part) for name, part in parts.items() if part is not None
        }
        contact = Record(contact_id, self._business, CONTACTS.name, {**values, **pointers}, self._now, self._now)
        self._store.put(contact)
        return contact

    def _update_contact(self, record: Record, body: Mapping[str, Any]) -> Record:
        existing = frozenset(name for name in _PART_COLLECTIONS if record.state.get(f"{name}_id"))
        if self._switches.omitted_parts == "cleared":
            body = {**body, **{name: _emptied(name) for name in existing if name not in body}}
        values = self._checked(CONTACTS.fields, body, creating=False, existing=existing)
        self._refuse_taken(CONTACTS, values.get("reference"), record.id)
        parts = {name: values.pop(name) for name in _PART_COLLECTIONS if name in values}
        part_changed = False
        for name, part in parts.items():
            key = record.state.get(f"{name}_id")
            if key is None:
                values[f"{name}_id"] = self._add_part(record.id, name, part)
                continue
            if "address_id" in part:
                self._refuse_foreign_address(part["address_id"], record.id)
            before = self._store.many([key])[key]
            # Which one is the main one is said by its place in the contact's body, whatever the flag in it says.
            settled = {
                field: value for field, value in part.items() if field not in ("is_main_address", "is_main_contact")
            }
            part_changed |= self._change(before, settled) is not before
        return self._change(record, values, touch=part_changed and self._switches.touch == "contact")

    def _add_part(self, contact_id: str, name: str, part: dict[str, Any]) -> str:
        part = {field: value for field, value in part.items() if value is not None}
        if _PART_COLLECTIONS[name] == "addresses":
            default_name, default_type = _ADDRESS_DEFAULTS[name]
            part = {
                "name": default_name,
                "address_type_id": default_type,
                **part,
                "is_main_address": name == "main_address",
            }
            return self._insert(ADDRESSES.name, part, contact_id).id
        if "address_id" in part:
            self._refuse_foreign_address(part["address_id"], contact_id)
        address = self._store.of_contact(contact_id, "addresses")[0]
        part = {"name": "Main Contact", "contact_person_type_ids": ["ACCOUNTS"], "address_id": address.id, **part}
        return self._insert(CONTACT_PERSONS.name, {**part, "is_main_contact": True}, contact_id).id

    def _create_address(self, values: dict[str, Any]) -> Record:
        contact_id = values.pop("contact_id", None)
        if contact_id is None:
            raise invalid("This field is required.", "contact_id")
        address = self._insert(ADDRESSES.name, values, contact_id)
        if values["is_main_address"]:
            self._settle_main(address, "is_main_address", "main_address_id", "addresses")
        self._touch_contact(address)
        return address

    def _create_person(self, values: dict[str, Any]) -> Record:
        address = self._store.many([values["address_id"]])[values["address_id"]]
        assert address.contact_id is not None
        first = not self._store.of_contact(address.contact_id, "contact_persons")
        # Whether Sage makes the first person the main one against its flag is not documented.
        values = {**values, "is_main_contact": values.get("is_main_contact", first)}
        person = self._insert(CONTACT_PERSONS.name, values, address.contact_id)
        if values["is_main_contact"]:
            self._settle_main(person, "is_main_contact", "main_contact_person_id", "contact_persons")
        self._touch_contact(person)
        return person

    def _create_document(self, resource: Resource, values: dict[str, Any]) -> Record:
        kind = DOCUMENTS[resource.name]
        contact = self._customer(values["contact_id"])
        counter = f"{kind.page} of {self._business}"
        number = (self._store.setting(counter) or 0) + 1
        self._store.keep_setting(counter, number)
        named = {
            kind.number: f"{kind.prefix}{number}",
            "contact_name": contact.state["name"],
            "status_id": values.get("status_id") or kind.first,
            kind.until: values.get(kind.until) or documents.until_of(values["date"]),
        }
        return self._insert(resource.name, self._settled(kind, {**values, **named}, ()), contact.id)

    def _update_document(self, record: Record, values: dict[str, Any]) -> Record:
        kind = DOCUMENTS[record.resource]
        if not documents.is_open(record.state):
            raise invalid(f"This {kind.noun} is {record.state['status_id'].lower()} and cannot be changed.")
        contact_id = values.get("contact_id", record.state["contact_id"])
        if contact_id != record.contact_id:
            values["contact_name"] = self._customer(contact_id).state["name"]
        given = {**record.state, **values}
        given[kind.until] = given.get(kind.until) or documents.until_of(given["date"])
        given["status_id"] = given.get("status_id") or record.state["status_id"]
        whole = self._settled(kind, given, record.state[kind.lines])
        return self._change(replace(record, contact_id=contact_id), whole)

    def _settled(self, kind: Document, document: dict[str, Any], before: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        problems = documents.problems(kind, document)
        if problems:
            raise Refused(422, *problems)
        return {**document, kind.lines: documents.settled(document[kind.lines], before, new_id)}

    def void(self, invoice: Record, reason: str) -> Record:
        """Make an invoice void. It stays readable, with the reason, and changes no more.

        Raises Refused (422) without a reason of at most 200 characters, which only a draft does without, and where the
        invoice is paid or void already.
        """
        if not documents.is_open(invoice.state):
            raise invalid(f"This invoice is {invoice.state['status_id'].lower()} and cannot be made void.")
        if not reason.strip() and invoice.state["status_id"] != documents.DRAFT:
            raise invalid("This field is required.", "void_reason")
        if len(reason) > _LONGEST_REASON:
            raise invalid(f"This field may be at most {_LONGEST_REASON} characters long.", "void_reason")
        return self._change(invoice, {"status_id": documents.VOID, "void_reason": reason.strip() or None})

    def pay(self, invoice: Record) -> Record:
        """Take an invoice as paid in full. Raises Refused (422) for one that is a draft, or void."""
        if invoice.state["status_id"] in (documents.DRAFT, documents.VOID):
            raise invalid("Only an invoice that was issued and is not void can be paid.")
        return self._change(invoice, {"status_id": documents.PAID})

    def _customer(self, contact_id: str) -> Record:
        """The contact that a sales document is for."""
        contact = self._store.many([contact_id])[contact_id]
        if "CUSTOMER" not in contact.state["contact_type_ids"]:
            raise invalid("A sales document needs a contact that is a customer.", "contact_id")
        if contact.state.get("gdpr_obfuscated"):
            raise invalid("The data of this contact were made unrecognisable.", "contact_id")
        return contact

    def obfuscate(self, contact: Record) -> Record:
        """Mark a contact as one whose data were made unrecognisable: it gets no new documents."""
        return self._change(contact, {"gdpr_obfuscated": True})

    def _refuse_foreign_address(self, address_id: str, contact_id: str | None) -> None:
        if self._store.many([address_id])[address_id].contact_id != contact_id:
            raise invalid("This address belongs to another contact.", "address_id")

    def _settle_main(self, record: Record, flag: str, pointer: str, collection: str) -> None:
        """A contact has one main address and at most one main person: let the others step back."""
        assert record.contact_id is not None
        contact = self._store.many([record.contact_id])[record.contact_id]
        if not record.state.get(flag):
            if contact.state.get(pointer) == record.id:
                raise invalid("Make another one the main one instead.", flag)
            return
        for other in self._store.of_contact(record.contact_id, collection):
            if other.id != record.id and other.state.get(flag):
                self._change(other, {flag: False})
        if contact.state.get(pointer) != record.id:
            self._change(contact, {pointer: record.id})

    def _touch_contact(self, part: Record) -> None:
        if self._switches.touch == "contact" and part.contact_id:
            contact = self._store.many([part.contact_id])[part.contact_id]
            self._store.put(replace(contact, updated_at=self._now))

    def _refuse_taken(self, resource: Resource, wanted: str | None, own: str | None) -> None:
        """Whether Sage has the item codes of products unique is not documented; here they are, as references are."""
        if wanted and self._store.reference_holder(self._business, resource.name, wanted) not in (None, own):
            noun, field = ("reference", "reference") if resource is CONTACTS else ("item code", "item_code")
            message = f"This {noun} is already used by another {resource.namespace}."
            raise Refused(422, Problem("RecordInvalid", message, field))

    def _insert(self, resource: str, state: dict[str, Any], contact_id: str | None) -> Record:
        record = Record(new_id(), self._business, resource, state, self._now, self._now, contact_id=contact_id)
        self._store.put(record)
        return record

    def _change(self, record: Record, values: Mapping[str, Any], *, touch: bool = False) -> Record:
        """Store the values that differ; the same object comes back where none does and `touch` is not asked for."""
        differing = {name: value for name, value in values.items() if record.state.get(name) != value}
        if not differing and not touch:
            return record
        changed = replace(record, state={**record.state, **differing}, updated_at=self._now)
        self._store.put(changed)
        return changed


def _emptied(name: str) -> dict[str, None]:
    """A part with everything emptied that may be empty."""
    fields = PERSON_PART if name == "main_contact_person" else ADDRESS_PART
    kept = {"name", "address_type_id", "contact_person_type_ids", "address_id", "is_main_address", "is_main_contact"}
    return {field: None for field, kind in fields.items() if field not in kept and not kind.required}


# --- showing ----------------------------------------------------------------------------------------------------------

# What Sage has and the sandbox does not keep: present in every answer, and empty.
_CONTACT_BLANKS: dict[str, Any] = dict.fromkeys(
    (
        "default_sales_ledger_account",
        "default_sales_tax_rate",
        "default_purchase_ledger_account",
        "product_sales_price_type",
        "tax_treatment",
        "tax_calculation",
        "cis_settings",
    )
)
_DOCUMENT_TEXTS = ("contact_name", "date", "reference", "notes", "terms_and_conditions")
_NO_BANK = dict.fromkeys(("account_name", "account_number", "sort_code", "bic", "iban"))


class Shown:
    """Turns records into what answers hold. It reads the parts of all its records in one go."""

    def __init__(self, store: Store, switches: Switches, page_origin: str) -> None:
        """`page_origin` is where the page for people is, such as http://127.0.0.1:8010; links point there."""
        self._store = store
        self._switches = switches
        self._origin = page_origin

    def items(
        self, records: list[Record], attributes: frozenset[str] | None, nested: frozenset[str] | None
    ) -> list[dict[str, Any]]:
        """The records, reduced to `attributes` (None: id, displayed_as and $path alone); parts reduced to `nested`."""
        if attributes is None:
            return [_base(record) for record in records]
        if nested is None and self._switches.nested == "full":
            nested = frozenset({"all"})
        near = self._store.many(key for record in records for key in _pointers(record))
        # A part in full shows a base of its own surroundings, an address of a person that belongs to a second address.
        known = {**near, **{record.id: record for record in records}}
        if nested:
            known |= self._store.many({key for one in near.values() for key in _pointers(one)} - known.keys())
        return [chosen(self._full(record, known, nested), attributes) for record in records]

    def _full(self, record: Record, known: Mapping[str, Record], nested: frozenset[str] | None) -> dict[str, Any]:
        def inside(key: str | None) -> dict[str, Any] | None:
            part = known.get(key) if key else None
            if part is None:
                return None
            return _base(part) if nested is None else chosen(self._full(part, known, None), nested)

        state = record.state
        shown: dict[str, Any] = {
            **_base(record),
            "created_at": iso(record.created_at),
            "updated_at": iso(record.updated_at),
            "deleted_at": iso(record.deleted_at),
        }
        if record.resource == "contacts":
            self._add_contact(shown, state, inside, known)
        elif kind := DOCUMENTS.get(record.resource):
            shown["contact"] = inside(record.contact_id)
            self._add_document(kind, shown, state, known, nested)
            if kind is documents.INVOICE:
                self._add_payments(shown, state)
            else:
                del shown["deleted_at"]
                shown["invoice"] = None
        elif record.resource == "products":
            self._add_product(shown, state)
        elif record.resource == "addresses":
            contact = known.get(record.contact_id) if record.contact_id else None
            shown |= {
                name: state.get(name)
                for name in ("address_line_1", "address_line_2", "city", "region", "postal_code", "name")
            }
            shown["country"] = reference.base("countries", state.get("country_id"))
            shown["address_type"] = reference.base("address_types", state.get("address_type_id"))
            shown["contact"] = None if contact is None else _base(contact)
            shown["bank_account"] = shown["country_group"] = None
            shown["is_main_address"] = bool(state.get("is_main_address"))
        else:
            shown |= {name: state.get(name) for name in ("name", "job_title", "telephone", "mobile", "email", "fax")}
            shown["contact_person_types"] = _types("contact_person_types", state)
            address = known.get(state.get("address_id") or "")
            shown["address"] = None if address is None else _base(address)
            shown["is_main_contact"] = bool(state.get("is_main_contact"))
            shown["is_preferred_contact"] = bool(state.get("is_preferred_contact"))
        return shown

    def _add_contact(
        self,
        shown: dict[str, Any],
        state: Mapping[str, Any],
        inside: Callable[[str | None], dict[str, Any] | None],
        known: Mapping[str, Record],
    ) -> None:
        person = known.get(state.get("main_contact_person_id") or "")
        address = known.get(state.get("main_address_id") or "")
        country = address.state.get("country_id") if address else None
        for name in (
            "name",
            "reference",
            "tax_number",
            "notes",
            "locale",
            "credit_days",
            "credit_terms",
            "credit_terms_and_conditions",
            "source_guid",
            "registered_number",
            "aux_reference",
            "auxiliary_account",
        ):
            shown[name] = state.get(name)
        shown |= _CONTACT_BLANKS
        shown["links"] = [{"href": f"{self._origin}/customers/{shown['id']}", "rel": "alternate", "type": "text/html"}]
        shown["contact_types"] = _types("contact_types", state)
        shown["balance"] = self._money("0.0")
        shown["credit_limit"] = self._money(state.get("credit_limit"))
        shown["currency"] = reference.base("currencies", state.get("currency_id") or "GBP")
        shown["email"] = person.state.get("email") if person else None
        for name in _PART_COLLECTIONS:
            shown[name] = inside(state.get(f"{name}_id"))
        shown["bank_account_details"] = dict(_NO_BANK)
        shown |= {"deletable": True, "is_active": True, "gb_based": country == "GB"}
        shown["gdpr_obfuscated"] = bool(state.get("gdpr_obfuscated"))
        shown |= dict.fromkeys(
            (
                "system",
                "has_unfinished_recurring_invoices",
                "cis_registered",
                "ni_based",
                "destination_vat_blocking",
            ),
            False,
        )

    def _add_product(self, shown: dict[str, Any], state: Mapping[str, Any]) -> None:
        texts = ("item_code", "description", "notes", "source_guid", "purchase_description")
        shown |= {name: state.get(name) for name in texts}
        shown |= {
            name: reference.base(collection, state.get(f"{name}_id"))
            for name, collection in (
                ("sales_ledger_account", "ledger_accounts"),
                ("purchase_ledger_account", "ledger_accounts"),
                ("sales_tax_rate", "tax_rates"),
                ("purchase_tax_rate", "tax_rates"),
            )
        }
        shown["cost_price"] = self._money(state.get("cost_price"))
        shown["active"] = state.get("active") is not False
        shown |= {"deletable": True, "deactivatable": True, "used_on_recurring_invoice": False}
        shown["usual_supplier"] = shown["catalog_item_type"] = None
        # A product takes no nested_attributes, so its prices are always said in full.
        shown["sales_prices"] = [
            {
                "id": f"{shown['id']}-{position}",
                "displayed_as": one.get("price_name") or "Sales Price",
                "price_name": one.get("price_name"),
                "price": self._money(one.get("price")),
                "price_includes_tax": one.get("price_includes_tax") is True,
            }
            for position, one in enumerate(state.get("sales_prices") or ())
        ]

    def _add_document(
        self,
        kind: Document,
        shown: dict[str, Any],
        state: Mapping[str, Any],
        known: Mapping[str, Record],
        nested: frozenset[str] | None,
    ) -> None:
        lines, shipping, total = state[kind.lines], documents.shipping_of(state), documents.total_of(kind, state)
        quantity = sum((Decimal(line["quantity"]) for line in lines), Decimal(0))
        discount = sum((Decimal(line.get("discount_amount") or 0) for line in lines), Decimal(0))
        amounts = {
            "shipping_net_amount": shipping.net,
            "shipping_tax_amount": shipping.tax,
            "shipping_total_amount": shipping.total,
            "total_discount_amount": discount,
            "net_amount": total.net,
            "tax_amount": total.tax,
            "total_amount": total.total,
        }
        shown |= {name: state.get(name) for name in (*_DOCUMENT_TEXTS, kind.number, kind.until)}
        shown |= {name: self._amount(amount) for name, amount in amounts.items()}
        # All documents are in the currency of the business.
        shown |= {f"base_currency_{name}": self._amount(amount) for name, amount in amounts.items()}
        shown |= {
            "links": [{"href": f"{self._origin}/{kind.page}/{shown['id']}", "rel": "alternate", "type": "text/html"}],
            f"{kind.number}_prefix": kind.prefix,
            "shipping_tax_rate": reference.base("tax_rates", state.get("shipping_tax_rate_id")),
            "total_quantity": self._amount(quantity),
            "currency": reference.base("currencies", "GBP"),
            "exchange_rate": self._money("1.0"),
            "inverse_exchange_rate": self._money("1.0"),
            "status": {"id": state["status_id"], "displayed_as": state["status_id"].capitalize()},
            kind.lines: [self._line(line, known, nested) for line in lines],
            "editable": documents.is_open(state),
            "sent": False,
            "sent_by_email": False,
        }

    def _add_payments(self, shown: dict[str, Any], state: Mapping[str, Any]) -> None:
        total = documents.total_of(documents.INVOICE, state).total
        paid = total if state["status_id"] == documents.PAID else Decimal(0)
        # What is void is owed by nobody.
        owed = Decimal(0) if state["status_id"] == documents.VOID else total - paid
        shown |= {
            "total_paid": self._amount(paid),
            "payments_allocations_total_amount": self._amount(paid),
            "outstanding_amount": self._amount(owed),
            "base_currency_outstanding_amount": self._amount(owed),
            "void_reason": state.get("void_reason"),
            "original_quote_estimate": None,
        }

    def _line(
        self, line: Mapping[str, Any], known: Mapping[str, Record], nested: frozenset[str] | None
    ) -> dict[str, Any]:
        shown = {"id": line["id"], "displayed_as": line["description"]}
        if nested is None:
            return shown
        amounts = documents.amounts_of(line)
        whole = {
            **shown,
            "description": line["description"],
            "product": _base(known[line["product_id"]]) if line.get("product_id") in known else None,
            "service": None,
            "ledger_account": reference.base("ledger_accounts", line["ledger_account_id"]),
            "quantity": self._money(line["quantity"]),
            "unit_price": self._money(line["unit_price"]),
            "unit_price_includes_tax": False,
            "discount_amount": self._money(line.get("discount_amount") or "0.0"),
            "net_amount": self._amount(amounts.net),
            "tax_rate": reference.base("tax_rates", line.get("tax_rate_id")),
            "tax_amount": self._amount(amounts.tax),
            "total_amount": self._amount(amounts.total),
        }
        return chosen(whole, nested)

    def _amount(self, amount: Decimal) -> str | float | None:
        return self._money(money(amount))

    def _money(self, amount: str | None) -> str | float | None:
        return amount if amount is None or self._switches.money == "string" else float(amount)


def _pointers(record: Record) -> Iterable[str]:
    names = [f"{name}_id" for name in _PART_COLLECTIONS] if record.resource == "contacts" else ["address_id"]
    keys = [record.state.get(name) for name in names]
    if record.resource != CONTACT_PERSONS.name:
        keys.append(record.contact_id)
    if kind := DOCUMENTS.get(record.resource):
        keys += [line.get("product_id") for line in record.state[kind.lines]]
    return [key for key in keys if key]


def _types(collection: str, state: Mapping[str, Any]) -> list[dict[str, str] | None]:
    return [reference.base(collection, key) for key in state.get(f"{collection[:-1]}_ids") or ()]


def _base(record: Record) -> dict[str, Any]:
    state = record.state
    shown = state.get("name") or documents.number_of(state) or state.get("description") or ""
    if record.resource == "contacts" and state.get("reference"):
        shown = f"{shown} ({state['reference']})"
    return {"id": record.id, "displayed_as": shown, "$path": f"/{record.resource}/{record.id}"}

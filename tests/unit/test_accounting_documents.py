"""Orders as sales quotes and sales invoices of Sage Accounting, and back: money, tax, discounts, digits."""

from __future__ import annotations

import json
from copy import deepcopy
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webapp.orders.amounts import LineValues, lines_text, read_lines
from workers.sage.accounting import documents
from workers.sage.accounting.documents import (
    INVOICES,
    QUOTES,
    Document,
    completed,
    create_body,
    rate_of,
    rates_of,
    remote_order,
    update_body,
)
from workers.sage.accounting.objects import NotUnderstood
from workers.sage.connector import Rejected, Tombstone
from workers.sage.http import Complaint, parsed

SPEC = Path(__file__).resolve().parents[3] / "shared/sage/accounting-v3.1-swagger.json"
KEY = "0123456789abcdef0123456789abcdef"
CONTACT = "c" * 32
SALES = "s" * 32
RATES = rates_of(
    [
        {"id": "GB_EXEMPT", "percentage": "0.0"},
        {"id": "GB_STANDARD", "percentage": "20.0"},
        {"id": "GB_LOWER", "percentage": 5},
        {"id": "GB_ZERO", "percentage": Decimal("0.00")},
        {"id": "GB_OTHER", "percentage": Decimal("20.00")},
        {"id": "COMBINED", "percentage": None},
    ]
)
CHAI = LineValues("Chai", Decimal(3), Decimal("18.00"), Decimal("1.50"), Decimal(20))
TOFU = LineValues("Tofu", Decimal("0.125"), Decimal("23.25"), Decimal(0), Decimal(5))
FIELDS = {
    "number": "10248",
    "ordered_on": "1996-07-04",
    "valid_until": "1996-08-01",
    "notes": "Ring\ntwice.",
    "shipping": "32.38",
    "lines": lines_text([CHAI, TOFU]),
}
QUOTE: dict[str, Any] = {
    "id": "q" * 32,
    "displayed_as": "SQ-7",
    "quote_number": "SQ-7",
    "contact": {"id": CONTACT, "displayed_as": "Alfreds"},
    "date": "1996-07-04",
    "expiry_date": "1996-08-01",
    "reference": "10248",
    "notes": "Ring\r\ntwice.",
    "shipping_net_amount": "32.38",
    "shipping_tax_rate": {"id": "GB_ZERO"},
    "status": {"id": "SOMETHING_NEW", "displayed_as": "?"},
    "quote_lines": [
        {
            "id": "1",
            "description": " Chai ",
            "product": {"id": "chai"},
            "service": None,
            "ledger_account": {"id": "products"},
            "quantity": "3.0",
            "unit_price": "18.0",
            "discount_amount": "1.5",
            "tax_rate": {"id": "GB_STANDARD"},
            "tax_amount": "10.5",
            "eu_sales_description": {"id": "NEVER_HEARD_OF"},
            "unit_price_includes_tax": False,
        },
        {
            "id": "2",
            "description": "Tofu",
            "ledger_account": {"id": "food"},
            "quantity": Decimal("0.125"),
            "unit_price": Decimal("23.25"),
            "discount_amount": None,
            "tax_rate": {"id": "GB_LOWER"},
            "tax_amount": Decimal("0.15"),
        },
    ],
    "created_at": "2026-11-01T08:00:00Z",
    "updated_at": "2026-11-02T09:00:00Z",
}


# What an invoice has in place of what a quote has.
AS_INVOICE = {
    "sales_quote": "sales_invoice",
    "quote_lines": "invoice_lines",
    "quote_number": "invoice_number",
    "expiry_date": "due_date",
}


@pytest.fixture(params=[QUOTES, INVOICES], ids=["quotes", "invoices"])
def document(request: pytest.FixtureRequest) -> Document:
    found: Document = request.param
    return found


def named(document: Document, quote: dict[str, Any]) -> dict[str, Any]:
    """A quote, or the body of one, in the names of a document."""
    if document is QUOTES:
        return quote
    return {
        AS_INVOICE.get(name, name): named(document, value) if isinstance(value, dict) else value
        for name, value in quote.items()
    }


def item(document: Document, **changes: Any) -> dict[str, Any]:
    """The document with changes; `line__x` changes its first line. Names are those of a quote."""
    whole = deepcopy(QUOTE)
    for name, value in changes.items():
        if name.startswith("line__"):
            whole["quote_lines"][0][name.removeprefix("line__")] = value
        else:
            whole[name] = value
    return named(document, whole)


def as_listed(document: Document, **changes: Any) -> dict[str, Any]:
    """The document as a list shows it that only names the lines."""
    lines = [{"id": one["id"], "displayed_as": one["description"]} for one in QUOTE["quote_lines"]]
    totals = {
        "net_amount": "87.79",
        "tax_amount": "10.65",
        "shipping_tax_amount": "0.0",
        "total_quantity": "3.125",
        "total_discount_amount": "1.5",
    }
    return item(document, **{"quote_lines": lines, **totals, **changes})


def lines_of(document: Document, read: dict[str, Any]) -> list[LineValues]:
    return read_lines(remote_order(document, read, RATES).fields["lines"])


class TestReading:
    def test_a_document_in_our_words(self, document: Document) -> None:
        read = remote_order(document, item(document), RATES)

        assert read.fields == FIELDS
        assert (read.id, read.number, read.parent, read.origin) == ("q" * 32, "SQ-7", CONTACT, "")
        assert read.updated_at == datetime(2026, 11, 2, 9, tzinfo=UTC)

    def test_money_keeps_its_digits_as_text_and_as_number(self, document: Document) -> None:
        text = json.dumps(item(document, line__unit_price="123456789012.34", shipping_net_amount="0.1"), default=str)
        numbers = text.replace('"123456789012.34"', "123456789012.34").replace('"0.1"', "0.1")

        for said in (text, numbers):
            read = remote_order(document, parsed(said.encode()), RATES)
            assert read.fields["shipping"] == "0.10"
            assert read_lines(read.fields["lines"])[0].unit_price == Decimal("123456789012.34")

    @pytest.mark.parametrize(
        ("price", "text"),
        [("1.005", "1.005"), ("0.0125", "0.0125"), ("2", "2.00"), (7, "7.00"), (None, "0.00"), ("1.10000", "1.10")],
    )
    def test_prices_keep_what_is_beyond_the_cent(self, document: Document, price: object, text: str) -> None:
        """A thousand pieces at 0.0125 are 12.50, and not the 10.00 that a price of 0.01 would make of them."""
        read = remote_order(document, item(document, line__unit_price=price), RATES)
        assert json.loads(read.fields["lines"])[0]["unit_price"] == text
        changed = {**read.fields, "lines": read.fields["lines"].replace("Chai", "Chang")}
        sent = update_body(document, changed, read, SALES, RATES)[document.key][document.lines]
        assert Decimal(str(sent[0]["unit_price"])) == Decimal(text)

    def test_quantities_keep_their_decimals(self, document: Document) -> None:
        assert lines_of(document, item(document, line__quantity="0.12345"))[0].quantity == Decimal("0.12345")

    def test_the_noise_of_a_double_is_no_other_price(self, document: Document) -> None:
        said = json.dumps(item(document, line__unit_price=0.1 + 0.2, line__quantity=1.1 * 3), default=str)
        line = lines_of(document, parsed(said.encode()))[0]
        assert (line.unit_price, line.quantity) == (Decimal("0.3"), Decimal("3.3"))

    def test_what_is_null_or_missing_is_empty_or_zero(self, document: Document) -> None:
        bare = named(document, {name: QUOTE[name] for name in ("id", "contact", "date", "expiry_date", "updated_at")})
        empty = {**FIELDS, "number": "", "notes": "", "shipping": "0.00", "lines": "[]"}

        assert remote_order(document, bare, RATES).fields == empty
        nulls = {**bare, "reference": None, "notes": None, "shipping_net_amount": None, document.lines: None}
        assert remote_order(document, nulls, RATES).fields == empty

    def test_a_line_without_a_tax_rate_has_no_tax(self, document: Document) -> None:
        assert lines_of(document, item(document, line__tax_rate=None))[0].tax_rate == 0

    @pytest.mark.parametrize(
        "changes",
        [
            {"contact": None},
            {"date": None},
            {"expiry_date": "soon"},
            {"created_at": None, "updated_at": None},
            {"shipping_net_amount": "much"},
            {"shipping_net_amount": True},
            {"line__quantity": "0"},
            {"line__quantity": "NaN"},
            {"line__unit_price": "-1"},
            {"line__unit_price": "1e40"},
            {"line__unit_price": "1e13"},
            {"line__quantity": "1e13"},
            {"line__discount_amount": "-1"},
            {"line__description": {"text": "Chai"}},
            {"line__tax_rate": {"id": "UNHEARD_OF"}},
            {"line__unit_price_includes_tax": True},
        ],
    )
    def test_what_no_order_can_say_is_not_understood(self, document: Document, changes: dict[str, Any]) -> None:
        with pytest.raises(NotUnderstood):
            remote_order(document, item(document, **changes), RATES)

    def test_a_list_that_only_names_the_lines_is_recognised(self, document: Document) -> None:
        named_alone = [{"id": "1", "displayed_as": "Chai"}]
        assert documents.has_its_lines(document, item(document))
        assert documents.has_its_lines(document, item(document, quote_lines=[]))
        assert not documents.has_its_lines(document, item(document, quote_lines=named_alone))
        with pytest.raises(NotUnderstood):
            remote_order(document, item(document, quote_lines=named_alone), RATES)

    def test_what_a_list_tells_is_true_of_the_order_that_it_was_read_as(self, document: Document) -> None:
        fields = remote_order(document, item(document), RATES).fields
        shown = as_listed(document)
        assert not documents.has_its_lines(document, shown)
        assert documents.agrees(document, shown, fields)
        # With the shipping or without it, as text or as number.
        without = as_listed(document, net_amount=Decimal("55.41"), tax_amount=10.65, shipping_tax_amount="3.00")
        both = as_listed(document, net_amount="87.79", tax_amount="13.65", shipping_tax_amount=3)
        assert documents.agrees(document, without, fields)
        assert documents.agrees(document, both, fields)
        assert not documents.agrees(document, {**without, "tax_amount": "13.65"}, fields)

    @pytest.mark.parametrize("name", ["net_amount", "tax_amount", "total_quantity", "total_discount_amount"])
    @pytest.mark.parametrize("value", ["1.0", None, "much"])
    def test_a_total_that_is_another_or_none_agrees_with_nothing(
        self, document: Document, name: str, value: str | None
    ) -> None:
        fields = remote_order(document, item(document), RATES).fields
        shown = as_listed(document)
        assert not documents.agrees(document, {**shown, name: value}, fields)
        del shown[name]
        assert not documents.agrees(document, shown, fields)

    @pytest.mark.parametrize(
        "changes",
        [
            {"reference": "10249"},
            {"notes": "Ring."},
            {"date": "1996-07-05"},
            {"expiry_date": "1996-08-02"},
            {"date": None},
            {"shipping_net_amount": "32.39"},
            {"quote_lines": [{"id": "1", "displayed_as": "Chai"}]},
        ],
    )
    def test_a_list_that_tells_something_else_does_not_agree(self, document: Document, changes: dict[str, Any]) -> None:
        fields = remote_order(document, item(document), RATES).fields
        assert not documents.agrees(document, as_listed(document, **changes), fields)
        assert not documents.agrees(document, as_listed(document), {**fields, "lines": "none"})

    def test_of_what_a_list_tells_no_time_nothing_is_known(self, document: Document) -> None:
        shown = [as_listed(document), as_listed(document, updated_at=None), as_listed(document, id=None)]
        (listed,) = documents.listed(document, shown)
        assert (listed.id, listed.updated_at) == ("q" * 32, datetime(2026, 11, 2, 9, tzinfo=UTC))
        assert listed.agrees(remote_order(document, item(document), RATES).fields)

    def test_an_invoice_without_a_reference_is_known_by_its_own_number(self) -> None:
        """It is in the books: nothing is written to it for that, and its reference stays empty with whatever is."""
        read = remote_order(INVOICES, item(INVOICES, reference=" "), RATES)
        assert read.fields["number"] == "SQ-7"
        assert remote_order(QUOTES, item(QUOTES, reference=" "), RATES).fields["number"] == ""
        for number, reference in (("SQ-7", " "), ("10249", "10249")):
            sent = update_body(INVOICES, {**read.fields, "number": number}, read, SALES, RATES)["sales_invoice"]
            assert sent["reference"] == reference

    def test_an_invoice_need_not_say_when_it_is_due_nor_of_how_many_a_line_is(self) -> None:
        read = remote_order(INVOICES, item(INVOICES, expiry_date=None, line__quantity=None), RATES)
        assert read.fields["valid_until"] == read.fields["ordered_on"] == "1996-07-04"
        assert read_lines(read.fields["lines"])[0].quantity == 1
        sent = update_body(INVOICES, read.fields, read, SALES, RATES)["sales_invoice"]
        assert "quantity" not in sent["invoice_lines"][0]
        for missing in ({"expiry_date": None}, {"line__quantity": None}):
            with pytest.raises(NotUnderstood):
                remote_order(QUOTES, item(QUOTES, **missing), RATES)

    def test_only_an_invoice_can_be_void(self) -> None:
        void = {"status": {"id": "VOID", "displayed_as": "Void"}}
        assert INVOICES.is_void(item(INVOICES, **void))
        assert not QUOTES.is_void(item(QUOTES, **void))
        for status in (None, {"id": "PAID"}, {"id": "UNPAID"}, {"id": "SOMETHING_NEW"}):
            assert not INVOICES.is_void(item(INVOICES, status=status))
        when = datetime(2026, 11, 2, 9, tzinfo=UTC)
        assert documents.tombstone_of_void(item(INVOICES, **void)) == Tombstone("q" * 32, when)


class TestBusiness:
    def test_a_rate_is_chosen_by_its_percentage(self) -> None:
        assert [rate_of(RATES, Decimal(one)) for one in ("20", "5.000", "0", "19")] == [
            "GB_STANDARD",
            "GB_LOWER",
            "GB_ZERO",
            None,
        ]
        assert rate_of(rates_of([{"id": "DE_EXEMPT", "percentage": 0}]), Decimal(0)) == "DE_EXEMPT"

    @pytest.mark.parametrize(
        ("accounts", "chosen"),
        [
            (
                [("debtors", "SALES", True, True), ("other", "OTHER", True, False), ("sales", "SALES", True, False)],
                "sales",
            ),
            ([("hidden", "OTHER", False, False), ("other", None, True, False)], "other"),
            ([("debtors", "SALES", True, True)], ""),
        ],
    )
    def test_lines_are_booked_on_an_account_for_sales(
        self, accounts: list[tuple[str, str | None, bool, bool]], chosen: str
    ) -> None:
        items = [
            {
                "id": key,
                "ledger_account_type": {"id": kind} if kind else None,
                "visible_in_sales": visible,
                "is_control_account": control,
            }
            for key, kind, visible, control in accounts
        ]
        assert documents.sales_account_of(items) == chosen


class TestWriting:
    def test_a_new_document(self, document: Document) -> None:
        assert create_body(document, FIELDS, KEY, CONTACT, SALES, RATES) == named(
            document,
            {
                "sales_quote": {
                    "idempotency_id": KEY,
                    "contact_id": CONTACT,
                    "date": "1996-07-04",
                    "expiry_date": "1996-08-01",
                    "reference": "10248",
                    "notes": "Ring\ntwice.",
                    "shipping_net_amount": 32.38,
                    "shipping_tax_rate_id": "GB_ZERO",
                    "quote_lines": [
                        {
                            "ledger_account_id": SALES,
                            "description": "Chai",
                            "quantity": 3,
                            "unit_price": 18,
                            "discount_amount": 1.5,
                            "tax_rate_id": "GB_STANDARD",
                            "tax_amount": 10.5,
                        },
                        {
                            "ledger_account_id": SALES,
                            "description": "Tofu",
                            "quantity": 0.125,
                            "unit_price": 23.25,
                            "tax_rate_id": "GB_LOWER",
                            # 0.125 x 23.25 = 2.90625, so 2.91, of which 5% are 0.1455.
                            "tax_amount": 0.15,
                        },
                    ],
                }
            },
        )

    def test_what_is_empty_is_left_out_of_a_new_quote_and_a_line_without_tax_has_no_amount_of_it(
        self, document: Document
    ) -> None:
        book = LineValues("A book", Decimal(1), Decimal("9.99"))
        little = {**FIELDS, "number": "", "notes": "", "shipping": "0.00", "lines": lines_text([book])}

        made = create_body(document, little, KEY, CONTACT, SALES, RATES)[document.key]

        assert made.keys() == {"idempotency_id", "contact_id", "date", document.until, document.lines}
        (line,) = made[document.lines]
        assert line["tax_rate_id"] == "GB_ZERO"
        assert {"tax_amount", "discount_amount"}.isdisjoint(line)

    def test_an_update_sends_all_lines_and_keeps_what_is_not_ours(self, document: Document) -> None:
        new = LineValues("New", Decimal(1), Decimal(1))
        fields = {
            **FIELDS,
            "notes": "",
            "number": "",
            "lines": lines_text([TOFU, LineValues("Chai", Decimal(4), Decimal(18), Decimal(0), Decimal(20)), new]),
        }

        sent = update_body(document, fields, remote_order(document, item(document), RATES), SALES, RATES)[document.key]

        assert (sent["notes"], sent["reference"], sent["contact_id"]) == ("", "", CONTACT)
        assert (sent["shipping_net_amount"], sent["shipping_tax_rate_id"]) == (32.38, "GB_ZERO")
        assert sent[document.lines] == [
            {
                "description": "Tofu",
                "quantity": 0.125,
                "unit_price": 23.25,
                "tax_amount": 0.15,
                "ledger_account_id": "food",
                "tax_rate_id": "GB_LOWER",
            },
            {
                "description": " Chai ",
                "quantity": 4,
                "unit_price": 18,
                "tax_rate_id": "GB_STANDARD",
                "tax_amount": 14.4,
                "ledger_account_id": "products",
                "product_id": "chai",
                "eu_sales_description_id": "NEVER_HEARD_OF",
            },
            {
                "ledger_account_id": SALES,
                "description": "New",
                "quantity": 1,
                "unit_price": 1,
                "tax_rate_id": "GB_ZERO",
            },
        ]

    @pytest.mark.parametrize(("percentage", "rate"), [("20", "GB_OTHER"), ("5", "GB_LOWER")])
    def test_a_changed_line_keeps_its_rate_while_the_percentage_is_the_same(
        self, document: Document, percentage: str, rate: str
    ) -> None:
        remote = remote_order(document, item(document, line__tax_rate={"id": "GB_OTHER"}), RATES)
        line = LineValues("Chai", Decimal(9), Decimal(18), Decimal(0), Decimal(percentage))

        sent = update_body(document, {**FIELDS, "lines": lines_text([line])}, remote, SALES, RATES)

        assert sent[document.key][document.lines][0]["tax_rate_id"] == rate

    def test_of_two_lines_with_one_description_each_keeps_its_own(self, document: Document) -> None:
        twice = item(document)
        twice[document.lines][1] = {**twice[document.lines][0], "quantity": "5", "ledger_account": {"id": "second"}}
        remote = remote_order(document, twice, RATES)
        first, second = read_lines(remote.fields["lines"])
        first.quantity = Decimal(7)

        sent = update_body(document, {**FIELDS, "lines": lines_text([second, first])}, remote, SALES, RATES)[
            document.key
        ]

        assert [(one["quantity"], one["ledger_account_id"]) for one in sent[document.lines]] == [
            (5, "second"),
            (7, "products"),
        ]

    def test_what_sage_answers_with_less_is_what_was_sent(self, document: Document) -> None:
        body = create_body(document, FIELDS, KEY, CONTACT, SALES, RATES)
        stored = json.loads(json.dumps(body))
        short = {
            **{name: QUOTE[name] for name in ("id", "contact", "updated_at")},
            document.lines: [{"id": "1", "displayed_as": "Chai"}, {"id": "2", "displayed_as": "Tofu"}],
        }

        assert remote_order(document, completed(document, short, stored), RATES).fields == FIELDS

    @pytest.mark.parametrize(
        ("changes", "detail"),
        [
            ({"number": "x" * 26}, {"code": "too_long", "field": "number", "limit": 25}),
            ({"notes": "x" * 2001}, {"code": "too_long", "field": "notes", "limit": 2000}),
            ({"ordered_on": ""}, {"code": "missing", "field": "ordered_on"}),
            ({"valid_until": "tomorrow"}, {"code": "malformed", "field": "valid_until"}),
            ({"shipping": "a lot"}, {"code": "malformed", "field": "shipping"}),
            ({"lines": "[]"}, {"code": "missing", "field": "lines"}),
            ({"lines": '[{"description": "x"}]'}, {"code": "malformed", "field": "lines"}),
            ({"lines": "Chai"}, {"code": "malformed", "field": "lines"}),
            ({"lines": lines_text([LineValues("", Decimal(1), Decimal(1))])}, {"code": "missing", "field": "lines"}),
            (
                {"lines": lines_text([LineValues("x", Decimal(1), Decimal(1), tax_rate=Decimal("17.5"))])},
                {"code": "no_tax_rate", "field": "lines", "percentage": "17.5"},
            ),
        ],
    )
    def test_what_sage_would_refuse_is_refused(
        self, document: Document, changes: dict[str, str], detail: dict[str, Any]
    ) -> None:
        remote = remote_order(document, item(document), RATES)
        with pytest.raises(Rejected) as refused:
            create_body(document, {**FIELDS, **changes}, KEY, CONTACT, SALES, RATES)
        assert refused.value.detail == detail
        with pytest.raises(Rejected) as refused:
            update_body(document, {**FIELDS, **changes}, remote, SALES, RATES)
        assert refused.value.detail == detail

    def test_shipping_needs_a_zero_rate(self, document: Document) -> None:
        rates = {"GB_STANDARD": Decimal(20)}
        lines = lines_text([CHAI])
        assert create_body(document, {**FIELDS, "lines": lines, "shipping": ""}, KEY, CONTACT, SALES, rates)
        with pytest.raises(Rejected) as refused:
            create_body(document, {**FIELDS, "lines": lines}, KEY, CONTACT, SALES, rates)
        assert refused.value.detail == {"code": "no_tax_rate", "field": "shipping", "percentage": "0"}

    @pytest.mark.parametrize(
        ("source", "message", "detail"),
        [
            ("reference", "is already used", {"code": "code_taken", "field": "number", "value": "10248"}),
            ("{key}.{until}", "cannot be before the date", {"code": "refused", "field": "valid_until"}),
            ("line_items.tax_rate_id", "This field is required.", {"code": "missing", "field": "lines"}),
            ("{lines}.tax_amount", "is wrong", {"code": "refused", "field": "lines"}),
            ("shipping_tax_rate_id", "This field is required.", {"code": "missing", "field": "shipping"}),
            ("notes", "is too long", {"code": "too_long", "field": "notes", "limit": 2000}),
            ("contact_id", "needs a customer", {"code": "company_refused"}),
            ("", "This record cannot be saved.", {"code": "refused"}),
        ],
    )
    def test_a_refusal_names_our_field(
        self, document: Document, source: str, message: str, detail: dict[str, Any]
    ) -> None:
        body = create_body(document, FIELDS, KEY, CONTACT, SALES, RATES)
        complaint = Complaint("RecordInvalid", message, source.format(**vars(document)))
        assert documents.refusal(document, [complaint], body) == detail


@pytest.mark.skipif(not SPEC.exists(), reason="Sage's Swagger file is not in ../shared")
def test_all_that_is_asked_and_sent_has_the_names_of_sages_file(document: Document) -> None:
    spec = json.loads(SPEC.read_text(encoding="utf-8"))
    paths, shapes = spec["paths"], spec["definitions"]

    def shape_of(method: str, path: str) -> dict[str, Any]:
        (body,) = [one for one in paths[path][method]["parameters"] if one["in"] == "body"]
        found: dict[str, Any] = shapes[body["schema"]["$ref"].rpartition("/")[2]]["properties"][document.key]
        return found

    answered = shapes[
        paths[f"/{document.collection}/{{key}}"]["get"]["responses"]["200"]["schema"]["$ref"].split("/")[-1]
    ]
    assert set(document.asked["attributes"].split(",")) <= answered["properties"].keys()
    for path, asked in (
        (f"/{document.collection}", document.asked),
        (f"/{document.collection}/{{key}}", document.asked_of_one),
    ):
        assert asked.keys() <= {one["name"] for one in paths[path]["get"]["parameters"]}
    # Deletions are told of what is booked, and of nothing else.
    names = {one["name"] for one in paths[f"/{document.collection}"]["get"]["parameters"]}
    assert ("deleted_since" in names, "updated_or_created_since" in names) == (document.is_booked, True)

    remote = remote_order(document, item(document), RATES)
    bodies = {
        "post": create_body(document, FIELDS, KEY, CONTACT, SALES, RATES),
        "put": update_body(document, FIELDS, remote, SALES, RATES),
    }
    for method, body in bodies.items():
        shape = shape_of(method, f"/{document.collection}" + ("/{key}" if method == "put" else ""))
        sent = body[document.key]
        assert set(shape.get("required", ())) <= sent.keys() <= {*shape["properties"], "idempotency_id"}
        line = shape["properties"][document.lines]["items"]
        for one in sent[document.lines]:
            assert set(line.get("required", ())) <= one.keys() <= line["properties"].keys()


AMOUNTS = st.decimals(min_value=0, max_value=999_999_999, places=2)
LINES = st.builds(
    LineValues,
    st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=20),
    st.decimals(min_value=Decimal("0.001"), max_value=99_999, places=3),
    AMOUNTS,
    AMOUNTS,
    st.sampled_from([Decimal(20), Decimal(5), Decimal(0)]),
)


@given(st.sampled_from([QUOTES, INVOICES]), st.lists(LINES, min_size=1, max_size=4), AMOUNTS)
def test_every_amount_survives_the_way_there_and_back(
    document: Document, lines: list[LineValues], shipping: Decimal
) -> None:
    fields = {**FIELDS, "lines": lines_text(lines), "shipping": f"{shipping:.2f}"}

    body = create_body(document, fields, KEY, CONTACT, SALES, RATES)
    answer = completed(
        document, {name: QUOTE[name] for name in ("id", "updated_at")}, parsed(json.dumps(body).encode())
    )
    read = remote_order(document, answer, RATES)
    assert read.fields == fields

    again = parsed(json.dumps(update_body(document, fields, read, SALES, RATES)).encode())
    answer = completed(document, {name: QUOTE[name] for name in ("id", "updated_at")}, again)
    assert remote_order(document, answer, RATES).fields == fields

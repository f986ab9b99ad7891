"""The engine with the connector of Sage Accounting, on a sandbox: what they say to each other fits, for all kinds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import select

from tests.accounting import accounting, token_of
from tests.integration.test_engine import LINES, Engine
from tests.sandbox_process import SandboxProcess
from webapp.orders.amounts import LineValues, lines_text
from webapp.orders.models import Order
from webapp.services import Services
from webapp.status import Reason
from workers.engine import pull
from workers.engine.unchanged import Settled
from workers.sage.connector import Connector, OutcomeUnknown


class OnSandbox(Engine):
    """The engine, connected to a sandbox instead of to a Sage in memory."""

    def __init__(self, services: Services, sandbox: SandboxProcess) -> None:
        super().__init__(services)
        self._base_url, self._token = sandbox.base_url, token_of(sandbox)

    @contextmanager
    def connect(self, services: Services, connection_id: int, before_write: Callable[[], None]) -> Iterator[Connector]:
        with accounting(self._base_url, self._token, before_write=before_write) as connector:
            yield connector


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[SandboxProcess]:
    with SandboxProcess().start(var=tmp_path) as running:
        yield running


def test_a_company_its_contact_and_its_order_travel_there_and_back(services: Services, sandbox: SandboxProcess) -> None:
    engine = OnSandbox(services, sandbox)
    company_id = engine.add()
    contact_id = engine.add_contact(company_id, phone="030-1", mobile="0170-2")
    order_id = engine.add_order(company_id, shipping=Decimal("7.50"), notes="Leave it\nat the door.")
    engine.push()
    company, contact, order = engine.company(company_id), engine.contact(contact_id), engine.order(order_id)
    assert [(one.sync_reason, one.sync_detail) for one in (company, contact, order)] == [
        (Reason.IN_STEP, {"code": "in_step"})
    ] * 3
    versions = [company.sync_version, contact.sync_version, order.sync_version]
    engine.pull()
    engine.push()
    company, contact, order = engine.company(company_id), engine.contact(contact_id), engine.order(order_id)
    assert [company.sync_version, contact.sync_version, order.sync_version] == versions, "an echo is nothing new"
    assert len(sandbox.ledger()) == 3

    with accounting(sandbox.base_url, token_of(sandbox)) as sage:
        person = sage.persons.read(contact.sage_id or "")
        quote = sage.orders.read(order.sage_id or "")
        assert (person.parent, quote.parent) == (company.sage_id, company.sage_id)
        sage.persons.update(person.id, sage.persons.update_body({**person.fields, "role": "Owner"}, person))
        lines = lines_text([*LINES, LineValues("Tofu", Decimal("0.125"), Decimal("23.25"), Decimal(0), Decimal(5))])
        sage.orders.update(quote.id, sage.orders.update_body({**quote.fields, "lines": lines}, quote))
        theirs = sage.orders.create(
            sage.orders.create_body({**quote.fields, "number": "", "notes": "By hand"}, "0" * 32, company.sage_id or "")
        )
    # Sage's times are whole seconds: of two states of one second nobody can tell which is newer, and the push looks.
    engine.pull()
    engine.push()
    contact, order = engine.contact(contact_id), engine.order(order_id)
    assert (contact.role, contact.sync_reason) == ("Owner", Reason.IN_STEP)
    assert (lines_text(order.lines), order.sync_reason) == (lines, Reason.IN_STEP)
    made = engine.order(order_id + 1)
    assert (made.number, made.notes, made.sync_reason) == (theirs.number, "By hand", Reason.IN_STEP)

    sandbox.delete(theirs.id, "sales_quotes")
    engine.sql("UPDATE sync_cursor SET watermark = :past WHERE entity LIKE '%whole'", past=_hours_ago(2))
    engine.pull()
    engine.push()
    assert engine.order(made.id).sync_reason == Reason.DELETED_IN_SAGE
    assert engine.order(order_id).sync_reason == Reason.IN_STEP

    with accounting(sandbox.base_url, token_of(sandbox)) as sage:
        body = sage.orders.update_body({**quote.fields, "notes": "Of nothing"}, quote)
        body["sales_quote"]["quote_lines"][0] |= {"quantity": 0, "discount_amount": 0}
        with pytest.raises(OutcomeUnknown):
            sage.orders.update(quote.id, body)
    engine.pull()
    assert engine.order(order_id).sync_reason == Reason.QUEUED, "what cannot be understood is in step with nothing"
    engine.push()
    order = engine.order(order_id)
    assert (order.sync_reason, order.sync_detail["code"], order.notes) == (
        Reason.REJECTED,
        "not_understood",
        "Leave it\nat the door.",
    )
    version = order.sync_version
    engine.pull()
    engine.push()
    assert engine.order(order_id).sync_version == version


def test_a_second_reading_of_all_quotes_costs_its_pages_and_a_call_for_each_that_changed(
    services: Services, sandbox: SandboxProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Settled, "_is_its_turn", lambda settled, sage_id: False)
    monkeypatch.setattr(pull, "WHOLE_OFTEN", timedelta(0))
    engine = OnSandbox(services, sandbox)
    customer = sandbox.add(name="Alfreds", main_address={"country_id": "DE"})["id"]
    account = "1edcea0401011f0a1b8c2d3e4f504010"
    taxed = {
        "ledger_account_id": account,
        "description": "Chai",
        "tax_rate_id": "GB_STANDARD",
        "discount_amount": "0.5",
    }
    quotes = 5
    made = [
        sandbox.add(
            "sales_quotes",
            contact_id=customer,
            reference=f"Q{number}",
            shipping_net_amount="3.5",
            shipping_tax_rate_id="GB_ZERO",
            quote_lines=[{**taxed, "quantity": f"{number + 1}.125", "unit_price": "19.99"}],
        )["id"]
        for number in range(quotes)
    ]

    def calls_of_a_pull() -> int:
        before = sandbox.requests().get("GET sales_quotes", 0)
        engine.pull()
        return sandbox.requests()["GET sales_quotes"] - before

    assert calls_of_a_pull() == 1 + quotes
    # As if that reading had begun long after the last change.
    engine.sql("UPDATE sync_run SET started_at = started_at + interval '1 h'")
    assert calls_of_a_pull() == 1
    engine.sql("UPDATE sync_run SET started_at = started_at + interval '1 h'")
    sandbox.edit(made[0], "sales_quotes", notes="Changed")
    assert calls_of_a_pull() == 1 + 1
    engine.push()
    with services.database.unit_of_work() as work:
        orders = work.session.scalars(select(Order)).all()
        assert sorted(order.notes for order in orders) == [*[""] * (quotes - 1), "Changed"]
        assert {order.sync_reason for order in orders} == {Reason.IN_STEP}


def _hours_ago(hours: int) -> datetime:
    return datetime.now(UTC) - timedelta(hours=hours)

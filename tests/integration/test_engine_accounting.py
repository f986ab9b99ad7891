"""The engine with the connector of Sage Accounting, on a sandbox: what they say to each other fits, for all kinds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from tests.accounting import accounting, token_of
from tests.integration.test_engine import LINES, Engine
from tests.sandbox_process import SandboxProcess
from webapp.orders.amounts import LineValues, lines_text
from webapp.services import Services
from webapp.status import Reason
from workers.sage.connector import Connector


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


def _hours_ago(hours: int) -> datetime:
    return datetime.now(UTC) - timedelta(hours=hours)

"""The demo: two people who can sign in, and a connection to the sandbox. `synclight up` runs `python -m webapp.demo`.

A second run changes nothing, and neither does it undo what people did with the demo meanwhile.
"""

from __future__ import annotations

import sys
from urllib.parse import parse_qs, urlsplit

from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from webapp.config import Settings
from webapp.connection.changes import add_connection, choose_business
from webapp.connection.models import Connection
from webapp.connection.products import ACCOUNTING, PRODUCTS
from webapp.connection.queries import main_connection
from webapp.logs import configure
from webapp.run.up import DEMO_USERS, OTHER_PASSWORD, demo_password
from webapp.services import Services
from webapp.users.accounts import create_user, set_password
from webapp.users.passwords import is_password
from webapp.users.queries import find_by_email

# Seconds that a worker has for exchanging the code, which itself lives for 60.
_PATIENCE = 30


class DemoError(Exception):
    """The demo cannot be made. The text says why in one line."""


def make_users(services: Services) -> bool:
    """Make the demo users that are missing. Returns whether all of them have the demo's password.

    A password that somebody chose in the app is left alone, unless SYNCLIGHT_DEMO_PASSWORD names one.
    """
    password = demo_password(services.settings)
    all_known = True
    with services.database.unit_of_work() as work:
        for email, role in DEMO_USERS.items():
            user = find_by_email(work.session, email)
            if user is None:
                create_user(work, email, f"Demo {role}", role, password)
            elif not is_password(user.password_hash, password):
                if services.settings.demo_password is None:
                    all_known = False
                else:
                    set_password(work, user, password)
        work.commit()
    return all_known


def connect(services: Services) -> None:
    """Make a connection to the sandbox where there is none yet, and wait until it works.

    Raises DemoError.
    """
    settings = services.settings
    with services.database.unit_of_work() as work:
        connection = main_connection(work.session) or add_connection(work, settings)
        if connection.cycle_seconds != settings.cycle_seconds:
            connection.cycle_seconds = settings.cycle_seconds
            work.touch(connection)
        # One that was disconnected has its business still, and stays as its admin left it.
        is_new = connection.business_id is None
        connection_id = connection.id
        work.commit()
    if not is_new:
        return
    _authorise(services, connection_id)

    def chosen() -> bool:
        with services.database.unit_of_work() as work:
            connection = work.session.get_one(Connection, connection_id, with_for_update=True)
            offered = connection.offered or [{"id": ""}]
            return choose_business(work, connection, offered[0]["id"])

    try:
        Retrying(retry=retry_if_result(lambda done: not done), stop=stop_after_delay(_PATIENCE), wait=wait_fixed(0.1))(
            chosen
        )
    except RetryError:
        raise DemoError(
            f"no worker connected the sandbox within {_PATIENCE} s; see {settings.var}/log/worker.log"
        ) from None
    services.jobs.pull(connection_id)


def _authorise(services: Services, connection_id: int) -> None:
    """Agree on the sandbox's page as a person in a browser does, and hand the code that it sends back to a worker."""
    # Every start runs this module, and hardly any comes here: loading these would hold it up.
    import httpx2

    from webapp.connection.authorising import AuthorisationRequest

    settings = services.settings
    redirect_uri = f"{settings.origin}/connection/callback"
    asked = AuthorisationRequest.begin(connection_id)
    page = asked.address(PRODUCTS[ACCOUNTING], settings, redirect_uri)
    try:
        with httpx2.Client(timeout=10, trust_env=False) as browser:
            browser.get(page).raise_for_status()
            answer = browser.post(page, data={"decision": "approve"})
    except httpx2.HTTPError as error:
        raise DemoError(f"the sandbox on port {settings.sandbox_port} did not answer: {error}") from error
    answered = parse_qs(urlsplit(answer.headers.get("location", "")).query)
    if not asked.is_answered_by(answered.get("state", [""])[0]) or "code" not in answered:
        raise DemoError(f"the sandbox refused its consent with status {answer.status_code}")
    services.jobs.authorise(connection_id, answered["code"][0], redirect_uri, asked.verifier)


def main() -> int:
    """Make what is missing. Returns the exit status: OTHER_PASSWORD where a demo user has another password."""
    configure("demo")
    services = Services.open(Settings.load(), application_name="synclight-demo", pool_size=1)
    try:
        passwords_known = make_users(services)
        connect(services)
    except DemoError as error:
        print(error, file=sys.stderr)
        return 1
    return 0 if passwords_known else OTHER_PASSWORD


if __name__ == "__main__":
    sys.exit(main())

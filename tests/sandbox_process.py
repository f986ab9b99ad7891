"""A real sandbox in a process of its own, for tests."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import httpx2
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from workers.sandbox.__main__ import DEFAULT_CLIENT_ID, DEFAULT_CLIENT_SECRET

ROOT = Path(__file__).resolve().parent.parent
REDIRECT_URI = "http://127.0.0.1:1/callback"


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def local_client(**options: Any) -> httpx2.Client:
    """A client for what runs on this machine. It reads no certificates, which takes longer than most answers."""
    return httpx2.Client(verify=False, **options)


class SandboxProcess:
    """Starts, kills and restarts a sandbox and speaks with its /_sandbox. A context manager: the end stops it.

    with SandboxProcess().start(var=tmp_path) as sandbox:
        sandbox.fault("offline", times=3)
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0
        self._var = Path()
        self._extra: dict[str, str] = {}
        self.http = local_client(timeout=30)
        """For /_sandbox and the pages."""

    def start(self, port: int | None = None, var: Path | None = None, **environment: str) -> Self:
        """Start and wait until it answers. `var` is the folder of its state and must be given."""
        if var is None:
            raise ValueError("give the folder of the sandbox's state, such as pytest's tmp_path")
        self._port = port or free_port()
        self._var = var
        self._extra = environment
        self._spawn()
        return self

    def restart(self) -> None:
        """Stop it if it runs, then start it on the same port and state."""
        self.stop()
        self._spawn()

    def stop(self) -> None:
        """End it as an operator would (SIGTERM)."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash would (SIGKILL)."""
        self._end(signal.SIGKILL)

    @property
    def origin(self) -> str:
        """http://127.0.0.1:PORT, where the page for people, /token and /oauth2 are."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def base_url(self) -> str:
        """The base of the API, with /v3.1."""
        return f"{self.origin}/v3.1"

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None, "the sandbox does not run"
        return self._process.pid

    # --- what /_sandbox offers ----------------------------------------------------------------------------------------

    def ledger(self) -> list[dict[str, Any]]:
        """Each applied write in order."""
        return self._json("GET", "/_sandbox/ledger")  # type: ignore[no-any-return]

    def requests(self) -> dict[str, int]:
        """How often each list was asked since the start or the last reset: `{"GET contacts": 3}`."""
        return self._json("GET", "/_sandbox/requests")  # type: ignore[no-any-return]

    def contacts(self, business: str | None = None) -> list[dict[str, Any]]:
        """Every live contact, in full."""
        return self.records("contacts", business)

    def records(self, name: str, business: str | None = None) -> list[dict[str, Any]]:
        """Every live record of contacts, contact_persons or sales_quotes, in full."""
        return self._json("GET", f"/_sandbox/{name}", params={"business": business} if business else {})  # type: ignore[no-any-return]

    def add(self, name_of_list: str = "contacts", /, **fields: Any) -> dict[str, Any]:
        """Add a customer as a person in Sage would, or a record of another list: `add("sales_quotes", ...)`."""
        return self._json("POST", f"/_sandbox/{name_of_list}", json=fields)  # type: ignore[no-any-return]

    def edit(self, key: str, name_of_list: str = "contacts", /, **fields: Any) -> dict[str, Any]:
        """Change a customer as a person in Sage would: `edit(id, city="Berlin")`, or a record of another list."""
        return self._json("POST", f"/_sandbox/{name_of_list}/{key}", json=fields)  # type: ignore[no-any-return]

    def delete(self, key: str, name_of_list: str = "contacts") -> None:
        """Delete a customer as a person in Sage would, or a record of another list."""
        self._json("DELETE", f"/_sandbox/{name_of_list}/{key}")

    def fault(self, kind: str, match: Mapping[str, str] | None = None, times: int | None = None, **options: Any) -> str:
        """Switch a fault on. Returns its id."""
        asked = {"kind": kind, "match": dict(match or {}), "times": times, **options}
        return str(self._json("POST", "/_sandbox/faults", json=asked)["id"])

    def faults(self) -> list[dict[str, Any]]:
        """The faults that are on."""
        return self._json("GET", "/_sandbox/faults")  # type: ignore[no-any-return]

    def clear_fault(self, key: str) -> None:
        """Switch the fault with this id off, if it still is on."""
        self._json("DELETE", f"/_sandbox/faults/{key}")

    def clear_faults(self) -> None:
        """Switch every fault off."""
        self._json("DELETE", "/_sandbox/faults")

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Set switches such as `access_token_seconds=2`; returns all of them."""
        return self._json("POST", "/_sandbox/settings", json=changes)  # type: ignore[no-any-return]

    def expire_access_tokens(self) -> None:
        """Let every access token die now; refresh tokens live on."""
        self._json("POST", "/_sandbox/expire_access_tokens")

    def reset(self) -> None:
        """Forget records, ledger, faults and switches; tokens stay valid."""
        self._json("POST", "/_sandbox/reset")

    # --- an application that was authorised ---------------------------------------------------------------------------

    def authorise(self, **changes: str) -> dict[str, str]:
        """Consent as a person would: what the redirect carries (`code`, `country`, `state`) and the PKCE `verifier`."""
        verifier = secrets.token_urlsafe(48)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        form = {
            "filter": "apiv3.1",
            "response_type": "code",
            "client_id": DEFAULT_CLIENT_ID,
            "redirect_uri": REDIRECT_URI,
            "scope": "full_access",
            "state": "some-state",
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            **changes,
        }
        answer = self.http.post(f"{self.origin}/oauth2/auth/central", data=form, follow_redirects=False)
        assert answer.status_code == 302, answer.text
        query = parse_qs(urlsplit(answer.headers["location"]).query)
        return {"verifier": verifier, **{name: values[0] for name, values in query.items()}}

    def token(self, **form: str) -> httpx2.Response:
        """POST /token with the client's id and secret."""
        known = {"client_id": DEFAULT_CLIENT_ID, "client_secret": DEFAULT_CLIENT_SECRET}
        return self.http.post(f"{self.origin}/token", data={**known, **form})

    def connect(self) -> dict[str, Any]:
        """Consent and exchange the code: the answer with both tokens."""
        given = self.authorise()
        answer = self.token(
            grant_type="authorization_code",
            code=given["code"],
            redirect_uri=REDIRECT_URI,
            code_verifier=given["verifier"],
        )
        assert answer.status_code == 200, answer.text
        return answer.json()  # type: ignore[no-any-return]

    def client(self, business: str | None = None, base_url: str | None = None) -> httpx2.Client:
        """An authorised client of the API. `base_url` is another way to it, such as through a proxy."""
        headers = {"Authorization": f"Bearer {self.connect()['access_token']}"}
        if business:
            headers["X-Business"] = business
        return local_client(base_url=base_url or self.base_url, headers=headers, timeout=30)

    # --- the process --------------------------------------------------------------------------------------------------

    def _spawn(self) -> None:
        environment = {
            **os.environ,
            "SYNCLIGHT_SANDBOX_PORT": str(self._port),
            "SYNCLIGHT_VAR": str(self._var),
            **self._extra,
        }
        self._process = subprocess.Popen([sys.executable, "-m", "workers.sandbox"], cwd=ROOT, env=environment)
        for attempt in Retrying(
            retry=retry_if_exception_type(httpx2.TransportError),
            stop=stop_after_delay(20),
            wait=wait_fixed(0.05),
            reraise=True,
        ):
            with attempt:
                assert self._process.poll() is None, "the sandbox ended while it started"
                self.http.get(f"{self.origin}/_sandbox/settings")

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(timeout=10)
            self._process = None

    def _json(self, method: str, path: str, **options: Any) -> Any:
        answer = self.http.request(method, f"{self.origin}{path}", **options)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.http.close()

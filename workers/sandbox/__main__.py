"""Start the sandbox: `python -m workers.sandbox`.

Settings: SYNCLIGHT_SANDBOX_PORT and SYNCLIGHT_VAR, and the one application it knows, SYNCLIGHT_SANDBOX_CLIENT_ID and
SYNCLIGHT_SANDBOX_CLIENT_SECRET.
"""

from __future__ import annotations

import gc
import logging
import os
import sys

import gevent

from webapp.config import Settings, SettingsError
from workers.sandbox.sandbox import Sandbox
from workers.sandbox.server import serve
from workers.sandbox.store import StoreError

DEFAULT_CLIENT_ID = "synclight-sandbox"
DEFAULT_CLIENT_SECRET = "sandbox-secret"  # noqa: S105 - not a secret: the sandbox answers on this machine alone


def main() -> int:
    """Serve until stopped. Returns the exit status: 0, or 1 with one line that says what to do."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    try:
        settings = Settings.load()
        port = settings.sandbox_port
        sandbox = Sandbox(
            settings.var / "sandbox",
            f"http://127.0.0.1:{port}",
            os.environ.get("SYNCLIGHT_SANDBOX_CLIENT_ID", DEFAULT_CLIENT_ID),
            os.environ.get("SYNCLIGHT_SANDBOX_CLIENT_SECRET", DEFAULT_CLIENT_SECRET),
        )
    except (SettingsError, StoreError) as error:
        print(error, file=sys.stderr)
        return 1
    # A page of a list makes ten thousand objects that all go with its answer: looking through them takes a fifth of it.
    gc.freeze()
    gc.set_threshold(100_000)
    # What asks the kernel to wait in whole milliseconds rounds up each time that something else comes in between, and a
    # latency would be longer the more requests wait for it. This asks in microseconds.
    gevent.config.libev_backend = "select"
    try:
        serve(sandbox, port)
    except OSError as error:
        print(
            f"The sandbox cannot listen on 127.0.0.1:{port}: {error.strerror}. Set SYNCLIGHT_SANDBOX_PORT.",
            file=sys.stderr,
        )
        return 1
    finally:
        sandbox.store.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`synclight up`: all of the product on this machine, from its servers to the demo, until somebody stops it."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
import secrets
import shlex
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from string import Template

from webapp.config import Settings
from webapp.run import embedded
from webapp.run.programs import Program, ProgramError
from webapp.run.supervisor import StopAsked, Supervisor

ROOT = Path(__file__).resolve().parent.parent.parent

DEMO_USERS = {"admin@example.com": "admin", "sales@example.com": "sales"}

# How webapp.demo says that a demo user was there already, with another password.
OTHER_PASSWORD = 3

# What one program alone may know. The web has no key to the tokens of Sage, and no other program signs sessions.
_PRIVATE = {
    "SYNCLIGHT_TOKEN_KEYS": "worker",
    "SYNCLIGHT_SAGE_CLIENT_SECRET": "worker",
    "SYNCLIGHT_SECRET_KEY": "web",
    "SYNCLIGHT_METRICS_TOKEN": "web",
    "SYNCLIGHT_DEMO_PASSWORD": "demo",
}

# The others need these to stop in order.
_SERVERS = ("postgres", "redis", "sandbox")

# Seconds. What a killed predecessor left behind needs a moment to end.
_PATIENCE_WITH_PREDECESSOR = 15
_PATIENCE_WITH_PORTS = 4
_PATIENCE_WITH_PROGRAMS = 60
_PATIENCE_WITH_TASKS = 600


class UpError(Exception):
    """The product cannot be started. The text is for the person who tried, and says what to do."""


def up(settings: Settings, tell: Callable[[str], None]) -> None:
    """Run the product until SIGTERM, Ctrl-C or the end of the terminal. `tell` prints a line.

    Raises UpError; then nothing of it runs any more.
    """
    with _only_one(settings.var) as lock:
        _check_port("PORT", settings.port)
        if settings.sage_base_url is None:
            _check_port("SYNCLIGHT_SANDBOX_PORT", settings.sandbox_port)
        settings.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        supervisor = Supervisor(settings.run_dir, tell)
        try:
            tell("Starting ...")
            _start(settings, supervisor, lock)
            demo_is_there = _is_demo_there(settings)
            password = None if demo_is_there else _prepare_demo(settings, supervisor)
            problem = "The web app does not get ready"
            _wait_until(lambda: _is_ready(settings.port), supervisor, problem, settings.var / "log")
            tell(f"Synclight is ready at http://127.0.0.1:{settings.port}")
            if demo_is_there:
                # Whether somebody changed it need not be known before.
                password = _prepare_demo(settings, supervisor)
            for line in _welcome(settings, password):
                tell(line)
            supervisor.run()
        except StopAsked:
            tell("Stopping ...")
        except ProgramError as error:
            raise UpError(str(error)) from error
        finally:
            supervisor.stop_all(last=_SERVERS)


def _start(settings: Settings, supervisor: Supervisor, lock: int) -> None:
    """Start the servers that no URL names, bring the database up to date, start the Procfile's lines."""
    logs = settings.var / "log"
    is_embedded = settings.database_url_setting is None
    if settings.sage_base_url is None:
        supervisor.keep(_program("sandbox", ["python", "-m", "workers.sandbox"], settings))
    if is_embedded:
        log = logs / "postgres.log"
        supervisor.keep(embedded.postgres(settings.var / "postgres", settings.run_dir, log, keep_open=(lock,)))
    if settings.redis_url_setting is None:
        log = logs / "redis.log"
        supervisor.keep(embedded.redis(settings.var / "redis", settings.run_dir, log, keep_open=(lock,)))
    _wait_until(supervisor.all_ready, supervisor, "The servers did not start", logs)

    # To migrate is to load all of Alembic, which most starts do not need.
    if not (is_embedded and embedded.schema_version(settings.run_dir) == newest_schema_version()):
        _run_task(
            _program("migrate", ["synclight", "migrate"], settings), supervisor, "The database cannot be prepared"
        )
    if settings.sage_base_url is None:
        # A worker that finds no Sage says so on the connection, and asks again only a cycle later.
        _wait_until(lambda: _answers(settings.sandbox_port), supervisor, "The sandbox did not start", logs)
    for name, command in _procfile():
        supervisor.keep(_program(name, command, settings))


def newest_schema_version() -> str:
    """The version that `synclight migrate` brings a database to: what the name of the last file begins with."""
    versions = (ROOT / "webapp" / "migrations" / "versions").glob("[0-9]*.py")
    return max(path.name.partition("_")[0] for path in versions)


def _prepare_demo(settings: Settings, supervisor: Supervisor) -> str | None:
    """Make what is missing of the demo. Returns the password of its users, None where it is not known."""
    if settings.sage_base_url is not None:
        return None
    demo = _program("demo", ["python", "-m", "webapp.demo"], settings)
    status = _run_task(demo, supervisor, "The demo cannot be prepared", good=(0, OTHER_PASSWORD))
    made = settings.var / "demo_made"
    made.touch()
    made.chmod(0o600)
    made.write_text(_demo_fingerprint(settings), encoding="ascii")
    return demo_password(settings) if status == 0 else None


def _is_demo_there(settings: Settings) -> bool:
    """Whether an earlier start made the demo with these settings."""
    made = settings.var / "demo_made"
    return made.exists() and made.read_text(encoding="ascii") == _demo_fingerprint(settings)


def _demo_fingerprint(settings: Settings) -> str:
    """What the demo depends on, with nothing readable of its password; for us alone, as a short one can be guessed by it."""
    parts = (settings.database_url, settings.sage_api_url, str(settings.cycle_seconds), demo_password(settings))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _welcome(settings: Settings, password: str | None) -> Iterator[str]:
    """What a person wants to know now."""
    yield ""
    if settings.sage_base_url is None:
        yield f"  Sandbox  http://127.0.0.1:{settings.sandbox_port}  a Sage to try it with"
        for email, role in DEMO_USERS.items():
            known = f"password {password}" if password else "with the password that was set for it"
            yield f"  {role.capitalize():<7}  {email}  {known}"
    yield f"  Data     {settings.var}"
    yield ""
    yield "  Ctrl-C stops it."


@contextmanager
def _only_one(var: Path) -> Iterator[int]:
    """Hold the lock of `var`, so that two never run on the same data.

    PostgreSQL and Redis inherit it: as long as one that was left behind still writes to the data, the lock is held.
    """
    path = var / "up.lock"
    try:
        var.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UpError(f"SYNCLIGHT_VAR: {var} cannot be written ({error.strerror}). Choose another folder.") from error
    try:
        end = time.monotonic() + _PATIENCE_WITH_PREDECESSOR
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
                if holder and Path(f"/proc/{holder}").exists():
                    raise UpError(
                        f"Synclight runs already on {var} (process {holder}). A second copy needs a SYNCLIGHT_VAR, "
                        "a PORT and a SYNCLIGHT_SANDBOX_PORT of its own."
                    ) from None
                if time.monotonic() > end:
                    raise UpError(f"A server that was left behind still holds {path}: end it first.") from None
                time.sleep(0.1)
        os.truncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode("ascii"), 0)
        yield lock
    finally:
        os.close(lock)


def _check_port(setting: str, port: int) -> None:
    """Raises UpError where another program listens on this port of 127.0.0.1 and goes on doing so."""
    end = time.monotonic() + _PATIENCE_WITH_PORTS
    while True:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return
            except OSError as error:
                if time.monotonic() > end:
                    raise UpError(f"Port {port} is taken ({error.strerror}). Set {setting} to a free one.") from error
        time.sleep(0.1)


def _procfile() -> Iterator[tuple[str, list[str]]]:
    """The name and the command of each line of the Procfile."""
    for line in (ROOT / "Procfile").read_text(encoding="utf-8").splitlines():
        name, colon, command = line.partition(":")
        if colon and not line.startswith("#"):
            yield name.strip(), shlex.split(command)


def _program(name: str, command: list[str], settings: Settings) -> Program:
    """A program of ours, with an environment that says where everything is and holds no secret of another program."""
    environment = {
        variable: value
        for variable, value in os.environ.items()
        if _PRIVATE.get(variable.removesuffix("_FILE"), name) == name
    }
    environment |= {
        # The commands of this installation come first.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "SYNCLIGHT_VAR": str(settings.var),
        "SYNCLIGHT_WORKERS": str(settings.workers),
        # RQ's own commands know no other setting.
        "REDIS_URL": settings.redis_url,
        "PYTHONUNBUFFERED": "1",
        # Signing in takes 19 MB for a moment. Without a fixed threshold glibc keeps such memory for good (mallopt(3)).
        "MALLOC_MMAP_THRESHOLD_": "1048576",
    }
    if name == "worker" and "SYNCLIGHT_TOKEN_KEYS_FILE" not in environment:
        environment["SYNCLIGHT_TOKEN_KEYS"] = _token_keys(settings)
    return Program(
        name=name,
        # As systemd does it with the same line.
        command=tuple(Template(part).safe_substitute(environment) for part in command),
        environment=environment,
        folder=ROOT,
        log=settings.var / "log" / f"{name}.log",
    )


def _token_keys(settings: Settings) -> str:
    """The keys that encrypt the tokens of Sage: what was set, else one that is made once and kept for us alone."""
    return os.environ.get("SYNCLIGHT_TOKEN_KEYS") or _kept_secret(
        settings.var / "token_keys", lambda: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode("ascii")
    )


def demo_password(settings: Settings) -> str:
    """The password of the demo users: what was set, else one that is made once and kept for us alone."""
    if settings.demo_password is not None:
        return settings.demo_password.get_secret_value()
    return _kept_secret(settings.var / "demo_password", lambda: secrets.token_urlsafe(9))


def _kept_secret(path: Path, make: Callable[[], str]) -> str:
    """The content of a file that only we may read; made where it is missing."""
    if not path.exists():
        half_made = path.with_name(f"{path.name}.new")
        half_made.unlink(missing_ok=True)
        half_made.touch(mode=0o600)
        half_made.write_text(make(), encoding="ascii")
        half_made.rename(path)
    return path.read_text(encoding="ascii").strip()


def _run_task(task: Program, supervisor: Supervisor, problem: str, good: tuple[int, ...] = (0,)) -> int:
    """Run a program to its end. Returns its exit status, one of `good`; else raises UpError with its last words."""
    task.log.unlink(missing_ok=True)
    status = supervisor.run_task(task, _PATIENCE_WITH_TASKS)
    if status not in good:
        raise UpError(f"{problem}: {_last_line(task.log)}")
    return status


def _wait_until(condition: Callable[[], bool], supervisor: Supervisor, problem: str, logs: Path) -> None:
    """Wait for `condition`; raises UpError where it does not come or a program keeps ending."""
    done = supervisor.wait_for(lambda: condition() or bool(supervisor.failing()), _PATIENCE_WITH_PROGRAMS)
    if failing := supervisor.failing():
        raise UpError(f"{problem}: {failing[0]} ends again and again: {_last_line(logs / f'{failing[0]}.log')}")
    if not done:
        raise UpError(f"{problem}. See the logs in {logs}.")


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), f"it wrote nothing to {log}")


def _answers(port: int) -> bool:
    """Whether somebody listens on this port of 127.0.0.1."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _is_ready(port: int) -> bool:
    """Whether the web app says that all of the product works. An HTTP client would cost memory for ever."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(b"GET /readyz HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
            return connection.recv(64).split(b" ")[1:2] == [b"200"]
    except OSError:
        return False

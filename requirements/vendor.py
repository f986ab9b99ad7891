"""Fill static/vendor: install what package.json names, copy its files, draw its icon sheet.

`make` runs `python -m requirements.vendor`; it uses the standard library alone. To add an icon, write its name (of the Lucide
set) under "vendor" in package.json.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from requirements import npm

ROOT = Path(__file__).resolve().parent.parent
VENDOR = ROOT / "static" / "vendor"


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
    npm.install(ROOT)
    VENDOR.mkdir(parents=True, exist_ok=True)
    for name, source in vendor["files"].items():
        shutil.copyfile(ROOT / "node_modules" / source, VENDOR / name)
    (VENDOR / "icons.svg").write_text(icon_sheet(vendor["icons"]), encoding="utf-8")


if __name__ == "__main__":
    main()

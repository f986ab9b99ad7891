"""Times as the reader sees them: in the reader's zone, as an age or exactly.

static/js/app.js tells the browser's zone in the cookie `tz`. Until it has done so, before the first page of all, times
are in UTC.
"""

from __future__ import annotations

from datetime import datetime, tzinfo
from functools import lru_cache
from typing import cast
from zoneinfo import ZoneInfo, available_timezones

from flask import g, request

COOKIE = "tz"
UTC = ZoneInfo("UTC")


def named_zone(name: str) -> tzinfo:
    """The zone with this IANA name, UTC where there is none of that name."""
    return ZoneInfo(name) if name in _names() else UTC


@lru_cache(maxsize=1)
def _names() -> frozenset[str]:
    # Listing the zones reads the disk; a name that is not listed never reaches ZoneInfo, which would open it as a path.
    return frozenset(available_timezones())


class Glance:
    """Times as a reader in `zone` says them at the moment `now`. static/js/live.js says the same while a page is open."""

    def __init__(self, zone: tzinfo, now: datetime) -> None:
        self.zone = zone
        self.now = now
        self._today = now.astimezone(zone).date()

    def age(self, moment: datetime | None, never: str = "Never") -> str:
        """How long ago `moment` was, as short as a list needs it.

        Just now, 4 min ago, 3 h ago (of today), Yesterday, 17:20, then 9 Apr, 17:20. The future counts as now.
        """
        if moment is None:
            return never
        minutes = int((self.now - moment).total_seconds() // 60)
        if minutes < 1:
            return "Just now"
        if minutes < 60:
            return f"{minutes} min ago"
        local = moment.astimezone(self.zone)
        if local.date() == self._today:
            return f"{minutes // 60} h ago"
        return f"{self._day(local)}, {local:%H:%M}"

    def exact(self, moment: datetime | None, never: str = "Never") -> str:
        """Date and time to the second: Today, 10:42:07 or 9 Apr, 17:20:03, with the year in another year."""
        if moment is None:
            return never
        local = moment.astimezone(self.zone)
        return f"{self._day(local)}, {local:%H:%M:%S}"

    def until(self, moment: datetime | None, never: str = "Not planned") -> str:
        """How long until `moment`: In 38 s, In 4 min, then At 17:20; Now where it has come."""
        if moment is None:
            return never
        seconds = int((moment - self.now).total_seconds())
        if seconds < 1:
            return "Now"
        if seconds < 60:
            return f"In {seconds} s"
        if seconds < 3600:
            return f"In {seconds // 60} min"
        local = moment.astimezone(self.zone)
        return f"At {local:%H:%M}" if local.date() == self._today else f"{local.day} {local:%b}, {local:%H:%M}"

    def _day(self, local: datetime) -> str:
        days = (self._today - local.date()).days
        if days == 0:
            return "Today"
        if days == 1:
            return "Yesterday"
        year = "" if local.year == self._today.year else f" {local.year}"
        return f"{local.day} {local:%b}{year}"


def glance() -> Glance:
    """The times of this request: for the person who sent it, at the moment when they were first asked for."""
    if "glance" not in g:
        g.glance = Glance(named_zone(request.cookies.get(COOKIE, "")), datetime.now(UTC))
    return cast(Glance, g.glance)

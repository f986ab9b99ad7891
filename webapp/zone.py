"""Times as the reader sees them: in the reader's zone, as an age or exactly.

static/js/app.js tells the browser's zone in the cookie `tz`. Until it has done so, before the first page of all, times
are in UTC.
"""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from flask import request

COOKIE = "tz"
UTC = ZoneInfo("UTC")


def reader_zone() -> tzinfo:
    """The zone of the person whose request this is: the one that the cookie names, else UTC."""
    return named_zone(request.cookies.get(COOKIE, ""))


def named_zone(name: str) -> tzinfo:
    """The zone with this IANA name, UTC where there is none of that name."""
    return ZoneInfo(name) if name in _names() else UTC


@lru_cache(maxsize=1)
def _names() -> frozenset[str]:
    # Listing the zones reads the disk; a name that is not listed never reaches ZoneInfo, which would open it as a path.
    return frozenset(available_timezones())


def age(moment: datetime | None, zone: tzinfo, now: datetime, never: str = "Never") -> str:
    """How long ago `moment` was, as short as a list needs it.

    Just now, 4 min ago, 3 h ago (of today), Yesterday, 17:20, then 9 Apr, 17:20. static/js/live.js says the same while the page is open. A moment in the future counts as now.
    """
    if moment is None:
        return never
    local, today = moment.astimezone(zone), now.astimezone(zone)
    minutes = int((now - moment) / timedelta(minutes=1))
    if minutes < 1:
        return "Just now"
    if minutes < 60:
        return f"{minutes} min ago"
    if local.date() == today.date():
        return f"{minutes // 60} h ago"
    return f"{_day(local, today)}, {local:%H:%M}"


def until(moment: datetime | None, zone: tzinfo, now: datetime, never: str = "Not planned") -> str:
    """How long until `moment`: in 38 s, in 4 min, then at 17:20; Now where it has come."""
    if moment is None:
        return never
    seconds = int((moment - now) / timedelta(seconds=1))
    if seconds < 1:
        return "Now"
    if seconds < 60:
        return f"In {seconds} s"
    if seconds < 3600:
        return f"In {seconds // 60} min"
    local, today = moment.astimezone(zone), now.astimezone(zone)
    return f"At {local:%H:%M}" if local.date() == today.date() else f"{local.day} {local:%b}, {local:%H:%M}"


def exact(moment: datetime | None, zone: tzinfo, now: datetime, never: str = "Never") -> str:
    """Date and time to the second: Today, 10:42:07 or 9 Apr, 17:20:03, with the year in another year."""
    if moment is None:
        return never
    local, today = moment.astimezone(zone), now.astimezone(zone)
    return f"{_day(local, today)}, {local:%H:%M:%S}"


def _day(local: datetime, today: datetime) -> str:
    days = (today.date() - local.date()).days
    if days == 0:
        return "Today"
    if days == 1:
        return "Yesterday"
    year = "" if local.year == today.year else f" {local.year}"
    return f"{local.day} {local:%b}{year}"

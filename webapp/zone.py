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

from webapp.languages import gettext as _
from webapp.sync.details import day

COOKIE = "tz"
UTC = ZoneInfo("UTC")


def named_zone(name: str) -> tzinfo:
    """The zone with this IANA name, UTC where there is none of that name."""
    return ZoneInfo(name) if name in _names() else UTC


@lru_cache(maxsize=1)
def _names() -> frozenset[str]:
    # Listing the zones reads the disk; a name that is not listed never reaches ZoneInfo, which would open it as a path.
    return frozenset(available_timezones())


class Reader:
    """Somebody in `zone` who reads at the moment `now`, and how times are said to them.

    static/js/live.js says the same while a page is open.
    """

    def __init__(self, zone: tzinfo, now: datetime) -> None:
        self.zone = zone
        self.now = now
        self._today = now.astimezone(zone).date()

    def age(self, moment: datetime | None, never: str | None = None) -> str:
        """How long ago `moment` was, as short as a list needs it.

        Just now, 4 min ago, 3 h ago (of today), Yesterday, 17:20, then 9 Apr, 17:20. The future counts as now.
        """
        if moment is None:
            return _("Never") if never is None else never
        minutes = int((self.now - moment).total_seconds() // 60)
        if minutes < 1:
            return _("Just now")
        if minutes < 60:
            return _("%(minutes)s min ago", minutes=minutes)
        local = moment.astimezone(self.zone)
        if local.date() == self._today:
            return _("%(hours)s h ago", hours=minutes // 60)
        return f"{self._day(local)}, {local:%H:%M}"

    def exact(self, moment: datetime | None, never: str | None = None) -> str:
        """Date and time to the second: Today, 10:42:07 or 9 Apr, 17:20:03, with the year in another year."""
        if moment is None:
            return _("Never") if never is None else never
        local = moment.astimezone(self.zone)
        return f"{self._day(local)}, {local:%H:%M:%S}"

    def until(self, moment: datetime | None, never: str | None = None) -> str:
        """How long until `moment`: In 38 s, In 4 min, then At 17:20; Now where it has come."""
        if moment is None:
            return _("Not planned") if never is None else never
        seconds = int((moment - self.now).total_seconds())
        if seconds < 1:
            return _("Now")
        if seconds < 60:
            return _("In %(seconds)s s", seconds=seconds)
        if seconds < 3600:
            return _("In %(minutes)s min", minutes=seconds // 60)
        local = moment.astimezone(self.zone)
        if local.date() == self._today:
            return _("At %(time)s", time=f"{local:%H:%M}")
        return f"{day(local.date(), with_year=False)}, {local:%H:%M}"

    def _day(self, local: datetime) -> str:
        days = (self._today - local.date()).days
        if days == 0:
            return _("Today")
        if days == 1:
            return _("Yesterday")
        return day(local.date(), with_year=local.year != self._today.year)


def current_reader() -> Reader:
    """The one of this request: in the zone of who sent it, at the moment when this was first asked for."""
    if "reader" not in g:
        g.reader = Reader(named_zone(request.cookies.get(COOKIE, "")), datetime.now(UTC))
    return cast(Reader, g.reader)

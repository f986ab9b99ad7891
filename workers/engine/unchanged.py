"""Which records need no call of their own, because a list of Sage shows them as they are known. Pure.

Where a list does not tell all of a record, its time and what the list does tell stand for the rest. That goes as far as
Sage moves the time with each change, in whole seconds; so nothing is taken for known whose second may not have been over
when it was read, and each record is read once a day, whatever the list shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from zlib import crc32

from webapp.status import Reason
from webapp.sync.models import Synced
from workers.engine.kinds import fields_of
from workers.sage.connector import Listed

_DAY = timedelta(days=1).total_seconds()


@dataclass(frozen=True)
class Settled:
    """What the readings before this one have seen in its last state.

    What changed before `until` was read at a time when no second change could have had the same time any more. All was
    read last at `whole_at`, and is read again at `began`; None where only changes are.
    """

    until: datetime
    whole_at: datetime
    began: datetime | None

    def needs_no_call(self, record: Synced, listed: Listed) -> bool:
        """Whether a record is in step with what a list shows of it, and nothing can have changed that it does not show."""
        return (
            record.sync_reason == Reason.IN_STEP
            and record.agreed is not None
            and record.sage_updated_at == listed.updated_at
            and listed.updated_at < self.until
            and fields_of(record) == record.agreed
            and listed.agrees(record.agreed)
            and not self._is_its_turn(listed.id)
        )

    def _is_its_turn(self, sage_id: str) -> bool:
        """Whether this reading of all is the one in a day that reads this record: each has a second of the day."""
        if self.began is None:
            return False
        its_second = crc32(sage_id.encode())
        return (its_second - self.whole_at.timestamp()) % _DAY < (self.began - self.whole_at).total_seconds()

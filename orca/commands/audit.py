"""`orca audit`: who did what."""

from typing import Final

from orca.client.reads import NodeReads
from orca.model.access import AuditReply, AuditView
from orca.model.ids import LogIndex
from orca.model.units import WallMs

PAGE_RECORDS: Final = 1000
"""The most that a node gives at once."""


async def list_audit(
    client: NodeReads,
    *,
    limit: int = 50,
    since_ms: WallMs | None = None,
    actor: str | None = None,
    subject: str | None = None,
) -> AuditReply:
    """The newest `limit` records, oldest first, with `actor` and `subject` in them where given."""
    pages: list[tuple[AuditView, ...]] = []
    missing, before = limit, None
    while True:
        size = min(missing, PAGE_RECORDS)
        reply = await client.audit(limit=size, before=before, since_ms=since_ms, actor=actor, subject=subject)
        pages.append(reply.records)
        missing -= len(reply.records)
        if missing <= 0 or len(reply.records) < size:
            break
        before = LogIndex(reply.records[0].index)
    found = tuple(record for page in reversed(pages) for record in page)
    return AuditReply(observation=reply.observation, records=found)

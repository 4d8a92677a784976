"""The command that puts into the audit what no other command of the log says."""

from typing import TypeAlias

from consensus.state.commands.base import Change


class RecordDeed(Change, frozen=True, kw_only=True, tag="record_deed"):
    """Something that a node did or refused by itself: a command run in a copy, a call without the right to it.

    `result` is `ok` or an error's code; `count` is how many like it there were.
    """

    action: str
    subject: str = ""
    result: str = "ok"
    message: str = ""
    count: int = 1


AuditCommand: TypeAlias = RecordDeed

"""What this node tells the cluster's audit beside the commands of the log: deeds, and refusals, few of many.

`RefusalLedger` is pure. The first refusal of a kind is told at once; those that follow within a
minute are counted and told as one. A node tells of at most `KINDS_MAX` kinds in a minute, and of all
others together, so a flood of any size costs the log `KINDS_MAX` + 1 entries a minute. `AuditTrail` carries
both to the log: it never makes a caller wait, and a group without a leader only delays it.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
import structlog
import trio

from consensus.state.commands import RecordDeed
from node.api.caller import Caller
from orca.errors import NotAvailableError, OrcaError
from orca.model.ids import RequestId
from orca.model.trust import Author
from orca.model.units import Instant
from orca.sources import Clock, IdSource

WINDOW_S: Final = 60.0
KINDS_MAX: Final = 30
WAITING_MAX: Final = 512
RETRY_S: Final = 2.0
TEXT_MAX: Final = 255
SUBJECT_MAX: Final = 200
_log: Final = structlog.get_logger("orca.audit")


class Deed(msgspec.Struct, frozen=True, kw_only=True):
    """Something to tell the audit. `result` is `ok` or an error's code."""

    author: Author
    action: str
    subject: str
    result: str = "ok"
    message: str = ""
    count: int = 1


class _Kind(msgspec.Struct, frozen=True, kw_only=True):
    actor: str
    place: str
    action: str
    result: str


class _Window:
    """One kind's minute: when it began, and what came in it and was not told."""

    def __init__(self, began_at: Instant) -> None:
        self.began_at = began_at
        self.untold: Deed | None = None


class RefusalLedger:
    """Lets few refusals through and counts the rest."""

    def __init__(self) -> None:
        self._windows: dict[_Kind, _Window] = {}
        self._others = 0
        self._others_since: Instant | None = None

    def refuse(self, deed: Deed, now: Instant) -> Deed | None:
        """What to tell at once of a refusal; None when it is counted instead."""
        place = deed.author.origin.rpartition(":")[0] or deed.author.origin  # without the port
        kind = _Kind(actor=deed.author.actor, place=place, action=deed.action, result=deed.result)
        window = self._windows.get(kind)
        if window is None and len(self._windows) >= KINDS_MAX:
            self._others += deed.count
            self._others_since = self._others_since if self._others_since is not None else now
            return None
        if window is None:
            self._windows[kind] = _Window(now)
            return deed
        before = 0 if window.untold is None else window.untold.count
        window.untold = msgspec.structs.replace(deed, count=before + deed.count)
        return None

    def collect(self, now: Instant) -> list[Deed]:
        """What is to be told of the minutes that are over."""
        ended = [(kind, one) for kind, one in self._windows.items() if now - one.began_at >= WINDOW_S]
        found: list[Deed] = []
        for kind, window in ended:
            if window.untold is None:
                del self._windows[kind]
            else:  # it goes on: the next minute begins
                found.append(window.untold)
                self._windows[kind] = _Window(now)
        if self._others_since is not None and now - self._others_since >= WINDOW_S:
            nobody = Author(actor="", origin="various")
            message = f"{self._others} more refusals, of other kinds than those that are listed"
            found.append(
                Deed(author=nobody, action="various", subject="", result="various", message=message, count=self._others)
            )
            self._others, self._others_since = 0, None
        return found

    def __len__(self) -> int:
        return len(self._windows)


class AuditTrail:
    """Takes deeds and refusals at once, and proposes them one after the other."""

    def __init__(self, clock: Clock, ids: IdSource, propose: Callable[[RecordDeed], Awaitable[object]]) -> None:
        self._clock = clock
        self._ids = ids
        self._propose = propose
        self._ledger = RefusalLedger()
        self._waiting: deque[RecordDeed] = deque()
        self._wake = trio.Event()
        self.dropped = 0

    def did(self, caller: Caller, action: str, subject: str, error: OrcaError | None = None) -> None:
        """Somebody did something that no command of the log tells of; with `error` it failed."""
        self._put(_deed(caller, action, subject, error))

    def refused(self, caller: Caller, action: str, subject: str, error: OrcaError) -> None:
        """A change was refused before it came to the log."""
        told = self._ledger.refuse(_deed(caller, action, subject, error), self._clock.now())
        if told is not None:
            self._put(told)

    def _put(self, deed: Deed) -> None:
        if len(self._waiting) >= WAITING_MAX:
            self.dropped += 1
            if self.dropped & (self.dropped - 1) == 0:  # at 1, 2, 4, 8, …
                _log.error("the audit waits for a leader, and the oldest of what waits is lost", lost=self.dropped)
            self._waiting.popleft()
        command = RecordDeed(
            request_id=RequestId(self._ids.fresh()),
            at_ms=self._clock.wall(),
            actor=deed.author.actor,
            origin=deed.author.origin,
            action=deed.action,
            subject=deed.subject,
            result=deed.result,
            message=deed.message,
            count=deed.count,
        )
        self._waiting.append(command)
        self._wake.set()

    async def run(self) -> None:
        """Propose what waits, and once in a while what was counted, until cancelled."""
        while True:
            with trio.move_on_after(WINDOW_S / 4):
                await self._wake.wait()
            self._wake = trio.Event()
            for deed in self._ledger.collect(self._clock.now()):
                self._put(deed)
            while self._waiting:
                await self._tell(self._waiting[0])

    async def _tell(self, command: RecordDeed) -> None:
        try:
            await self._propose(command)
        except NotAvailableError as error:
            _log.debug("the audit cannot be written now", reason=error.message)
            await trio.sleep(RETRY_S)
            return
        except OrcaError as error:
            # Its outcome is unknown, or it will never be taken: under its own id a repetition would do no harm.
            _log.warning("a record of the audit may be lost", reason=error.message, action=command.action)
        if self._waiting and self._waiting[0] is command:
            self._waiting.popleft()


def _deed(caller: Caller, action: str, subject: str, error: OrcaError | None) -> Deed:
    return Deed(
        author=Author(actor=caller.actor[:TEXT_MAX], origin=caller.origin[:TEXT_MAX]),
        action=action,
        subject=subject[:SUBJECT_MAX],
        result="ok" if error is None else error.code,
        message="" if error is None else error.message[:TEXT_MAX],
    )

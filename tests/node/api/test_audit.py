"""What a node tells the audit beside the log: little of a flood, and everything that was done."""

import pytest
import trio
import trio.testing

from consensus.state.commands import RecordDeed
from node.api.audit import KINDS_MAX, WAITING_MAX, WINDOW_S, AuditTrail, Deed, RefusalLedger
from node.api.caller import Caller
from node.sources import SystemIds
from orca.errors import ForbiddenError, NotLeaderError, ProposalLostError, UnauthorizedError
from orca.model.trust import ApiRole, Author
from orca.model.units import Instant, WallMs

CI = Caller(actor="token:ci", origin="tcp:10.0.0.9:1", role=ApiRole.VIEWER)
NO = ForbiddenError("no")


class VirtualClock:
    """Trio's virtual clock, as the node's."""

    def now(self) -> Instant:
        return Instant(trio.current_time())

    def wall(self) -> WallMs:
        return WallMs(int(trio.current_time() * 1000))


class Log:
    """Takes commands, or fails as it is told to."""

    def __init__(self) -> None:
        self.commands: list[RecordDeed] = []
        self.failures: list[Exception] = []

    async def propose(self, command: RecordDeed) -> None:
        await trio.lowlevel.checkpoint()
        if self.failures:
            raise self.failures.pop(0)
        self.commands.append(command)


def deed(actor: str = "token:ci", port: int = 1, action: str = "put_services") -> Deed:
    author = Author(actor=actor, origin=f"tcp:10.0.0.9:{port}")
    return Deed(author=author, action=action, subject="shop/web", result="forbidden")


def test_the_first_refusal_of_a_kind_is_told_and_the_rest_of_a_minute_is_counted() -> None:
    ledger = RefusalLedger()
    assert ledger.refuse(deed(), Instant(0.0)) == deed()
    for port in range(2, 1002):  # the same place, whatever port it calls from
        assert ledger.refuse(deed(port=port), Instant(1.0)) is None
    assert ledger.collect(Instant(WINDOW_S - 1)) == []
    (told,) = ledger.collect(Instant(WINDOW_S))
    assert told.count == 1000
    assert ledger.collect(Instant(WINDOW_S * 2)) == []
    assert len(ledger) == 0
    assert ledger.refuse(deed(), Instant(WINDOW_S * 3)) == deed()


def test_a_flood_of_many_kinds_costs_a_few_lines_a_minute() -> None:
    ledger = RefusalLedger()
    told = [ledger.refuse(deed(actor=f"token:{number}"), Instant(0.0)) for number in range(10_000)]
    assert sum(one is not None for one in told) == KINDS_MAX
    assert len(ledger) == KINDS_MAX
    (rest,) = ledger.collect(Instant(WINDOW_S))
    assert (rest.count, rest.action) == (10_000 - KINDS_MAX, "various")


@pytest.fixture
async def log() -> Log:
    return Log()


@pytest.fixture
async def trail(log: Log, nursery: trio.Nursery) -> AuditTrail:
    made = AuditTrail(VirtualClock(), SystemIds(), log.propose)
    nursery.start_soon(made.run)
    return made


async def test_deeds_and_refusals_come_to_the_log_with_who_and_from_where(
    trail: AuditTrail, log: Log, autojump_clock: trio.testing.MockClock
) -> None:
    trail.did(CI, "exec", "web.1: sh")
    trail.refused(CI, "put_services", "shop/web", NO)
    for _ in range(5):
        trail.refused(CI, "put_services", "shop/web", NO)
    await trio.sleep(1)
    assert [(one.actor, one.origin, one.action, one.result, one.message) for one in log.commands] == [
        ("token:ci", "tcp:10.0.0.9:1", "exec", "ok", ""),
        ("token:ci", "tcp:10.0.0.9:1", "put_services", "forbidden", "no"),
    ]
    await trio.sleep(WINDOW_S * 1.5)
    assert [one.count for one in log.commands] == [1, 1, 5]


async def test_while_nobody_leads_the_audit_waits_and_nothing_is_told_twice(
    trail: AuditTrail, log: Log, autojump_clock: trio.testing.MockClock
) -> None:
    log.failures += [NotLeaderError("nobody leads")] * 5
    trail.did(CI, "exec", "a")
    trail.did(CI, "exec", "b")
    await trio.sleep(60)
    assert [one.subject for one in log.commands] == ["a", "b"]
    log.failures.append(ProposalLostError("perhaps"))
    trail.did(CI, "exec", "c")
    await trio.sleep(60)
    assert [one.subject for one in log.commands] == ["a", "b"]


async def test_what_waits_has_an_end_and_what_is_lost_is_counted(
    trail: AuditTrail, log: Log, autojump_clock: trio.testing.MockClock
) -> None:
    log.failures += [NotLeaderError("nobody leads")]
    for number in range(WAITING_MAX + 3):
        trail.did(CI, "exec", str(number))
    assert trail.dropped == 3
    await trio.sleep(60)
    assert [one.subject for one in log.commands] == [str(number) for number in range(3, WAITING_MAX + 3)]


async def test_words_of_strangers_are_cut_before_they_come_to_the_log(
    trail: AuditTrail, log: Log, autojump_clock: trio.testing.MockClock
) -> None:
    stranger = Caller(actor="", origin="tcp:" + "x" * 9_000, role=None)
    trail.refused(stranger, "put_services", "y" * 9_000, UnauthorizedError("z" * 9_000))
    await trio.sleep(1)
    (command,) = log.commands
    assert max(map(len, (command.origin, command.subject, command.message))) <= 255

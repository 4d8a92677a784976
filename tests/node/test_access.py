"""The audit is read from both of its rings, by pages and by what is asked for."""

import pytest

from consensus.state.cluster import AuditRecord, ClusterState
from node.access import PIECE, audit_page
from orca.model.ids import LogIndex
from orca.model.units import WallMs


def record(index: int, actor: str, subject: str, result: str = "ok") -> AuditRecord:
    return AuditRecord(
        index=LogIndex(index), at_ms=WallMs(index * 1000), actor=actor, action="x", subject=subject, result=result
    )


@pytest.fixture
async def state() -> ClusterState:
    made = ClusterState()
    for index in range(1, 3 * PIECE + 1):
        table = made.refusals if index % 3 == 0 else made.audit
        actor = "token:ci" if index % 2 else "unix:0"
        table[LogIndex(index)] = record(index, actor, f"shop/s{index % 10}", "forbidden" if index % 3 == 0 else "ok")
    return made


async def test_the_newest_come_oldest_first_and_refusals_stand_between_changes(state: ClusterState) -> None:
    page = await audit_page(state, limit=4)
    assert [(one.index, one.result) for one in page] == [
        (2997, "forbidden"), (2998, "ok"), (2999, "ok"), (3000, "forbidden"),
    ]  # fmt: skip
    before = await audit_page(state, limit=2, before=LogIndex(2997))
    assert [one.index for one in before] == [2995, 2996]


async def test_it_is_narrowed_by_who_what_and_when(state: ClusterState) -> None:
    page = await audit_page(state, limit=1000, actor="ci", subject="s7", since_ms=WallMs(2_900_000))
    assert [one.index for one in page] == list(range(2907, 3001, 10))
    assert await audit_page(state, limit=5, actor="nobody") == ()

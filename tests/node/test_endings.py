"""Ends of jobs survive the agent, and a record that cannot be read is never taken for none."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.endings import EndedJobs
from node.store.directory import DataDirectory
from node.store.environment import Environment
from node.store.views import Database
from orca.errors import StoreCorruptError
from orca.model.allocation import AllocationStatus, Phase
from orca.model.ids import AllocationId, NodeId, ServiceId, SpecRevision


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[Environment]:
    with (
        DataDirectory.open(tmp_path / "data") as directory,
        Environment.open(directory, map_bytes_max=2**20) as opened,
    ):
        yield opened


def ended(name: str, reason: str = "") -> AllocationStatus:
    return AllocationStatus(
        allocation=AllocationId(name),
        service=ServiceId("default/job"),
        node=NodeId("n-1"),
        revision=SpecRevision(1),
        phase=Phase.COMPLETED,
        reason=reason,
        version=3,
    )


async def test_what_was_kept_is_found_and_what_was_forgotten_is_not(environment: Environment) -> None:
    jobs = EndedJobs(environment)
    assert jobs.load() == {}
    await jobs.keep(ended("a"))
    await jobs.keep(ended("b"))
    await jobs.keep(ended("b", reason="newer"))
    await jobs.forget(AllocationId("a"))
    await jobs.forget(AllocationId("never seen"))
    assert EndedJobs(environment).load() == {AllocationId("b"): ended("b", reason="newer")}


@pytest.mark.parametrize(
    "record", [b"\xc1", b"\x80", b"\x81\xa6reason\xa2\xff\xfe"], ids=["garbage", "empty", "no UTF-8"]
)
def test_a_damaged_record_stops_the_node_rather_than_run_a_job_twice(environment: Environment, record: bytes) -> None:
    environment.write_blocking(lambda view: view.put(Database.LOCAL, b"ended/a", record))
    with pytest.raises(StoreCorruptError, match="ended job"):
        EndedJobs(environment).load()

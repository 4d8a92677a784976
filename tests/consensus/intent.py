"""Specs, commands and ids for the tests of state, scheduler and replica."""

from typing import Any

import msgspec

from consensus.state.apply import apply
from consensus.state.cluster import ClusterState, Outcome, ServiceRecord
from consensus.state.commands import (
    Command,
    PauseService,
    PromoteService,
    PutServices,
    RemoveService,
    RestartService,
    ResumeService,
    RollbackService,
    ScaleService,
    SpecEntry,
    StartService,
    StopService,
)
from orca.model.ids import LogIndex, ProjectName, RequestId, ServiceId, ServiceName, SpecRevision
from orca.model.spec import ContainerImage, DeploySpec, ServiceSpec, template_of
from orca.model.units import WallMs


class CountingIds:
    """Ids in order, so that equal runs make equal ids."""

    def __init__(self) -> None:
        self.made = 0

    def fresh(self) -> str:
        self.made += 1
        return f"{self.made:012d}"


def make_spec(name: str = "web", image: str = "web:1", **fields: Any) -> ServiceSpec:
    """A service without probes; `deploy` may be given as keywords of its own."""
    deploy = fields.pop("deploy", {})
    return ServiceSpec(
        name=ServiceName(name), source=ContainerImage(image=image), deploy=DeploySpec(**deploy), **fields
    )


def template(spec: ServiceSpec) -> str:
    """Short, and equal for equal templates."""
    return f"{hash_text(template_of(spec)):08x}"


def hash_text(content: bytes) -> int:
    """FNV-1a: the same in every process, unlike `hash`."""
    value = 0x811C9DC5
    for byte in content:
        value = (value ^ byte) * 0x01000193 % 2**32
    return value


def image(state: ClusterState) -> bytes:
    """`state` without what every command leaves, also one that is refused: audit and answers."""
    return msgspec.msgpack.encode(msgspec.structs.replace(state, audit={}, requests={}, request_changes=0))


class Cluster:
    """A `ClusterState` that commands are applied to, one index after the other."""

    def __init__(self) -> None:
        self.state = ClusterState()
        self.index = 0
        self.at_ms = 1_000_000

    def apply(self, command: Command) -> Outcome:
        self.index += 1
        outcome = apply(self.state, LogIndex(self.index), command)
        self.state.check_invariants()
        return outcome

    def _stamp(self) -> dict[str, Any]:
        return {"request_id": RequestId(f"r{self.index}"), "at_ms": WallMs(self.at_ms), "actor": "ann"}

    def put(self, *specs: ServiceSpec, prune: tuple[str, ...] = (), **fields: Any) -> Outcome:
        entries = tuple(SpecEntry(spec=spec, template=template(spec)) for spec in specs)
        projects = tuple(ProjectName(project) for project in prune)
        return self.apply(PutServices(entries=entries, prune_projects=projects, **{**self._stamp(), **fields}))

    def scale(self, service: str, replicas: int) -> Outcome:
        return self.apply(ScaleService(service=ServiceId(service), replicas=replicas, **self._stamp()))

    def stop(self, service: str) -> Outcome:
        return self.apply(StopService(service=ServiceId(service), **self._stamp()))

    def start(self, service: str) -> Outcome:
        return self.apply(StartService(service=ServiceId(service), **self._stamp()))

    def restart(self, service: str) -> Outcome:
        record = self.state.services.get(ServiceId(service))
        base = "none" if record is None else record.current.template.partition("+")[0]
        return self.apply(RestartService(service=ServiceId(service), template=f"{base}+n{self.index}", **self._stamp()))

    def roll_back(self, service: str, to: int) -> Outcome:
        return self.apply(RollbackService(service=ServiceId(service), to=SpecRevision(to), **self._stamp()))

    def promote(self, service: str = "default/web") -> Outcome:
        return self.apply(PromoteService(service=ServiceId(service), **self._stamp()))

    def pause(self, service: str = "default/web") -> Outcome:
        return self.apply(PauseService(service=ServiceId(service), **self._stamp()))

    def resume(self, service: str = "default/web") -> Outcome:
        return self.apply(ResumeService(service=ServiceId(service), **self._stamp()))

    def remove(self, service: str) -> Outcome:
        return self.apply(RemoveService(service=ServiceId(service), **self._stamp()))

    def record(self, service: str = "default/web") -> ServiceRecord:
        return self.state.services[ServiceId(service)]

    def image(self) -> bytes:
        """Everything but the audit and the window of answers, as bytes."""
        return image(self.state)

"""One voter of the group that places copies on simulated nodes: `simulations.bench.schedule` starts three.

All of a node's own that a plan goes through is real: `ReplicaDriver`, its log in LMDB with every write synced, the mesh
with its TLS, the planner, `apply` on each voter. The nodes are names in its beliefs: no copy ever starts.
"""

import time
from pathlib import Path
from typing import Any, Final

import psutil

from consensus.scheduler.beliefs import Beliefs
from consensus.scheduler.plan import preview
from consensus.state.commands import AdmitNode, PutServices, SpecEntry
from orca.model.ids import NodeId, ServiceName
from orca.model.node import NodeFacts, RuntimeState
from orca.model.spec import ContainerImage, DeploySpec, Resources, RuntimeKind, ServiceSpec
from orca.model.units import Bytes, MilliCpu
from simulations.bench.consensus_member import Member, serve

SERVICES_AT_ONCE: Final = 100
ZONES: Final = 10


def make_facts(name: str, number: int) -> NodeFacts:
    """A node of 16 cores and 64 GiB in one of ten zones."""
    return NodeFacts(
        id=NodeId(name),
        name=name,
        version="1",
        architecture="x86_64",
        cpu_milli=MilliCpu(16_000),
        memory_bytes=Bytes(64 * 2**30),
        labels={"zone": f"z{number % ZONES}"},
        runtimes=(RuntimeState(kind=RuntimeKind.DOCKER, is_available=True),),
    )


def make_spec(number: int, copies: int) -> ServiceSpec:
    """A tenth of a core and 128 MiB a copy."""
    return ServiceSpec(
        name=ServiceName(f"s{number}"),
        source=ContainerImage(image=f"bench/{number}:1"),
        replicas=copies,
        resources=Resources(cpu_milli=MilliCpu(100), memory_bytes=Bytes(128 * 2**20)),
        deploy=DeploySpec(deadline_s=3600.0),
    )


class Planner(Member):
    """A voter that believes in simulated nodes."""

    def __init__(self, name: str, folder: Path, ports: dict[str, int], kept: int) -> None:
        self._nodes = {NodeId(one): make_facts(one, 0) for one in ports}
        self._beliefs = Beliefs(nodes=self._nodes, status_versions={})
        super().__init__(name, folder, ports, kept, lambda: self._beliefs)

    async def _order(self, words: list[str]) -> dict[str, Any]:
        match words:
            case ["believe", count]:
                for number in range(int(count) - len(self._nodes)):
                    facts = make_facts(f"node-{number:05d}", number)
                    self._nodes[facts.id] = facts
                return {}
            case ["admit"]:
                now = self._clock.wall()
                commands = [AdmitNode(node=one.id, name=one.name, at_ms=now) for one in self._nodes.values()]
                for start in range(0, len(commands), 512):
                    await self.driver.propose_all(commands[start : start + 512])
                return {"nodes": len(self.driver.state.nodes)}
            case ["deploy", services, copies]:
                await self._deploy(int(services), int(copies))
                return {}
            case ["count"]:
                return {"copies": len(self.driver.state.allocations), "rss": psutil.Process().memory_info().rss}
            case ["look"]:
                return self._look()
            case _:
                return await super()._order(words)

    async def _deploy(self, services: int, copies: int) -> None:
        for start in range(0, services, SERVICES_AT_ONCE):
            specs = [make_spec(one, copies) for one in range(start, min(services, start + SERVICES_AT_ONCE))]
            entries = tuple(SpecEntry(spec=one, template=f"t-{one.name}") for one in specs)
            command = PutServices(request_id=self._fresh(), actor="bench", at_ms=self._clock.wall(), entries=entries)
            outcome = await self.driver.propose(command)
            assert not outcome.error, outcome.message

    def _look(self) -> dict[str, Any]:
        """What `orca plan` of one more service of a thousand copies takes, the first time and the second."""
        times = []
        for number in range(6):
            begun = time.perf_counter()
            found = preview(self.driver.state, self.driver.fleet(), make_spec(10**6 + number, 1_000), 1_000)
            times.append(time.perf_counter() - begun)
            assert sum(one.copies for one in found) == 1_000, "not all of them would be placed"
        return {"first_s": times[0], "again_s": sorted(times[1:])[2]}


if __name__ == "__main__":
    serve(Planner)

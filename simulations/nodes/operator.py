"""People who change services and nodes, and ask again until they are answered."""

import hashlib
from collections.abc import Callable
from typing import Any, Final

import msgspec

from consensus.state.cluster import Outcome
from consensus.state.commands import (
    Command,
    CordonNode,
    DrainNode,
    PromoteService,
    PutServices,
    RestartService,
    RollbackService,
    ScaleService,
    SpecEntry,
    StartService,
    StopService,
    UndrainNode,
)
from orca.errors import OrcaError
from orca.model.ids import NodeId, RequestId, ServiceId, ServiceName, SpecRevision
from orca.model.node import NodeAvailability
from orca.model.spec import (
    ContainerImage,
    DeploySpec,
    DeployStrategy,
    DisconnectSpec,
    PortSpec,
    ProbeSpec,
    Resources,
    RouteSpec,
    ServiceSpec,
    TcpCheck,
    template_of,
)
from orca.model.units import MilliCpu
from simulations.faults import Mood
from simulations.nodes.cluster import Cluster
from simulations.nodes.engine import Image
from simulations.nodes.node import Computer
from simulations.world import World

PATIENCE_S: Final = 8.0
RETRY_S: Final = 0.5
BAD_IMAGES: Final = (Image.SICK, Image.CRASHING, Image.MISSING)
REPLICAS_MAX: Final = 4


class Asked(msgspec.Struct, kw_only=True):
    """One command, and what became of it; `outcome` None: nobody has said so yet."""

    command: Command
    outcome: Outcome | None = None

    @property
    def is_done(self) -> bool:
        """Whether it was acknowledged as carried out."""
        return self.outcome is not None and not self.outcome.error


def service_of(number: int) -> ServiceId:
    """The id of the service with that number."""
    return ServiceId(f"default/s{number}")


def domain_of(service: ServiceId) -> str:
    """Where its requests come."""
    return f"{service.partition('/')[2]}.test"


class Operator:
    """Changes what it likes, one change of a service at a time. `done` counts by knob what it was answered for."""

    def __init__(self, world: World, cluster: Cluster, mood: Mood, services: int, cpu_milli: int) -> None:
        self.asked: list[Asked] = []
        self.done = dict.fromkeys(("deploy", "staged", "bad_image", "scale", "restart", "drain", "stop"), 0)
        self.services = [service_of(number) for number in range(1, services + 1)]
        self._world = world
        self._cluster = cluster
        self._mood = mood
        self._cpu_milli = cpu_milli
        self._chance = world.chance("operator")
        self._busy: dict[ServiceId, None] = {}
        self._versions = 0
        self._is_over = False

    @property
    def is_idle(self) -> bool:
        """Whether everything is answered."""
        return all(one.outcome is not None for one in self.asked)

    # ------------------------------------------------------------------------ what is changed

    def start(self) -> None:
        """Begin."""
        actions: dict[str, Callable[[], None]] = {
            "deploy": lambda: self._deploy_some(Image.GOOD, DeployStrategy.ROLLING, "deploy"),
            "staged": self._deploy_staged,
            "bad_image": lambda: self._deploy_some(self._chance.pick(BAD_IMAGES), self._any_strategy(), "bad_image"),
            "scale": self._scale,
            "restart": self._restart,
            "drain": self._drain,
            "stop": self._stop_or_start,
        }
        for knob, action in actions.items():
            if self._mood.has(knob):
                self._repeat(self._mood[knob], action)

    def stop(self) -> None:
        """Begin nothing new."""
        self._is_over = True

    def _repeat(self, mean_s: float, action: Callable[[], None]) -> None:
        def again() -> None:
            if not self._is_over:
                action()
                self._world.after(self._chance.pause_s(mean_s), again)

        self._world.after(self._chance.pause_s(mean_s), again)

    def deploy(self, services: list[ServiceId], image: Image, knob: str = "deploy", **deploy: Any) -> None:
        """A new version of `services`, in one request."""
        self._versions += 1
        entries = tuple(self._entry(service, f"{image.value}:{self._versions}", deploy) for service in services)
        self._ask(PutServices(entries=entries, **self._stamp()), services, knob)

    def _entry(self, service: ServiceId, image: str, deploy: dict[str, Any]) -> SpecEntry:
        spec = self._make_spec(service, image, deploy)
        return SpecEntry(spec=spec, template=hashlib.sha256(template_of(spec)).hexdigest()[:16])

    def _make_spec(self, service: ServiceId, image: str, deploy: dict[str, Any]) -> ServiceSpec:
        """Manners that a service keeps for life come from its name, the rest from chance."""
        manners, chance = self._world.chance(f"service {service}"), self._chance
        is_probed = manners.happens(0.6)
        probe = ProbeSpec(check=TcpCheck(), interval_s=manners.pick((1.0, 2.0, 5.0)), failure_threshold=2)
        rules = {
            "max_surge": manners.pick((1, 1, 2)),
            "max_unavailable": manners.pick((0, 0, 1)),
            "min_healthy_time_s": manners.pick((0.0, 0.0, 1.0, 3.0)),
            "deadline_s": manners.pick((15.0, 30.0, 60.0)),
            "auto_rollback": manners.happens(0.3),
            **deploy,
        }
        return ServiceSpec(
            name=ServiceName(service.partition("/")[2]),
            source=ContainerImage(image=image),
            replicas=chance.between(1, REPLICAS_MAX),
            ports=(PortSpec(port=80),),
            routes=(RouteSpec(domain=domain_of(service)),),
            readiness=probe if is_probed else None,
            liveness=probe if is_probed and manners.happens(0.3) else None,
            resources=Resources(cpu_milli=MilliCpu(self._cpu_milli)),
            drain_timeout_s=manners.pick((1.0, 3.0)),
            stop_timeout_s=2.0,
            disconnect=DisconnectSpec(replace_after_s=manners.pick((3.0, 3.0, 10.0))),
            deploy=DeploySpec(**rules),
        )

    def _any_strategy(self) -> DeployStrategy:
        strategies = (DeployStrategy.ROLLING, DeployStrategy.CANARY, DeployStrategy.BLUE_GREEN)
        return self._chance.pick((DeployStrategy.ROLLING, *strategies))

    def _free(self) -> list[ServiceId]:
        return [service for service in self.services if service not in self._busy]

    def _deploy_some(self, image: Image, strategy: DeployStrategy, knob: str) -> None:
        free = self._free()
        if free:
            self.deploy([self._chance.pick(free)], image, knob, strategy=strategy)

    def _deploy_staged(self) -> None:
        """A canary or a whole second set; one that waits already is often promoted instead."""
        free = self._free()
        if not free:
            return
        service = self._chance.pick(free)
        if self._chance.happens(0.5):
            self._ask(PromoteService(service=service, **self._stamp()), [service], "staged")
            return
        self.deploy(
            [service],
            Image.GOOD,
            "staged",
            strategy=self._chance.pick((DeployStrategy.CANARY, DeployStrategy.BLUE_GREEN)),
            auto_promote_s=self._chance.pick((None, 1.0, 5.0)),
            keep_old_s=self._chance.pick((0.0, 0.0, 4.0)),
        )

    def _scale(self) -> None:
        free = self._free()
        if free:
            service = self._chance.pick(free)
            replicas = self._chance.between(0 if self._chance.happens(0.2) else 1, REPLICAS_MAX)
            self._ask(ScaleService(service=service, replicas=replicas, **self._stamp()), [service], "scale")

    def _restart(self) -> None:
        free = self._free()
        if not free:
            return
        service = self._chance.pick(free)
        leader = self._cluster.leader
        record = None if leader is None else leader.replica.state.services.get(service)
        if record is None:
            return
        if self._chance.happens(0.5):
            to = SpecRevision(self._chance.pick(record.revisions).revision)
            self._ask(RollbackService(service=service, to=to, **self._stamp()), [service], "restart")
            return
        self._versions += 1
        template = f"{record.current.template.partition('+')[0]}+{self._versions}"
        self._ask(RestartService(service=service, template=template, **self._stamp()), [service], "restart")

    def _stop_or_start(self) -> None:
        free = self._free()
        if free:
            service = self._chance.pick(free)
            is_stop, stamp = self._chance.happens(0.5), self._stamp()
            command = StopService(service=service, **stamp) if is_stop else StartService(service=service, **stamp)
            self._ask(command, [service], "stop")

    def _drain(self) -> None:
        """A node gives its work away, or only takes no more, or is as before again."""
        node = self._chance.pick(list(self._cluster.computers))
        leader = self._cluster.leader
        closed = (
            []
            if leader is None
            else [
                name
                for name, one in leader.replica.state.nodes.items()
                if one.availability is not NodeAvailability.ACTIVE
            ]
        )
        if closed:
            self._ask(UndrainNode(node=self._chance.pick(closed), **self._stamp()), [], "drain")
        elif self._chance.happens(0.3):
            self._ask(CordonNode(node=node, **self._stamp()), [], "drain")
        else:
            self.drain(node)

    def drain(self, node: NodeId) -> None:
        """`node` gives its work away."""
        self._ask(DrainNode(node=node, **self._stamp()), [], "drain")

    def undrain(self, node: NodeId) -> None:
        """`node` takes work again."""
        self._ask(UndrainNode(node=node, **self._stamp()), [], "drain")

    def scale(self, service: ServiceId, replicas: int) -> None:
        """Another number of copies."""
        self._ask(ScaleService(service=service, replicas=replicas, **self._stamp()), [service], "scale")

    def set_running(self, service: ServiceId) -> None:
        """Undo a stop."""
        self._ask(StartService(service=service, **self._stamp()), [service], "stop")

    # ------------------------------------------------------------------------ asking

    def _stamp(self) -> dict[str, Any]:
        at_ms = next(iter(self._cluster.computers.values())).wall()
        return {"request_id": RequestId(f"r{len(self.asked)}"), "actor": "operator", "at_ms": at_ms}

    def _ask(self, command: Command, services: list[ServiceId], knob: str) -> None:
        asked = Asked(command=command)
        self.asked.append(asked)
        self._busy.update(dict.fromkeys(services))
        self._world.note(f"the operator asks for {type(command).__name__} of {' '.join(services) or 'a node'}")
        self._try(asked, services, knob)

    def _try(self, asked: Asked, services: list[ServiceId], knob: str) -> None:
        """Ask some node, which passes it to whoever it takes for the leader; once more when that fails."""
        up = [one for one in self._cluster.computers.values() if one.replica.is_up]
        if not up:
            self._world.after(RETRY_S, lambda: self._try(asked, services, knob))
            return
        first = self._chance.pick(up)
        leader = self._cluster.computers.get(first.replica.leader or first.node, first)
        is_told = False

        def end(result: Outcome | OrcaError | None) -> None:
            nonlocal is_told
            if is_told:
                return
            is_told = True
            if isinstance(result, Outcome):
                self._settle(asked, services, knob, result)
            else:
                self._world.after(RETRY_S, lambda: self._try(asked, services, knob))

        self._world.after(PATIENCE_S, lambda: end(None))
        self._world.after(self._chance.pause_s(0.005), lambda: self._reach(first, leader, asked.command, end))

    def _reach(
        self, first: Computer, leader: Computer, command: Command, end: Callable[[Outcome | OrcaError | None], None]
    ) -> None:
        """Over the mesh, when that is not cut; the way back is the same."""
        network = self._cluster.network

        def is_reached() -> bool:
            ways = ((first.node, leader.node), (leader.node, first.node))
            return first is leader or not any(network.is_cut(*way) for way in ways)

        if is_reached() and leader.replica.is_up:
            leader.replica.propose(command, lambda result: end(result) if is_reached() and first.is_up else None)

    def _settle(self, asked: Asked, services: list[ServiceId], knob: str, outcome: Outcome) -> None:
        asked.outcome = outcome
        for service in services:
            self._busy.pop(service, None)
        if not self._is_over:
            self.done[knob] += not outcome.error
        self._world.note(f"{asked.command.request_id} is answered: {outcome.error or 'done'}")  # type: ignore[union-attr]

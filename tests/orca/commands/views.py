"""Short ways to say what a node answered."""

from typing import Any

from orca.model.allocation import DesiredStatus, Endpoint, Phase
from orca.model.ids import (
    AllocationId,
    ClusterId,
    NodeId,
    ProjectName,
    ServiceId,
    ServiceName,
    SpecRevision,
    StateRevision,
)
from orca.model.node import NodeFacts, RuntimeState
from orca.model.spec import RouteSpec, RuntimeKind
from orca.model.units import Bytes, MilliCpu, WallMs
from orca.model.view import (
    AllocationView,
    IngressView,
    NodeView,
    Observation,
    RolloutState,
    RolloutView,
    ServiceView,
    StatusReply,
)

NOW_MS = WallMs(1_700_000_000_000)
NODE = NodeId("n-abcdefghijkl")
OBSERVATION = Observation(observer=NODE, at_ms=NOW_MS, state_revision=StateRevision(7))


def copy(name: str, slot: int = 0, revision: int = 1, *, ready: bool = False, **fields: Any) -> AllocationView:
    fields.setdefault("phase", Phase.RUNNING if ready else Phase.STARTING)
    identity = fields.pop("id", f"{name.replace('/', '')}{slot}r{revision}".ljust(12, "a")[:12])
    return AllocationView(
        id=AllocationId(identity),
        service=ServiceId(name if "/" in name else f"default/{name}"),
        slot=slot,
        revision=SpecRevision(revision),
        node=NODE,
        runtime=RuntimeKind.DOCKER,
        desired=fields.pop("desired", DesiredStatus.RUNNING),
        is_ready=ready,
        created_at_ms=WallMs(NOW_MS - 65_000),
        **fields,
    )


def service(
    name: str,
    *copies: AllocationView,
    revision: int = 1,
    state: RolloutState = RolloutState.PROGRESSING,
    message: str = "",
    **fields: Any,
) -> ServiceView:
    identity = ServiceId(name if "/" in name else f"default/{name}")
    project, _, short = identity.partition("/")
    return ServiceView(
        id=identity,
        project=ProjectName(project),
        name=ServiceName(short),
        runtime=RuntimeKind.DOCKER,
        workload=f"{short}:1",
        revision=SpecRevision(revision),
        replicas=fields.pop("replicas", len(copies)),
        ready=sum(one.is_ready for one in copies),
        is_stopped=fields.pop("is_stopped", False),
        is_job=fields.pop("is_job", False),
        restarts=0,
        routes=fields.pop("routes", ()),
        rollout=RolloutView(revision=SpecRevision(revision), state=state, started_at_ms=NOW_MS, message=message),
        updated_at_ms=WallMs(NOW_MS - 3_600_000),
        allocations=copies,
        **fields,
    )


def status(*services: ServiceView, leader: NodeId | None = NODE) -> StatusReply:
    facts = NodeFacts(
        id=NODE,
        name="alpha",
        version="0.1.0",
        architecture="x86_64",
        cpu_milli=MilliCpu(4000),
        memory_bytes=Bytes(8 << 30),
        runtimes=(
            RuntimeState(kind=RuntimeKind.WASM, is_available=True, version="50"),
            RuntimeState(kind=RuntimeKind.DOCKER, is_available=False, reason="no engine answers"),
        ),
    )
    node = NodeView(
        facts=facts,
        is_leader=leader == NODE,
        allocations=sum(len(one.allocations) for one in services),
        started_at_ms=WallMs(NOW_MS - 90_000),
        ingress=(IngressView(host="0.0.0.0", port=8080, note="port 80 may not be bound"),),
    )
    return StatusReply(
        observation=OBSERVATION, cluster=ClusterId("c-abc"), leader=leader, nodes=(node,), services=services
    )


def example_services() -> tuple[ServiceView, ...]:
    web = service(
        "web",
        copy("web", 0, 3, ready=True, endpoints=(Endpoint(port=80, host="172.18.0.2", host_port=80),)),
        copy(
            "web", 1, 3, phase=Phase.BACKOFF, reason="exit code 1", restarts=4, next_start_at_ms=WallMs(NOW_MS + 4000)
        ),
        revision=3,
        state=RolloutState.COMPLETED,
        routes=(RouteSpec(domain="example.com"), RouteSpec(path="/api")),
    )
    job = service(
        "shop/a-job-with-a-very-long-name-that-cannot-fit-anywhere-at-all",
        copy("shop/a-job-with-a-very-long-name-that-cannot-fit-anywhere-at-all", 0, phase=Phase.COMPLETED),
        state=RolloutState.COMPLETED,
        is_job=True,
        routes=tuple(RouteSpec(domain=f"a{number}.example.com") for number in range(5)),
    )
    return web, job
